"""How fast the dashboard answers, in a real browser: `python -P benchmarks/dashboard.py [RUNS]`.

Starts the server as `lcmae dashboard` does and drives Debian's Chromium: time to the first figure
after a cold start, time from a click to its answer, memory of the server with many sessions. Prints
a Markdown table. Times are the browser's own (`performance.now`), from the event of the click to
the first frame that shows the answer.
"""

import argparse
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from lcmae import processes
from lcmae.app.dashboard.server.launch import FLAGS, command
from lcmae.app.dashboard.stored import reading
from lcmae.progress import ProgressBar
from tests.app.served import CHROMIUM, free_port, settle, started

WATCH = """
for (const kind of ["pointerdown", "keydown", "input"])
  document.addEventListener(kind, () => (window.asked = performance.now()), { capture: true });
// components stand in trees of their own, which neither innerText nor querySelector enters
const PARTS = "img, .said, .cursor.inner, .title, .caption, code, td";
const boards = () => [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")]
  .flatMap((element) => (element.shadowRoot ? [...element.shadowRoot.querySelectorAll(PARTS)] : []))
  .map((part) => [part.src?.slice(-64), part.textContent, part.getAttribute("x"), part.getAttribute("y")].join());
window.view = () => {
  const figures = [...document.querySelectorAll(".js-plotly-plot")];
  const traces = figures.flatMap((figure) => (figure._fullData ?? []).map((trace) =>
    [trace.name, trace.x0, (trace.source ?? "").slice(-64), trace.z?.length, String(trace.x), String(trace.y)].join()));
  return [document.querySelector("[data-testid=stMain]")?.innerText, ...traces, ...boards(), window.location.pathname].join();
};
// to look at every frame would take a tenth of the browser's time from the page: only frames in which something changed count
const watcher = new MutationObserver(() => (window.isTouched = true));
const watch = () => {
  const parts = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")].map((one) => one.shadowRoot);
  for (const part of [document, ...parts.filter(Boolean)])
    watcher.observe(part, { subtree: true, childList: true, characterData: true, attributes: true });
};
window.look = () => {
  if (!window.isTouched) return window.last;
  window.isTouched = false;
  watch();
  return window.view();
};
window.begin = () => {
  watch();
  Object.assign(window, { before: view(), last: view(), changed: 0, isTouched: false });
};
"""

ANSWERED = """rest => {
  const now = performance.now(), seen = window.look();
  if (seen !== window.last) Object.assign(window, { last: seen, changed: now });
  const isDone = document.querySelector("[data-testid=stApp]").dataset.testScriptState === "notRunning";
  return isDone && seen !== window.before && now - window.changed > rest ? window.changed - window.asked : false;
}"""

HOVER = """(frame, [x, y]) => new Promise((drawn) => {
  const begin = performance.now(), end = () => drawn(performance.now() - begin);
  frame.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(end));
})"""

DRAWN = (
    "[...document.querySelectorAll('.js-plotly-plot')].some(one => one._fullData?.length) ? performance.now() : false"
)
"""Milliseconds since the browser set out for the page, at the first frame that has a figure."""

OPPOSITE = {"ArrowLeft": "ArrowRight", "ArrowRight": "ArrowLeft", "ArrowUp": "ArrowDown", "ArrowDown": "ArrowUp"}

REST = 250
"""Milliseconds for which nothing changes any more: the answer is whole at its last change."""


