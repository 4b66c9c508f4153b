"""The program for a bare machine with a GPU: time is shared in order of value, nothing measured is
lost, tables say what came back. It never asks for a GPU."""

import importlib.metadata
import json
import subprocess
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import train
from benchmarks.gpu import bring, cifar, pack, plan, read, run, runs, speed
from benchmarks.gpu.child import WHERE
from benchmarks.gpu.plan import ENDING, GRACE, STEPS, Step, allotted, steps_named
from benchmarks.gpu.record import Record, Skipped, read_json, write_json
from benchmarks.roof import Rates
from lcmae.runs.run import Run
from lcmae.training.train import publish_untrained
from tests.reference.tiny_runs import tiny_run, weights

TAKEN = GRACE + ENDING
SHORT, LONG = Step("short", "", 60, 20), Step("long", "", 400, 100, takes_what_is_left=True)


def test_every_step_has_a_function_of_its_name() -> None:
    assert {step.name for step in STEPS} == set(WHERE)
    for name, module in WHERE.items():
        assert callable(getattr(import_module(f"benchmarks.gpu.{module}"), name))


def test_steps_come_in_order_of_value() -> None:
    assert [step.name for step in steps_named(["probes", "cifar", "tests"])] == ["tests", "cifar", "probes"]
    with pytest.raises(ValueError, match="got sleep"):
        steps_named(["tests", "sleep"])


@pytest.mark.parametrize(
    ("step", "later", "left", "seconds"),
    [
        (SHORT, [], 600 + TAKEN, 60),
        (SHORT, [LONG], 50 + TAKEN, 50),
        (SHORT, [], 19 + TAKEN, 0),
        (LONG, [], 550 + TAKEN, 550),
        (LONG, [SHORT], 550 + TAKEN, 550 - 60 - GRACE),
        # what comes later yields before this one does not begin
        (LONG, [SHORT], 110 + TAKEN, 100),
        (LONG, [SHORT], 99 + TAKEN, 0),
    ],
)
def test_time_is_shared_in_order_of_value(step: Step, later: list[Step], left: float, seconds: float) -> None:
    assert allotted(step, later, left) == seconds


def test_a_record_is_whole_after_every_part(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.json", 60)
    with record.part("first"):
        record.keep("first", {"value": 1})
        assert read_json(record.path)["parts"] == {"first": {"value": 1}}
        raise RuntimeError("a kernel failed")
    with record.part("second"):
        raise Skipped("needs a CUDA device")
    stored = read_json(record.path)
    assert stored["parts"] == {"first": {"value": 1}}
    assert stored["skipped"] == {"second": "needs a CUDA device"}
    assert stored["problems"]["first"].endswith("RuntimeError: a kernel failed\n")
    assert list(tmp_path.iterdir()) == [record.path]
    with pytest.raises(SystemExit), record.part("third"):
        raise SystemExit(3)


KEEPS_THEN = """
import json, sys, time
record = sys.argv[sys.argv.index("--record") + 1]
open(record, "w").write(json.dumps({"parts": {"one": 1}, "skipped": {}, "problems": {}, "seconds": {}}))
"""


def a_call(monkeypatch: pytest.MonkeyPatch, out: Path, children: dict[str, str], seconds: float = 60) -> int:
    """`run.main` with programs of these texts in place of the steps."""

    def start(self: run.Session, words: list[str], log: Any) -> None:
        words = [sys.executable, "-c", KEEPS_THEN + children[words[4]], *words[5:]]
        self.child = subprocess.Popen(words, stdout=log, stderr=log, process_group=0)

    monkeypatch.setattr(run.Session, "_start", start)
    words = ["--device", "cpu", "--out", str(out / "out"), "--work", str(out / "work"), "--seconds", str(seconds)]
    return run.main([*words, "--steps", *children])


def test_a_step_that_fails_is_recorded_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    children = {"tests": "raise RuntimeError('broken')", "roof": "", "steps": ""}
    assert a_call(monkeypatch, tmp_path, children, seconds=TAKEN + 30) == 1
    steps = read_json(tmp_path / "out" / run.RESULTS)["steps"]
    assert [(name, steps[name]["state"]) for name in children] == [
        ("tests", "failed"), ("roof", "done"), ("steps", "not begun"),
    ]  # fmt: skip
    assert steps["tests"]["last_lines"].endswith("RuntimeError: broken\n")
    assert [steps[name].get("parts") for name in children] == [{"one": 1}, {"one": 1}, None]
    assert "and it needs" in steps["steps"]["reason"]


def test_a_step_that_does_not_end_is_stopped_and_what_it_measured_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "GRACE", 0.5)
    monkeypatch.setattr(plan, "GRACE", 0.5)
    monkeypatch.setattr(run, "allotted", lambda step, later, left: 0.5)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    assert a_call(monkeypatch, tmp_path, {"tests": deaf, "roof": ""}) == 1
    steps = read_json(tmp_path / "out" / run.RESULTS)["steps"]
    assert (steps["tests"]["state"], steps["tests"]["parts"]) == ("stopped", {"one": 1})
    assert steps["roof"]["state"] == "done"


