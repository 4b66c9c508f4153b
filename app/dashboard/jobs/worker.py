"""The process of a job that was started from a page: the batch command line, which ends when its
server does.

The server holds the other end of standard input. When that closes, however the server ended, this
process is told to stop; being told, by SIGTERM, it unwinds as after Ctrl-C, so that nothing
half-written is left.
"""

import os
import signal
import sys
import threading
import time

from lcmae.app import cli

PATIENCE = 10.0
"""Seconds from being told to stop until the whole process group is killed."""


def main() -> int:
    """Run the command of the arguments; returns its exit code."""
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    return cli.main(sys.argv[1:])


def _stop(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # told once is told
    raise SystemExit(128 + number)


def _end_with_the_server() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
