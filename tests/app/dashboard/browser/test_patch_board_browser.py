"""The board's own script in a real Chromium, without a server: what a slow one, a lost event or a
second finger does to it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from lcmae.app.dashboard.components import patch_board
from tests.app.served import CHROMIUM, browser_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]

SCRIPT = Path(patch_board.__file__).with_suffix(".js").read_text()
PARTS = """<h3 class="title"></h3><p class="caption"></p><div class="choices"></div>
<div class="board" tabindex="0" role="application"></div><div class="shared scale"></div><p class="said"></p>
<style>body { margin: 0 } .frame { position: relative; width: 400px; height: 100px }
svg { position: absolute; inset: 0; width: 100%; height: 100% }</style>"""
PANEL = {"title": "", "source": "data:,", "alt": "", "veil": "solid", "scale": None, "disc": None}
DATA = {"panels": [PANEL], "gradient": "", "rows": 1, "columns": 4, "patch": 0, "words": [], "editing": True, "kind": "pictures",
        "lines": False}  # fmt: skip
"""Four patches of 100 x 100 pixels in a row."""


@pytest.fixture
def page() -> Iterator[Page]:
    with browser_page() as page:
        page.set_content(PARTS)
        page.evaluate(
            """async (script) => {
          const { default: draw } = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
          window.sent = [];
          const setTriggerValue = (name, value) => window.sent.push(value);
          window.show = (data) => draw({ parentElement: document.body, data, setTriggerValue });
        }""",
            SCRIPT,
        )
        show(page, [0, 0, 0, 1], 0)
        yield page


def show(page: Page, hidden: list[int], heard: int, **other: Any) -> None:
    """What the server has to show now, having heard this message last."""
    page.evaluate(f"window.show({json.dumps({**DATA, 'hidden': hidden, 'heard': heard, **other})})")


def sent(page: Page) -> dict[str, Any]:
    """The last message."""
    page.wait_for_timeout(50)
    return page.evaluate("window.sent.at(-1)")


def top(page: Page) -> float:
    box = page.locator(".frame").bounding_box()
    assert box is not None
    return box["y"] + 50


def shown(page: Page) -> list[int]:
    """The mask that the board shows."""
    drawn = str(page.locator(".veil").get_attribute("d"))
    return [int(f"M{column} 0" in drawn) for column in range(4)]


def cursor(page: Page) -> str | None:
    return page.locator(".cursor.inner").get_attribute("x")


def test_a_slow_answer_to_an_old_message_takes_nothing_back(page: Page):
    page.mouse.click(50, top(page))
    first = sent(page)
    page.mouse.click(150, top(page))
    second = sent(page)
    assert second["number"] > first["number"]
    page.wait_for_timeout(2000)
    show(page, [1, 0, 0, 1], first["number"])
    assert shown(page) == [1, 1, 0, 1]
    assert cursor(page) == "1"
    page.mouse.click(350, top(page))
    assert sent(page)["hidden"] == [1, 1, 0, 0]
    show(page, [1, 1, 0, 0], sent(page)["number"])
    assert shown(page) == [1, 1, 0, 0]


def test_the_server_has_the_last_word_once_it_heard_all(page: Page):
    page.mouse.click(50, top(page))
    number = sent(page)["number"]
    show(page, [0, 1, 0, 1], number, patch=3)  # drawn anew in the meantime
    assert shown(page) == [0, 1, 0, 1]
    assert cursor(page) == "3"
    page.locator(".board").focus()
    page.keyboard.press("ArrowLeft")
    assert sent(page)["hidden"] is None, "an edit of long ago is not sent again"
    assert sent(page)["patch"] == 2


def test_a_stroke_whose_end_was_lost_ends_with_the_next_move(page: Page):
    move = "(where) => document.querySelector('.frame').dispatchEvent(new PointerEvent(where.kind, { bubbles: true, ...where }))"
    page.evaluate("Element.prototype.setPointerCapture = () => {}")
    finger = {"pointerId": 5, "isPrimary": True, "clientY": top(page)}
    page.evaluate(move, {**finger, "kind": "pointerdown", "button": 0, "buttons": 1, "clientX": 50})
    page.evaluate(
        move,
        {
            **finger,
            "kind": "pointerdown",
            "button": 0,
            "buttons": 1,
            "clientX": 350,
            "pointerId": 6,
            "isPrimary": False,
        },
    )
    page.evaluate(
        move, {**finger, "kind": "pointermove", "buttons": 1, "clientX": 350, "pointerId": 6, "isPrimary": False}
    )
    assert shown(page) == [1, 0, 0, 1], "a second finger paints nothing"
    page.evaluate(move, {**finger, "kind": "pointermove", "buttons": 0, "clientX": 250})
    page.evaluate(move, {**finger, "kind": "pointermove", "buttons": 0, "clientX": 150})
    assert sent(page)["hidden"] == [1, 0, 0, 1]
    assert shown(page) == [1, 0, 0, 1]
    page.evaluate(move, {**finger, "kind": "pointerdown", "button": 0, "buttons": 1, "clientX": 150, "ctrlKey": True})
    assert shown(page) == [1, 0, 0, 1], "that opens a menu"


def test_why_an_edit_was_refused_can_be_read(page: Page):
    said = page.locator(".said")
    page.mouse.click(350, top(page))
    page.mouse.move(150, top(page))
    show(page, [0, 0, 0, 1], sent(page)["number"])
    assert said.inner_text() == "A mask hides at least one patch, and shows at least one."
    assert shown(page) == [0, 0, 0, 1]
    page.mouse.click(50, top(page))
    assert said.inner_text() == "Row 1, column 1: hidden"
