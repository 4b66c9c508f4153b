"""A real Chromium spends an evening as people do: somebody brings a checkpoint of timm and some
photographs to an empty dashboard, and never sees a terminal again. Nothing complains, and nobody
else is asked."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from playwright.sync_api import Page, expect

import lcmae
from lcmae.app.dashboard.stored import reading
from tests.app.served import CHROMIUM, Watch, browser_page, server, settle

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
        found = re.search(r"heads look ([\d.]+)", text)
        assert found is not None
        assert float(found[1]) == pytest.approx(number, rel=0.01), "the stored number stands on the card"
