"""Which models are trained on CIFAR-10, for how long, and what one of them is asked at its end."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import lcmae
from benchmarks.cifar10 import config_of, open_run
from benchmarks.gpu.record import write_json
from lcmae.config import RunConfig
from lcmae.probes.measures.linear_probe import fit
from lcmae.runs.run import Run
from lcmae.training.monitor import accuracy, evaluate, unmasked_features
from lcmae.training.train import open_training_data, train

JOBS = (
    ("mae", 0), ("umae-0.01", 0), ("lcmae", 0), ("umae-0.1", 0),
    ("mae", 1), ("umae-0.01", 1), ("mae", 2), ("umae-0.01", 2),
    ("lcmae-local-4", 0), ("umae-0.1", 1), ("lcmae", 1),
)  # fmt: skip
"""Variants of `benchmarks.cifar10` and seeds, in order of value."""

NUM_JOBS = 9
"""How many of them are trained unless told otherwise."""

MODES: Mapping[str, Mapping[str, bool]] = {
    "graph": {"compile": True, "cuda_graph": True},
    "compiled": {"compile": True, "cuda_graph": False},
    "eager": {"compile": False, "cuda_graph": False},
}
"""Ways to train, by the names of `benchmarks.train`."""

TINY_MODEL = {"width": 16, "depth": 1, "heads": 2, "decoder-width": 16, "decoder-depth": 1, "decoder-heads": 2}
TINY = ["--limit", "64", "--precision", "float32", "--monitor-images", "40"]
TINY += [word for name, value in TINY_MODEL.items() for word in (f"--model.{name}", str(value))]

STOPPED = 3
"""Exit code of a run that a signal stopped, and which stored what it had reached."""

RATES, EPOCHS = (0.01, 0.1, 1.0, 10.0), 90
"""Of the linear probe, as in `lcmae.probes.transfer`."""


def name_of(variant: str, seed: int) -> str:
    return f"{variant}-s{seed}"


def config_for(variant: str, seed: int, epochs: int, batch: int, mode: str, *, tiny: bool) -> RunConfig:
    """The recipe of `benchmarks.cifar10` at so many epochs of one mask an image."""
    config = config_of(variant, 4, seed, TINY if tiny else [], epochs)
    often = {"monitor_every": max(1, config.epochs // 5), "checkpoint_every": max(1, config.epochs // 2)}
    return config.model_copy(update={"batch_size": batch, **often, **MODES[mode]})


def epochs_that_fit(seconds: float, num_jobs: int, step_s: float, steps_per_epoch: int) -> int:
    """Epochs of each job, if all their steps are to take so many seconds together; 10 at least."""
    return max(10, int(seconds / (num_jobs * steps_per_epoch * step_s)))


def classify(run: Run, config: RunConfig, device: str, epochs: int = EPOCHS) -> dict[str, float]:
    """What frozen features of unmasked test images tell, all training images known: kNN, ridge and
    the linear probe of the class token and the mean token (accuracies, shares of 1), effective rank
    (dimensions)."""
    model = lcmae.load(run.path, device=device)
    parts = {split: open_training_data(config, split) for split in ("train", "test")}
    features = {split: unmasked_features(model, part[slice(None)], batch_size=2000) for split, part in parts.items()}
    labels = {split: part.labels for split, part in parts.items()}
    known, asked = labels["train"], labels["test"]
    assert known is not None
    assert asked is not None
    found: dict[str, float] = {"train_images": float(len(known)), "test_images": float(len(asked))}
    for name, test in features["test"].items():
        numbers = evaluate(features["train"][name], known, test, asked)
        found |= {f"{name}_knn": numbers["knn"], f"{name}_ridge": numbers["linear"]}
        found[f"{name}_effective_rank"] = numbers["effective_rank"]
    train_bank, test_bank = (torch.stack(list(features[split].values())) for split in ("train", "test"))
    probe = fit(
        {"output": train_bank}, known, int(known.max()) + 1, rates=RATES, epochs=epochs, num_seeds={"output": 1}, seed=0
    )["output"]
    for name, predicted, rate in zip(features["test"], probe.predict(test_bank)[0], probe.rate.tolist(), strict=True):
        found[f"{name}_linear_probe"] = accuracy(predicted, asked)
        found[f"{name}_linear_probe_rate"] = rate
    return found


def about(run: Run, config: RunConfig) -> dict[str, Any]:
    """What a run did, for the table: steps, seconds of them, image-mask pairs, its last metrics."""
    from benchmarks.cifar10_table import training_seconds

    steps, lines = run.steps()[-1], run.metrics()
    return {
        "step": steps,
        "epochs": config.epochs,
        "pairs": steps * config.batch_size * config.objective.masks_per_image,
        "seconds": training_seconds(run),
        "loss": next((line["loss"] for line in reversed(lines) if "loss" in line), None),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Train one run to its end, or go on with it; then classify it. Ends with `STOPPED`
    where a signal stopped it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant")
    parser.add_argument("seed", type=int)
    parser.add_argument("--plan", type=json.loads, required=True, help="epochs, batch, mode, tiny")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--device", required=True)
    options = parser.parse_args(argv)
    plan, name = options.plan, name_of(options.variant, options.seed)
    config = config_for(options.variant, options.seed, plan["epochs"], plan["batch"], plan["mode"], tiny=plan["tiny"])
    run = open_run(options.runs / name, config)
    if train(run, label=name, device=options.device).stopped_by is not None:
        return STOPPED
    facts = about(run, config)
    write_json(run.path / "classified.json", facts)
    numbers = classify(run, config, options.device, epochs=2 if plan["tiny"] else EPOCHS)
    write_json(run.path / "classified.json", {**facts, **numbers})
    return 0


if __name__ == "__main__":
    sys.exit(main())