def test_sigterm_ends_the_call_and_what_was_measured_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asks = "import os, signal; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    assert a_call(monkeypatch, tmp_path, {"tests": asks, "roof": ""}) == 143
    results = read_json(tmp_path / "out" / run.RESULTS)
    assert results["stopped"] == "SIGTERM"
    assert (results["steps"]["tests"]["state"], results["steps"]["tests"]["parts"]) == ("stopped", {"one": 1})
    assert "roof" not in results["steps"]


def test_what_is_carried_is_what_is_installed_here() -> None:
    for package in pack.PACKAGES:
        assert importlib.metadata.version(package)


def test_every_job_sees_equally_many_image_mask_pairs() -> None:
    pairs = set()
    for variant, seed in runs.JOBS:
        config = runs.config_for(variant, seed, 200, 1024, "graph", tiny=False)
        pairs.add(config.epochs * config.objective.masks_per_image)
        assert (config.batch_size, config.compile, config.cuda_graph, config.seed) == (1024, True, True, seed)
        assert config.precision == "bfloat16"
    assert pairs == {200}
    seeds = [seed for variant, seed in runs.JOBS[: runs.NUM_JOBS] if variant == "mae"]
    assert sorted(seeds) == [0, 1, 2]
    # 300 s for 9 runs of 48 steps of 10 ms an epoch
    assert runs.epochs_that_fit(300, 9, 0.01, 48) == 69
    assert runs.epochs_that_fit(1, 9, 0.01, 48) == 10


def test_the_fastest_mode_that_works_is_chosen() -> None:
    row = {"shape": "tiny4", "batch": 1024, "objective": "mae"}
    rows = [row | {"name": "eager", "step_s": 0.02}, row | {"name": "compiled", "step_s": 0.01}]
    rows += [row | {"name": "graph", "step_s": None}, row | {"name": "Hugging Face", "step_s": 0.001}]
    rows += [
        row | {"name": "graph", "step_s": 0.001, "batch": 4096},
        row | {"name": "graph", "step_s": 1, "objective": "umae"},
    ]
    assert cifar.modes_in(rows, 1024) == {"eager": 0.02, "compiled": 0.01}


