"""The microscope in a real Chromium: clicks and arrow keys move the patch, edits reach the model, a
link shows the same."""

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from lcmae.app.dashboard.live.selection import pack, unpack
from tests.app.served import CHROMIUM, browser_page, server, settle
from tests.app.trained import published

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]

LIMITS = "A mask hides at least one patch, and shows at least one."
LOADING = 120_000  # milliseconds: the first page imports torch


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over two runs of 4 x 4 patches."""
    root = tmp_path_factory.mktemp("runs")
    published(root / "a")
    published(root / "b")
    with server(root) as found:
        yield found


def open_microscope(page: Page, address: str, query: str = "") -> list[str]:
    """The page with its board; the list fills with what the browser complains about."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if is_complaint(message) else None)
    page.goto(f"{address}/microscope?{query}")
    page.locator(".board figure").first.wait_for(timeout=LOADING)
    page.locator(".maps figure").nth(7).wait_for()  # three boards of maps have three each, a fourth two or three
    settle(page)
    return complaints


def is_complaint(message) -> bool:
    # streamlit asks for its health below the page's own path first, and is told 404
    return message.type == "error" and "404 (Not Found)" not in message.text


def click_patch(page: Page, row: int, column: int, picture: int = 0) -> None:
    """A click into the middle of a patch of the 4 x 4 grid."""
    frame = page.locator(".board .frame").nth(picture)
    box = frame.bounding_box()
    assert box is not None
    frame.click(position={"x": (column + 0.5) * box["width"] / 4, "y": (row + 0.5) * box["height"] / 4})


def announced(page: Page, text: str) -> None:
    """Waits until the server has answered: the caption of the table names the patch."""
    page.get_by_text(text, exact=False).first.wait_for()


