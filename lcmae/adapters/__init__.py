"""`lcmae.adapt`: any PyTorch masked autoencoder, in memory, as a model that everything here takes.

- `build.py`: `adapt` itself
- `model.py`: the model made of a module and two functions
- `contract.py`: what is tried on random images, and what is wrong in one sentence
- `layers.py`: blocks of transformers whose layers are pairs (attention, feed-forward)
- `files.py`: an adapter in a file of its owner's, `my_file.py:make`

Importing this costs nothing, so that a command can check its words before torch is there.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcmae.adapters.build import adapt
    from lcmae.adapters.files import from_file, split
    from lcmae.adapters.layers import PairedLayer, paired_attention, paired_layers
    from lcmae.adapters.model import Adapted, AdaptedBlocks, AdaptedConfig

__all__ = [
    "Adapted",
    "AdaptedBlocks",
    "AdaptedConfig",
    "PairedLayer",
    "adapt",
    "from_file",
    "paired_attention",
    "paired_layers",
    "split",
]

_ROOMS = {
    "adapt": "build",
    "from_file": "files",
    "split": "files",
    "PairedLayer": "layers",
    "paired_attention": "layers",
    "paired_layers": "layers",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        room = importlib.import_module(f"lcmae.adapters.{_ROOMS.get(name, 'model')}")
        return getattr(room, name)
    raise AttributeError(f"module 'lcmae.adapters' has no attribute {name!r}")
