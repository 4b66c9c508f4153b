"""The command line: each bad input is one line on standard error and exit code 2, and leaves
nothing half-made behind."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcmae.app import cli
from lcmae.app.cli import main
from lcmae.app.command_line.arguments import one_line
from lcmae.app.commands.probe import exit_code
from lcmae.errors import InputError
from lcmae.probes.jobs.batch import JobResult
from lcmae.probes.registry import PROBES
from lcmae.probes.results.store import load_result
from lcmae.recipes import RECIPES
from lcmae.runs.run import Run
from lcmae.training import train as training
from tests.reference.tiny_runs import only_file, tiny_run

SMALL = ["--limit", "32", "--batch-size", "16", "--epochs", "2", "--warmup-epochs", "0", "--monitor-images", "40"]
SMALL += ["--model.image-size", "8", "--model.patch-size", "2", "--model.width", "16", "--model.depth", "1"]
SMALL += ["--model.decoder-width", "16", "--model.decoder-depth", "1"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go to tmp_path/runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LCMAE_RUNS", raising=False)
    monkeypatch.delenv("LCMAE_DEBUG", raising=False)


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of a command that must fail with this code and print no more."""

    def of(*arguments: str, code: int = 2) -> str:
        assert main(list(arguments)) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert err.startswith("lcmae")
        return err.rstrip("\n")

    return of


def nan_images(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(folder / f"{number}.tiff")
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epoch", "3"], "lcmae train: Unrecognized options: --epoch, 3; perhaps you meant --epochs"),
        (["--objective.mask.ratio", "1.5"], "lcmae train: ratio: input should be less than 1, got 1.5"),
        (["--objective.mask.ratio", "nan"], "lcmae train: ratio: input should be a finite number, got nan"),
        (["--model.image-size", "33"], "lcmae train: MAEConfig: image 33x33 is not a whole number of 8-pixel patches"),
        (["--model.image_size=33"], "lcmae train: MAEConfig: image 33x33 is not a whole number of 8-pixel patches"),
        (
            ["--data", "folder:/no/where"],
            "lcmae train: expected a folder of images, got /no/where, which does not exist",
        ),
        (["--data", "mnist"], "lcmae train: expected data to be digits, cifar10, "),
        (["--epochs", "many"], "lcmae train: Error parsing --epochs: invalid literal for int() with base 10: 'many'"),
        (
            ["--epochs", "2", "--warmup-epochs", "6"],
            "expected warmup_epochs of at most 2 (epochs), got 6; say warmup_epochs=0 (--warmup-epochs 0) for none",
        ),
        (["--loggers", "paper"], "lcmae train: invalid choice 'paper' for argument '--loggers'. Expected one of "),
        (["--limit", "10"], "lcmae train: expected batch_size of at most 10 (the number of images), got 128"),
        (["--mask", "foggy"], "out of random, coarse_random, "),
        (["--device", "banana"], "lcmae train: expected a device of this machine (cpu, cuda, cuda:N), got 'banana'"),
        (["--device", "cuda:99"], "lcmae train: expected a device of this machine (cpu, cuda, cuda:N), got 'cuda:99'"),
        (["--out"], "lcmae train: argument --out: expected one argument"),
        (["--out", "/dev/null/run"], "lcmae train: cannot make a run folder at /dev/null/run: "),
        (["more"], "lcmae train: Unrecognized options: more"),
        (["--shard"], "lcmae train: expected a torchrun launch for sharding (FSDP2), got a single process"),
        (["--model.depth", "100000"], "weights in 100,002 blocks, which take "),
        (["--model.width", "120000000"], "lcmae train: expected a model that can be trained in the "),
        (["--seed", "-1"], "lcmae train: seed: input should be greater than or equal to 0, got -1"),
    ],
)
def test_training_refuses_in_one_line(
    complaint: Callable[..., str], tmp_path: Path, options: list[str], message: str
) -> None:
    assert message in complaint("train", "mae-digits", *options)
    assert list(tmp_path.iterdir()) == []


def test_a_warm_up_longer_than_the_training_shrinks_and_it_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    position = SMALL.index("--warmup-epochs")
    assert main(["train", "mae-digits", *SMALL[:position], *SMALL[position + 2 :], "--out", "short"]) == 0
    assert "warm-up of 0.17 epochs: the recipe's 6 of 72 in proportion" in capsys.readouterr().err
    assert Run.open(tmp_path / "short").config["warmup_epochs"] == pytest.approx(2 * 6 / 72)
    assert main(["train", "mae-digits", *SMALL, "--out", "none"]) == 0
    assert "warm-up" not in capsys.readouterr().err
    assert Run.open(tmp_path / "none").config["warmup_epochs"] == 0


