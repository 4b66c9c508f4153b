"""--help of every command: at once, with two examples; and the nearest word for a misspelt one."""

import contextlib
import json
import shlex
import subprocess

import pytest

from lcmae import processes
from lcmae.app import cli
from lcmae.app.command_line.examples import EXAMPLES
from lcmae.errors import did_you_mean

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "streamlit",
    "xarray",
    "pandas",
    "scipy",
    "sklearn",
    "plotly",
    "pyarrow",
    "numpy",
}
PROGRAM = """
import contextlib, io, json, sys
from lcmae.app import cli

loaded = {}
for command in cli.COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            code = cli.main([command, "--help"])
        except SystemExit as stop:
            code = stop.code
    assert code in (0, None), command
    loaded[command] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(loaded))
"""


def test_help_of_no_command_loads_anything_heavy() -> None:
    done = subprocess.run(processes.python("-c", PROGRAM), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert list(loaded) == list(cli.COMMANDS)
    # modules stay loaded, so the first command with some is the one to blame
    assert {command: HEAVY & set(names) for command, names in loaded.items() if HEAVY & set(names)} == {}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_ends_with_two_examples_of_options_that_exist(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with contextlib.suppress(SystemExit):  # tyro leaves so; the text below says that it was no error
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    options, _, examples = text.partition("\nexamples:\n")
    assert [line.strip() for line in examples.splitlines()] == list(EXAMPLES[command])
    for example in EXAMPLES[command]:
        words = shlex.split(example)
        assert words[:2] == ["lcmae", command]
        if command != "train":  # its fields are those of a recipe; below
            assert {word for word in words if word.startswith("--")} <= set(options.replace(",", " ").split())


@pytest.mark.parametrize("words", [*([command] for command in cli.COMMANDS), ["train", "mae-digits"]])
def test_help_is_plain(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for odd in ("[[", "{None}", "{None,", "STR", "(default: )", "(default: None)"):
        assert odd not in text


def test_help_names_values_by_their_option_and_kinds_by_all_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        cli.main(["probe", "--help"])
    lines = capsys.readouterr().out
    assert "lcmae probe [-h] [OPTIONS] [PROBE ...]" in lines
    assert lines.index("--checkpoint [PATH ...]") < lines.index("--seed INT") < lines.index("--heads INT")
    with contextlib.suppress(SystemExit):
        cli.main(["train", "mae-digits", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--objective.kind KIND Another kind, with its own options: mae, umae, lcmae, simmim, usimmim." in text
    assert "complementary, attention, loss. (default: random)" in text
    assert text.index("--model.kind KIND") < text.index("--model.image-size INT INT")


def test_the_example_of_training_reads(tmp_path) -> None:
    from lcmae.app.commands import train

    words = shlex.split(EXAMPLES["train"][0])[3:]
    options, fields = train._own_options().parse_known_args(words)
    config = train._config("mae-digits", options, fields)
    assert (config.seed, config.objective.mask.ratio) == (3, 0.6)


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "mae-digts"], "did you mean 'mae-digits'?"),
        (["train", "mae_digits_"], "did you mean 'mae-digits'?"),
        (["train", "mae-digits", "--mask", "blok"], "did you mean 'block'?"),
        (["train", "mae-digits", "--objective.kind", "unae"], "did you mean 'umae'?"),
        (["train", "mae-digits", "--epoch", "3"], "perhaps you meant --epochs"),
        (["inspect", "x", "--head", "3"], "perhaps you meant --heads"),
        (["export", "x", "--to", "offical", "--out", "y"], "'huggingface'); did you mean 'official'?"),
        (["probe", "recon"], "did you mean 'reconstruction'?"),
        (["probe", "receptve_field"], "did you mean 'receptive_field'?"),
        (["probe", "receptive-feild"], "did you mean 'receptive_field'?"),
        (["probe", "spectrum", "--chekpoint", "x"], "perhaps you meant --checkpoint"),
        (["compare", "--masks", "blok"], "did you mean 'block'?"),
        (["compare", "--objectives", "maee"], "did you mean 'mae'?"),
        (["claims", "--claims", "umae-rnk"], "did you mean 'umae-rank'?"),
        (["masks", "--ration", "0.5"], "perhaps you meant --ratio"),
    ],
)
def test_the_nearest_word(
    capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch, words: list[str], nearest: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.rstrip().endswith(nearest)
    assert not list(tmp_path.iterdir())


def test_words_that_are_like_none_get_no_suggestion() -> None:
    assert did_you_mean("xyz", ["random", "block"]) == ""
