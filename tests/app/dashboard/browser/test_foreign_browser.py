"""Links, names and results that carry Markdown and HTML: no page asks a foreign host, and none has
a link or a picture to one."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from lcmae.app.dashboard.pages import PAGES
from lcmae.app.dashboard.stored.reading import runs_below
from lcmae.app.report import write_report
from tests.app.poisoned import LINK, poisoned_runs
from tests.app.served import CHROMIUM, Watch, browser_page, path_of, server, settle

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]
FOREIGN = "[href*='evil.example'], [src*='evil.example'], [*|href*='evil.example']"
ASKED = (
    "step",
    "mask",
    "split",
    "upload",
    "a",
    "b",
    "data",
    "image",
    "at",
    "feature",
    "path",
    "hidden",
    "seed",
    "probe",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return poisoned_runs(tmp_path_factory.mktemp("foreign") / "runs")


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    with server(runs) as found:
        yield found


def test_no_link_or_name_makes_a_page_ask_a_foreign_host(address: str, runs: Path):
    names = [name for name in runs_below(runs) if "evil" in name or name in ("good", "metric", "surrogate")]
    query = urlencode([("runs", LINK), *(("runs", name) for name in names), *((name, LINK) for name in ASKED)])
    with browser_page() as page:
        watch = Watch(page)
        for entry in PAGES:
            page.goto(f"{address}/{path_of(entry.name)}?{query}")
            settle(page)
            page.get_by_role("heading", name=entry.title, exact=True).wait_for()
            assert page.locator("[data-testid=stException]").count() == 0, entry.name
            # a link of the page's own may carry a run's name in escaped words
            leading = [
                one.evaluate("e => new URL(e.href || e.src, location).hostname") for one in page.locator(FOREIGN).all()
            ]
            assert set(leading) <= {"127.0.0.1"}, entry.name
        assert watch.hosts <= {"127.0.0.1", None}


def test_a_report_asks_nobody_and_runs_no_code_of_a_name(runs: Path, tmp_path: Path):
    out = tmp_path / "report.html"
    write_report([path for name, path in runs_below(runs).items() if "evil" in name or name in ("good", "metric")], out)
    with browser_page() as page:
        watch = Watch(page)
        page.goto(out.as_uri())
        # figures are drawn once they come into view, below the summary
        page.locator(".plotly-graph-div").first.scroll_into_view_if_needed()
        page.wait_for_selector(".js-plotly-plot .main-svg")
        assert page.locator(FOREIGN).count() == 0
        assert watch.hosts <= {None, ""}
        assert watch.complaints == []
