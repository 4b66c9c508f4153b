"""Every page of the menu is drawn with stored results of every probe and a checkpoint that loads;
what a page lacks by design is named here."""

import re
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.pages import PAGES
from lcmae.probes.registry import PROBES
from lcmae.probes.results.store import save_result
from tests.app import synthetic
from tests.app.pages import figures, open_page, words
from tests.app.trained import published

WITHOUT_FIGURE = {
    "start": "asks first; test_start_page.py has cards",
    "runs": "a table of runs",
    "open_checkpoint": "facts of one file in words",
    "gallery": "small pictures of images; test_gallery_page.py",
    "microscope": "its pictures are boards; figures come with a switch",
    "stitch": "needs a file of `lcmae stitch`; tests/app/dashboard/pages/test_stitch_page.py has one",
    "claims": "needs a record of `lcmae claims`; tests/app/dashboard/pages/test_claims_page.py has one",
}
"""Pages that draw no plotly figure in the state below, and why."""


RAW = re.compile(r"\b(cls|umap|pca)\b|[a-z]_[a-z]|^the same\b")
"""Names of variables and probes, labels of results that are no words, and words that lean on
others which do not stand beside them in a picker."""


def labels(app: AppTest) -> set[str]:
    """What a person picks from, headings of figures and the words in them; not files' names."""
    found = {str(option) for one in [*app.selectbox, *app.multiselect] for option in one.options}
    found |= {str(one.value) for one in app.subheader}
    for figure in figures(app):
        found |= {str(trace.get("name", "")) for trace in figure["data"]}
        for axis in (part for name, part in figure["layout"].items() if name.startswith(("xaxis", "yaxis"))):
            found |= {str(axis.get("title", {}).get("text", "")), *map(str, axis.get("ticktext", ()))}
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of tiny models, each with metrics and a result of every probe."""
    folder = tmp_path_factory.mktemp("every_page")
    for seed, name in enumerate("ab"):
        run = published(folder / name)
        for line in synthetic.lines():
            run.log_metrics(line)
        for probe, make in synthetic.RESULTS.items():
            save_result(make(seed=seed), run.result_path(20, probe))
    return folder


def test_the_menu_has_a_page_for_every_probe():
    assert {page.name for page in PAGES if page.is_probe} == set(PROBES)
    assert len({page.name for page in PAGES}) == len(PAGES)
    assert len({page.icon for page in PAGES}) == len(PAGES)


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_a_page_is_drawn(runs: Path, root: Path, name: str):
    shutil.copytree(runs, root, dirs_exist_ok=True)
    app = open_page(name, "a", "b")
    page = next(page for page in PAGES if page.name == name)
    assert app.title[0].value == page.title
    assert not app.error
    assert not app.warning
    assert len(words(app)) > 100
    if page.is_probe:
        assert "has not been computed" not in words(app)
    drawn = figures(app)
    assert all(figure["data"] for figure in drawn)
    assert bool(drawn) != (name in WITHOUT_FIGURE), WITHOUT_FIGURE.get(name, "every other page draws")
    assert not {one for one in labels(app) if RAW.search(one)}