def main() -> None:
    """Measure, print, and write the table where `--out` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs/demo"), help="folder of runs with results")
    parser.add_argument("--starts", type=int, default=3, help="cold starts of the server; 0 leaves them out")
    parser.add_argument("--many", type=int, default=30, help="copies of a run picked together; 0 leaves them out")
    parser.add_argument("--clicks", type=int, default=20, help="clicks of each kind; 0 leaves them out")
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 5, 20], help="numbers of sessions, ascending")
    parser.add_argument(
        "--microscopes",
        type=int,
        nargs="*",
        default=[1, 5, 20],
        help="the same with the Microscope, two models, own masks",
    )
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args()
    names = [
        name for name, path in reading.runs_below(options.runs).items() if reading.result_steps(path, "reconstruction")
    ]
    if not names:
        parser.error(f"expected runs with results of the reconstruction probe below {options.runs}, got none")

    rows: list[tuple[str, str]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        if options.starts:
            rows += starts(browser, options.runs, names[0], options.starts)
            report(rows, options.out)
        if options.many:
            rows += many(browser, options.runs / names[0], options.many, max(1, options.starts))
            report(rows, options.out)
        if options.clicks:
            with server(options.runs) as (address, _):
                rows += clicks(browser, address, names[0], options.clicks)
            report(rows, options.out)
        if options.sessions:
            with server(options.runs) as (address, process):
                rows += sessions(browser, address, process, names[0], sorted(options.sessions))
            report(rows, options.out)
        if options.microscopes:
            with server(options.runs) as (address, process):
                rows += microscopes(browser, address, process, names[:2], sorted(options.microscopes))
        browser.close()
    report(rows, options.out)


def report(rows: list[tuple[str, str]], out: Path | None) -> None:
    """Print, and write, what is measured so far: a busy machine may end this early."""
    print(table(rows), flush=True)
    if out is not None:
        out.write_text(table(rows))


def starts(browser: Browser, runs: Path, name: str, num_starts: int) -> list[tuple[str, str]]:
    """Seconds of a cold start: the server's own, and from opening the page to its first figure."""
    server_seconds, page_seconds, warm_seconds, bare_seconds = [], [], [], []
    with ProgressBar("cold starts", num_starts) as bar, bare_server() as bare:
        first_paint(browser, bare)
        for _ in range(num_starts):
            begin = time.perf_counter()
            with server(runs) as (address, _):
                server_seconds.append(time.perf_counter() - begin)
                page_seconds.append(first_paint(browser, address, name))
                warm_seconds.append(first_paint(browser, address, name))
                bare_seconds.append(first_paint(browser, bare))
            bar.advance()
    return [
        ("peer: a Streamlit page of one small figure, in a new browser profile", seconds(bare_seconds)),
        ("server start until it answers", seconds(server_seconds)),
        ("first page of stored results after that, until its first figure is drawn", seconds(page_seconds)),
        ("the same page in the next new browser profile", seconds(warm_seconds)),
    ]