@pytest.mark.parametrize("words", ["--option epoch=3", "--option epochs", "--steps sleep"])
def test_what_nobody_knows_is_refused(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--out", str(tmp_path / "out"), *words.split()])
    assert "error: expected" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """`benchmarks.train` that takes options for a GPU and measures nothing: the list of what it was
    asked for."""
    asked: list[tuple[str, int]] = []

    def measure(arguments: Any, shape: str, batch: int, device: torch.device, *rest: Any) -> list[train.Row]:
        asked.append((shape, batch))
        step_s = {"eager": 0.03, "compiled": 0.02, "graph": 0.01}
        return [
            train.Row(shape, batch, objective, name, step_s[name], step_s[name], 1.0, 0.5, 0.5)
            for objective in arguments.objectives
            for name in arguments.variants
        ]

    monkeypatch.setattr(train, "measure", measure)
    monkeypatch.setattr(train, "measure_rates", lambda *args, **options: Rates(1.0, 1.0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    return asked


def test_steps_and_epochs_of_a_gpu_are_asked_for_as_planned(as_on_a_gpu: list[tuple[str, int]], tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    options = Namespace(device="cuda", tiny=False, work=tmp_path, out=tmp_path, option=[])
    record = Record(tmp_path / "records" / "steps.json", 150)
    speed.steps(record, options)
    assert (record.problems, record.skipped) == ({}, {})
    assert list(record.parts) == list(speed.PARTS)
    assert as_on_a_gpu == [("tiny4", 1024), ("base16", 256), ("tiny4", 1024), ("tiny4", 4096)]
    rows = record.parts["ViT-Tiny/4, batch 1024"]["rows"]
    assert len(rows) == 4 * 3
    assert "NVIDIA H200" in read.steps_page({"parts": record.parts})

    # 0.85 of 500 - 35 - 45 s, 9 runs of 48 steps of 10 ms an epoch, by what was measured just now
    plan = cifar.plan_of(Record(tmp_path / "records" / "cifar.json", 500), options, {}, 9)
    assert len(as_on_a_gpu) == 4
    assert (plan["mode"], plan["batch"]) == ("graph", 1024)
    assert 70 <= plan["epochs"] <= 82
    # a second call has less time, and goes on with the first one's plan
    assert cifar.plan_of(Record(tmp_path / "records" / "cifar.json", 100), options, {}, 9) == plan
    # another batch was not measured: it is now
    (tmp_path / "plan.json").unlink()
    plan = cifar.plan_of(Record(tmp_path / "records" / "cifar.json", 500), options, {"batch": "2048"}, 9)
    assert as_on_a_gpu[4:] == [("tiny4", 2048)]
    # 165 of 24 steps, less what the time of this test takes off
    assert 150 <= plan["epochs"] <= 165


def test_the_best_seed_of_each_variant_comes_back_first() -> None:
    finished = {"mae-s0": 0.5, "umae-0.1-s0": 0.2, "mae-s1": 0.6, "umae-0.1-s1": 0.3, "lcmae-s0": 0.1}
    chosen = bring.best_seeds({name: {bring.BEST_BY: value} for name, value in finished.items()})
    assert chosen == ["mae-s1", "umae-0.1-s1", "lcmae-s0", "mae-s0"]


def a_row(loss: float, accuracy: float) -> dict[str, float]:
    numbers = {name: accuracy for name in read.MEASURES if "linear" in name or "knn" in name or "ridge" in name}
    ranks = {"cls_effective_rank": 12.0, "mean_effective_rank": 9.0}
    return (
        {"step": 480, "epochs": 10, "pairs": 491520, "seconds": 4.0, "loss": loss, "test_images": 10000.0}
        | numbers
        | ranks
    )


def results_of(device: str) -> dict[str, Any]:
    parts = {f"mae-s{seed}": a_row(0.5, 0.5) for seed in range(2)}
    parts |= {f"umae-0.01-s{seed}": a_row(0.4, 0.6 + seed / 1000) for seed in range(2)}
    about = {"epochs": 10, "batch": 1024, "mode": "graph", "at_once": 3, "jobs": [*parts, "lcmae-s0"]}
    outcomes = {"test_a": "passed", "test_b": "failed"}
    steps = {
        "tests": {"state": "failed", "parts": {"outcomes": outcomes}, "problems": {"": "Traceback\nRuntimeError: no"}},
        "cifar": {
            "state": "done",
            "parts": {"plan": about, **parts, "unfinished": {"lcmae-s0": [240]}},
            "seconds": 300,
        },
    }
    machine = {"gpu": "NVIDIA H200", "cores": 16, "python": "3.12.3", "system": "Linux"}
    begin = {"command": "x", "began": "2026-12-01", "device": device, "machine": machine, "revision": "abc"}
    return {**begin, "seconds": 400.0, "steps": steps}


def test_pages_say_what_was_measured_and_what_was_not() -> None:
    found = read.pages([results_of("cuda")])
    assert set(found) == {"calls.md", "cifar10.md"}
    assert "Tests on the device: 1 passed, 1 failed. `test_b` failed." in found["calls.md"]
    assert "| tests | failed | 0 | outcomes | RuntimeError: no |" in found["calls.md"]
    page = found["cifar10.md"]
    assert "| umae-0.01 | 2 | 60.05 ±" in page
    assert "Better: umae-0.01." in page
    assert "Not finished: lcmae-s0 (stored steps [240])." in page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {len(read.MEASURES) + 3, len(read.MEASURES) + 5}


def test_a_trial_on_a_cpu_is_printed_and_never_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for device, code in (("cpu", 2), ("cuda", 0)):
        folder = tmp_path / device
        folder.mkdir()
        (folder / run.RESULTS).write_text(json.dumps(results_of(device)))
        assert read.main([str(folder), "--out", str(folder / "docs")]) == code
        said = capsys.readouterr()
        assert ("nothing written" in said.err) is (device == "cpu")
        assert (folder / "docs").is_dir() is (device == "cuda")


def test_what_comes_back_becomes_runs_again(tmp_path: Path) -> None:
    names = [f"mae-s{seed}" for seed in range(bring.MOST_MODELS + 1)]
    finished = {name: {bring.BEST_BY: number / 10} for number, name in enumerate(names)}
    for name in names:
        trained = tiny_run(tmp_path / "runs" / name, seed=int(name[-1]))
        publish_untrained(trained)
        trained.log_metrics({"step": 0, "loss": 1.0})
        write_json(trained.path / "classified.json", finished[name])
    (tmp_path / "out").mkdir()
    # one after another, as they end: better ones replace the first
    for count in range(1, len(names) + 1):
        some = {name: finished[name] for name in names[:count]}
        bring.bring(some, tmp_path / "runs", tmp_path / "half", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == bring.MOST_MODELS + 1
    assert read.unpack(tmp_path / "out", tmp_path / "back") == names
    worst, best = (tmp_path / "back" / name for name in (names[0], names[-1]))
    assert {path.name for path in worst.iterdir()} == {"config.json", "metrics.jsonl", "classified.json"}
    assert read_json(best / "classified.json") == finished[names[-1]]
    before = weights(Run.open(tmp_path / "runs" / names[-1]))
    for name, tensor in weights(Run.open(best)).items():
        assert torch.equal(tensor, before[name].half().float()), name


def test_two_kernels_of_torch_are_not_compared_where_ours_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--variants", "compiled", "--attention", "flash", "cudnn"])
    assert "one of torch's attention kernels at a time" in capsys.readouterr().err


def test_compiled_code_does_not_ask_again_for_the_kernel() -> None:
    """Why: what was compiled under one choice runs under the other, so a comparison would be of one
    kernel with itself. Where torch begins to ask, the refusal can go."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    graphs = []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(torch.nn.functional.scaled_dot_product_attention, backend=counting, dynamic=False)
    q = torch.randn(1, 1, 4, 8)
    for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel(kernel):
            compiled(q, q, q)
    assert len(graphs) == 1