def address_of(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_a_click_on_any_picture_moves_the_patch_everywhere(address: str):
    with browser_page() as page:
        complaints = open_microscope(page, address)
        announced(page, "Patch 10: row 3, column 3")
        click_patch(page, 0, 1)
        announced(page, "Patch 1: row 1, column 2")
        announced(page, "from patch 1")  # of the attention figures, too
        page.wait_for_url("**patch=1")
        click_patch(page, 3, 2, picture=2)
        announced(page, "Patch 14: row 4, column 3")
        for cursor in page.locator(".board .cursor").all():
            assert (cursor.get_attribute("x"), cursor.get_attribute("y")) == ("2", "3")
        assert complaints == []


def test_a_click_on_a_map_moves_the_patch_everywhere(address: str):
    with browser_page() as page:
        complaints = open_microscope(page, address, "patch=5")
        seen = page.locator(".maps img").first.get_attribute("src")
        frame = page.locator(".maps .frame").first
        frame.hover(position={"x": 3, "y": 3})
        expect(page.locator(".maps ~ .said").first).to_contain_text("Row 1, column 1: mean of heads = 0.")
        box = frame.bounding_box()
        assert box is not None
        frame.click(position={"x": 0.9 * box["width"], "y": 0.1 * box["height"]})
        announced(page, "Patch 3: row 1, column 4")  # beyond the fragment of the map
        announced(page, "from patch 3")
        page.wait_for_url("**patch=3**")
        expect(page.locator(".maps img").first).not_to_have_attribute("src", str(seen))
        for cursor in page.locator(".board .cursor, .maps .cursor").all():
            expect(cursor).to_have_attribute("x", "3")
        # the focus stays, so arrow keys go on from there
        page.keyboard.press("ArrowDown")
        announced(page, "Patch 7: row 2, column 4")
        assert complaints == []


def test_a_layer_and_a_head_are_picked(address: str):
    with browser_page() as page:
        complaints = open_microscope(page, address, "patch=5&mask=checkerboard")
        layer = page.get_by_label("Layer of the encoder")
        assert layer.input_value() == "2"
        layer.focus()
        layer.select_option("1")
        announced(page, "Encoder attention, layer 1")
        page.wait_for_url("**encoder_layer=1**")
        expect(layer).to_be_focused()
        second = page.locator(".maps img").nth(1)
        expect(second).to_have_attribute("alt", "Decoder attention, layer 1: head 1")
        attended = second.get_attribute("src")
        page.get_by_label("Head of the decoder").select_option("2")
        page.wait_for_url("**decoder_head=2**")
        expect(second).to_have_attribute("alt", "Decoder attention, layer 1: head 2")
        assert second.get_attribute("src") != attended
        page.get_by_label("Head of the decoder").select_option("all")
        page.wait_for_function("!location.search.includes('decoder_head=')")
        assert complaints == []


def test_arrow_keys_move_it_and_stop_at_the_edge(address: str):
    with browser_page() as page:
        complaints = open_microscope(page, address, "patch=5")
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        board = page.locator(".board")
        board.focus()
        for key, patch in (("ArrowRight", 6), ("ArrowDown", 10), ("ArrowLeft", 9), ("ArrowUp", 5), ("End", 7)):
            page.keyboard.press(key)
            announced(page, f"Patch {patch}: row {patch // 4 + 1}, column {patch % 4 + 1}")
            expect(board).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")  # not swallowed by the edge before it
        announced(page, "Patch 3: row 1, column 4")
        # faster than the server: the last one counts
        for _ in range(3):
            page.keyboard.press("ArrowLeft", delay=0)
        announced(page, "Patch 0: row 1, column 1")
        page.wait_for_url("**patch=0")
        assert complaints == []
        assert requests == [], "all of an answer comes by the websocket"


def test_a_hovered_patch_is_told_before_the_server_is_asked(address: str):
    with browser_page() as page:
        open_microscope(page, address)
        frame = page.locator(".board .frame").first
        frame.hover(position={"x": 3, "y": 3})
        expect(page.locator(".board ~ .said")).to_contain_text("Row 1, column 1:")
        assert page.locator(".board").get_attribute("aria-label") is not None
        assert all(image.get_attribute("alt") for image in page.locator(".board img").all())


def test_in_edit_mode_a_click_or_space_hides_and_shows(address: str):
    with browser_page() as page:
        open_microscope(page, address, "patch=0")
        page.locator("label", has_text="Edit mask").click()
        page.locator(".board.editing").wait_for()
        veil = page.locator(".board .veil").nth(1)  # of the second picture: what is hidden
        drawn = veil.get_attribute("d")
        assert drawn
        click_patch(page, 0, 0)
        announced(page, "The mask was edited by hand")
        expect(veil).not_to_have_attribute("d", drawn)
        packed = address_of(page)["hidden"]
        first = unpack(packed, 16)
        page.locator(".board").focus()
        page.keyboard.press("ArrowRight")
        announced(page, "Patch 1: row 1, column 2")
        page.keyboard.press("Space")  # its answer may be there before this line ends
        page.wait_for_function("packed => !location.search.includes(packed)", arg=f"hidden={packed}")
        second = unpack(address_of(page)["hidden"], 16)
        assert first is not None
        assert second is not None
        assert [one != other for one, other in zip(first, second, strict=True)] == [
            position == 1 for position in range(16)
        ]
        page.get_by_role("button", name="Back to the drawn mask").click()
        page.wait_for_function("!location.search.includes('hidden=')")
        expect(veil).to_have_attribute("d", drawn)


def test_edits_that_are_faster_than_the_server_all_count(address: str):
    with browser_page() as page:
        complaints = open_microscope(page, address, f"patch=0&hidden={pack([patch == 15 for patch in range(16)])}")
        page.locator("label", has_text="Edit mask").click()
        page.locator(".board.editing").wait_for()
        box = page.locator(".board .frame").first.bounding_box()
        assert box is not None

        def at(row: int, column: int) -> tuple[float, float]:
            return box["x"] + (column + 0.5) * box["width"] / 4, box["y"] + (row + 0.5) * box["height"] / 4

        for column in range(4):
            page.mouse.click(*at(0, column))
        masked_by(page, {0, 1, 2, 3, 15})
        # a stroke gives all patches on its way what it gives the first one, also where the pointer
        # jumps
        page.mouse.move(*at(0, 0))
        page.mouse.down()
        page.mouse.move(*at(3, 3))
        page.mouse.up()
        masked_by(page, {1, 2, 3})
        page.locator(".board").focus()
        page.keyboard.press("Home")
        page.keyboard.press("Space")
        masked_by(page, {1, 2, 3, 12})
        assert complaints == []


def test_a_mask_is_left_a_patch_of_each_kind(address: str):
    with browser_page() as page:
        open_microscope(page, address, f"patch=0&hidden={pack([patch == 15 for patch in range(16)])}")
        page.locator("label", has_text="Edit mask").click()
        page.locator(".board.editing").wait_for()
        click_patch(page, 3, 3)
        expect(page.locator(".board ~ .said")).to_have_text(LIMITS)
        announced(page, "Patch 15: row 4, column 4")
        masked_by(page, {15})


def masked_by(page: Page, patches: set[int]) -> None:
    """Waits for the address to name just these hidden patches."""
    page.wait_for_url(f"**hidden={pack([patch in patches for patch in range(16)])}*")


def test_a_link_in_a_fresh_profile_shows_the_same_numbers(address: str):
    with browser_page() as page:
        open_microscope(page, address, "a=b&seed=5&mask=block")
        click_patch(page, 2, 0)
        announced(page, "Patch 8: row 3, column 1")
        page.wait_for_url("**patch=8**")
        link, described = page.url, page.locator(".board ~ .said").inner_text()
        errors = page.locator(".board .scale").last.inner_text()
    with browser_page() as page:
        page.goto(link)
        page.locator(".board figure").first.wait_for(timeout=LOADING)
        announced(page, "Patch 8: row 3, column 1")
        settle(page)
        page.mouse.move(0, 0)
        assert page.locator(".board ~ .said").inner_text() == described
        assert page.locator(".board .scale").last.inner_text() == errors


def test_the_selection_survives_another_page(address: str):
    with browser_page() as page:
        open_microscope(page, address, "patch=5&seed=3")
        page.get_by_role("link", name="Runs", exact=True).click()
        page.get_by_role("heading", name="Runs", exact=True).wait_for()
        page.get_by_role("link", name="Microscope").click()
        announced(page, "Patch 5: row 2, column 2")
        page.wait_for_url("**patch=5**")
        assert address_of(page)["seed"] == "3"


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (50, 40), colour).save(file, "PNG")
    return file.getvalue()