def many(browser: Browser, run: Path, count: int, num_starts: int) -> list[tuple[str, str]]:
    """Seconds from opening a page of so many runs, copies of one, to its first figure; the server
    has drawn the page of one run before."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        names = [f"run-{number:02d}" for number in range(count)]
        for name in names:
            for part in ("probes", "checkpoints"):
                shutil.copytree(run / part, Path(folder) / name / part)
            for part in ("config.json", "metrics.jsonl"):
                shutil.copyfile(run / part, Path(folder) / name / part)
        for probe in ("local_contrast", "spectrum"):
            if not reading.result_steps(run, probe):
                continue
            with server(Path(folder)) as (address, _), bare_server() as bare:
                first_paint(browser, address, names[0], page=probe)
                first_paint(browser, bare)
                times, others = [], []
                for _ in range(num_starts):
                    others.append(first_paint(browser, bare))
                    times.append(first_paint(browser, address, *names, page=probe))
            what = f"page of {probe} with {count} runs, until its first figure is drawn"
            rows.append((what, f"{seconds(times)}; {ratio(times, others)} the peer's, in turns"))
    return rows


def ratio(ours: list[float], others: list[float]) -> str:
    """Median of the ratios of times that were taken in turns."""
    return f"{np.median(np.divide(ours, others)):.2f} times"


def first_paint(browser: Browser, address: str, *names: str, page: str = "reconstruction") -> float:
    """Seconds from opening a page of stored results, or with no run the page at the address itself,
    in a fresh profile, to its first figure."""
    query = urlencode({"runs": names}, doseq=True)
    with opened(browser) as tab:
        tab.goto(f"{address}/{page}?{query}" if names else address, wait_until="commit")
        # looked for at every frame: a selector is waited for in steps of half a second
        return float(tab.wait_for_function(DRAWN, polling="raf").json_value()) / 1000


def clicks(browser: Browser, address: str, name: str, num_clicks: int) -> list[tuple[str, str]]:
    """Milliseconds from a click to its answer, on pages of stored results."""
    rows = []
    with ProgressBar("clicks", 11 * num_clicks) as bar, opened(browser) as page:
        page.goto(f"{address}/reconstruction?{urlencode({'runs': name})}")
        settle(page, 2)
        page.wait_for_timeout(2000)
        titles = ["Local contrast", "Reconstruction", "Receptive field", "Spectrum"]
        times = []
        for number in range(num_clicks):
            times.append(answer(page, lambda title=titles[number % 4]: page.get_by_role("link", name=title).click()))
            bar.advance(note="another page")
        rows.append(("click in the menu until the other page has its figures", percentiles(times)))

        page.goto(f"{address}/reconstruction?{urlencode({'runs': name})}")
        settle(page, 2)
        times = []
        for number in range(num_clicks):
            page.get_by_role("combobox", name="First picture").click()
            times.append(answer(page, lambda number=number: page.get_by_role("option").nth((number + 1) % 2).click()))
            bar.advance(note="other pictures")
        rows.append(("other pictures picked until they are drawn", percentiles(times)))
        rows += microscope(page, address, name, num_clicks, bar)
    return rows


def microscope(page: Page, address: str, name: str, num_clicks: int, bar: ProgressBar) -> list[tuple[str, str]]:
    """The patch moved by an arrow key to one that was never asked for, until every view has
    followed; and the first page, which loads torch and the model."""
    begin = time.perf_counter()
    page.goto(f"{address}/microscope?{urlencode({'runs': name})}")
    # the last board of maps is that of the receptive field
    page.locator(".maps").nth(3).locator("figure").first.wait_for(timeout=180_000)
    settle(page)
    first = time.perf_counter() - begin
    page.wait_for_timeout(3000)
    board = page.locator(".board").first
    rows, columns = map(int, re.findall(r"of (\d+) by (\d+) patches", str(board.get_attribute("aria-label")))[0])
    board.focus()
    for key in ["Home", *["ArrowUp"] * (rows - 1)]:
        page.keyboard.press(key)
    page.wait_for_timeout(3000)
    # row by row there and back, so that every patch is new: answers are kept
    keys = [
        key
        for row in range(rows)
        for key in [("ArrowRight", "ArrowLeft")[row % 2]] * (columns - 1) + ["ArrowDown"] * (row < rows - 1)
    ]
    times = []
    for key in keys[:num_clicks]:
        times.append(answer(page, lambda key=key: page.keyboard.press(key)))
        bar.advance(note="microscope")
    images = []
    field = page.locator(".st-key-selection-image input")
    field.focus()
    for _ in range(num_clicks):
        images.append(answer(page, lambda: field.press("ArrowUp")))
        bar.advance(note="next images")
    jumps: dict[str, list[float]] = {}
    for name in ("image", "seed"):
        field = page.locator(f".st-key-selection-{name} input")
        for number in range(num_clicks):
            field.fill(str(200 + 3 * number))  # nobody can know which one comes next
            jumps.setdefault(name, []).append(answer(page, lambda field=field: field.press("Enter")))
            bar.advance(note=f"{name}s")
    picks: dict[str, list[float]] = {}
    for label in ("Layer of the encoder", "Head of the decoder"):
        field = page.get_by_label(label)
        options = field.locator("option").all_inner_texts()
        for number in range(num_clicks if len(options) > 1 else 0):
            option = options[number % len(options)]
            if field.input_value() != option:
                picks.setdefault(label, []).append(
                    answer(page, lambda field=field, option=option: field.select_option(option))
                )
            bar.advance(note=label)
    frames = []
    drag = "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input', { bubbles: true, composed: true })); }"
    slider = page.locator(".film .slider")
    for number in range(num_clicks):
        frames.append(answer(page, lambda number=number: slider.evaluate(drag, 2 * number + 1)))
        bar.advance(note="frames of the slider")
    page.locator("label", has_text="Edit mask").click()
    page.locator(".board.editing").wait_for()
    settle(page)
    frame, hovers = page.locator(".photograph .frame").first, []
    frame.scroll_into_view_if_needed()
    left, top, width, height = ((frame.bounding_box() or {})[part] for part in ("x", "y", "width", "height"))
    for number in range(num_clicks):
        at = [left + width * (number % columns + 0.5) / columns, top + height * (3 * number % rows + 0.5) / rows]
        hovers.append(frame.evaluate(HOVER, at))
    edits = []
    back = [OPPOSITE[key] for key in keys[: len(times)][::-1]]
    board.focus()
    for number in range(min(num_clicks, len(back))):  # a small grid has fewer patches than that
        edits.append(answer(page, lambda: page.keyboard.press("Space")))
        # to a patch that was not edited yet
        answer(page, lambda number=number: page.keyboard.press(back[number]))
        bar.advance(note="edited masks")
    uploads = []
    for number in range(num_clicks):
        file = {"name": f"{number}.png", "mimeType": "image/png", "buffer": some_png(number)}
        uploads.append(answer(page, lambda file=file: page.locator("input[type=file]").set_input_files([file])))
        bar.advance(note="uploads")
    return [
        ("microscope, first page: torch, model and image are loaded", f"{first:.1f} s"),
        ("microscope: arrow key to another patch until every view has followed", percentiles(times)),
        ("microscope: the next image, which is computed ahead, until every view has followed", percentiles(images)),
        ("microscope: an image by its number until every view has followed", percentiles(jumps["image"])),
        ("microscope: a mask seed by its number until every view has followed", percentiles(jumps["seed"])),
        *(
            (f"microscope: {label.lower()} until every view has followed", percentiles(found))
            for label, found in picks.items()
        ),
        ("microscope: a step of the ratio's slider until its frame is there", percentiles(frames)),
        ("microscope: the pointer over a patch until its map lies there", percentiles(hovers)),
        ("microscope: a patch hidden or shown by hand until every view has followed", percentiles(edits)),
        ("microscope: an upload, from its choice until every view has followed", percentiles(uploads)),
    ]


def some_png(seed: int) -> bytes:
    """A picture of 400 x 400 pixels, of 8 x 8 colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).resize((400, 400), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def answer(page: Page, act) -> float:
    """Milliseconds from the event that `act` causes until the last change of the page, to the
    frame, that it leads to."""
    page.evaluate("window.begin()")
    act()
    return float(page.wait_for_function(ANSWERED, arg=REST, polling="raf", timeout=120_000).json_value())


def sessions(
    browser: Browser, address: str, process: subprocess.Popen, name: str, numbers: list[int]
) -> list[tuple[str, str]]:
    """Resident memory of the server with so many browsers on a page of stored results."""
    rows = [("memory of the server before the first session", f"{resident(process)} MiB")]
    contexts = []
    with ProgressBar("sessions", numbers[-1]) as bar:
        for number in numbers:
            while len(contexts) < number:
                contexts.append(browser.new_context())
                page = contexts[-1].new_page()
                page.goto(f"{address}/reconstruction?{urlencode({'runs': name})}")
                page.wait_for_selector(".js-plotly-plot .main-svg", timeout=120_000)
                bar.advance()
            time.sleep(2)  # the last session is still being tidied up
            rows.append((f"memory of the server with {number} session{'s'[: number > 1]}", f"{resident(process)} MiB"))
    for context in contexts:
        context.close()
    time.sleep(10)  # what a session held is collected two seconds after its end
    rows.append(("memory of the server 10 s after they were closed", f"{resident(process)} MiB"))
    return rows


def microscopes(
    browser: Browser, address: str, process: subprocess.Popen, names: list[str], numbers: list[int]
) -> list[tuple[str, str]]:
    """Memory and descriptors of the server with so many browsers in the Microscope, opened
    together, on two models with ten masks; whether sessions that ask for the same see the same, and
    all others something else; and what is given back."""
    rows = [("Microscope: memory and descriptors before the first session", held(process))]
    contexts, pages = [], []
    with ProgressBar("microscopes", numbers[-1]) as bar:
        for number in numbers:
            opening = []
            for session in range(len(pages), number):
                contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
                contexts[-1].set_default_timeout(300_000)
                contexts[-1].add_init_script(WATCH)
                opening.append(contexts[-1].new_page())
                asked = {"a": names[session % len(names)], "seed": 1 + session % 10, "ratio": 0.5}
                opening[-1].goto(f"{address}/microscope?{urlencode(asked)}", wait_until="commit")
            for page in opening:
                page.locator(".maps").nth(3).locator("figure").first.wait_for()
                settle(page)
                bar.advance()
            pages += opening
            time.sleep(5)
            rows.append((f"Microscope: with {number} session{'s'[: number > 1]}, two models, ten masks", held(process)))
    seen = [page.evaluate(PICTURES) for page in pages]
    wrong = sum(
        (seen[one] == seen[other]) != (one % 10 == other % 10) for one in range(len(seen)) for other in range(one)
    )
    rows.append(
        (f"Microscope: pairs of sessions of {len(seen) * (len(seen) - 1) // 2} with a wrong answer", str(wrong))
    )
    for context in contexts:
        context.close()
    for wait in (10, 50):
        time.sleep(wait)
        rows.append((f"Microscope: {wait if wait == 10 else 60} s after they were closed", held(process)))
    return rows


PICTURES = """() => [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")]
  .flatMap((element) => [...(element.shadowRoot?.querySelectorAll("img") ?? [])]).map((image) => image.src).join(" ")"""
"""Every picture on the boards of the Microscope."""


def held(process: subprocess.Popen) -> str:
    """Resident memory, that part of it which is code and other files that the kernel can take back
    at any time, and open descriptors of a process (Linux)."""
    files = resident(process, "RssFile")
    return f"{resident(process)} MiB ({files} of them files), {len(os.listdir(f'/proc/{process.pid}/fd'))} descriptors"


def resident(process: subprocess.Popen, what: str = "VmRSS") -> int:
    """MiB of memory that a process holds (Linux)."""
    line = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if what in line)
    return round(int(line.split()[1]) / 1024)


