"""A JSON file that is whole at every moment, and a step's own record of what it measured. Standard
library alone."""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_json(path: Path, values: Any) -> None:
    """Replace the file in one system call, so that a kill leaves the old one or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(values, indent=1, allow_nan=True))
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """The file's values; None where there is no file yet."""
    return json.loads(path.read_text()) if path.is_file() else None


class Skipped(Exception):
    """What cannot be measured here, with the reason."""


class Record:
    """What one step measured, on disk after every `keep`.

    `parts`: numbers by name. `skipped` and `problems`: reason or traceback by name of the part; the
    whole step's stand under the empty name.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.parts: dict[str, Any] = {}
        self.skipped: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self._end = time.monotonic() + seconds
        self._write()

    @property
    def left(self) -> float:
        """Seconds that the step still has."""
        return self._end - time.monotonic()

    def keep(self, name: str, values: Any) -> None:
        """Store a part; again under the same name, in its stead."""
        self.parts[name] = values
        self._write()

    @contextmanager
    def part(self, name: str = "") -> Iterator[None]:
        """Whatever fails within is written down with its traceback (and printed), and the next part
        goes on. SystemExit and Ctrl-C, which mean stop, are not held back."""
        start = time.monotonic()
        try:
            yield
        except Skipped as reason:
            self.skipped[name] = str(reason)
        except Exception:
            self.problems[name] = traceback.format_exc()
            traceback.print_exc(file=sys.stderr)
        finally:
            self.seconds[name] = round(time.monotonic() - start, 2)
            self._write()

    def _write(self) -> None:
        known = {"parts": self.parts, "skipped": self.skipped, "problems": self.problems, "seconds": self.seconds}
        write_json(self.path, known)
