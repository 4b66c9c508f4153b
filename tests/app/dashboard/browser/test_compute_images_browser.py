"""A real Chromium drops images on a page and has a probe computed on them; nothing of them is left
when the server ends. (Choosing the owner's folder is in test_compute_images.py.)"""

from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, expect

from lcmae.probes.results import catalogue
from tests.app.served import CHROMIUM, Watch, browser_page, server, settle
from tests.app.trained import published, tiny
from tests.reference.image_files import png

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium (apt-get install chromium)"),
]
LOADING = 240_000  # milliseconds: the job imports torch


def test_images_are_dropped_and_computed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    photos, drafts = tmp_path / "my photos", tmp_path / "drafts"
    photos.mkdir()
    drafts.mkdir()
    for number in range(6):
        (photos / f"{number}.png").write_bytes(png(number))
    run = published(tmp_path / "runs" / "a", tiny())
    with ExitStack() as stack:
        monkeypatch.setenv("TMPDIR", str(drafts))
        address = stack.enter_context(server(tmp_path / "runs", (f"folder:{photos}",)))
        monkeypatch.delenv("TMPDIR")
        page = stack.enter_context(browser_page())
        watch = Watch(page)
        page.goto(f"{address}/reconstruction?runs=a")
        files = [
            FilePayload(name=f"{number}.png", mimeType="image/png", buffer=png(10 + number)) for number in range(3)
        ]
        page.get_by_label("Drop images").set_input_files(files)
        expect(page.get_by_label("Images", exact=False).first).to_be_visible()
        page.get_by_text("--data dropped:").first.wait_for()
        page.wait_for_function(
            "[...document.querySelectorAll('input')].some(one => one.value.includes('the 3 dropped'))"
        )
        (folder_of_images,) = drafts.glob("lcmae-dropped-*")
        page.get_by_role("button", name="Compute now").click()
        page.get_by_text("Numbers, provenance and exports").wait_for(timeout=LOADING)
        settle(page, 1)
        folder = run.results_folder(20)
        (first,) = catalogue.stored(folder, "reconstruction")
        assert first.condition.data.startswith("dropped:")
        assert "/" not in first.condition.data
        assert first.condition.num_images == "3"
        assert watch.complaints == []
        assert watch.hosts <= {"127.0.0.1", None}
    assert not folder_of_images.exists()
