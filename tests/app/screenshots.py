"""Pictures of every page, light and dark: `python tests/app/screenshots.py RUNS OUT [--pick NAME
...]`.

Whole pages at 1280 px, as PNG files <page>-<theme>.png (with several widths
<page>-<theme>-<width>.png), and of each a line: how tall it is, where its first figure begins, and
how far it is wider than the window. They are made to be looked at: see docs/extending.md.
"""

import argparse
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page

from lcmae.app.dashboard.pages import PAGES
from lcmae.app.dashboard.stored.reading import runs_below
from tests.app.served import browser_page, path_of, server, settle

LAYOUT = """() => {
  const main = document.querySelector('[data-testid=stMain]');
  const figure = document.querySelector('.js-plotly-plot, [data-testid=stImage] img, [data-testid=stDataFrame]');
  return [figure ? figure.getBoundingClientRect().top : -1, main.scrollWidth - main.clientWidth];
}"""
"""Where the first figure begins, and how far the page is wider than its window."""


def main() -> None:
    """Start the server once, open every page in both themes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--pick", nargs="*", help="names of runs (default: all)")
    parser.add_argument("--page", nargs="*", help="names of pages (default: all)")
    parser.add_argument("--query", nargs="*", default=[], metavar="NAME=VALUE", help="more of the address")
    parser.add_argument("--width", type=int, nargs="*", default=[1280], help="of the window, in pixels")
    parser.add_argument("--theme", nargs="*", default=["light", "dark"], choices=["light", "dark"])
    parser.add_argument("--top", type=int, help="only so many pixels from the top, for a small picture")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    asked = [word.split("=", 1) for word in options.query]
    query = urlencode([*(("runs", name) for name in options.pick or runs_below(options.runs)), *asked])
    with server(options.runs) as address:
        for theme, width in [(theme, width) for theme in options.theme for width in options.width]:
            with browser_page(dark=theme == "dark", width=width) as page:
                for name in [known.name for known in PAGES if not options.page or known.name in options.page]:
                    page.goto(f"{address}/{path_of(name)}?{query}")
                    # a figure, or a sentence that says why there is none
                    page.wait_for_selector(
                        ".js-plotly-plot .main-svg, [data-testid=stAlert], [data-testid=stDataFrame], "
                        "[data-testid=stBidiComponentIsolated]",
                        timeout=180_000,  # a page with a model waits for torch
                    )
                    settle(page)
                    first, wider = page.evaluate(LAYOUT)
                    # the page scrolls inside a container: a tall window shows all of it
                    tall = whole_height(page)
                    page.set_viewport_size({"width": width, "height": options.top or min(tall + 40, 8000)})
                    settle(page)
                    page.wait_for_timeout(800)  # figures fade in
                    of_width = f"-{width}" if len(options.width) > 1 else ""
                    file = options.out / f"{name}-{theme}{of_width}.png"
                    page.screenshot(path=file)
                    page.set_viewport_size({"width": width, "height": 900})
                    print(
                        f"{file}  {tall} px tall, first figure at {first:.0f} px, {wider:.0f} px too wide", flush=True
                    )


def whole_height(page: Page) -> int:
    """Of all that the page holds, once it has come to rest: components draw after the script has
    ended."""
    before = -1
    while (now := int(page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight"))) != before:
        before = now
        page.wait_for_timeout(500)
    return now


if __name__ == "__main__":
    main()
