"""A real Chromium on a real server: every page is drawn, nobody else is asked for anything, picks
travel by link."""

import csv
import http.client
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lcmae.app.dashboard.pages import PAGES
from lcmae.probes.results.store import save_result
from lcmae.training.train import build_model
from tests.app import synthetic
from tests.app.contrast import weak_text
from tests.app.served import (
    CHROMIUM,
    Watch,
    browser_page,
    choose_size,
    downloaded,
    path_of,
    pdf_size,
    printed,
    server,
    settle,
    unfold,
)
from tests.reference.tiny_runs import tiny_config, tiny_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]
DRAWN = [page for page in PAGES if page.name == "training" or page.name in synthetic.RESULTS]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with results, one without, and a small one that can be probed."""
    root = tmp_path_factory.mktemp("runs")
    synthetic.run(root / "a")
    synthetic.run(root / "n", normalised=True)
    synthetic.run(root / "bare", results=False)
    tiny = tiny_run(root / "tiny")  # the one that can be probed: the others have no weights
    tiny.publish(3, build_model(tiny_config()).state_dict(), config=tiny.config, resume=None)
    return root


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """A server over them."""
    with server(runs) as found:
        yield found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_is_drawn_and_asks_nobody_else(address: str, dark: bool):
    with browser_page(dark=dark) as page:
        watch = Watch(page)
        for entry in PAGES:
            page.goto(f"{address}/{path_of(entry.name)}?runs=a&runs=n")
            settle(page, 2 if entry in DRAWN else 0)
            page.get_by_role("heading", name=entry.title, exact=True).wait_for()
            assert page.locator("[data-testid=stException]").count() == 0
            above, *_ = page.inner_text("[data-testid=stMain]").partition(f"\n{entry.title}\n")
            assert len(above.splitlines()) < 15, "nothing but the bar stands above the heading"
            weak, num_texts = weak_text(page)
            assert num_texts > 30, "the menu alone has as many"
            assert weak == [], f"contrast AA on {entry.name}"
        assert watch.complaints == []
        assert watch.hosts <= {"127.0.0.1", None}


def test_ticked_runs_are_the_pick_of_all_pages_and_of_the_link(address: str):
    with browser_page() as page:
        page.goto(f"{address}/runs")
        settle(page)
        table = page.locator("[data-testid=stDataFrame]").first
        table.wait_for()
        table.click(position={"x": 16, "y": 16})  # the box above the others ticks all
        page.wait_for_url("**runs=a**")
        assert {"runs=a", "runs=n", "runs=bare"} <= set(urlsplit(page.url).query.split("&"))
        page.get_by_role("link", name="Reconstruction").click()
        settle(page, 2)
        page.wait_for_url("**/reconstruction?**runs=a**")
        assert "\nbare\n" in page.inner_text("[data-testid=stMain]")
        link = page.url
    with browser_page() as page:  # a colleague's browser
        page.goto(link)
        settle(page, 2)
        assert "\nbare\n" in page.inner_text("[data-testid=stMain]")


def test_back_and_forward_find_the_page_with_its_runs(address: str):
    with browser_page() as page:
        page.goto(f"{address}/reconstruction?runs=a")  # as a colleague's link opens it
        settle(page)
        num_entries = page.evaluate("history.length")
        for title, name in (("Runs", "runs"), ("Claims", "claims")):
            page.get_by_role("link", name=title, exact=True).click()
            page.wait_for_url(f"**/{name}?runs=a")
            settle(page)
        assert page.evaluate("history.length") == num_entries + 2, "one for each click"
        for go, name in ((page.go_back, "runs"), (page.go_back, "reconstruction"), (page.go_forward, "runs")):
            go()
            page.wait_for_url(f"**/{name}?runs=a")
            settle(page)
            assert page.locator(".lcmae-runs").inner_text() == "a"


def test_runs_are_picked_and_taken_out_in_the_bar(address: str):
    with browser_page() as page:
        page.goto(f"{address}/claims?runs=a")
        settle(page)
        page.get_by_role("button", name="Runs (1)").click()
        page.get_by_role("combobox", name="Runs").fill("bare")
        page.keyboard.press("Enter")
        page.wait_for_url("**/claims?**runs=a**runs=bare**")
        assert page.locator(".lcmae-runs").inner_text().split() == ["a", "bare"]
        page.keyboard.press("Escape")
        page.reload()
        settle(page)
        assert page.locator(".lcmae-runs").inner_text().split() == ["a", "bare"]


def test_a_figure_and_the_table_can_be_taken_away(address: str):
    with browser_page(dark=True) as page:
        watch = Watch(page)
        page.goto(f"{address}/local_contrast?runs=a")
        settle(page, 2)
        width = page.locator(".js-plotly-plot").first.bounding_box()["width"]  # type: ignore[index]
        picture = Image.open(io.BytesIO(downloaded(page, "PNG")))
        assert picture.format == "PNG"
        assert picture.width == pytest.approx(2 * width, abs=2)
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255), "on paper, whatever the page's theme is"
        drawing = ElementTree.fromstring(downloaded(page, "SVG"))
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
        assert "masked loss (squared error)" in "".join(drawing.itertext())
        html = downloaded(page, "HTML").decode()
        assert "plotly.js v" in html
        assert "masked loss (squared error)" in html
        unfold(page)
        table = downloaded(page, "CSV").decode()
        assert table.startswith("run,quantity,part,value")
        stored = pd.read_parquet(io.BytesIO(downloaded(page, "Parquet")))
        written = pd.DataFrame(csv.DictReader(io.StringIO(table)))
        assert list(stored) == list(written)
        digits = ["" if np.isnan(value) else str(value) for value in stored["value"]]
        assert digits == written["value"].tolist(), "every digit"
        assert watch.complaints == []
        assert watch.hosts <= {"127.0.0.1", None}


def test_the_answer_and_the_first_figure_are_above_the_fold(address: str):
    """At 1280 x 800 the sentence, its tiles and most of the first figure need no scrolling, or the
    first 240 pixels of one that is tall; a real run's sentence may be a line longer than here."""
    line = 24
    with browser_page(width=1280, height=800) as page:
        names = ("reconstruction", "local_contrast", "transfer", "spectrum", "fidelity", "attribution", "hierarchy")
        for name in (*names, "through_training"):
            page.goto(f"{address}/{name}?runs=a")
            settle(page, 2)
            sentence = page.locator(".sentence").bounding_box()
            figure = page.locator(".js-plotly-plot").first.bounding_box()
            assert sentence is not None
            assert figure is not None
            assert sentence["y"] < figure["y"]
            assert figure["y"] + min(0.6 * figure["height"], 240) < 800 - line, name


