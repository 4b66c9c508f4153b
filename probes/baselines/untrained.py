"""The baseline of every learned number: a network of the same shape that learned nothing."""

from weakref import WeakKeyDictionary, ref

import torch

from lcmae.models import MaskedImageModel
from lcmae.randomness import generator

_ALIVE: WeakKeyDictionary[MaskedImageModel, tuple[int, ref[MaskedImageModel]]] = WeakKeyDictionary()


def untrained(model: MaskedImageModel, seed: int) -> MaskedImageModel | None:
    """The model's settings with fresh weights, frozen, in eval mode, on its device; None where the
    settings build nothing.

    Probes that ask while another still holds it share one. Initialisers of torch and timm draw from
    torch's global generators, which are put back as they were.
    """
    last_seed, last = _ALIVE.get(model, (None, None))
    found = last() if last is not None and last_seed == seed else None
    same = (model.device, next(model.parameters()).dtype, model.precision)
    if found is not None and (found.device, next(found.parameters()).dtype, found.precision) == same:
        return found
    cuda = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator("untrained", seed))))
        fresh = model.fresh()
    if fresh is None:
        return None
    fresh.precision = model.precision
    fresh = fresh.to(model.device, next(model.parameters()).dtype).eval().requires_grad_(False)
    _ALIVE[model] = seed, ref(fresh)
    return fresh
