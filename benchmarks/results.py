"""Time and memory of reading stored results: `python -m benchmarks.results RUN`.

Copies the results of a run to 1, 10, 30 and 100 files, as lcmae stores them now and as before (no
index behind the netCDF data), and reads each set in a process of its own; times are the best of
three. Then a page of a probe is opened over so many runs: the seconds of the script that makes the
page, in a process that has imported what pages import.
"""

import hashlib
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from lcmae.probes.results import catalogue, index
from lcmae.probes.results.store import load_result, save_result
from lcmae.processes import module

COUNTS = (1, 10, 30, 100)
PAGES = ("local_contrast", "spectrum")


def copies(run: Path, folder: Path, most: int) -> list[Path]:
    """So many files, of the run's own results in turn."""
    files = [file for step in sorted((run / "probes").glob("*/")) for file in catalogue.files(step)]
    results = [load_result(file) for file in files]
    paths = [folder / f"{number:03d}.nc" for number in range(most)]
    for path, result in zip(paths, islice(cycle(results), most), strict=True):
        save_result(result, path)
    return paths


def without_index(path: Path) -> Path:
    """The same result as it was stored before there was an index."""
    content = path.read_bytes()
    known = content.rindex(index.MARK)
    netcdf = content[: int(content[known + len(index.MARK) :][:12])]
    path.write_bytes(netcdf + b"\nlcmae sha256 " + hashlib.sha256(netcdf).hexdigest().encode() + b"\n")
    load_result(path)
    return path


def page_seconds(run: Path, folder: Path, probe: str, count: int) -> tuple[float, int]:
    """How long the script of a probe's page takes over so many copies of a run, and how many
    figures it has."""
    from streamlit.testing.v1 import AppTest

    for number in range(count):
        copy = folder / f"run-{number:03d}"
        for part in ("probes", "checkpoints"):
            shutil.copytree(run / part, copy / part)
        for name in ("config.json", "metrics.jsonl"):
            shutil.copyfile(run / name, copy / name)
    os.environ["LCMAE_RUNS"] = str(folder)
    script = (
        "from lcmae.app.dashboard import main\nfrom lcmae.app.dashboard.components import picks\n"
        f"from lcmae.app.dashboard.pages import PAGES\npage = next(page for page in PAGES if page.name == {probe!r})\n"
        "main.open_page(page, picks.ask())"
    )

    def opened(runs: Sequence[str]) -> AppTest:
        app = AppTest.from_string(script, default_timeout=300)
        app.query_params["runs"] = list(runs)
        return app.run()

    opened([])  # imports
    begin = time.perf_counter()
    app = opened([f"run-{number:03d}" for number in range(count)])
    seconds = time.perf_counter() - begin
    assert not app.exception, app.exception
    return seconds, len(app.get("plotly_chart"))


def read(paths: Sequence[Path]) -> tuple[float, float]:
    """Milliseconds (best of three) and MiB of resident memory above the start."""
    load_result(paths[0])  # imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        held = [load_result(path) for path in paths]
        times.append(time.perf_counter() - begin)
        del held
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1e3 * min(times), (after - before) / 1024


def main() -> None:
    """A line a count."""
    if sys.argv[1] == "--read":
        print(*read([Path(word) for word in sys.argv[2:]]))
        return
    if sys.argv[1] == "--page":
        with tempfile.TemporaryDirectory() as folder:
            print(*page_seconds(Path(sys.argv[2]), Path(folder), sys.argv[3], int(sys.argv[4])))
        return
    import subprocess

    with tempfile.TemporaryDirectory() as folder:
        paths = copies(Path(sys.argv[1]), Path(folder), max(COUNTS))
        print("| stored | results | ms | ms a result | MiB |\n|---|---|---|---|---|")
        for how in ("with an index", "before"):
            if how == "before":
                paths = [without_index(path) for path in paths]
            for count in COUNTS:
                words = module("benchmarks.results", "--read", *map(str, paths[:count]))
                milliseconds, memory = map(float, subprocess.check_output(words, text=True).split())
                print(f"| {how} | {count} | {milliseconds:.1f} | {milliseconds / count:.1f} | {memory:.1f} |")
    print("\n| page | runs | figures | s |\n|---|---|---|---|")
    for probe in PAGES:
        for count in COUNTS:
            words = module("benchmarks.results", "--page", sys.argv[1], probe, str(count))
            output = subprocess.check_output(words, text=True, stderr=subprocess.DEVNULL)
            seconds, figures = map(float, output.split()[-2:])
            print(f"| {probe} | {count} | {figures:.0f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
