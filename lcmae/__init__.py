"""lcmae: train masked autoencoders and take them apart. Importing this costs nothing; rooms are
loaded when entered."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcmae import config, contrast, data, formats, masking, models, objectives, patches, recipes, runs, training
    from lcmae.formats import load

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "config",
    "contrast",
    "data",
    "formats",
    "load",
    "masking",
    "models",
    "objectives",
    "patches",
    "recipes",
    "runs",
    "training",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("lcmae.formats").load
    if name in __all__:
        return importlib.import_module(f"lcmae.{name}")
    raise AttributeError(f"module 'lcmae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
