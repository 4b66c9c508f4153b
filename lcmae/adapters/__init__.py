"""`lcmae.adapt`: any PyTorch masked autoencoder, in memory, as a model that everything here takes.

- `model.py`: the model made of a module and two functions
- `contract.py`: what is tried on random images, and what is wrong in one sentence
- `files.py`: an adapter in a file of its owner's, `my_file.py:make`
"""

from lcmae.adapters.files import from_file
from lcmae.adapters.model import Adapted, AdaptedBlocks, AdaptedConfig, adapt

__all__ = ["Adapted", "AdaptedBlocks", "AdaptedConfig", "adapt", "from_file"]
