"""Memory and time of `lcmae embed`: `python -m benchmarks.embed CHECKPOINT DATA`.

The command itself, in a process of its own for each number of images: the peak of its resident
memory, its time, and the size of the file. The pixels of a source that fits in memory are held
there (32 x 32: 3 KiB an image); vectors go to the file as they come.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from lcmae import processes

COUNTS = (500, 5_000, 10_000)
FEATURES = ("mean", "tokens")


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds, and MiB of resident memory at its peak, of one command."""
    begin = time.perf_counter()
    process = processes.start(words)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with status {status}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def main() -> None:
    """A line for each feature and number of images."""
    checkpoint, data = sys.argv[1:3]
    print("| feature | images | s | peak, MiB | file, MiB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for feature in FEATURES:
            for count in COUNTS:
                out = Path(folder) / f"{feature}-{count}.parquet"
                words = ["embed", checkpoint, "--data", data, "--images", str(count), "--feature", feature]
                seconds, peak = measured(processes.module("lcmae.app.cli", *words, "--out", str(out)))
                print(f"| {feature} | {count:,} | {seconds:.1f} | {peak:.0f} | {out.stat().st_size / 2**20:.1f} |")


if __name__ == "__main__":
    main()
