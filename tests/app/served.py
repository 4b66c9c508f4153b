"""A real server on a free loopback port and a real headless Chromium, for the browser tests and the
screenshots."""

import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from lcmae.app.dashboard.pages import PAGES
from lcmae.app.dashboard.server.launch import command

CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def server(runs: Path, data: tuple[str, ...] = ()) -> Iterator[str]:
    """The dashboard of `runs`, exactly as `lcmae dashboard` starts it, with images of the owner's;
    yields its address."""
    port = free_port()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with started(command(runs, port, data=data), port, env=environment) as (address, _):
        yield address


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def started(words: list[str], port: int, **options: Any) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address and process of a server, as soon as it answers; `options` are those of
    `Popen`."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, **options)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, process)
        yield address, process
    finally:
        process.terminate()
        process.wait(30)


def wait_for(address: str, process: subprocess.Popen, seconds: float = 90) -> None:
    """Until the server answers that it is well."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"no answer from {address} in {seconds:.0f} s")


@contextmanager
def browser_page(*, dark: bool = False, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page of a fresh profile in Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            scheme = "dark" if dark else "light"
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            context.set_default_timeout(60_000)
            yield context.new_page()
        finally:
            browser.close()


class Watch:
    """What a page complains about, and whom it asks."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str | None] = set()
        page.on("console", self.console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))

    def console(self, message: ConsoleMessage) -> None:
        # streamlit asks for its health and host config below the page's own path first, and is told
        # 404
        if message.type == "error" and "404 (Not Found)" not in message.text:
            self.complaints.append(message.text)


def choose_size(page: Page, inches: str) -> None:
    """The first figure as a paper prints it, once every figure has its files: the first that come
    may be another one's."""
    sizes = page.get_by_label("size of the picture")
    expect(sizes).to_have_count(page.locator("[data-testid=stPlotlyChart]").count())
    sizes.first.select_option(inches)


def downloaded(page: Page, name: str, position: int = 0) -> bytes:
    """What the button of this name, the `position`-th of the page, downloads."""
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).nth(position).click()
    return Path(download.value.path()).read_bytes()


def printed(page: Page, position: int = 0) -> bytes:
    """The PDF that the browser's print window makes of what the `position`-th button *PDF* hands
    it; no such window opens."""
    page.add_init_script("window.print = () => (window.isPrinted = true)")  # in the sheet's frame, which comes now
    page.get_by_role("button", name="PDF", exact=True).nth(position).click()
    page.wait_for_function("document.querySelector('#lcmae-sheet')?.contentWindow.isPrinted")
    sheet = str(page.get_attribute("#lcmae-sheet", "srcdoc"))
    browser = page.context.browser
    assert browser is not None
    alone = browser.new_page()
    try:
        alone.set_content(sheet)
        return alone.pdf(prefer_css_page_size=True, print_background=True)
    finally:
        alone.close()


def pdf_size(content: bytes) -> tuple[float, float]:
    """Width and height of the first page of a PDF, in inches."""
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert box is not None
    return float(box[1]) / 72, float(box[2]) / 72


def unfold(page: Page) -> None:
    """Open the numbers and exports below a page's figures."""
    page.get_by_text("Numbers, provenance and exports").click()
    page.get_by_text("Where this comes from").wait_for()


def settle(page: Page, num_figures: int = 0) -> None:
    """Until the script has run and the figures are drawn."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function("n => document.querySelectorAll('.js-plotly-plot .main-svg').length >= n", arg=num_figures)
    page.wait_for_selector("[data-testid=stSkeleton]", state="detached")


def path_of(page: str) -> str:
    """Where a page lies: the first one at the root, the others under their names."""
    return "" if page == PAGES[0].name else page
