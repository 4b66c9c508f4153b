"""Every draw is a function of what it is for: (seed, epoch, step, purpose), never of what was drawn
before."""

import hashlib

import torch


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose seed is a hash of `parts`, for example ("mask", seed, epoch, step)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    rng = torch.Generator(device=device)
    rng.manual_seed(int.from_bytes(digest, "little") >> 1)
    return rng
