"""A real Chromium walks the pages as a person does: two runs compared, training scrubbed, points of
a map drawn around, a view exported and sent to a colleague. What is shown is what is stored,
nothing complains, nobody else is asked."""

import csv
import io
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from playwright.sync_api import Page, expect

from lcmae.app.dashboard.stored.reading import result_of
from lcmae.probes.embedding_consistency import EmbeddingConsistency
from lcmae.probes.results.differences import differences
from lcmae.probes.results.store import save_result
from tests.app import synthetic
from tests.app.computed import some_images
from tests.app.served import CHROMIUM, Watch, browser_page, choose_size, downloaded, server, settle
from tests.app.trained import published, tiny
from tests.conftest import tiny_mae

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]
STEPS = (20, 40, 60)
LOADING = 240_000  # milliseconds: the first model imports torch


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs to compare, one with results along its steps but no weights any more, points of a
    map, two models."""
    root = tmp_path_factory.mktemp("runs")
    synthetic.run(root / "a")
    synthetic.run(root / "bb")
    along = synthetic.run(root / "along", steps=STEPS, results=False)
    for step in STEPS:
        save_result(synthetic.local_contrast(seed=step), along.result_path(step, "local_contrast"))
    shutil.rmtree(along.path / "checkpoints")
    probe = EmbeddingConsistency(num_neighbours=3, num_sets=2, num_points=20, num_masks=2, baseline_images=0)
    found = probe(tiny_mae(), some_images(6), torch.Generator().manual_seed(0)).assign_attrs(
        data="digits", command="lcmae"
    )
    save_result(found, synthetic.run(root / "points", results=False).result_path(40, "embedding_consistency"))
    published(root / "left", tiny())
    published(root / "right", tiny())
    return root


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """A server over them."""
    with server(runs) as found:
        yield found


@pytest.fixture
def page() -> Iterator[Page]:
    """A page that must complain about nothing and ask no other host, whatever the test does with
    it."""
    with browser_page() as found:
        watch = Watch(found)
        yield found
        assert watch.complaints == []
        assert watch.hosts <= {"127.0.0.1", None}


def drawn(page: Page, key: str) -> list[dict[str, Any]]:
    """What Plotly has drawn in the figure of this key: its traces, numbers as lists."""
    page.locator(f".st-key-figure-{key} .js-plotly-plot .main-svg").first.wait_for()
    return page.evaluate(
        """key => document.querySelector(`.st-key-figure-${key} .js-plotly-plot`)._fullData.map(trace => ({
          name: trace.name, type: trace.type, x: Array.from(trace.x ?? []), y: Array.from(trace.y ?? []),
          z: Array.from(trace.z ?? [], row => Array.from(row)) }))""",
        key,
    )


def of_model(value: xr.DataArray) -> float:
    """The model's own number, and not that of a baseline beside it."""
    return float(value.sel(network="trained") if "network" in value.dims else value)


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_two_runs_are_compared_by_what_is_stored(page: Page, address: str, runs: Path):
    page.goto(f"{address}/pair?runs=a&runs=bb")
    settle(page, 1)
    a, b = (result_of(runs / name, 40, "reconstruction") for name in ("a", "bb"))
    trained = [of_model(one["error"]) for one in (a, b)]
    expected = differences("reconstruction", a, b)
    table = [row for row in rows_of(downloaded(page, "CSV")) if row["probe"] == "reconstruction"]
    assert [row["quantity"] for row in table] == expected["quantity"].tolist()
    for name in ("A", "B", "B - A", "low", "high"):
        values = [float(row[name]) if row[name] else np.nan for row in table]
        np.testing.assert_array_equal(values, expected[name].values)
    first = table[0]
    assert [float(first["A"]), float(first["B"])] == trained
    # the figure shows these differences, of one probe alone where the address says so
    page.goto(f"{address}/pair?runs=a&runs=bb&numbers_of=Reconstruction")
    page.get_by_text("Reconstruction: all picked runs").wait_for()
    settle(page, 2)
    points = [x for trace in drawn(page, "compare-differences") for x in trace["x"]]
    assert float(first["B - A"]) in points
    # both runs stand in the plot of runs, each with its stored error
    of_runs = [x for trace in drawn(page, "compare-runs-reconstruction") for x in trace["x"]]
    assert set(trained) <= set(of_runs)