GIVE = """([content, kind, name, text]) => {
  const files = new DataTransfer();
  if (text) files.setData("text/plain", text);
  files.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, { type: "image/png" }));
  const how = { bubbles: true, cancelable: true };
  const given = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: files, ...how })
    : new DragEvent("drop", { dataTransfer: files, ...how });
  document.body.dispatchEvent(given);
  return given.defaultPrevented;
}"""


def give(page: Page, kind: str, content: bytes, text: str = "") -> bool:
    """Drop or paste a file, as the browser tells of it; whether the browser was told to leave
    it."""
    return page.evaluate(GIVE, [base64.b64encode(content).decode(), kind, "mine.png", text])


def test_an_image_is_chosen_dropped_and_pasted(address: str, tmp_path: Path):
    (tmp_path / "green.png").write_bytes(png((10, 200, 30)))
    shown = set()
    with browser_page() as page:
        complaints = open_microscope(page, address)
        for kind in ("choose", "drop", "paste"):
            before = page.url
            if kind == "choose":
                page.get_by_label("Own images").set_input_files(tmp_path / "green.png")
            else:
                assert give(page, kind, png((200, 10, len(shown)))) == (kind == "drop"), (
                    "the browser would open what is dropped"
                )
            page.wait_for_function(
                "before => location.href !== before && location.search.includes('upload=')", arg=before
            )
            expect(page.locator(".drop .word")).to_have_text("Own images")
            name = address_of(page)["upload"]
            announced(page, "; green.png" if kind == "choose" else "; mine.png")
            shown.add(name)
        assert len(shown) == 3
        give(page, "paste", png((1, 2, 3)), "a cell of a table, with its picture")
        page.get_by_label("Own images").set_input_files([{"name": "0.png", "mimeType": "image/png", "buffer": b""}])
        expect(page.locator(".drop ~ .said")).to_have_text("The file is empty.")
        assert address_of(page)["upload"] == name
        page.get_by_role("button", name="Back to the data").click()
        page.wait_for_function("!location.search.includes('upload=')")
        assert complaints == []


