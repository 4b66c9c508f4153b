"""`lcmae probe` again with other images, another mask or seed, in any order: every result stands
beside the others as it was written, for every probe; and a kill of the whole command loses none."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lcmae import processes
from lcmae.app import cli
from lcmae.probes.registry import PROBES, probe_class
from lcmae.probes.results import catalogue, contracts
from lcmae.probes.results.store import load_attrs, load_result
from lcmae.runs.run import Run
from lcmae.training.train import publish_untrained
from tests.reference.tiny_runs import MODEL, tiny_run

QUICK: dict[str, dict[str, Any]] = {
    "local_contrast": {"num_masks": 2},
    "second_order": {"ratios": [0.5], "num_masks": 8, "fit_images": 40, "components": 4},
    "receptive_field": {"ratios": [0.5], "masks": ["random"], "num_images": 4},
    "attribution": {"num_images": 4, "path_steps": 4, "shapley_permutations": 1, "untrained_images": 2},
    "spectrum": {"num_masks": 2},
    "fidelity": {"ratios": [0.5]},
    "transfer": {"train_images": 24, "epochs": 2, "seeds": 1, "corruptions": ["contrast"], "severities": [3]},
    "embedding_consistency": {"num_masks": 2, "num_directions": 8},
    "dense": {"train_images": 20, "rates": [0.1], "epochs": 2},
    "hierarchy": {"train_images": 30, "num_masks": 2, "ratios": [0.5], "units": [1]},
    "mask_graph": {"ratios": [0.5], "num_masks": 1},
    "bounds": {"num_graph_masks": 1, "num_masks": 2},
}
"""What makes a probe quick; the others run with their defaults."""

OF_LATENTS = ("hierarchy", "dense")
"""What asks about images of known latents."""

CONDITIONS = (
    ["--images", "20"],
    ["--images", "26"],
    ["--images", "20", "--seed", "1"],
    ["--images", "20", "--split", "train"],
)
MASKED = ["--images", "20", "--mask", "block", "--ratio", "0.5"]


def words(probe: str, run: Path, condition: list[str]) -> list[str]:
    """A command line."""
    options = []
    for name, value in QUICK.get(probe, {}).items():
        options += [f"--{probe}.{name}".replace("_", "-"), *map(str, value if isinstance(value, list) else [value])]
    # a quarter of them is the test split, which holds the 26 images of the largest condition
    data = ["--data", "hierarchy:images=120"] if probe in OF_LATENTS else []
    return ["probe", probe, "--checkpoint", str(run), *condition, *data, "--device", "cpu", *options]


def untrained(path: Path, probe: str = "") -> Run:
    """A run with one step; images of known latents need 16 pixels a side."""
    shape = {"model": {**MODEL, "image_size": [16, 16], "patch_size": 4}} if probe in OF_LATENTS else {}
    run = tiny_run(path, **shape)
    publish_untrained(run)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("probe", PROBES)
def test_conditions_stand_side_by_side_after_any_order_of_commands(probe: str, tmp_path: Path) -> None:
    conditions = [*CONDITIONS, *([MASKED] if "mask" in probe_class(probe).model_fields else [])]
    if probe in OF_LATENTS:  # of few images the other split is too small to train on
        conditions = conditions[:3]
    names = []
    for order in (conditions, list(reversed(conditions))):
        run = untrained(tmp_path / f"run{len(names)}", probe)
        folder, before = run.results_folder(0), {}
        for condition in [*order, order[0]]:  # the first once more: it is found
            assert cli.main(words(probe, run.path, condition)) == 0, condition
            now = {path: path.read_bytes() for path in catalogue.files(folder)}
            assert before.items() <= now.items(), "what was stored stays as it was"
            before = now
        assert len(before) == len(conditions)
        stored = [load_attrs(path) for path in before]
        assert all(about["image_description"] for about in stored)
        assert {about["num_images"] for about in stored} == {20, 26}
        assert [contracts.problem(load_result(path), probe) for path in before] == [""] * len(before)
        names.append({path.name for path in before})
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, "first", "second"])
def test_a_kill_of_the_whole_command_loses_nothing(after: float | str, tmp_path: Path) -> None:
    """By SIGKILL some time after it began to probe, or when its first or second new file is
    there."""
    run = untrained(tmp_path / "run")
    several = ["probe", "reconstruction", "spectrum", "fidelity", "invariance", "--checkpoint", str(run.path)]
    first, second = ([*several, "--device", "cpu", *condition] for condition in CONDITIONS[1:3])
    assert cli.main(first) == 0
    folder = run.results_folder(0)
    before = {path: path.read_bytes() for path in catalogue.files(folder)}
    assert len(before) == 4

    process = processes.start(processes.module("lcmae.app.cli", *second), env={"LCMAE_PROGRESS": "json"}, stderr=-1)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"{") and "done" in json.loads(line):
            break
    wanted = {"first": 5, "second": 6}.get(str(after))
    while wanted is not None and process.poll() is None and len(catalogue.files(folder)) < wanted:
        time.sleep(0.0005)
    if isinstance(after, float):
        time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert all(path.read_bytes() == content for path, content in before.items())
    for path in catalogue.files(folder):
        load_result(path)
    assert cli.main(second) == 0
    assert len(catalogue.files(folder)) == 8
    assert all(path.read_bytes() == content for path, content in before.items())
    assert [path for path in run.path.rglob(".*") if path.name != ".lock"] == []