LABELS = """[...document.querySelectorAll(".ytick text")].map((text) => {
    const { left, top, bottom } = text.getBoundingClientRect();
    return { left, top, bottom };
}).sort((one, other) => one.top - other.top)"""
"""Where the labels of rows of a drawing are, from above."""


def test_labels_of_rows_never_touch_on_paper(page: Page, address: str):
    page.goto(f"{address}/pair?runs=a&runs=bb")
    settle(page, 1)
    choose_size(page, "3.25")
    alone = page.context.new_page()
    alone.set_content(f"<body style='margin:0'>{downloaded(page, 'SVG').decode()}</body>")
    labels = alone.evaluate(LABELS)
    assert len(labels) > 8
    assert all(above["bottom"] <= below["top"] + 1 for above, below in itertools.pairwise(labels))
    assert all(label["left"] >= 0 for label in labels)


def test_one_image_goes_through_both_models_with_their_difference(page: Page, address: str):
    page.goto(f"{address}/pair?runs=left&runs=right&a_step=10&live=true")
    page.locator(".board figure").first.wait_for(timeout=LOADING)
    settle(page, 2)
    keys = page.evaluate("""[...document.querySelectorAll('[class*="st-key-figure-compare"]')].map(
        (one) => [...one.classList].find((name) => name.startsWith("st-key-figure-")).replace("st-key-figure-", ""))""")
    compared = 0
    for key in keys:
        maps = [np.array(trace["z"], dtype=float) for trace in drawn(page, key) if trace["type"] == "heatmap"]
        if len(maps) == 3:
            np.testing.assert_allclose(maps[2], maps[1] - maps[0], rtol=1e-6, atol=1e-12)
            compared += bool(np.nanmax(np.abs(maps[2])) > 0)
    assert compared, "a difference that is not nothing: the two steps have weights of their own"


def test_the_slider_of_training_shows_each_step_as_it_is_stored(page: Page, address: str, runs: Path):
    page.goto(f"{address}/through_training?runs=along")
    settle(page, 2)
    files = {path: path.stat().st_mtime_ns for path in (runs / "along").rglob("*") if path.is_file()}
    slider = page.get_by_role("slider", name="Step")
    shown = {}
    for key, step in (("", 60), ("ArrowLeft", 40), ("ArrowLeft", 20), ("ArrowRight", 40)):
        slider.focus()
        if key:
            page.keyboard.press(key)
            page.wait_for_url(f"**at={step}**")
        expect(slider).to_have_attribute("aria-valuetext", str(step))
        stored = result_of(runs / "along", step, "local_contrast")
        # the bars are this step's terms, as soon as they are drawn
        wanted = of_model(stored["term"].sel(part="invariance"))
        page.wait_for_function(
            """wanted => [...document.querySelectorAll('[class*="st-key-figure-through-local_contrast-0"] .js-plotly-plot')]
            .some(one => one._fullData?.some(trace => [...trace.x, ...trace.y].some(
              (value) => Math.abs(value - wanted) < 1e-12 * Math.abs(wanted))))""",
            arg=wanted,
        )
        shown[step] = wanted
    assert len(set(shown.values())) == len(STEPS), "or nothing would have to move"
    # nothing could be computed (there are no weights any more), and nothing was
    assert page.get_by_text("Compute now").count() == 0
    assert {path: path.stat().st_mtime_ns for path in (runs / "along").rglob("*") if path.is_file()} == files


def pick_tool(page: Page, tool: str) -> None:
    """A tool of the first figure's own bar is in hand."""
    page.locator(".js-plotly-plot").first.hover()
    page.locator(f'.modebar-btn[data-title="{tool}"]').first.click()
    mode = tool.split()[0].lower().replace("box", "select")
    page.wait_for_function("mode => document.querySelector('.js-plotly-plot')._fullLayout.dragmode === mode", arg=mode)


def drag(page: Page, corners: list[tuple[float, float]]) -> None:
    """Press at the first of these places of the window, pass the others, let go."""
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=6)
    page.mouse.up()


