"""The dashboard's own process: Streamlit, while a thread reads what the pages import, before the first browser asks for one.

`app.serve.command` starts it, with Streamlit's words: `python -m app.server run app/main.py ...`.
"""

import gc
import sys
import threading
from importlib import import_module

from streamlit.web.cli import main

PRELOADED = (
    "pandas",
    "xarray",
    "h5netcdf",
    "plotly.graph_objects",
    "plotly.io",
    "plotly.subplots",
    "streamlit.elements.plotly_chart",
    "lcmae.progress",
    "app.picks",
    "app.trends",
    "app.jobs",
    "app.figures.reconstruction",
    "app.figures.series",
)
"""What pages of stored results need; no torch, and nothing that registers itself with a server that is not there yet."""


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

    from app.figures import style

    values = np.zeros((2, 2, 3))
    columns = [("", [values.astype(np.uint8)]), ("", [xr.DataArray(values[..., 0])])]
    to_json_plotly(style.mosaic(columns))


def leave_dask_out() -> None:
    """Nothing here makes arrays of dask; to ask whether one is, xarray would import all of it, a second's work."""
    sys.modules["dask"] = None  # pyright: ignore[reportArgumentType]  # as if not installed


if __name__ == "__main__":
    leave_dask_out()
    threading.Thread(target=preload, name="preload", daemon=True).start()
    main(prog_name="streamlit")
