"""A forward pass with parts of some blocks taken out, through hooks that are always removed again.

Fused attention never forms its maps. So what heads answer is computed once more from queries, keys
and values of the input that the attention really got, without the entries that are removed, and
goes into the attention's output layer in place of the model's own answer. Rows of which nothing is
removed keep the model's own answer, bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.probes.watching.hooks import Attended, before_output, values_problem
from lcmae.shapes import Bool, Float

Change = Callable[[int, Attended, Float[Tensor, "b h t e"]], Float[Tensor, "b h t e"]]
"""(layer, what entered its attention, what its heads answer) -> what they are to answer."""


@contextmanager
def changed_answers(blocks: nn.ModuleList, change: Change, layers: Iterable[int]) -> Iterator[None]:
    """While inside, heads of these layers (counted from 0) answer what `change` says.

    Raises `InputError` where the values of an attention cannot be computed.
    """
    problem = values_problem(blocks)
    if problem is not None:
        raise InputError(f"knocking out attention: needs {problem}")
    with ExitStack() as stack:
        for layer in layers:
            module: Any = blocks[layer].get_submodule("attn")
            entered: list[Attended] = []

            def enter(
                module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], entered: list[Attended] = entered
            ) -> None:
                entered[:] = [Attended(module, args[0].detach(), args[1:], kwargs)]

            def answer(
                _: nn.Module, args: tuple[Any, ...], layer: int = layer, entered: list[Attended] = entered
            ) -> tuple[Any, ...]:
                attended: Any = entered[0]
                own = rearrange(args[0], "b t (h e) -> b h t e", h=attended.module.num_heads)
                changed = rearrange(change(layer, attended, own), "b h t e -> b t (h e)")
                return changed.to(args[0].dtype), *args[1:]

            stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
            stack.callback(before_output(module).register_forward_pre_hook(answer).remove)
        yield


@contextmanager
def changed_blocks(
    blocks: nn.ModuleList, change: Callable[[int, Tensor, Tensor], Tensor], layers: Iterable[int]
) -> Iterator[None]:
    """While inside, blocks of these layers (counted from 0) give `change(layer, what entered, what
    they gave)`, both [b t d].

    Raises `InputError` where a block is not called with its tokens first, or gives others.
    """
    with ExitStack() as stack:
        for layer in layers:

            def hook(_: nn.Module, args: tuple[Any, ...], output: Any, layer: int = layer) -> Any:
                given = output[0] if isinstance(output, tuple) else output
                entered = args[0] if args else None
                if not isinstance(entered, Tensor) or entered.shape != given.shape:
                    raise InputError(
                        f"expected block {layer + 1} to take and give tokens of one shape, got {_shape(entered)} and "
                        f"{_shape(given)}"
                    )
                changed = change(layer, entered, given)
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            stack.callback(blocks[layer].register_forward_hook(hook).remove)
        yield


def _shape(values: Any) -> str:
    return str(list(values.shape)) if isinstance(values, Tensor) else "no tensor"


def without_entries(
    attended: Attended, own: Float[Tensor, "b h t e"], removed: Bool[Tensor, "b x t t"]
) -> Float[Tensor, "b h t e"]:
    """What heads answer once attention to the removed keys is forbidden: the rows that lose any are
    renormalised over the others. `removed` is of all heads (x = 1) or of each; a row that loses
    every key answers 0."""
    maps = attended.logits().masked_fill(removed, -torch.inf).softmax(-1).nan_to_num(0.0)
    return torch.where(removed.any(-1, keepdim=True), (maps @ attended.values()).to(own.dtype), own)


def with_mean_values(
    attended: Attended,
    own: Float[Tensor, "b h t e"],
    removed: Bool[Tensor, "b x t t"],
    means: Float[Tensor, "b t w"],
) -> Float[Tensor, "b h t e"]:
    """What heads answer where the removed keys keep their attention and bring the mean of their
    values instead of their own."""
    values = attended.values()
    other = rearrange(means, "b t (h e) -> b h t e", h=values.shape[1])
    return own - ((attended.maps() * removed) @ (values - other)).to(own.dtype)


@dataclass
class TokenMeans:
    """Means over images of what stands at each token, of visible and of hidden patches apart."""

    sums: Tensor = field(default_factory=lambda: torch.zeros(0))
    counts: Tensor = field(default_factory=lambda: torch.zeros(0))
    shift: Tensor | None = None
    """Added to the means [2 t d], for a gradient with respect to them."""

    def add(self, values: Float[Tensor, "b t d"], is_hidden: Bool[Tensor, "b t"]) -> None:
        """Take in the tokens of some images."""
        states = torch.stack([~is_hidden, is_hidden]).double()
        if not len(self.sums):
            self.sums = values.new_zeros(2, *values.shape[1:], dtype=torch.float64)
            self.counts = values.new_zeros(2, values.shape[1], dtype=torch.float64)
        self.sums += torch.einsum("sbt,btd->std", states, values.double())
        self.counts += states.sum(1)

    def at(self, is_hidden: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """The mean of each token's position and state; of the state over all positions where no
        image had it there."""
        of_state = self.sums.sum(1) / self.counts.sum(1).clamp(min=1)[:, None]
        means = self.sums / self.counts.clamp(min=1)[..., None]
        means = torch.where(self.counts[..., None] > 0, means, of_state[:, None]).float()
        means = means if self.shift is None else means + self.shift
        return torch.where(is_hidden[..., None], means[1], means[0])

    def pulls(
        self,
        values: Float[Tensor, "b t d"],
        is_hidden: Bool[Tensor, "b t"],
        gradient: Float[Tensor, "2 t c"],
        columns: slice = slice(None),
    ) -> Float[Tensor, " b"]:
        """How far each image moved a number by its part in the means: the gradient of the number
        with respect to them (to some of their columns), times the image's distance from them, over
        the images of each mean. Adds to 0 over all images."""
        weight = gradient / self.counts.clamp(min=1)[..., None].to(gradient.dtype)
        weight = torch.where(is_hidden[..., None], weight[1], weight[0])
        return (weight * (values.float() - self.at(is_hidden))[..., columns]).sum((1, 2))
