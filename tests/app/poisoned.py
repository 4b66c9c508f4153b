"""Run folders that nobody should trust, for the tests of pages and of the browser."""

import json
import os
import shutil
from pathlib import Path

from tests.app import synthetic

LINK = "![p](http://evil.example/p.png)[Log in](http://evil.example)"
NOT_UTF8 = os.fsdecode(b"\xff\xfe")


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


POISON = {
    "fifo": lambda run: fifo(run / ".lock"),
    "pid": lambda run: (run / ".lock").write_text('{"pid": 1' + "0" * 30 + ', "host": "x"}'),
    "lock": lambda run: (run / ".lock").write_text("[" * 4000),
    "names": lambda run: (run / "metrics.jsonl").write_text(
        json.dumps({f"m{i}": 1.0 for i in range(5000)} | {"step": 1})
    ),
    "nested": lambda run: (run / "config.json").write_text("[" * 100_000),
}
"""Runs that do not read: the state says why."""

ODD = {
    "digits": lambda run: (run / "metrics.jsonl").write_text('{"step": 1, "loss": 1' + "0" * 4000 + "}\n"),
    "steps": lambda run: (run / "metrics.jsonl").write_text('{"step": 1' + "0" * 4000 + ', "loss": 0.5}\n'),
    "surrogate": lambda run: (run / "config.json").write_text(
        '{"data": "\\ud800", "model": {"kind": "\\udfff"}, "seed": "x"}'
    ),
    "kinds": lambda run: (run / "config.json").write_text(
        '{"data": {"a": []}, "objective": {"kind": 3, "mask": {"ratio": []}}}'
    ),
    "huge": lambda run: (run / "config.json").write_text('{"seed": 1' + "0" * 4000 + "}"),
    "metric": lambda run: (run / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "loss": 0.5, f"<b>{LINK}\ud800": 1.0})
    ),
    NOT_UTF8: lambda run: None,
    LINK: lambda run: None,
    "_a_ :red[b] <img src=x>": lambda run: None,
}
"""Runs that read, and hold strange things."""


def poisoned_runs(folder: Path) -> Path:
    """A good run, and all of these, which are copies of it."""
    synthetic.run(folder / "good")
    for name, poison in {**POISON, **ODD}.items():
        shutil.copytree(folder / "good", folder / name)
        if name in POISON:
            shutil.rmtree(folder / name / "probes")
        poison(folder / name)
    return folder
