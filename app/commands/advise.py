"""`lcmae advise --data PHOTOS`: which mask for these images, from their statistics and a race
within a given time; one page."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from lcmae.app.command_line.arguments import check_device, parse_arguments
from lcmae.app.command_line.image_options import ImageOptions, source_name
from lcmae.app.command_line.without_server import expect_no_server
from lcmae.app.commands.compare import processes
from lcmae.progress import ProgressBar, clock

PAGE = "advice.html"


class AdviseArguments(ImageOptions):
    """Advise on a mask for your images, within a given time: the images' statistics, then a race of
    small networks if images have classes. Writes one page, says what is not known, and prints the
    training command. The same command again continues, for the same time again."""

    data: str
    """Images: a path (folder, Parquet, .npy, .tar, ...), digits, cifar10, hierarchy, ... Classes
    (subfolders, a label column) decide whether masks can be compared."""

    minutes: float = Field(default=30.0, gt=0)
    """Most minutes that it may take."""

    images: int | None = Field(default=None, ge=20)
    """Most training images to use (a fixed, class-balanced choice); not above 4000."""

    out: Path = Path("runs/advise")
    """Folder for the page (advice.html), the numbers and the runs."""

    workers: int = Field(default_factory=processes, ge=1)
    """Local processes at a time, by default one per core (at most 8), or 1 with a GPU."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default a GPU where there is one."""


def run(arguments: Sequence[str]) -> int:
    """Advise; 128 + signal where one ended it early."""
    started = time.monotonic()
    options = parse_arguments(AdviseArguments, arguments, command="advise")
    deadline = started + 60 * options.minutes

    def say(line: str) -> None:
        left = max(0.0, deadline - time.monotonic())
        print(f"advise, at most {clock(left)} left: {line}", file=sys.stderr, flush=True)

    say("loading")
    expect_no_server()
    from lcmae.app.advice_page import document, terminal
    from lcmae.probes.grids.advising import Question, advise
    from lcmae.probes.grids.run import CellStopped
    from lcmae.runs.run import write_atomically

    check_device(options.device)
    data = source_name(options.data, options.value_range, options.bands)
    assert data is not None
    question = Question(data=data, images=options.images, minutes=options.minutes)
    try:
        answer = advise(
            question, options.out, workers=options.workers, device=options.device, started=started, say=say,
            progress=ProgressBar,
        )  # fmt: skip
    except CellStopped as stop:
        print("stopped; the same command continues from here", file=sys.stderr)
        return 128 + stop.number
    write_atomically(options.out / PAGE, document(answer).encode("utf-8", "backslashreplace"))
    print(terminal(answer))
    print(options.out / PAGE)
    return 0
