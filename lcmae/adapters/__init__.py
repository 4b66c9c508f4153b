"""`lcmae.adapt`: any PyTorch masked autoencoder, in memory, as a model that everything here takes.

- `model.py`: the model made of a module and two functions
- `contract.py`: what is tried on random images, and what is wrong in one sentence
- `files.py`: an adapter in a file of its owner's, `my_file.py:make`

Importing this costs nothing, so that a command can check its words before torch is there.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcmae.adapters.files import from_file, split
    from lcmae.adapters.model import Adapted, AdaptedBlocks, AdaptedConfig, adapt

__all__ = ["Adapted", "AdaptedBlocks", "AdaptedConfig", "adapt", "from_file", "split"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        room = "files" if name in ("from_file", "split") else "model"
        return getattr(importlib.import_module(f"lcmae.adapters.{room}"), name)
    raise AttributeError(f"module 'lcmae.adapters' has no attribute {name!r}")
