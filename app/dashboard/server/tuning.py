"""What the dashboard's process does for speed and room alone: one function for each target that
fails without it, with its measured gain."""

import gc
import resource
from importlib import import_module

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


def preload() -> None:
    """Import what pages need before the server answers, so that the first browser does not wait.

    Target: the first page of stored results in 3 s. Without any preparation it took 11.9 s (11.8 to
    17.7) against 6.0 s (5.5 to 8.0) of the code before, which preloaded, too (3 starts each in
    turns, 2026-11-29, two cores shared with other work at a load of 8).
    """
    for name in PRELOADED:
        import_module(name)


def spare_imports_from_collection() -> None:
    """Leave what is there now out of all later garbage collections; called once torch is imported.

    Target: every microscope answer in 300 ms at p95. A full collection with torch, timm, plotly and
    Streamlit imported took 674 ms, and 0.0 ms after this call (measured once, 2026-11-29, two
    shared cores); without it the slowest of ten answers in turns took 1.0 to 1.5 s against 0.4 to
    0.8 s of the code before.
    """
    gc.freeze()


def raise_descriptor_limit(most: int = 65_536) -> int:
    """Raise the soft limit of open files as far as the hard one allows, up to `most`; the limit
    from then on.

    Target: 200 open pages. Each takes a websocket and an event loop, four descriptors, and pages
    read files beside; usual soft limits are 1,024 (Linux) and 256 (macOS).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