@pytest.mark.parametrize("tool", ["Box Select", "Lasso Select"])
def test_points_that_are_drawn_around_are_pictured(page: Page, address: str, runs: Path, tool: str):
    page.goto(f"{address}/embedding_map?runs=points&map_of=patches")
    settle(page, 1)
    result = result_of(runs / "points", 40, "embedding_consistency")
    tokens = result.isel(point=np.flatnonzero(result["kind"].values == "token"))
    across = np.sort(tokens["pca_x"].values)
    num_left = 7
    border = float(across[num_left - 1 : num_left + 1].mean())
    pick_tool(page, tool)
    # where the left map's axes lie in the window; 4 pixels within their edges, or the press may
    # land on the legend above
    left, top, right, bottom = page.evaluate(
        """border => {
          const figure = document.querySelector(".js-plotly-plot"), { xaxis, yaxis } = figure._fullLayout;
          figure.scrollIntoView({ block: "center" });
          const box = figure.getBoundingClientRect();
          return [box.x + xaxis._offset + 4, box.y + yaxis._offset + 4, box.x + xaxis._offset + xaxis.l2p(border),
                  box.y + yaxis._offset + yaxis._length - 4]; }""",
        border,
    )
    corners = [(left, top), (right, bottom)]
    if tool == "Lasso Select":
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    drag(page, corners)
    page.get_by_text(f"{num_left} patches, each beside its image").wait_for()
    expect(page.locator("[data-testid=stImage] img, [data-testid=stImageContainer] img")).to_have_count(num_left)
    within = tokens.isel(point=tokens["pca_x"].values < border)
    table = rows_of(downloaded(page, "CSV"))
    assert [(int(row["image"]), int(row["row"]), int(row["column"])) for row in table] == [
        tuple(int(within[name].values[at]) for name in ("image", "row", "column")) for at in range(num_left)
    ]


def show_files(page: Page) -> None:
    """The microscope's numbers, pictures and maps as what can be taken away."""
    page.locator("label", has_text="Show numbers, pictures and maps with their files").click()
    settle(page, 5)
    page.get_by_role("button", name="CSV", exact=True).wait_for()


def numbers_of(page: Page) -> list[str]:
    """The microscope's table of the patch, as it is read."""
    return page.get_by_label("numbers", exact=True).locator("td").all_inner_texts()


def test_from_the_runs_to_a_colleague(page: Page, address: str):
    """The main journey: pick runs, look through the microscope, export the view, send it;
    compare, scrub."""
    page.goto(f"{address}/?runs=left")
    settle(page)
    page.get_by_role("link", name="Microscope").click()
    page.locator(".board figure").first.wait_for(timeout=LOADING)
    settle(page)
    frame = page.locator(".board .frame").first
    box = frame.bounding_box()
    assert box is not None
    frame.click(position={"x": 0.4 * box["width"], "y": 0.1 * box["height"]})
    page.get_by_text("Patch 1: row 1, column 2").wait_for()
    page.locator(".board").focus()
    page.keyboard.press("ArrowDown")
    page.get_by_text("Patch 5: row 2, column 2").wait_for()
    said = numbers_of(page)
    show_files(page)

    # the pictures come first, then decoder attention
    picture = Image.open(io.BytesIO(downloaded(page, "PNG", 1)))
    assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 3, "maps are on it"
    words = "".join(ElementTree.fromstring(downloaded(page, "SVG", 1)).itertext())
    assert "mean of heads" in words
    numbers = downloaded(page, "CSV")
    rows = {row["quantity"]: row for row in rows_of(numbers)}
    assert 0 < float(rows["error"]["this image"]) < np.inf
    assert 0 < float(rows["radius: prediction"]["this patch"]) < 12
    page.get_by_role("button", name="Copy link to this view").click()
    field = page.get_by_label("address of this view")
    field.wait_for()
    link = field.input_value()

    # a context of its own is a profile of its own: no cookies, no cache, no session
    assert page.context.browser is not None
    fresh = page.context.browser.new_context()
    fresh.set_default_timeout(60_000)
    other = fresh.new_page()
    watch = Watch(other)
    other.goto(link)
    other.get_by_text("Patch 5: row 2, column 2").wait_for(timeout=LOADING)
    settle(other)
    assert numbers_of(other) == said
    show_files(other)
    assert downloaded(other, "CSV") == numbers
    other.locator(".board").focus()
    other.keyboard.press("ArrowDown")
    other.get_by_text("Patch 9: row 3, column 2").wait_for()
    settle(other)
    assert numbers_of(other) != said
    assert downloaded(other, "CSV") != numbers, "or the link would not have had to say the patch"
    assert watch.complaints == []
    fresh.close()

    for link_name, heading in (("Pair", "Pair"), ("Through training", "Through training")):
        page.get_by_role("link", name=link_name, exact=True).click()
        page.get_by_role("heading", name=heading, exact=True).wait_for()
        settle(page)
        assert page.locator("[data-testid=stException]").count() == 0
    assert "runs=left" in page.url