def test_the_hidden_field_of_the_bar_takes_no_room(address: str):
    with browser_page(width=1280, height=800) as page:
        page.goto(f"{address}/claims?runs=a")
        settle(page)
        picker = page.get_by_role("button", name="Runs (1)").bounding_box()
        step = page.locator(".st-key-bar").get_by_text("step", exact=True).bounding_box()
        assert picker is not None
        assert step is not None
        assert 0 <= step["x"] - (picker["x"] + picker["width"]) < 40


BEYOND = """() => {
    const sheet = document.querySelector("svg").getBoundingClientRect();
    const legend = document.querySelector(".legend .bg")?.getBoundingClientRect();
    const within = (box, outer) =>
        box.left >= outer.left - 1 && box.right <= outer.right + 1 && box.top >= outer.top - 1 && box.bottom <= outer.bottom + 1;
    return [...document.querySelectorAll("text")]
        .filter((text) => text.textContent.trim())
        .filter((text) => {
            const box = text.getBoundingClientRect();
            return !within(box, sheet) || (text.matches(".legendtext") && !within(box, legend));
        })
        .map((text) => text.textContent);
}"""
"""Texts of a drawing that are not wholly to be seen."""


def test_a_figure_fits_the_column_of_a_paper(address: str):
    """At 3.25 inches a PNG has 600 dots to the inch, an SVG texts of 8 points, and the sheet that
    is printed as PDF exactly the column's width, with fonts in it."""
    with browser_page(dark=True) as page:
        watch = Watch(page)
        page.goto(f"{address}/local_contrast?runs=a")
        settle(page, 2)
        choose_size(page, "3.25")
        picture = Image.open(io.BytesIO(downloaded(page, "PNG")))
        assert picture.width == round(3.25 * 600)
        page.get_by_label("label of the x axis").first.fill("loss of hidden patches")
        drawing = ElementTree.fromstring(downloaded(page, "SVG"))
        assert drawing.get("width") == "312"
        assert "loss of hidden patches" in "".join(drawing.itertext())
        sizes = {float(found) for found in re.findall(r"font-size: ([\d.]+)px", ElementTree.tostring(drawing).decode())}
        assert all(size == pytest.approx(8 * 96 / 72, abs=0.01) for size in sizes), sizes
        # no text leaves the drawing, and the legend is cut off nowhere
        page.get_by_label("label of the x axis").first.fill(
            "the loss of hidden patches in words that no column holds in one line"
        )
        alone = page.context.browser.new_page()  # type: ignore[union-attr]
        alone.set_content(f"<body style='margin:0'>{downloaded(page, 'SVG').decode()}</body>")
        assert alone.evaluate(BEYOND) == []
        paper = printed(page)
        assert pdf_size(paper)[0] == pytest.approx(3.25, abs=0.02)
        assert paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") <= 1, "one sheet"
        assert b"/FontDescriptor" in paper, "text is text"
        assert watch.complaints == []


