"""Run folders that nobody should trust: each is one line of the table that says what is wrong, and
every page shows the others as if it were not there."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.pages import PAGES
from lcmae.app.dashboard.stored import reading
from lcmae.probes.results.store import save_result
from lcmae.runs.run import Run
from tests.app import synthetic
from tests.app.pages import figures, open_page, words
from tests.app.poisoned import LINK, ODD, POISON, poisoned_runs
from tests.few import few


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return poisoned_runs(tmp_path_factory.mktemp("poisoned") / "runs")


@pytest.fixture
def poisoned_root(poisoned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCMAE_RUNS", str(poisoned))
    return poisoned


def test_a_run_that_does_not_read_is_one_line_that_says_why(poisoned: Path):
    lines = {name: reading.overview(name, path) for name, path in reading.runs_below(poisoned).items()}
    assert {name for name, line in lines.items() if line["state"].startswith("unreadable: ")} == set(POISON)
    assert all(len(line["state"]) < 250 and line["state"].isprintable() for line in lines.values())
    assert "expected process and host" in lines["pid"]["state"]
    assert "plain file" in lines["fifo"]["state"]
    assert lines["digits"]["loss"] is None, "a line with such a number is none"
    assert len(lines) == 1 + len(POISON) + len(ODD)


@pytest.mark.parametrize("name", few([page.name for page in PAGES], 8))
def test_every_page_is_drawn_with_all_of_them_picked(poisoned_root: Path, name: str):
    names = list(reading.runs_below(poisoned_root))
    alone, together = open_page(name, "good"), open_page(name, *names)
    page = next(page for page in PAGES if page.name == name)
    assert together.title[0].value == page.title
    assert len(figures(together)) >= len(figures(alone))
    words(together).encode()
    hold_no_link(together)


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_a_link_is_quoted_as_text(poisoned_root: Path, name: str):
    query = dict.fromkeys(("step", "mask", "split", "upload", "a", "b", "data", "image", "at", "feature", "path"), LINK)
    app = open_page(name, LINK, "x" * 5000, **query)
    hold_no_link(app)
    assert "x" * 300 not in words(app)


OWN = re.compile(r"\[See a model fill it in\]\(microscope\?[\w%&=.+-]*\)")
"""A link of the page's own: to the microscope, with known runs in escaped words."""


def hold_no_link(app: AppTest) -> None:
    """Nothing that Streamlit reads as Markdown makes a link, a picture or HTML of it."""
    for kind in ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error"):
        for element in app.get(kind):
            text = OWN.sub("", str(getattr(element, "value", "")))
            assert not leaves(text) & {"image", "link_open", "html_inline", "html_block"}, text


def leaves(markdown: str) -> set[str]:
    """What an independent reader makes of Markdown."""
    return {one.type for token in MarkdownIt("commonmark").parse(markdown) for one in (token, *(token.children or ()))}


# --- results that do not fit their probe ---


@pytest.fixture(scope="module")
def unfit_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, of which one holds results as no probe writes them."""
    root = tmp_path_factory.mktemp("unfit") / "runs"
    root.mkdir()
    for name in "ab":
        run = Run.create(root / name, {"data": "digits"})
        for probe, make in synthetic.RESULTS.items():
            result = make(seed=0)
            save_result(odd(result) if name == "b" else result, run.result_path(20, probe))
    return root


@pytest.fixture
def unfit(unfit_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCMAE_RUNS", str(unfit_runs))
    return unfit_runs


def odd(result: xr.Dataset) -> xr.Dataset:
    """The same with other words for coordinates, or without a variable."""
    texts = {name: [f"odd {n}" for n in range(result.sizes[name])] for name in result.dims
             if name in result.coords and result[name].dtype.kind in "UO"}  # fmt: skip
    return result.assign_coords(texts) if texts else result.drop_vars(str(next(iter(result.data_vars))))


@pytest.mark.parametrize("probe", few(sorted(synthetic.RESULTS)))
def test_a_result_of_other_form_costs_its_own_run_alone(unfit: Path, probe: str):
    alone, together = open_page(probe, "a"), open_page(probe, "a", "b")
    assert len(figures(together)) >= len(figures(alone))


def test_through_training_and_pair_leave_it_out(unfit: Path):
    for probe in ("spectrum", "reconstruction"):
        assert figures(open_page("through_training", "a", "b", probe=probe))
    open_page("pair", a="a", b="b")


def test_a_result_without_units_is_refused_in_one_sentence(root: Path):
    run = Run.create(root / "a", {"data": "digits"})
    result = synthetic.RESULTS["reconstruction"](seed=0)
    result["error"].attrs.clear()
    save_result(result, run.result_path(20, "reconstruction"))
    assert "without" in words(open_page("reconstruction", "a"))


@pytest.mark.parametrize("probe", few(sorted(synthetic.RESULTS)))
def test_words_for_numbers_are_one_sentence_and_the_other_run_is_drawn(root: Path, probe: str):
    for name in "ab":
        run, result = Run.create(root / name, {"data": "digits"}), synthetic.RESULTS[probe](seed=0)
        largest = max(result.data_vars, key=lambda variable: result[variable].size)
        if name == "b":
            words_for = (result[largest].dims, np.full(result[largest].shape, "odd"), result[largest].attrs)
            result = result.assign({largest: words_for})
        save_result(result, run.result_path(20, probe))
    alone, together = open_page(probe, "a"), open_page(probe, "a", "b")
    assert len(figures(together)) == len(figures(alone))
    titles = [element.value for element in alone.subheader]
    assert titles
    assert titles == [element.value for element in together.subheader]
    assert words(together).count(f"expected a result as {probe} writes it") == 1
