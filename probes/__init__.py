"""Probes: from a checkpoint to labelled numbers. `dir(lcmae.probes)` is the table of contents.

Every probe class is here by name, and `run` (many probes, one pass over the images); each is
imported when it is asked for, so that importing this package loads no torch. README.md is the map.
"""

from importlib import import_module
from typing import Any

from lcmae.probes.registry import PROBES

_NAMES = {class_name: (name, class_name) for name, class_name in PROBES.items()} | {"run": ("base", "run_probes")}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _NAMES[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(_NAMES)
