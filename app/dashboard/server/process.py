"""The dashboard's own process: reads what the pages import, then starts Streamlit, so that the
first browser need not wait for it.

`lcmae.app.dashboard.server.launch.command` starts it, with Streamlit's words: `python -m
lcmae.app.dashboard.server.process run app/dashboard/main.py ...`. (In a thread beside Streamlit's
own start the same imports take as long in all, and the first page is a second later: both want the
one interpreter.)
"""

import ctypes
import gc
import socket
import sys
from importlib import import_module

from streamlit.web.cli import main

PRELOADED = (
    "pandas",
    "xarray",
    "h5netcdf.legacyapi",
    "pyarrow.pandas_compat",
    "plotly.graph_objects",
    "plotly.io",
    "plotly.subplots",
    "streamlit.elements.plotly_chart",
    "lcmae.progress",
    "lcmae.app.dashboard.components.picks",
    "lcmae.app.dashboard.stored.trends",
    "lcmae.app.dashboard.jobs.queue",
    "lcmae.app.figures.reconstruction",
    "lcmae.app.figures.series",
)
"""What pages of stored results need; no torch, and nothing that registers itself with a server that
is not there yet."""

MALLOC = {
    "M_ARENA_MAX": (-8, 2),
    "M_MMAP_THRESHOLD": (-3, 32 << 20),
    "M_TRIM_THRESHOLD": (-1, 256 << 20),
}
"""glibc's numbers of its settings (malloc.h), and their values: how many heaps, in bytes from where
on memory is mapped for itself alone, and how much a heap may keep that nobody uses."""


def keep_memory() -> None:
    """Have memory that one answer used serve the next. By default most of it goes back to the
    system and is new at every answer; on a virtual machine to touch new memory takes as long as to
    compute what goes there."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another libc
        return
    for number, value in MALLOC.values():
        mallopt(number, value)


def preload() -> None:
    """Import `PRELOADED`, and spare its hundred thousand objects all later garbage collections."""
    gc.disable()  # collections would find nothing to free here, and take a tenth of the time
    try:
        for name in PRELOADED:
            import_module(name)
        rehearse()
    finally:
        gc.freeze()
        gc.enable()


def rehearse() -> None:
    """Draw a picture beside a map: plotly and Pillow import much of themselves only then."""
    import numpy as np
    import xarray as xr
    from plotly.io.json import to_json_plotly

    from lcmae.app.figures import style

    values = np.zeros((2, 2, 3))
    columns = [("", [values.astype(np.uint8)]), ("", [xr.DataArray(values[..., 0])])]
    to_json_plotly(style.mosaic(columns))


def leave_dask_out() -> None:
    """Nothing here makes arrays of dask; to ask whether one is, xarray would import all of it, a
    second's work."""
    sys.modules["dask"] = None  # pyright: ignore[reportArgumentType]  # as if not installed


def send_at_once() -> None:
    """Have no part of an answer wait for the receipt of the part before it. Streamlit makes its
    socket without naming the protocol, so asyncio does not take it for TCP's and leaves Nagle's
    algorithm on: every file that a page is made of came 40 ms after its headers. What is accepted
    inherits the setting of what listens."""
    listen = socket.socket.listen

    def listening(self: socket.socket, *backlog: int) -> None:
        listen(self, *backlog)
        if self.family in (socket.AF_INET, socket.AF_INET6):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    socket.socket.listen = listening


TURN = 0.0005
"""Seconds after which a thread lets another one have the interpreter. Python's own 5 ms are what a
computation may wait for after each of its hundreds of operations, while pages are sent."""


if __name__ == "__main__":
    sys.setswitchinterval(TURN)
    keep_memory()
    send_at_once()
    leave_dask_out()
    preload()
    main(prog_name="streamlit")
