"""Inspects checkpoints that nobody should trust, in a process that has nothing to lose: `python -m
lcmae.app.dashboard.jobs.inspect_many`.

Standard input is a JSON list of paths; standard output gets a line of JSON for each, in order:
{"facts": ...} as of `lcmae inspect --json`, or {"refusal": "one line"}; and "memory", the peak in
bytes above an idle reader. Once torch is imported, and before the first file is opened, the process
gives up the right to take memory, and to write more than empty files.
"""

import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lcmae.errors import InputError

HEADROOM = 2**30
"""Bytes of address space beyond the libraries and the file itself, which readers of safetensors map
as a whole."""


def main() -> None:
    """Answer, a line a path."""
    # what libraries print must not come between the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    paths = [str(path) for path in json.load(sys.stdin)]
    import lcmae.formats  # noqa: F401, before the fence: torch maps more than the fence leaves

    fence(max(map(bytes_at, paths), default=0))
    idle = peak()
    for path in paths:
        print(json.dumps({**answer(path), "memory": peak() - idle}, default=str), file=answers, flush=True)


def answer(path: str) -> dict[str, Any]:
    """Facts or a refusal; nothing is raised, because the next file wants its answer, too."""
    from lcmae.formats import inspect

    try:
        return {"facts": inspect(path).to_json()}
    except InputError as error:
        return {"refusal": one_line(str(error))}
    except MemoryError:
        return {"refusal": f"expected a checkpoint whose outline fits into {HEADROOM >> 20} MiB, got one that does not"}
    except Exception as error:  # the last resort, as in the command line
        return {"refusal": one_line(f"failed: {type(error).__name__}: {error}")}


def one_line(text: str) -> str:
    """A message without line breaks, of at most 1000 characters."""
    return " ".join(text.split())[:1000]


def fence(file_bytes: int) -> None:
    """No byte can be written to a file from here on, no core dumped, and no memory taken beyond
    `HEADROOM` and the file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    statistics = Path("/proc/self/statm")
    if statistics.exists():  # only Linux says how much is mapped, and keeps the limit
        mapped = int(statistics.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = mapped + HEADROOM + file_bytes
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def bytes_at(path: str) -> int:
    """Size of a file, or of the largest file in a folder; 0 for what cannot be looked at."""
    try:
        if not os.path.isdir(path):
            return os.stat(path).st_size
        files: Sequence[str] = [os.path.join(top, name) for top, _, names in os.walk(path) for name in names]
        return max((os.lstat(file).st_size for file in files), default=0)
    except (OSError, ValueError):
        return 0


def peak() -> int:
    """Peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would count the parent, whose memory this process had until its exec
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


if __name__ == "__main__":
    main()
