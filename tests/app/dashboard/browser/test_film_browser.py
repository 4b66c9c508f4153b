"""The live slider and the player in a real Chromium: frames while dragging, the page after it,
files that move, and the back button."""

import base64
import io
import re
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.app.served import CHROMIUM, Watch, browser_page, downloaded, server, settle
from tests.app.trained import published

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]
LOADING = 120_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over a run with three checkpoints."""
    root = tmp_path_factory.mktemp("runs")
    published(root / "a", steps=(10, 20, 30))
    with server(root) as found:
        yield found


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The microscope, which must complain about nothing and ask no other host."""
    with browser_page() as found:
        watch = Watch(found)
        found.goto(f"{address}/microscope")
        found.locator(".film .stage img").nth(2).wait_for(timeout=LOADING)
        settle(found)
        yield found
        assert watch.complaints == []
        assert watch.hosts <= {"127.0.0.1", None}


def move(page: Page, to: int, then: str = "") -> None:
    """The slider under a pointer that is not let go; `then` is the event that lets it go."""
    events = "slider.dispatchEvent(new Event('input', { bubbles: true }));" + (
        f"slider.dispatchEvent(new Event('{then}', {{ bubbles: true }}));" if then else ""
    )
    page.locator(".film .slider").evaluate(f"(slider, to) => {{ slider.value = to; {events} }}", to)


def pixels(address: str | None) -> bytes:
    """Of a PNG as a data address, in grey: these images have one channel."""
    with Image.open(io.BytesIO(base64.b64decode(str(address).partition(",")[2]))) as picture:
        return picture.convert("L").tobytes()


def test_dragging_shows_frames_and_letting_go_moves_the_page(page: Page):
    said, second = page.locator(".film .said"), page.locator(".film .stage img").nth(1)
    expect(said).to_contain_text("Masking ratio 0.75: error of hidden patches")
    before = second.get_attribute("src")
    for position, ratio in ((0, "0.05"), (20, "0.25"), (45, "0.50")):
        move(page, position)
        expect(said).to_contain_text(f"Masking ratio {ratio}: error of hidden patches")
    assert second.get_attribute("src") != before
    assert "ratio" not in page.url, "nothing is kept while it is dragged"
    move(page, 45, "change")
    page.wait_for_url("**ratio=0.5**")
    field = page.locator(".st-key-selection-ratio input")
    expect(field).to_have_value("0.50")
    expect(page.locator(".board figcaption", has_text="Masked (50% hidden)")).to_be_visible()
    expect(page.locator(".film figcaption", has_text="Masked (50% hidden)")).to_be_visible()
    shown = page.locator(".board figure", has_text="Reconstruction").locator("img").get_attribute("src")
    assert pixels(second.get_attribute("src")) == pixels(shown), "the frame is the page's own picture"
    settle(page)
    page.go_back()
    expect(field).to_have_value("0.75")
    expect(page.locator(".film .controls")).to_contain_text("Masking ratio: 0.75")


def test_it_plays_over_checkpoints_and_seeds_and_stops(page: Page):
    page.locator(".film .axis").select_option("a_step")
    said = page.locator(".film .said")
    expect(said).to_contain_text("Step 30: error")
    page.locator(".film .speed").select_option("8")
    play = page.locator(".film .play")
    play.click()
    seen = set()
    for _ in range(200):
        seen |= set(re.findall(r"Step (\d+):", said.inner_text()))
        if len(seen) == 3:
            break
        page.wait_for_timeout(50)
    assert seen == {"10", "20", "30"}
    play.click()
    expect(play).to_have_text("Play")
    stopped = said.inner_text()
    page.wait_for_timeout(500)
    assert said.inner_text() == stopped
    page.locator(".film .axis").select_option("seed")
    expect(said).to_contain_text("Seed 0: error")


def test_a_moving_picture_is_exported(page: Page):
    page.locator(".film .axis").select_option("a_step")
    page.get_by_role("button", name="Make a moving picture of 3 frames").click()
    for kind in ("GIF", "APNG"):
        page.get_by_role("button", name=kind, exact=True).wait_for()
        with Image.open(io.BytesIO(downloaded(page, kind))) as moving:
            assert moving.n_frames == 3  # type: ignore[attr-defined]
