"""lcmae: train masked autoencoders and take them apart. Importing this costs nothing; rooms are
loaded when entered."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcmae import config, contrast, data, formats, masking, models, objectives, patches, recipes, runs, training
    from lcmae.adapters import adapt
    from lcmae.data.images import images
    from lcmae.formats import load

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "adapt",
    "config",
    "contrast",
    "data",
    "formats",
    "images",
    "load",
    "masking",
    "models",
    "objectives",
    "patches",
    "recipes",
    "runs",
    "training",
]


FUNCTIONS = {"adapt": "lcmae.adapters", "images": "lcmae.data.images", "load": "lcmae.formats"}
"""Public functions and the modules that they lie in."""


def __getattr__(name: str) -> Any:
    if name in FUNCTIONS:
        return getattr(importlib.import_module(FUNCTIONS[name]), name)
    if name in __all__:
        return importlib.import_module(f"lcmae.{name}")
    raise AttributeError(f"module 'lcmae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