def test_what_is_downloaded_is_what_is_stored(address: str, runs: Path):
    with browser_page() as page:
        page.goto(f"{address}/reconstruction?runs=a&runs=n")
        settle(page, 2)
        unfold(page)
        for name in ("a", "n"):
            found = downloaded(page, f"reconstruction.nc of {name}")
            assert found == (runs / name / "probes" / "000040" / "reconstruction.nc").read_bytes()


def test_what_is_missing_is_computed_from_the_page_and_appears(address: str, runs: Path):
    with browser_page() as page:
        watch = Watch(page)
        page.goto(f"{address}/reconstruction?runs=tiny")
        settle(page)
        page.get_by_role("button", name="Compute now").click()
        page.get_by_role("button", name="Cancel").wait_for()
        other = page.context.new_page()  # another session does not wait for it
        other.goto(f"{address}/local_contrast?runs=a")
        settle(other, 2)
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 2")
        assert page.get_by_role("button", name="Compute now").count() == 0
        assert watch.complaints == []
    stored = (runs / "tiny" / "probes" / "000003").glob("*/*.nc")
    assert [file.parent.name for file in stored] == ["reconstruction"]


def test_a_job_that_is_cancelled_leaves_nothing(address: str, runs: Path):
    with browser_page() as page:
        page.goto(f"{address}/local_contrast?runs=tiny")
        settle(page)
        page.get_by_role("button", name="Compute now").click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("It was cancelled; nothing was written.").wait_for()
    assert not list(runs.glob("tiny/probes/*/local_contrast*/*"))
    assert not list(runs.glob("tiny/probes/*/.*"))


def test_a_permalink_pins_the_step_and_shows_a_colleague_the_same_numbers(address: str, runs: Path):
    with browser_page() as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{address}/reconstruction?runs=a")
        settle(page, 2)
        unfold(page)
        numbers = downloaded(page, "CSV")
        page.get_by_role("button", name="Copy link to this view").click()
        field = page.get_by_label("address of this view")
        field.wait_for()
        link = field.input_value()
        page.locator("output", has_text="copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == link
        page.get_by_role("button", name="Copy the command").last.click()
        page.wait_for_function(
            "navigator.clipboard.readText().then((text) => text.startsWith('lcmae probe reconstruction '))"
        )
        shown = page.locator("pre code").last.inner_text()
        assert page.evaluate("navigator.clipboard.readText()") == shown
    assert link == f"{address}/reconstruction?runs=a&step=40"
    newer = runs / "a" / "probes" / "000060" / "reconstruction.nc"
    newer.parent.mkdir()
    save_result(synthetic.reconstruction(seed=9), newer)
    try:
        with browser_page() as page:
            page.goto(link)
            settle(page, 2)
            unfold(page)
            assert downloaded(page, "CSV") == numbers
            page.goto(f"{address}/reconstruction?runs=a")
            settle(page, 2)
            unfold(page)
            assert downloaded(page, "CSV") != numbers, "or the pin was not needed"
    finally:
        shutil.rmtree(newer.parent)


@pytest.mark.parametrize(("host", "is_served"), [("127.0.0.1", True), ("localhost", True), ("evil.example", False)])
def test_other_host_names_get_no_websocket(address: str, host: str, is_served: bool):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20)
    headers = {"Host": f"{host}:{parts.port}", "Origin": f"http://{host}:{parts.port}", "Connection": "Upgrade"}
    headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OTAxMjM0NQ=="}
    connection.request("GET", "/_stcore/stream", headers=headers)
    assert connection.getresponse().status == (101 if is_served else 403)
    connection.close()