BARE = """
    import plotly.graph_objects as go
    import streamlit as st

    st.plotly_chart(go.Figure(go.Scatter(x=[0, 1], y=[0, 1])))
"""
"""The least that a page with a figure takes on this machine: Streamlit's page, plotly's code, and
next to nothing to compute or to draw."""


@contextmanager
def bare_server() -> Iterator[str]:
    """The address of the peer."""
    with tempfile.TemporaryDirectory() as folder:
        script, port = Path(folder) / "bare.py", free_port()
        script.write_text(textwrap.dedent(BARE))
        words = processes.module("streamlit", "run", str(script), "--server.port", str(port))
        words += [part for name, value in FLAGS.items() for part in (f"--{name}", value)]
        with started(words, port, stderr=subprocess.DEVNULL) as (address, _):
            yield address


@contextmanager
def server(runs: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A server of its own process, as `lcmae dashboard` starts it; its address, as soon as it
    answers."""
    port = free_port()
    with started(command(runs, port), port, stderr=subprocess.DEVNULL) as found:
        yield found


@contextmanager
def opened(browser: Browser) -> Iterator[Page]:
    """A page of a fresh profile that notes when it was asked for something."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)
    context.add_init_script(WATCH)
    try:
        yield context.new_page()
    finally:
        context.close()


def seconds(values: list[float]) -> str:
    """Median and range."""
    return f"{np.median(values):.1f} s ({min(values):.1f} to {max(values):.1f}, {len(values)} starts)"


def percentiles(milliseconds: list[float]) -> str:
    """Median and 95th percentile."""
    low, high = np.percentile(milliseconds, [50, 95])
    return f"p50 {low:.0f} ms, p95 {high:.0f} ms ({len(milliseconds)} times)"


def table(rows: list[tuple[str, str]]) -> str:
    """Markdown, with the machine, the date and how busy the machine was."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine = (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    head = (
        f"{now}, {machine}; load of the last minutes (1, 5, 15): {', '.join(f'{one:.1f}' for one in os.getloadavg())}."
    )
    lines = [head, "", "| what | measured |", "|---|---|", *(f"| {what} | {found} |" for what, found in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
