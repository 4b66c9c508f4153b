"""The gallery in a real Chromium: arrow keys go from picture to picture, and a click opens the
microscope at that image under its mask."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect

from lcmae.probes.results.store import save_result
from tests.app import synthetic
from tests.app.served import CHROMIUM, Watch, browser_page, server, settle
from tests.app.trained import published

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]


def test_a_picture_opens_the_microscope_at_its_image(tmp_path: Path) -> None:
    run, result = published(tmp_path / "a"), synthetic.reconstruction()
    settings = json.dumps({"mask": {"kind": "block", "ratio": 0.5}})
    result.attrs |= {"split": "test", "settings": settings, "probe": "reconstruction"}
    result.attrs["command"] = "lcmae probe reconstruction --checkpoint a --seed 3"
    save_result(result, run.result_path(20, "reconstruction"))
    order = np.argsort(-result["image_error"].values)
    with server(tmp_path) as address, browser_page() as page:
        watch = Watch(page)
        page.goto(f"{address}/gallery?runs=a")
        settle(page)
        pictures = page.locator(".gallery button")
        expect(pictures).to_have_count(40)
        expect(pictures.first).to_have_attribute("aria-label", f"image {order[0]}, class {order[0] % 3}: error "
                                                 f"{result['image_error'].values.max():.3g} squared input units")  # fmt: skip
        pictures.first.focus()
        page.keyboard.press("ArrowRight")
        expect(pictures.nth(1)).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url("**/microscope?**")
        page.locator(".board figure").first.wait_for(timeout=120_000)
        asked = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
        assert {name: asked[name] for name in ("a", "image", "mask", "ratio", "seed")} == {
            "a": "a", "image": str(order[1]), "mask": "block", "ratio": "0.5", "seed": "3",
        }  # fmt: skip
        expect(page.locator(".st-key-selection-image input")).to_have_value(str(order[1]))
        assert page.locator("[data-testid=stAlert]", has_text="Different from the link").count() == 0
        assert watch.complaints == []
        assert watch.hosts <= {"127.0.0.1", None}
