"""Time and memory of reading stored results: `python -m benchmarks.results RUN`.

Copies the results of a run to 1, 10, 30 and 100 files, as lcmae stores them now, and reads each set
in a process of its own; times are the best of three.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from lcmae.probes.results import catalogue
from lcmae.probes.results.store import load_result, save_result
from lcmae.processes import module

COUNTS = (1, 10, 30, 100)


def copies(run: Path, folder: Path, most: int) -> list[Path]:
    """So many files, of the run's own results in turn."""
    files = [file for step in sorted((run / "probes").glob("*/")) for file in catalogue.files(step)]
    results = [load_result(file) for file in files]
    paths = [folder / f"{number:03d}.nc" for number in range(most)]
    for path, result in zip(paths, islice(cycle(results), most), strict=True):
        save_result(result, path)
    return paths


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
    import subprocess

    with tempfile.TemporaryDirectory() as folder:
        paths = copies(Path(sys.argv[1]), Path(folder), max(COUNTS))
        print("| results | ms | ms a result | MiB |\n|---|---|---|---|")
        for count in COUNTS:
            words = module("benchmarks.results", "--read", *map(str, paths[:count]))
            milliseconds, memory = map(float, subprocess.check_output(words, text=True).split())
            print(f"| {count} | {milliseconds:.1f} | {milliseconds / count:.1f} | {memory:.1f} |")


if __name__ == "__main__":
    main()