def test_a_large_file_comes_in_parts_and_what_is_no_image_is_refused(address: str, tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    large = (tmp_path / "noise.png").read_bytes()
    assert len(large) > 3 << 20
    (tmp_path / "text.png").write_bytes(b"<script>alert(1)</script>")
    (tmp_path / "huge.png").write_bytes(bytes(21 << 20))
    with browser_page() as page:
        complaints = open_microscope(page, address)
        page.evaluate("""() => {
          const word = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")]
            .map((one) => one.shadowRoot.querySelector(".word")).find(Boolean);
          window.said = [];
          new MutationObserver(() => window.said.push(word.textContent)).observe(word, { childList: true });
        }""")
        field = page.get_by_label("Own images")
        field.set_input_files(tmp_path / "noise.png")
        page.wait_for_url(f"**upload={hashlib.sha256(large).hexdigest()}*")
        said = page.evaluate("window.said")
        assert any(re.fullmatch(r"Sending: \d+ %, \d+ s left", one) for one in said), said
        field.set_input_files(tmp_path / "text.png")
        announced(page, "text.png: expected an image file (JPEG, PNG")
        field.set_input_files(tmp_path / "huge.png")
        announced(page, "huge.png: expected an image file of at most 20 MiB, got 21.0 MiB")
        expect(page.locator(".drop .word")).to_have_text("Own images")
        assert hashlib.sha256(large).hexdigest() in page.url
        assert complaints == []


def test_several_files_at_once_are_taken_and_bad_ones_named(address: str, tmp_path: Path):
    for number, name in enumerate(("red.png", "green.png", "blue.png")):
        (tmp_path / name).write_bytes(png((40 + number, 80, 120)))
    (tmp_path / "text.png").write_bytes(b"<script>alert(1)</script>")
    (tmp_path / "huge.png").write_bytes(bytes(21 << 20))
    (tmp_path / "empty.png").write_bytes(b"")
    order = ("red.png", "huge.png", "text.png", "green.png", "empty.png", "blue.png")
    last = hashlib.sha256((tmp_path / "blue.png").read_bytes()).hexdigest()
    with browser_page() as page:
        complaints = open_microscope(page, address)
        page.get_by_label("Own images").set_input_files([tmp_path / name for name in order])
        page.wait_for_url(f"**upload={last}*")
        announced(page, "; blue.png")
        announced(page, "text.png: expected an image file (JPEG, PNG")
        announced(page, "huge.png: expected an image file of at most 20 MiB, got 21.0 MiB")
        expect(page.locator(".drop ~ .said")).to_have_text("empty.png is empty.")
        page.get_by_label("Of your images").click()
        expect(page.get_by_role("option")).to_have_text(["red.png", "green.png", "blue.png"])
        page.get_by_role("option", name="red.png").click()
        announced(page, "; red.png")
        assert complaints == []


def test_back_undoes_a_change_of_ratio(address: str):
    """Also of the first change, after which the address had been without a ratio."""
    with browser_page() as page:
        complaints = open_microscope(page, address)
        field = page.locator(".st-key-selection-ratio input")
        for value in ("0.5", "0.25"):
            field.fill(value)
            field.press("Enter")
            page.wait_for_url(f"**ratio={value}**")
            settle(page)
        page.go_back()
        expect(field).to_have_value("0.50")
        page.go_back()
        expect(field).to_have_value("0.75")
        settle(page)
        assert "ratio" not in address_of(page)
        assert complaints == []


def test_hovering_changes_the_query_at_once_and_asks_nobody(address: str):
    with browser_page() as page:
        complaints = open_microscope(page, address)
        frame = page.locator(".photograph .frame")
        box = frame.bounding_box()
        assert box is not None
        said = page.locator(".room + .said")
        colours = "canvas => canvas.toDataURL()"
        canvas = page.locator(".photograph canvas")
        before = canvas.evaluate(colours)
        frame.hover(position={"x": 0.1 * box["width"], "y": 0.1 * box["height"]})
        expect(said).to_contain_text("From row 1, column 1")
        assert canvas.evaluate(colours) != before
        assert "patch" not in address_of(page)
        frame.click(position={"x": 0.9 * box["width"], "y": 0.1 * box["height"]})
        announced(page, "Patch 3: row 1, column 4")
        page.locator(".photograph").focus()
        page.keyboard.press("ArrowDown")
        announced(page, "Patch 7: row 2, column 4")
        page.get_by_label("from the class token").check()
        expect(said).to_contain_text("From the class token")
        model = page.locator(".model .heads")
        size = model.bounding_box()
        assert size is not None
        model.click(position={"x": size["width"] / 2, "y": 0.25 * size["height"]})
        page.wait_for_url("**encoder_head=1**")
        assert address_of(page)["encoder_layer"] == "1"
        page.locator(".controls select:has(option[value=colours])").first.select_option("colours")
        page.wait_for_url("**overlay=colours**")
        page.get_by_text("Tokens as colours, layer 1").wait_for()
        assert complaints == []
