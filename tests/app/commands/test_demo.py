"""`lcmae demo` in small: three objectives trained, every probe, its tables; the zoo beside it."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lcmae import processes
from lcmae.app.cli import main
from lcmae.app.commands import demo
from lcmae.app.commands.demo import LEFT_OUT, ZOO_MODEL, ZOO_PROBES
from lcmae.probes.registry import PROBES
from lcmae.probes.results import catalogue
from lcmae.probes.results.networks import trained
from lcmae.runs.run import Run


@pytest.mark.slow
def test_demo_prints_its_table_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["demo", "--no-dashboard", "--epochs", "1", "--images", "24"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    runs = [f"runs/demo/{name}-digits-s0" for name in ("mae", "umae", "lcmae")]
    assert out.splitlines()[-4:] == [*runs, f"runs/demo/{ZOO_MODEL}"]
    for row in ("MAE", "U-MAE", "LC-MAE", "untrained network", "raw pixels"):
        assert re.search(rf"│ {row} +│", out), row
    for row in (
        "Wiener filter of each mask .linear.",
        "best linear predictor, without the mask",
        "best constant patch",
    ):
        assert re.search(rf"│ {row} +│", out), row
    for column in (
        "masked error",
        "explained share",
        "invariance",
        "local consistency",
        "global consistency",
        "offset",
        "kNN %",
        "linear %",
    ):
        assert column in out
    # how far it is, and time left, of all; what each run's worker said is in its log
    assert re.search(r"demo: \d+/2133 \(\d+ %\), \S+ elapsed, \S+ left", err)
    for run in runs:
        said = Path("runs/demo/logs", f"{Path(run).name}.log").read_text()
        assert re.search(rf"training {Path(run).name}: 11/11 \(100 %\), \S+ elapsed, 0:00 left", said)
        assert re.search(r"probing: 24/24 \(100 %\), \S+ elapsed, 0:00 left", said)
    for run in map(Run.open, runs):
        (step,) = run.steps()
        stored = {one.probe: one for one in catalogue.stored(run.results_folder(step))}
        assert stored.keys() == set(PROBES) - set(LEFT_OUT)
        assert (trained(stored["local_contrast"].load())["term"] >= 0).all()

    second = Run.open(f"runs/demo/{ZOO_MODEL}")
    found = catalogue.stored(second.results_folder(second.steps()[0]))
    assert {one.probe for one in found} == set(ZOO_PROBES)

    # the same again trains and computes nothing, and says the same
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.safetensors")}
    assert main(arguments) == 0
    assert capsys.readouterr().out == out
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.safetensors")} == before

    # other settings do not go on top of what is there
    assert main([*arguments[:-4], "--epochs", "2", "--images", "24"]) == 2
    assert "expected the demo's own run" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_publishes_what_is_trained(tmp_path: Path, number: signal.Signals) -> None:
    """Of the demo's process alone, as a terminal or a cluster may send it; then the same command
    goes on."""
    words = ["demo", "--no-dashboard", "--epochs", "40", "--images", "24", "--out", str(tmp_path / "runs")]
    command = processes.start(
        processes.module("lcmae.app.cli", *words), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    run, end = tmp_path / "runs" / "mae-digits-s0", time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_text().splitlines()) < 2:
        assert time.monotonic() < end
        assert command.poll() is None
        time.sleep(0.1)
    command.send_signal(number)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 128 + number, err
    assert out == ""
    assert err.splitlines()[-1] == f"stopped by {number.name}; the same command continues from here"
    (step,) = Run.open(run).steps()
    assert 10 < step < 440


def test_intervals_are_students() -> None:
    # 1, 2, 3: mean 2, deviation 1, t of 2 degrees of freedom 4.3027: half width 4.3027 / sqrt(3)
    assert demo._cells([[1.0], [2.0], [3.0]]) == ["2 ± 2"]
    assert demo._cells([[1.234567]]) == ["1.23"]


def test_cells_of_several_seeds() -> None:
    """Mean and half the 95 % interval: for 1, 2, 3 that is 2 and 4.303 / sqrt(3) = 2.48; what
    nobody has is a dash."""
    nan = float("nan")
    assert demo._cells([[1.0, nan], [2.0, nan], [3.0, nan]]) == ["2 ± 2", "-"]
    assert demo._cells([[1.0, nan]]) == ["1", "-"]
