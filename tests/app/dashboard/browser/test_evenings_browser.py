"""A real Chromium spends evenings as people do. Somebody brings a checkpoint of timm and some
photographs to an empty dashboard, and never sees a terminal again; somebody else has thirty runs,
finds the best layer and takes a figure away; a third asks which mask is best. Nothing complains,
and nobody else is asked."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from playwright.sync_api import Page, expect

import lcmae
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures.transfer import FEATURES
from tests.app import synthetic
from tests.app.served import CHROMIUM, Watch, browser_page, choose_size, pdf_size, printed, server, settle

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]
COMPUTING = 400_000  # milliseconds: two processes that import torch, on a machine with other work
PHOTOGRAPHS = sorted((Path(lcmae.__file__).parent / "data" / "photographs").glob("*.jpg"))


@pytest.fixture
def page() -> Iterator[Page]:
    """A page that must complain about nothing and ask no other host, whatever the test does with
    it."""
    with browser_page() as found:
        watch = Watch(found)
        yield found
        assert watch.complaints == []
        assert watch.hosts <= {"127.0.0.1", None}


def test_a_foreign_checkpoint_and_photographs_become_an_answer_card(page: Page, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    torch.save(model.state_dict(), tmp_path / "my vit.pth")
    root = tmp_path / "nothing here yet"
    with server(root) as address:
        page.goto(address)
        settle(page)
        page.get_by_role("heading", name="Start", exact=True).wait_for()
        chosen = page.locator(".st-key-start_upload input[type=file]")
        chosen.set_input_files(tmp_path / "my vit.pth")
        page.locator(".st-key-start_photographs input[type=file]").set_input_files(PHOTOGRAPHS)
        settle(page)
        button = page.get_by_role("button", name="Take apart", exact=True)
        expect(button).to_be_enabled()
        button.click()
        page.wait_for_url("**card=my-vit-**")
        page.get_by_text("reading the checkpoint").first.wait_for()
        page.get_by_role("heading", name="Attention over the photograph").wait_for(timeout=COMPUTING)
        page.get_by_text("It took").wait_for(timeout=COMPUTING)
        settle(page, 1)
        [path] = reading.runs_below(root).values()
        result = reading.result_of(path, 0, "encoder_attention")
        assert result.sizes["picture"] == len(PHOTOGRAPHS)
        number = float(result["mean_distance"].sel(network="trained", view="full"))
        text = page.inner_text("[data-testid=stMain]")
        assert "Assumed" in text
        found = re.search(r"the attention distance is ([\d.]+)", text)
        assert found is not None
        assert float(found[1]) == pytest.approx(number, rel=0.01), "the stored number stands on the card"


@pytest.fixture(scope="module")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objectives at three ratios with five seeds each."""
    root = tmp_path_factory.mktemp("thirty")
    for kind in ("mae", "umae"):
        for ratio in (0.5, 0.75, 0.9):
            for seed in range(5):
                run = synthetic.run(root / "grid" / f"{kind}-r{ratio:g}-s{seed}", kind=kind)
                config = {**run.config, "seed": seed}
                config["objective"]["mask"]["ratio"] = ratio
                (run.path / "config.json").write_text(json.dumps(config))
    return root