def test_an_image_of_nan_is_one_line(complaint: Callable[..., str], tmp_path: Path) -> None:
    folder = nan_images(tmp_path / "images")
    message = complaint("train", "mae-digits", "--data", f"folder:{folder}")
    assert "none of 2 images can be read" in message
    assert "not finite (NaN or infinity)" in message
    assert list(tmp_path.iterdir()) == [folder]


def test_an_unknown_recipe_names_those_that_there_are(complaint: Callable[..., str]) -> None:
    assert complaint("train", "mae-digit") == (
        f"lcmae train: expected a recipe out of {', '.join(RECIPES)}, got 'mae-digit'; did you mean 'mae-digits'?"
    )
    assert "or --resume RUN; got neither" in complaint("train")


@pytest.mark.parametrize(
    "more", [["mae-digits"], ["--epochs", "3"], ["--out", "x"], ["--mask", "block"], ["--augment"]]
)
def test_a_resumed_run_keeps_its_config(complaint: Callable[..., str], tmp_path: Path, more: list[str]) -> None:
    run = tiny_run(tmp_path / "run")
    arguments = [*more, "--resume", str(run.path)] if more == ["mae-digits"] else ["--resume", str(run.path), *more]
    assert "expected --resume RUN alone (a run keeps its config), got also " + more[0] in complaint("train", *arguments)
    assert run.steps() == []


def test_resuming_nothing_is_one_line(complaint: Callable[..., str]) -> None:
    assert complaint("train", "--resume", "no/where").endswith("expected a run folder, got nothing there: no/where")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], f"expected probes out of {', '.join(PROBES)} (or all), got nonsense"),
        ([], "expected at least one probe out of "),
        (["reconstruction"], "expected at least one --checkpoint PATH (or --adapter FILE.py:FUNCTION), got none"),
        (["reconstruction", "--checkpoint", "no/where"], "no/where"),
        (
            ["reconstruction", "--checkpoint", "x", "--engine", "foo"],
            "engine: input should be 'local', 'slurm' or 'dask'",
        ),
        (["reconstruction", "--checkpoint", "x", "--images", "0"], 'expected --images with a number above 0 or "all"'),
        (
            ["reconstruction", "--checkpoint", "x", "--images", "few"],
            'expected --images with a number above 0 or "all"',
        ),
        (["reconstruction", "--checkpoint", "x", "--device", "banana"], "expected a device of this machine"),
        (
            ["reconstruction", "--checkpoint", "x", "--reconstruction.mask.ratio", "2"],
            "ratio: input should be less than 1",
        ),
        (
            ["reconstruction", "--checkpoint", "x", "--reconstruction.mask.kind", "fog"],
            "out of random, coarse_random, ",
        ),
        (["reconstruction", "--checkpoint", "x", "--every-step"], "expected run folders with --every-step, got x"),
    ],
)
def test_probing_refuses_in_one_line(complaint: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in complaint("probe", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "lcmae: expected a command out of "),
        (["dashboard", "--port", "0"], "port: input should be greater than or equal to 1, got 0"),
        (["demo", "--images", "1"], "images: input should be greater than or equal to 2, got 1"),
        (["demo", "--seeds", "0"], "seeds: input should be greater than or equal to 1, got 0"),
    ],
)
def test_other_commands_refuse_in_one_line(complaint: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in complaint(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["usage: lcmae COMMAND", "train", "probe", "demo", "dashboard"]),
        (["train", "--help"], ["usage: lcmae train RECIPE", "--resume", "--out", "143"]),
        (
            ["train", "mae-digits", "--help"],
            ["--epochs", "Passes over the images", "--objective.mask.ratio", "in pixels"],
        ),
        (["probe", "--help"], ["--checkpoint", "--images", "local_contrast"]),
        (["probe", "local_contrast", "--help"], ["--local-contrast.num-masks", "K: masks per image"]),
        (["demo", "--help"], ["--no-dashboard", "--seeds"]),
        (["dashboard", "--help"], ["--port", "127.0.0.1"]),
        (["--version"], ["lcmae 0"]),
    ],
)
def test_help_is_no_error(capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]) -> None:
    try:
        code = main(arguments)
    except SystemExit as stop:  # tyro leaves the process itself
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    for word in words:
        assert word in out
    assert len(arguments) == 1 or list(Path.cwd().iterdir()) == []


def test_no_command_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: lcmae COMMAND" in capsys.readouterr().out


