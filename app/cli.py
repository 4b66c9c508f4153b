"""The command `lcmae`: one word, one file in app/commands/. Bad input is one line on standard error
and exit code 2.

Exit codes: 0 done, 1 failure (a full disk too), 2 bad input, 130 stopped by Ctrl-C, 143 by SIGTERM
and 129 by SIGHUP, the end of a terminal (training publishes first). Set LCMAE_DEBUG=1 for a
traceback in place of the one line.
"""

import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from lcmae import processes
from lcmae.errors import InputError, did_you_mean
from lcmae.safety.text import is_full, reason, show

COMMANDS = {
    "demo": "train MAE, U-MAE and LC-MAE on built-in images, probe them, open the dashboard",
    "train": "train a recipe, or continue a run",
    "probe": "run probes on checkpoints; writes .nc files and prints a table",
    "inspect": "say what a checkpoint file is, what was read from it and what was assumed",
    "check": "is my loading right? tests on your images what had to be assumed",
    "import": "make a run of a foreign checkpoint",
    "export": "write a checkpoint in the layout of another library",
    "embed": "a vector for every image, to Parquet; and how alike two models' vectors are",
    "stitch": "one model's encoder into another's decoder: how much the masked loss rises",
    "compare": "a grid of masks, ratios and objectives at equal compute; one table with intervals",
    "advise": "which mask for your own images, within a given time; one page",
    "claims": "published claims, tested on small runs at a stated cost; a table of verdicts",
    "masks": "every mask strategy: a table of diagnostics, samples, a picture",
    "zoo": "small trained models that come with lcmae, as runs",
    "dashboard": "runs and probe results in the browser",
    "report": "the same figures as one HTML file",
}
"""Commands and what they do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name = arguments[0]
    if name == "--version":
        import lcmae

        print(f"lcmae {lcmae.__version__}")
        return 0
    if name not in COMMANDS:
        wrong = f"expected a command out of {', '.join(COMMANDS)}, got {name!r}{did_you_mean(name, COMMANDS)}"
        return complain("lcmae", wrong)
    warnings.formatwarning = format_warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        # what a file calls itself may be no text of this terminal: a half of a character, say
        sys.stdout.reconfigure(errors="backslashreplace")
    # small models on shared machines: threads that spin while they wait cost more than they save
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with processes.safe_path(), ended_in_order(name):
            return import_module(f"lcmae.app.commands.{name}").run(arguments[1:])
    except InputError as error:
        complain(f"lcmae {name}", str(error))
        return 1 if is_disk(error) else 2
    except KeyboardInterrupt:
        print(f"lcmae {name}: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has gone
        return 0
    except Exception as error:  # the last resort: one line, and the whole story on request
        if os.environ.get("LCMAE_DEBUG"):
            raise
        if is_full(error):
            complain(f"lcmae {name}", f"cannot write: {reason(error)}")
            return 1
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename:
            return complain(f"lcmae {name}", f"cannot use {show(error.filename)}: {reason(error)}")
        complain(f"lcmae {name}", f"failed: {type(error).__name__}: {error} (LCMAE_DEBUG=1 shows where)")
        return 1


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Notes about images as one line each; other warnings with where they come from."""
    text = " ".join(str(message).split())
    is_note = category.__name__ == "ImagesWarning"
    return f"note: {text}\n" if is_note else f"{filename}:{lineno}: {category.__name__}: {text}\n"


def is_disk(error: BaseException) -> bool:
    """Whether a full or failing disk lies behind an error: nobody's input is to blame for that."""
    cause = error.__cause__ or error.__context__
    if is_full(error) or (isinstance(cause, OSError) and cause.errno in (errno.EIO, errno.EFBIG)):
        return True
    return cause is not None and is_disk(cause)


@contextmanager
def ended_in_order(command: str) -> Iterator[None]:
    """SIGTERM and SIGHUP unwind a command as Ctrl-C does, so that nothing half-written is left; the
    exit code is 143 or 129. Training takes them itself, and the dashboard's server too."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    is_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in signals if is_main and signal.getsignal(number) is signal.SIG_DFL]
    if command in ("dashboard", "demo"):
        taken = []
    for number in taken:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def usage() -> str:
    """What there is, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    last = "lcmae COMMAND --help shows its options and two examples."
    return "\n".join(["usage: lcmae COMMAND ...", "", "commands:", *lines, "", last])


def complain(who: str, message: str) -> int:
    """Print one line on standard error; returns 2."""
    print(f"{who}: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    processes.leave_working_folder_out()
    sys.exit(main())
