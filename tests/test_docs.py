"""Every command of README and docs is one that exists: its words are parsed by the command's own
parser, without being run. What is marked with `<!-- run -->` is run, from the page's first block to
its last.

Words in capitals are placeholders (RUN, PHOTOS); as the name of a probe or a recipe they stand for
one. Python blocks name what `lcmae` has, and paths of code are paths that are there.
"""

import ast
import importlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import pytest

import lcmae
from lcmae.app.cli import COMMANDS
from lcmae.errors import InputError
from lcmae.processes import python

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "zoo" / "README.md", *(ROOT / "docs").rglob("*.md")]
)
FENCE = re.compile(
    r"^(?P<mark><!-- run -->\n)?```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
SHELL, PYTHON = ("", "sh", "bash", "console"), ("python",)
PLACEHOLDERS = {"NAME": "spectrum", "RECIPE": "mae-digits", "N": "1"}
"""Placeholders that a parser must understand, and a word for each; elsewhere they are any text."""

OF_THE_READER = {"diagonal": "the mask that docs/extending.md adds, and tests/test_extending.py runs"}
"""Words of commands that name what a reader is to write."""

PATH = re.compile(r"`((?:lcmae|probes|app|tests|benchmarks|notebooks|docs|zoo)/[\w./-]+\.(?:py|md|ipynb|sh|yml))`")


class Command(NamedTuple):
    """A command line of ours, and where it stands."""

    where: str
    words: tuple[str, ...]


def blocks(page: Path, languages: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and text of each fenced block of these languages."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        if found["language"] in languages:
            yield text.count("\n", 0, found.start("code")) + 1, found["code"]


def command_lines(page: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of all that may be a command: lines of shell blocks, indented lines, and
    spans between backticks. A line that ends in a backslash goes on."""
    text = page.read_text()
    prose = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for start, code in blocks(page, SHELL):
        yield from continued(start, code.splitlines())
    for number, line in continued(1, prose.splitlines()):
        if line.startswith("    ") and line.strip().startswith(("lcmae ", "uv run ", "make ")):
            yield number, line
    for found in re.finditer(r"`((?:uv run )?lcmae [^`]+)`", prose):
        yield prose.count("\n", 0, found.start()) + 1, " ".join(found[1].split())


def continued(start: int, lines: list[str]) -> Iterator[tuple[int, str]]:
    """Lines with those joined that a backslash continues."""
    held = ""
    for number, line in enumerate(lines, start):
        if line.rstrip().endswith("\\"):
            held += line.rstrip()[:-1] + " "
            continue
        yield number, held + line
        held = ""


def own_commands(page: Path) -> Iterator[Command]:
    """Commands `lcmae ...` of a page."""
    for number, line in command_lines(page):
        words = line.split()
        if "lcmae" in words and "..." not in line:
            at = words.index("lcmae")
            if all(is_before(word) for word in words[:at]):
                own = shlex.split(line.partition("lcmae ")[2], comments=True)
                yield Command(f"{page.relative_to(ROOT)}:{number}", tuple(own))


def is_before(word: str) -> bool:
    """Whether a word may stand before a command: `uv run`, `torchrun --no-python`, `OMP=1`."""
    return word in ("uv", "run", "torchrun", "$") or word.startswith("-") or "=" in word or word.isdecimal()


ALL = [command for page in PAGES for command in own_commands(page)]


class Parsed(BaseException):
    """A command line was understood; nothing beyond that happens."""


def understand(words: tuple[str, ...]) -> None:
    """Parse a command line. A sentence may name an option without a value, `compare --matrix`: then
    it is parsed with one. `InputError` for what the command does not understand."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            parse(words, patch)
    except InputError:
        if not words[-1].startswith("--"):
            raise
        with pytest.MonkeyPatch.context() as patch:
            parse((*words, "1"), patch)


def parse(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse as the command does; `InputError` for what it does not understand."""
    name, *rest = words
    if name == "--version":
        return
    if name not in COMMANDS:
        raise InputError(f"expected a command out of {', '.join(COMMANDS)}, got {name!r}")
    command = importlib.import_module(f"lcmae.app.commands.{name}")
    own = command.parse_arguments

    def stop(*arguments: object, **keywords: object) -> None:
        own(*arguments, **keywords)
        raise Parsed

    monkeypatch.setattr(command, "parse_arguments", stop)
    if name == "train":
        monkeypatch.setattr(command, "_train", lambda config, options: 0)  # --resume RUN parses nothing more
    try:
        command.run([PLACEHOLDERS.get(word, word) for word in rest])
    except Parsed:
        pass
    except SystemExit as end:
        if end.code:
            raise InputError(f"ended with {end.code}") from end


def test_there_are_commands_of_every_kind() -> None:
    assert len(ALL) > 80
    assert {command.words[0] for command in ALL} >= set(COMMANDS)


@pytest.mark.parametrize("name", sorted({command.words[0] for command in ALL}))
def test_every_command_is_understood(name: str) -> None:
    first = {words: where for where, words in reversed(ALL) if words[0] == name and len(words) > 1}
    wrong = []
    for words, where in first.items():
        if not OF_THE_READER.keys() & set(words):
            try:
                understand(words)
            except InputError as error:
                wrong.append(f"{where}: lcmae {shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "words",
    [
        ("inspekt", "FILE"),
        ("inspect", "FILE", "--jsn"),
        ("probe", "spektrum", "--checkpoint", "RUN"),
        ("probe", "spectrum", "--spectrum.mask-count", "3"),
        ("train", "mae-digits", "--objective.weight", "0.1"),
        ("compare", "--seeds", "many"),
    ],
)
def test_a_command_that_does_not_exist_is_found(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError):
        parse(words, monkeypatch)


def test_commands_are_found_in_blocks_in_indented_lines_and_in_sentences(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "which-layer-is-best.md"
    assert {words[0] for _, words in own_commands(page)} == {"probe", "dashboard", "embed"}
    assert list(continued(3, ["a \\", "b", "c"])) == [(4, "a  b"), (5, "c")]
    assert any(words[:2] == ("masks", "--ratio") for _, words in own_commands(ROOT / "docs" / "compare.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_name_what_is_there(page: Path) -> None:
    for number, code in blocks(page, PYTHON):
        tree = ast.parse(code)
        for node in ast.walk(tree):
            names = dotted(node)
            if names and names[0] == "lcmae":
                try:
                    reduce(getattr, names[1:3], lcmae)
                except AttributeError as error:
                    raise AssertionError(f"{page.relative_to(ROOT)}:{number}: {error}") from error


def dotted(node: ast.AST) -> list[str]:
    """The names of `a.b.c`; none for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return [*before, node.attr] if before else []
    return []


def test_paths_of_code_are_there() -> None:
    missing = [
        f"{page.relative_to(ROOT)}: {path}"
        for page in PAGES
        if page.name not in ("LOG.md", "extending.md")  # of its day; what one is to write
        for path in PATH.findall(page.read_text())
        if "NAME" not in path and not (ROOT / path).exists()
    ]
    assert not missing, "\n".join(missing)


def test_targets_of_make_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line.strip() for page in PAGES for _, line in command_lines(page)]
    named = {found[1] for line in lines if (found := re.match(r"make ([a-z]+)", line))}
    assert {"demo", "test"} <= named <= targets


def marked(page: Path) -> list[str]:
    """Blocks of a page that are run."""
    return [found["code"] for found in FENCE.finditer(page.read_text()) if found["mark"]]


RUN = [page for page in PAGES if marked(page)]


def test_some_blocks_are_run() -> None:
    assert [page.name for page in RUN]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_marked_blocks_run(page: Path, tmp_path: Path) -> None:
    """As a person would type them, in an empty folder; `lcmae` is this source tree's."""
    command = tmp_path / "bin" / "lcmae"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexec " + shlex.join(python("-m", "lcmae.app.cli")) + ' "$@"\n')
    command.chmod(0o755)
    script = "\n".join(["set -e", *marked(page)]).replace("uv run lcmae", "lcmae")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    folder = tmp_path / "work"
    folder.mkdir()
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
