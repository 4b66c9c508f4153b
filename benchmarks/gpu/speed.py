"""Training steps and probes, measured by `benchmarks.train` and `benchmarks.probes` themselves:
here is chosen what fits into the time, and what they say is kept."""

import argparse
from dataclasses import asdict
from typing import Any

import torch

from benchmarks import probes as probes_benchmark
from benchmarks import train as train_benchmark
from benchmarks.gpu.record import Record, Skipped

PARTS: dict[str, tuple[str, float]] = {
    "ViT-Tiny/4, batch 1024": ("--shapes tiny4 --batch 1024 --peer-variants eager", 0.4),
    "ViT-B/16, batch 256": (
        "--shapes base16 --batch 256 --objectives mae --variants eager graph --peer-variants eager --steps 10 --rounds 6",
        0.2,
    ),
    "ViT-Tiny/4, batch 1024, compiled peers": (
        "--shapes tiny4 --batch 1024 --objectives mae --variants graph --peer-variants compiled",
        0.3,
    ),
    "ViT-Tiny/4, batch 4096": ("--shapes tiny4 --batch 4096 --objectives mae --variants graph --peers", 0.1),
}
"""Name -> words of `benchmarks.train`, in order of value, and a share of the time that they get at
least (what a part leaves over goes to the next)."""

TINY_PARTS: dict[str, tuple[str, float]] = {
    "micro, batch 8": ("--shapes micro --batch 8 --variants eager --rounds 3 --steps 1", 0.5),
    "micro, batch 8, compiled": (
        "--shapes micro --batch 8 --objectives mae --variants compiled --rounds 2 --peers",
        0.5,
    ),
}
LEAST = 12.0
"""Seconds that a part needs to be begun."""


def steps(record: Record, options: argparse.Namespace) -> None:
    """Rows of `benchmarks.train`, round by round."""
    on_gpu = options.device == "cuda"
    parts = TINY_PARTS if options.tiny else PARTS
    remaining = sum(share for _, share in parts.values())
    for name, (words, share) in parts.items():
        with record.part(name):
            seconds = record.left * share / remaining
            remaining -= share
            if "compiled" in words and not on_gpu:
                raise Skipped("compiles and records on a CUDA device alone")
            if seconds < LEAST and not options.tiny:
                raise Skipped(f"{record.left:.0f} s were left")

            def keep(about: dict[str, Any], rows: list[train_benchmark.Row], name: str = name) -> None:
                record.keep(name, {"about": about, "rows": [asdict(row) for row in rows]})

            argv = [*words.split(), "--device", options.device, "--seconds", f"{seconds:.0f}"]
            rows = train_benchmark.main(argv, keep)
            failed = [row for row in rows if row.problem.startswith("failed")]
            if failed:
                names = ", ".join(f"{row.objective} {row.name} ({row.problem})" for row in failed)
                raise RuntimeError(f"some of the contenders failed, the others are measured: {names}")
        torch.compiler.reset()


def probes(record: Record, options: argparse.Namespace) -> None:
    """Tables of `benchmarks.probes`, one after another."""
    words = "--probes --images 8 --slow-images 8 --rounds 2"
    if options.tiny:
        words = "--shape micro --data digits --probes --images 4 --slow-images 2 --pairs 32 --rows 16 --rounds 1"

    def keep(about: dict[str, str], found: probes_benchmark.Measured) -> None:
        record.keep("tables", {"about": about, "found": asdict(found)})

    probes_benchmark.main([*words.split(), "--device", options.device], keep)
