"""The documentation as a site: what its menu names is there, and its check finds what is broken.
The site itself is built by `make docs ARGS=--build`, which `.ci/run` does."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"
GENERATED = {"index.md", "changes.md", "contributing.md"}
"""Pages that docs/site/hooks.py makes of files beside docs/."""


def module(name: str) -> ModuleType:
    """A file of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_menu_names_pages_that_are_there() -> None:
    menu = (SITE / "mkdocs.yml").read_text().partition("\nnav:")[2]
    pages = set(re.findall(r"([\w/-]+\.md)$", menu, re.MULTILINE))
    assert len(pages) > 25
    assert {page for page in pages - GENERATED if not (ROOT / "docs" / page).is_file()} == set()


def test_the_site_asks_no_other_host() -> None:
    settings = (SITE / "mkdocs.yml").read_text()
    assert "font: false" in settings
    for file in SITE.glob("*.*"):
        assert not re.search(r"(src|href)=\"?https?:|url\(https?:|site_url", file.read_text()), file


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="other.html#top">there</a>', ""),
        ('<a href="https://example.org/">elsewhere is a link</a>', ""),
        ('<a href="missing.html">nowhere</a>', "no such file"),
        ('<a href="other.html#bottom">nowhere</a>', "no such heading"),
        ('<img src="https://example.org/a.png">', "of another host"),
        ('<script src="//example.org/a.js"></script>', "of another host"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "of another host"),
        ('<img src="missing.png">', "no such file"),
    ],
)
def test_the_check_finds_what_is_broken(tmp_path: Path, page: str, fault: str) -> None:
    (tmp_path / "index.html").write_text(f"<html><body>{page}</body></html>")
    (tmp_path / "other.html").write_text('<html><body id="top"></body></html>')
    found = module("check").faults(tmp_path)
    assert len(found) == bool(fault)
    assert all(fault in one for one in found)


def test_the_check_reads_styles(tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text("a { background: url(picture.png) }")
    assert module("check").faults(tmp_path) == []
    (tmp_path / "foreign.css").write_text("@import 'https://example.org/a.css';")
    assert module("check").faults(tmp_path) == ["foreign.css: fetches from another host"]


def test_links_of_files_beside_docs_are_moved() -> None:
    moved = module("texts").moved
    assert moved("[a](docs/a.md#b) ![c](docs/images/c.png)") == "[a](a.md#b) ![c](images/c.png)"
    assert (
        moved("[a](docs/how-to/a.md) and [what changed](CHANGELOG.md)")
        == "[a](how-to/a.md) and [what changed](changes.md)"
    )
    assert moved("[licence](LICENSE), [books](notebooks)") == "[licence](LICENSE), books (`notebooks`)"
    assert moved("[the command](docs/site/picture.py)") == "the command (`docs/site/picture.py`)"
    assert moved('<img src="docs/images/a.png">') == '<img src="images/a.png">'
    assert moved("[elsewhere](https://example.org/docs/a)") == "[elsewhere](https://example.org/docs/a)"


def test_what_github_understands_is_said_for_the_site() -> None:
    understood = module("texts").understood
    assert understood("so:\n- a\n- b") == "so:\n\n- a\n- b"
    assert understood("- a\n  more\n- b") == "- a\n  more\n- b"
    assert understood("so:\n```sh\nsay\n- x\n```") == "so:\n\n```sh\nsay\n- x\n```"
    assert understood('```text line in a after "b"\nx\n```') == "```text title=\"line in a after 'b'\"\nx\n```"
