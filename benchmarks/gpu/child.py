"""One step, in a process of its own that `benchmarks.gpu.run` starts: it writes a record of what it
measured."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.record import Record

WHERE = {"tests": "checks", "roof": "checks", "steps": "speed", "probes": "speed", "cifar": "cifar"}
"""Step -> the module with the function of its name."""


def main() -> int:
    """Ends with 0 where nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=WHERE)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--option", action="append", default=[])
    options = parser.parse_args()
    record = Record(options.record, options.seconds)
    with record.part():  # imports may fail, too, and are then in the record
        module = import_module(f"benchmarks.gpu.{WHERE[options.step]}")
        getattr(module, options.step)(record, options)
    return 1 if record.problems else 0


if __name__ == "__main__":
    sys.exit(main())