def test_thirty_runs_are_filtered_grouped_and_become_a_figure(page: Page, thirty: Path) -> None:
    with server(thirty) as address:
        page.goto(f"{address}/runs")
        settle(page)
        search = page.get_by_role("textbox", name="Search")
        search.fill("umae")
        search.press("Enter")
        page.wait_for_url("**search=umae**")
        page.get_by_role("radio", name="seeds together").or_(
            page.get_by_role("button", name="seeds together")
        ).first.click()
        page.wait_for_url("**rows=seeds**")
        settle(page)
        table = page.locator("[data-testid=stDataFrame]").first
        table.click(position={"x": 16, "y": 16})  # the box above the others ticks all
        page.wait_for_url("**runs=grid**")
        settle(page)
        assert page.get_by_text("Runs (15)").count() == 1
        legend = page.locator(".lcmae-runs")
        assert legend.locator("[role=listitem]").count() == 3, "seeds share an entry"
        page.keyboard.press("Control+k")
        page.keyboard.type("transf")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/transfer\?runs=grid"))
        settle(page, 1)
        entries = page.locator(".js-plotly-plot .legend").first.locator(".traces")
        assert 0 < entries.count() <= 8
        tiles = page.locator("dl .label").all_inner_texts()
        assert tiles, "the runs' numbers stand above the figures"
        assert all("umae" not in tile for tile in tiles), "without what all names begin with"
        # for a paper: of a column's width, and as PDF
        choose_size(page, "6.75")
        paper = printed(page)
        assert paper.startswith(b"%PDF-")
        assert pdf_size(paper)[0] == pytest.approx(6.75, abs=0.02)
        assert b"/FontDescriptor" in paper, "text is text"
        # of one run the sentence says which layer is best
        page.goto(f"{address}/transfer?runs=grid%2Fumae-r0.5-s0")
        settle(page, 1)
        sentence = page.locator(".sentence").first.inner_text()
        found = re.search(r"Layer (\d+) is best for a linear classifier of the (.+?):", sentence)
        assert found is not None
        [feature] = [name for name, word in FEATURES.items() if word == found[2]]
        by_layer = reading.result_of(thirty / "grid" / "umae-r0.5-s0", 40, "transfer")["layer_accuracy"].sel(
            feature=feature, classifier="linear", network="trained"
        )
        assert float(by_layer.sel(layer=int(found[1]))) == float(by_layer.max())


def fill(page: Page, key: str, number: str) -> None:
    """Type a number into the field of this key."""
    field = page.locator(f".st-key-{key} input")
    field.fill(number)
    field.press("Enter")
    settle(page)


@pytest.mark.timeout(1200)  # two minutes on two cores: 36 short trainings with probes, and torch in five processes
def test_masks_are_seen_raced_and_advised_on(page: Page, tmp_path: Path) -> None:
    root = tmp_path / "nothing here yet"
    with server(root) as address:
        page.goto(address)
        page.get_by_role("heading", name="Start", exact=True).wait_for()
        page.get_by_role("link", name="Mask strategies").click()
        page.wait_for_url("**/masks**")
        # strategies are drawn over a photograph, each with a way into the microscope
        drawn = page.get_by_alt_text("the same photograph under")
        drawn.first.wait_for(timeout=COMPUTING)
        settle(page)
        assert drawn.count() >= 6
        assert page.get_by_text("See a model fill it in").count() == drawn.count()
        # a small race: two masks at two ratios, the shortest schedules, few images
        page.locator(".st-key-race_masks").get_by_role("button", name="Remove grid").click()
        settle(page)
        fill(page, "race_epochs", "8")
        fill(page, "race_images", "100")
        page.get_by_text("4 cells; at most 36 short runs (12 of 1, of 2 and of 8 epochs)").wait_for()
        page.get_by_role("button", name="Start the race").click()
        # advice on as few images, asked for while the race runs, waits for it
        fill(page, "advice_minutes", "1")
        fill(page, "advice_images", "100")
        page.get_by_role("button", name="Ask for advice").click()
        page.get_by_text("Advice in the folder advice: waiting").wait_for()
        page.get_by_text(re.compile(r"Race in the folder race: rung \d of 3, runs: \d+ of \d+")).wait_for(
            timeout=COMPUTING
        )
        page.get_by_text("Race in the folder race: done").wait_for(timeout=2 * COMPUTING)
        settle(page, 1)
        expect(page.locator(".sentence", has_text="against random 0.75, the baseline")).to_be_visible()
        page.get_by_text("rung 1: ").wait_for()
        page.get_by_text("Advice in the folder advice: done").wait_for(timeout=COMPUTING)
        page.get_by_role("heading", name="Advice", exact=True).wait_for()
        given = json.loads((root / "advice" / "advice.json").read_text())["advice"]
        expect(page.locator(".sentence", has_text=given["headline"])).to_be_visible()
        page.get_by_text("1 minute is too few for a race").wait_for()
        raced = json.loads((root / "race" / "race.json").read_text())
        assert [rung["epochs"] for rung in raced["rungs"]][:1] == [1]
