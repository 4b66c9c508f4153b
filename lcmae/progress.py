"""Progress and time left: a bar in a terminal, plain lines elsewhere (logs, CI, Slurm).

With LCMAE_PROGRESS=json in the environment a line is a JSON object for a program that watches
(`lcmae.app.dashboard.jobs.queue`), twice a second: {"label": "probing", "done": 128, "total": 500,
"seconds_left": 12.5, "note": ""}.
"""

import json
import os
import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar:
    """`with ProgressBar("training", total) as bar: bar.advance(note="loss 0.4")`; writes to
    standard error."""

    def __init__(self, label: str, total: int, *, done: int = 0, seconds_between_lines: float = 5.0) -> None:
        self.label, self.total = label, total
        self._done = self._first = done
        self._is_watched = _is_watched()
        self._pause = 0.5 if self._is_watched else seconds_between_lines
        self._begin = self._last_line = time.monotonic()
        self._shown, self._note = done, ""
        self._bar: Progress | None = None

    def __enter__(self) -> "ProgressBar":
        if sys.stderr.isatty() and not self._is_watched:
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(
                TextColumn("{task.description}"), *columns, TextColumn("{task.fields[note]}"), console=_console()
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, completed=self._done, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and self._done > self._shown:
            self._line()  # a log tells how it ended, however short it was

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` as done; `note` is shown beside the bar."""
        self._done += steps
        self._note = note
        if self._bar:
            self._bar.update(self._task, completed=self._done, note=note)
        elif time.monotonic() - self._last_line >= self._pause:
            self._line()

    def more(self, steps: int) -> None:
        """Expect `steps` that the total did not count."""
        self.total += steps
        if self._bar:
            self._bar.update(self._task, total=self.total)

    def _line(self) -> None:
        self._last_line, self._shown = time.monotonic(), self._done
        elapsed = self._last_line - self._begin
        left = elapsed / max(self._done - self._first, 1) * max(self.total - self._done, 0)
        is_timed = self._done > self._first  # nothing is known of the rest before something is done
        share = 100 * self._done / max(self.total, 1)
        if tell(self.label, self._done, self.total, left, self._note):
            return
        rest = f"{clock(left)} left" if is_timed else "time left not known yet"
        text = f"{self.label}: {self._done}/{self.total} ({share:.0f} %), {clock(elapsed)} elapsed, {rest}"
        print(f"{text}  {self._note}".rstrip(), file=sys.stderr, flush=True)


def tell(label: str, done: int, total: int, seconds_left: float, note: str = "") -> bool:
    """One line for the program that watches, of work that has its own words for a terminal; False
    where none watches."""
    if not _is_watched():
        return False
    known = {"label": label, "done": done, "total": total, "seconds_left": seconds_left, "note": note}
    print(json.dumps(known), file=sys.stderr, flush=True)
    return True


def _is_watched() -> bool:
    return os.environ.get("LCMAE_PROGRESS") == "json"


class Silent:
    """A bar that shows nothing, for callers who asked for none."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def more(self, steps: int) -> None:
        pass


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _console():
    from rich.console import Console

    return Console(stderr=True)
