"""Two gloo processes train to the weights of one, a real SIGKILL costs only the steps since, and
compiling changes nothing.

Run as a script, this file is the pair (it forks after paying once for importing torch), or a
process that trains alone.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lcmae.runs.run import Run
from lcmae.training import distributed
from lcmae.training import train as training
from lcmae.training.train import Outcome, train
from tests.reference.tiny_runs import STEPS, lines, tiny_run, weights

SETTINGS: dict[str, dict[str, Any]] = {
    "umae": {
        "objective": {"kind": "umae", "mask": {"kind": "random", "ratio": 0.5}, "weight": 0.5},
        "augmentation": {},
    },
    "lcmae": {"objective": {"kind": "lcmae", "mask": {"kind": "random", "ratio": 0.5}}, "clip": 0.5},
    "sharded": {"shard": True, "activation_checkpointing": True, "clip": 0.5},
    "accumulated": {"accumulate": 2},
}
ALONE = {"shard": False, "activation_checkpointing": False}
"""What a single process has to do without: both change where things are kept, and no number."""

pytestmark = pytest.mark.slow


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Run, Run]]:
    """Of each settings, the run of this process and the run of the pair."""
    folder = tmp_path_factory.mktemp("pair")
    alone = {name: tiny_run(folder / f"{name}-alone", **{**settings, **ALONE}) for name, settings in SETTINGS.items()}
    together = {name: tiny_run(folder / f"{name}-pair", **settings) for name, settings in SETTINGS.items()}
    for run in alone.values():
        train(run)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    done = script(
        "pair", *(str(run.path) for run in together.values()), MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE="2"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: (alone[name], together[name]) for name in SETTINGS}


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_train_to_the_same_weights(runs: dict[str, tuple[Run, Run]], name: str) -> None:
    alone, together = runs[name]
    expected = weights(alone)
    for key, weight in weights(together).items():
        others = torch.ones(len(weight), dtype=torch.bool)
        if key.endswith("qkv.bias"):
            # softmax does not see a bias of the keys: its gradient is rounding, which AdamW makes
            # steps of full size of
            others = torch.arange(3).repeat_interleave(len(weight) // 3) != 1
        # 12 steps of AdamW on float32 sums in another order; a wrong share of the batch is off by
        # tenths
        torch.testing.assert_close(weight[others], expected[key][others], rtol=1e-2, atol=2e-4, msg=f"{name} {key}")


@pytest.mark.parametrize("name", SETTINGS)
def test_and_log_the_same_numbers_once(runs: dict[str, tuple[Run, Run]], name: str) -> None:
    # sharded weights are not looked at by a monitor
    alone, together = ([line for line in lines(run) if "loss" in line] for run in runs[name])
    assert [line["step"] for line in together] == [line["step"] for line in alone]
    for mine, theirs in zip(together, alone, strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() & {"loss", "reconstruction", "uniformity", "invariance", "collapse", "grad_norm", "lr"}:
            assert mine[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-6), key


def test_a_signal_to_one_stops_both_at_the_same_step(runs: dict[str, tuple[Run, Run]]) -> None:
    # sent to the second process alone, in step 7 of the last of the pair's runs, which then went on
    _, together = runs["accumulated"]
    assert together.steps() == [7, STEPS]


def test_a_kill_between_checkpoints_costs_the_steps_since(tmp_path: Path) -> None:
    whole, killed = (tiny_run(tmp_path / name, checkpoint_every=1) for name in ("whole", "killed"))
    done = script("whole", str(whole.path))
    assert done.returncode == 0, done.stderr
    done = script("killed", str(killed.path))
    assert done.returncode == -signal.SIGKILL
    assert Run.open(killed.path).steps() == [3, 6]
    done = script("whole", str(killed.path))
    assert done.returncode == 0, done.stderr
    expected = weights(whole)
    for name, weight in weights(killed).items():
        assert torch.equal(weight, expected[name]), name
    assert lines(killed) == lines(whole)


def test_compiled_training_learns_the_same(tmp_path: Path) -> None:
    # as users have it: the check of shapes that tests run under would break the graph at every
    # function
    compiled, plain = (tiny_run(tmp_path / f"{on}", epochs=2, compile=on) for on in (True, False))
    for run in (compiled, plain):
        done = script("whole", str(run.path))
        assert done.returncode == 0, done.stderr
    expected = weights(plain)
    assert weights(compiled).keys() == expected.keys()  # no _orig_mod. in the names
    for name, weight in weights(compiled).items():
        if not name.endswith("qkv.bias"):
            torch.testing.assert_close(weight, expected[name], rtol=1e-2, atol=2e-4, msg=name)


def kill_at(step: int, number: int) -> None:
    """Send this process a signal in a step."""
    update = training.update

    def killing(*arguments: Any) -> dict[str, Tensor]:
        if arguments[-1] == step:
            os.kill(os.getpid(), number)
        return update(*arguments)

    training.update = killing


def pair(paths: list[str]) -> None:
    child = os.fork()  # before torch starts a thread
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if child else "1"
    torch.set_num_threads(1)
    try:
        distributed.start()
        update = training.update
        for path in paths:
            is_last = path == paths[-1]
            if is_last and not child:
                kill_at(7, signal.SIGTERM)
            outcome = train(Run.open(path))
            if is_last:
                assert outcome == Outcome(7, signal.SIGTERM), outcome
                training.update = update
                outcome = train(Run.open(path))
            assert outcome == Outcome(STEPS), outcome
        distributed.stop()
    except BaseException:
        if child:
            os.kill(child, signal.SIGKILL)  # the other half would wait for this one
        raise
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    if what == "pair":
        pair(rest)
    else:
        if what == "killed":
            kill_at(8, signal.SIGKILL)
        train(Run.open(rest[0]))