class TestTraining:
    def test_the_run_folder_is_printed_last(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "mae-digits", *SMALL]) == 0
        out, err = capsys.readouterr()
        path = Path(out.splitlines()[-1])
        assert path == Path("runs/mae-digits-s0")
        run = Run.open(path)
        assert run.steps() == [4]
        assert run.config["model"]["image_size"] == [8, 8]
        assert "4/4 (100 %)" in err
        assert "0:00 left" in err
        # another one gets another folder, and the first is left alone
        assert main(["train", "mae-digits", *SMALL, "--seed", "0"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "runs/mae-digits-s0-2"

    def test_options_reach_the_run(self, tmp_path: Path) -> None:
        own = ["--out", "here", "--mask", "block", "--objective.mask.min-block", "2", "--augment", "--epochs", "1"]
        assert main(["train", "lcmae-digits", *SMALL, *own, "--objective.invariance", "2"]) == 0
        config = json.loads((tmp_path / "here" / "config.json").read_text())
        usual = RECIPES["lcmae-digits"]().objective.mask
        assert config["objective"]["mask"] == {
            **config["objective"]["mask"], "kind": "block", "ratio": usual.ratio, "min_block": 2
        }  # fmt: skip
        assert config["objective"]["kind"] == "lcmae"
        assert config["objective"]["invariance"] == 2
        assert config["augmentation"]["scale"] == [0.2, 1.0]

    def test_a_folder_that_is_taken_is_refused_and_kept(self, complaint: Callable[..., str], tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("precious")
        assert "expected a new or empty folder" in complaint("train", "mae-digits", *SMALL, "--out", "mine")
        assert (tmp_path / "mine" / "notes.txt").read_text() == "precious"

    @pytest.mark.parametrize(("number", "code"), [(15, 143), (2, 130)])
    def test_signals_publish_and_have_their_code(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        code: int,
    ) -> None:
        update = training.update

        def interrupted(*arguments: object) -> object:
            if arguments[-1] == 3:
                os.kill(os.getpid(), number)
            return update(*arguments)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(training, "update", interrupted)
        assert main(["train", "mae-digits", *SMALL]) == code
        out, err = capsys.readouterr()
        assert out.splitlines()[-1] == "runs/mae-digits-s0"
        assert "after step 3, which is stored" in err
        monkeypatch.setattr(training, "update", update)
        assert main(["train", "--resume", "runs/mae-digits-s0"]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[-1] == "runs/mae-digits-s0"
        assert "continuing runs/mae-digits-s0 after step 3" in err
        assert Run.open("runs/mae-digits-s0").steps() == [3, 4]

    def test_a_loss_that_is_no_number_is_a_failure_of_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--base-lr", "1e30", "--log-every", "1", "--epochs", "20"]
        assert main(["train", "mae-digits", *SMALL, *options]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "NonFiniteLossError" in err
        assert "at step" in err or "after step" in err

    def test_a_failure_does_not_delete_what_was_measured(
        self, complaint: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            from lcmae.errors import CheckpointError

            raise CheckpointError("cannot publish step 4: No space left on device")

        monkeypatch.setattr(Run, "publish", full)
        assert "No space left" in complaint("train", "mae-digits", *SMALL)
        assert Run.open("runs/mae-digits-s0").metrics() != []


class TestProbing:
    @pytest.fixture
    def run(self, capsys: pytest.CaptureFixture[str]) -> str:
        assert main(["train", "mae-digits", *SMALL, "--checkpoint-every", "1"]) == 0
        return capsys.readouterr().out.splitlines()[-1]

    def test_prints_a_table_and_the_files(self, run: str, capsys: pytest.CaptureFixture[str]) -> None:
        asked = ["reconstruction", "local_contrast", "--checkpoint", run, "--images", "10", "--device", "cpu"]
        for again in (False, True):
            assert main(["probe", *asked, "--local-contrast.num-masks", "2"]) == 0
            out = capsys.readouterr().out
            assert "error_nearest" in out
            assert "term[invariance]" in out
            # each probe's answer, as on its page
            assert re.search(r"^reconstruction: The error of hidden patches is .* untrained network", out, re.MULTILINE)
            assert re.search(r"^local_contrast: The largest part of the masked loss", out, re.MULTILINE)
            files = [line.split("  (")[0] for line in out.splitlines() if ".nc" in line]
            assert [Path(file).parent.name for file in files] == ["reconstruction", "local_contrast"]
            for file in files:
                assert re.fullmatch(rf"{run}/probes/000004/\w+/digits-test-10-random-[0-9.]+-[0-9a-f]{{8}}.nc", file)
            assert out.count("(stored before)") == (2 if again else 0)
        assert '"num_masks":2' in load_result(Path(files[1])).attrs["settings"]

    @pytest.mark.parametrize(("kind", "ratio"), [("block", "0.999"), ("random", "0.97"), ("noise", "0.99")])
    def test_a_mask_that_the_grid_cannot_have_is_bad_input(
        self, run: str, kind: str, ratio: str, complaint: Callable[..., str]
    ) -> None:
        asked = ["--checkpoint", run, "--images", "10", "--device", "cpu"]
        assert "ratio" in complaint("probe", "reconstruction", *asked, "--mask", kind, "--ratio", ratio)

    def test_every_step_and_another_mask(self, run: str, tmp_path: Path) -> None:
        asked = ["--checkpoint", run, "--images", "10", "--every-step", "--device", "cpu"]
        mask = ["--reconstruction.mask.kind", "block", "--reconstruction.mask.ratio", "0.5"]
        assert main(["probe", "reconstruction", *asked, *mask]) == 0
        for step in ("000002", "000004"):
            attrs = load_result(only_file(tmp_path / run / "probes" / step, "reconstruction")).attrs
            settings = json.loads(attrs["settings"])
            assert (settings["mask"]["kind"], settings["mask"]["ratio"]) == ("block", 0.5)

    def test_what_a_named_probe_lacks_is_bad_input_and_the_others_are_there(
        self, run: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["probe", "dense", "reconstruction", "--checkpoint", run, "--images", "10", "--device", "cpu"]) == 2
        out, err = capsys.readouterr()
        assert "probe dense: needs" in err
        assert "--masks" in err
        assert f"{run}/probes/000004/reconstruction/digits-test-10-random-" in out

    @pytest.mark.parametrize(
        ("files", "refused", "of_all", "code"),
        [
            (["spectrum"], ["dense"], False, 2),
            (["spectrum"], ["dense"], True, 0),  # nobody asked for it by name
            ([], ["dense"], True, 2),
            (["spectrum"], [], True, 1),  # it broke
            (["spectrum"], [], False, 1),
        ],
    )
    def test_exit_code(self, files: list[str], refused: list[str], of_all: bool, code: int) -> None:
        outcome = JobResult("run", dict.fromkeys(files, "x.nc"), failures={"dense": "why"}, refused=refused)
        assert exit_code(outcome, of_all=of_all) == code
        assert exit_code(JobResult("run", dict.fromkeys(files, "x.nc")), of_all=of_all) == 0

    def test_one_bad_checkpoint_does_not_stop_the_other(self, run: str, capsys: pytest.CaptureFixture[str]) -> None:
        asked = ["--checkpoint", "no/where", run, "--images", "10", "--device", "cpu"]
        assert main(["probe", "reconstruction", *asked]) == 2
        out, err = capsys.readouterr()
        assert "no/where" in err
        assert f"{run}/probes/000004/reconstruction/digits-test-10-random-" in out


class TestLastResort:
    @pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EACCES, 2)])
    def test_a_full_disk_is_a_failure_and_a_forbidden_folder_bad_input(
        self, number: int, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        def refused(name: str) -> object:
            try:
                raise OSError(number, os.strerror(number))
            except OSError as error:
                raise InputError(f"cannot write: {error.strerror}") from error

        monkeypatch.setattr(cli, "import_module", refused)
        assert main(["demo"]) == code
        assert capsys.readouterr().err == f"lcmae demo: cannot write: {os.strerror(number)}\n"

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
    def test_a_path_that_refuses_is_bad_input_wherever_it_was_met(
        self, number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(name: str) -> object:
            raise OSError(number, os.strerror(number), "/some/where")

        monkeypatch.setattr(cli, "import_module", refused)
        assert main(["demo"]) == 2
        assert capsys.readouterr().err == f"lcmae demo: cannot use /some/where: {os.strerror(number)}\n"

    def test_an_unforeseen_error_is_one_line(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(name: str) -> object:
            raise ZeroDivisionError("three\nlines\nlong")

        monkeypatch.setattr(cli, "import_module", broken)
        assert main(["demo"]) == 1
        assert capsys.readouterr().err == (
            "lcmae demo: failed: ZeroDivisionError: three lines long (LCMAE_DEBUG=1 shows where)\n"
        )
        monkeypatch.setenv("LCMAE_DEBUG", "1")
        with pytest.raises(ZeroDivisionError):
            main(["demo"])

    def test_ctrl_c_has_its_code(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(name: str) -> object:
            raise KeyboardInterrupt

        monkeypatch.setattr(cli, "import_module", interrupted)
        assert main(["demo"]) == 130
        assert capsys.readouterr().err == "lcmae demo: stopped\n"


def test_a_real_process_says_it_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lcmae.app.cli", "train", "mae-digits", "--objective.mask.ratio", "1.5"]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lcmae train: ratio: input should be less than 1, got 1.5\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "box",
    [
        "╭─ Unrecognized options ──╮\n│ Unrecognized options: --x │\n│ ─────── │\n│ Perhaps you meant: │\n│     --xs INT │\n╰──╯\n",
        "Unrecognized options\n--------\nUnrecognized options: --x\n--------\nPerhaps you meant:\n    --xs INT\n-------\n",
    ],
    ids=["lines", "dashes"],
)
def test_a_box_is_brought_to_one_line(box: str) -> None:
    assert one_line(box) == "Unrecognized options: --x; perhaps you meant --xs"
