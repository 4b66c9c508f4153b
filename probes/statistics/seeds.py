"""From the seed of a command line to the seed that a probe's draws are made of."""

import torch

from lcmae.randomness import generator


def probe_seed(seed: int) -> int:
    """What `--seed` of `lcmae probe` makes of itself: `Batch.seed`, which decides masks and all
    else that is drawn."""
    return int(torch.randint(2**62, (), generator=generator("probe", seed)))
