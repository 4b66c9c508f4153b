"""Counter-based random numbers: what is drawn is a function of what it is for, never of what was
drawn before.

The finaliser is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), on int64 tensors, whose products wrap. The same counts give the same bits
on any device and in any batch.
"""

import torch
from torch import Tensor

from lcmae.shapes import Float, Int

_WRAP = (1 << 64) - 1
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def hash64(*counts: int | Tensor) -> Int[Tensor, "..."]:
    """64 mixed bits for each combination of `counts`: integers, or int64 tensors that broadcast;
    the order matters.

    Leading integers are mixed here and not on a device, which would wait for them.
    """
    state: int | Tensor = 0
    for count in counts:
        # different counts never meet here: an odd factor and the finaliser are both one-to-one on
        # 64 bits
        if isinstance(count, Tensor):
            state = _finalise(_signed(_GOLDEN) * (count + 1) + (state if isinstance(state, Tensor) else _signed(state)))
        elif isinstance(state, Tensor):
            state = _finalise(state + _signed(_GOLDEN * (count + 1)))
        else:
            state = _finalise_number((state + _GOLDEN * (count + 1)) & _WRAP)
    return state if isinstance(state, Tensor) else torch.tensor(_signed(state))


def uniforms(*counts: int | Tensor) -> Float[Tensor, "..."]:
    """Float64 in [0, 1), one for each combination of `counts`, of 53 bits."""
    return _shift(hash64(*counts), 11).double() * 2.0**-53


def _signed(value: int) -> int:
    """The same 64 bits as a number that int64 holds."""
    value &= _WRAP
    return value - (1 << 64) if value >> 63 else value


def _finalise_number(state: int) -> int:
    state = ((state ^ (state >> 30)) * _FIRST) & _WRAP
    state = ((state ^ (state >> 27)) * _SECOND) & _WRAP
    return state ^ (state >> 31)


def _finalise(state: Tensor) -> Tensor:
    state = (state ^ _shift(state, 30)) * _signed(_FIRST)
    state = (state ^ _shift(state, 27)) * _signed(_SECOND)
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically; the mask clears the copies of the sign
    return (state >> bits) & ((1 << (64 - bits)) - 1)
