"""Labelled numbers -> `plotly.graph_objects.Figure`. A probe's figures lie in the file of its name.
No file imports torch or streamlit; `lcmae.plot` is the public door.

Shared by them: `style.py` (colours, template, axis titles), `series.py` (dots and curves with
intervals), `limits.py` (ranges), `patch_maps.py` (maps of one image), `attention.py` (both
attention probes), `baselines.py` (untrained network and raw pixels beside the numbers of a run).
"""

import importlib
import pkgutil
from typing import Any

__all__ = sorted(found.name for found in pkgutil.iter_modules(__path__))  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A file of figures, imported when it is first asked for: `lcmae.plot.spectrum`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return __all__
