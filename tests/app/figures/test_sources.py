"""Every paper that a page names has a BibTeX entry."""

import re
from pathlib import Path

import pytest

from lcmae.app.figures.sources import ARXIV, SOURCES, WITHOUT_TITLE, bibtex

PAGES = Path(__file__).parents[3] / "app" / "dashboard" / "pages"
NAMED = sorted({number for file in PAGES.glob("*.py") for number in ARXIV.findall(file.read_text())})


def test_every_paper_of_a_page_is_in_the_table():
    assert len(NAMED) > 10
    assert set(NAMED) <= set(SOURCES) | WITHOUT_TITLE
    assert not set(SOURCES) & WITHOUT_TITLE


@pytest.mark.parametrize("number", NAMED)
def test_an_entry_closes_its_braces_and_links_the_paper(number: str):
    entry = bibtex(f"(arXiv {number})")
    assert entry.count("{") == entry.count("}")
    assert f"https://arxiv.org/abs/{number}" in entry
    assert entry.startswith("@misc{")


def test_keys_are_different_and_each_paper_stands_once():
    assert len({source.key for source in SOURCES.values()}) == len(SOURCES)
    both = bibtex("He (2111.06377), Zhang (2210.08344), He again (2111.06377)")
    assert re.findall(r"@misc\{(\w+),", both) == ["he2021masked", "zhang2022mask"]
    assert bibtex("nothing of 12345.6789") == ""
