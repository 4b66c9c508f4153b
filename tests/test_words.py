"""One word, one meaning: the private nouns of an earlier vocabulary name nothing in the code, and
no sentence that a person reads has them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FOLDERS = ("app", "lcmae", "probes", "tests")
"""All code; what may stay is named below, with its reason."""

PRIVATE = {
    "sight": "inspection, view", "sights": "views", "look": "a plain verb, CachedForward", "looks": "plain verbs",
    "kept": "cache", "ahead": "prefetch", "twin": "no second body of a model", "twins": "none",
    "rehearse": "warm-up", "rehearsal": "warm-up", "judge": "classifier", "judges": "classifiers", "made": "synthetic, latents",
    "companion": "baseline", "companions": "baselines", "told": "described", "says": "summary", "better": "metric direction",
    "inside": "within", "place": "position", "places": "positions", "spoiled": "corrupted",
}  # fmt: skip
"""Private noun -> the field's word. Names are compared part by part: `kept_files` has `kept`."""

SENTENCES = re.compile(
    r"\b(sights?|twins?|rehears\w*|judges?|companions?|spoil\w*|take it away|(?<!in )(?<!takes )places?)\b",
    re.IGNORECASE,
)
"""In sentences only nouns count: `look`, `made`, `says`, `kept` and `better` are plain English as
verbs and adjectives, and `in place of` is no position."""

EXCEPTIONS = {
    ("app/figures/transfer.py", "judge"): "the dimension of stored transfer results",
    ("app/dashboard", "better"): "a column of the table of differences, where it is the field's word",
    ("app/figures", "better"): "the same column",
    ("probes/results/metric_directions.py", "better"): "it says which end of a number is the better one",
    ("probes/results/legacy.py", "judge"): "a dimension of results that are stored",
    ("tests/probes/results/test_legacy.py", "judges"): "the labels of that dimension",
    ("probes/claims", "says"): "a field of stored claims.json",
    ("probes/results/differences.py", "says"): "a column of the table of differences",
    ("tests/probes/results/test_differences.py", "says"): "the same column",
    ("probes/decoder_attention.py", "places"): "a field of stored settings, and the name of a random stream",
    ("probes/embedding_consistency.py", "places"): "the same",
    ("tests/probes/test_embedding_consistency.py", "places"): "the same",
    ("probes/hierarchy.py", "places"): "the name of a random stream: another one draws other numbers",
    ("probes/decoder_attention.py", "place"): "long_name of stored results",
    ("probes/local_contrast.py", "place"): "long_name of stored results",
}
"""(start of a path, word) -> why it may stay."""


def is_excepted(path: str, word: str) -> bool:
    """Whether this word may stand in this file."""
    return any(path.startswith(start) and word == excepted for start, excepted in EXCEPTIONS)


def sources() -> Iterator[tuple[str, Path]]:
    """Every Python file of the clean folders, with its folder."""
    for folder in FOLDERS:
        path = ROOT / folder
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield folder, file


def names_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that a module gives: functions, classes, arguments, variables, fields, modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if not node.name.startswith("test_"):
                yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


def sentences_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Strings that are no documentation."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def parts(name: str) -> set[str]:
    """Words of a name, in lower case: `CachedForward` has cached and forward."""
    return set(re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower().split("_"))


def test_no_private_noun_names_anything_or_is_shown():
    found = []
    for folder, file in sources():
        tree = ast.parse(file.read_text())
        hits = [(line, word, name) for line, name in names_of(tree) for word in parts(name) & PRIVATE.keys()]
        if not folder.startswith("tests"):
            hits += [
                (line, hit[0].lower(), text) for line, text in sentences_of(tree) for hit in SENTENCES.finditer(text)
            ]
        found += [
            f"{file.relative_to(ROOT)}:{line}: {word} in {name[:80]!r}; the word is {PRIVATE.get(word, 'another')}"
            for line, word, name in hits
            if not is_excepted(str(file.relative_to(ROOT)), word)
        ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def _kept_files(): pass", {"kept"}),
        ("class Sight: pass", {"sight"}),
        ("def f(place, *, by_twin): pass", {"place", "twin"}),
        ("import x as judges", {"judges"}),
        ("placement = backend = remade = 1", set()),
    ],
)
def test_the_search_finds_words_as_parts_of_names(code: str, words: set[str]):
    assert {word for _, name in names_of(ast.parse(code)) for word in parts(name) & PRIVATE.keys()} == words


def test_the_search_reads_sentences_but_no_documentation():
    tree = ast.parse('"""A sight."""\nx = f"Take it away, {y}"\nz = "in place of it"')
    assert [hit[0] for _, text in sentences_of(tree) for hit in SENTENCES.finditer(text)] == ["Take it away"]
