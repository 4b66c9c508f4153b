"""What comes back of trained models: half-precision weights of the best seeds, and one archive of
all that is small. A machine's reply holds 8 files, 16 MiB each, 64 MiB together."""

import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcmae.runs.run import Run, find_runs
from lcmae.zoo.publish import publish

MOST_MODELS = 4
MOST_BYTES = 16 << 20
ARCHIVE = "runs.tar.gz"
BEST_BY = "cls_linear_probe"
SMALL, ABOUT = ("config.json", "metrics.jsonl", "classified.json"), "zoo.json"


def best_seeds(finished: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The run of each variant with the best linear probe, variants as they come; then others, best
    first."""
    by_variant: dict[str, list[str]] = {}
    for name in sorted(finished, key=lambda name: -float(finished[name].get(BEST_BY, 0.0))):
        by_variant.setdefault(name.rpartition("-s")[0], []).append(name)
    first = [by_variant[variant][0] for variant in dict.fromkeys(name.rpartition("-s")[0] for name in finished)]
    others = [name for names in by_variant.values() for name in names[1:]]
    return [*first, *others][:MOST_MODELS]


def bring(finished: Mapping[str, Mapping[str, Any]], runs: Path, half: Path, out: Path) -> None:
    """Put NAME.safetensors of the best seeds and the archive into `out`; what is better since then
    replaces what is there."""
    chosen = best_seeds(finished)
    # before others come: at no moment may there be more than the reply holds
    for file in out.glob("*.safetensors"):
        if file.stem not in chosen:
            file.unlink()
    for name in chosen:
        if not (half / name).is_dir():
            publish(Run.open(runs / name), half / name, f"{name}, ViT-Tiny/4, CIFAR-10, trained on one GPU")
        weights = half / name / "model.safetensors"
        if weights.stat().st_size > MOST_BYTES:
            raise ValueError(f"expected weights of at most {MOST_BYTES} bytes, got {weights.stat().st_size} of {name}")
        if not (out / f"{name}.safetensors").is_file():
            copy(weights, out / f"{name}.safetensors")
    archive = half / ARCHIVE
    with tarfile.open(archive, "w:gz") as tar:
        for run in find_runs(runs):
            for name in SMALL:
                if (run / name).is_file():
                    tar.add(run / name, f"{run.name}/{name}")
            if run.name in chosen:
                tar.add(half / run.name / ABOUT, f"{run.name}/{ABOUT}")
    copy(archive, out / ARCHIVE)


def copy(source: Path, target: Path) -> None:
    """A copy that is whole or not there."""
    temporary = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)
