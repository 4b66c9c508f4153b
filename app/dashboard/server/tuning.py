"""What the dashboard's process does for room alone: one function for each target that fails without
it, with its gain. Preloaded imports and `gc.freeze` were here and are not: no measurement showed
that a target fails without them (docs/LOG.md, 2026-11-29).

Of Streamlit the dashboard imports what its documentation names, with two exceptions:
`streamlit.web.cli.main` (`process.py`), the command line as the `streamlit` script calls it,
because signals and limits must be set before in the same process; and
`streamlit.delta_generator.DeltaGenerator`, the type of a container in signatures.
"""

import copy
import itertools
import resource
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lcmae.models import MaskedImageModel


def raise_descriptor_limit(most: int = 65_536) -> int:
    """Raise the soft limit of open files as far as the hard one allows, up to `most`; the limit
    from then on.

    Target: 200 open pages. Each takes a websocket and an event loop, four descriptors, and pages
    read files beside; usual soft limits are 1,024 (Linux) and 256 (macOS).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def with_own_modules(model: "MaskedImageModel") -> "MaskedImageModel":
    """The same weights in modules of their own, so that hooks of one pass do not meet another pass.

    Target: 300 ms at p95 from a mask seed to every view (ViT-Tiny, two cores): 338 and 370 before
    this function, the next and cached gradients, 292 and 290 with them, in turns. The contrast
    terms of an image take 65 to 69 ms on one core, its two other passes with their gradients 79 to
    97; in two threads both are done after 82 to 95, one after the other, each on two cores, after
    180 to 196 (2026-11-30, two measurements each).
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def share_cores(*, is_small: bool) -> None:
    """Let the passes of the calling thread use one core where the model is small, else all that
    torch was given.

    The same target: two cores make the many short operations of a ViT-Tiny no faster. An image's
    two passes with their gradients take 79 to 97 ms on one core, 125 to 128 on two (2026-11-30).
    """
    import torch

    given = _num_threads()
    torch.set_num_threads(1 if is_small else given)


@cache
def _num_threads() -> int:
    """What torch was given, before anything was changed."""
    import torch

    return torch.get_num_threads()
