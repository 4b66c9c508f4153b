"""Which attention does a prediction need: of hidden patches to each other, to visible ones, to the
class token; which heads, which blocks?

Attention maps say where the decoder looks, not what would be lost if it did not. So parts are taken
out and the masked loss is measured again, on the same images and masks. CrossMAE (Fu et al.,
2401.14391) says that mask tokens need not attend to each other; single heads are taken out as in
Michel et al. (1905.10650). Taking out alone overstates, because the network never saw such input:
beside it stand *as many random entries* of the same rows, and the *mean replacement*, which leaves
attention as it is and gives the removed part its mean over images at that position, so that only
what it says of the image is lost. Rows that lose entries are renormalised over the others.

The means are of these very images, so what an image loses by them it partly gives to the others:
errors hold each image's part in the means, to first order (`TokenMeans.pulls`), but for attention
in all blocks at once.

The controls and their form are lcmae's own. Without a decoder of blocks (SimMIM) it is the encoder
that fills in hidden patches, and its blocks are taken apart.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple

import torch
import xarray as xr
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from lcmae.masking import AnyMask, Mask, Random, stack_masks
from lcmae.models import MaskedImageModel, take
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.measures.knock_out import KEYS, random_entries, removed_entries, spread_over_heads
from lcmae.probes.statistics.jackknife import GroupedSums, groups_of
from lcmae.probes.statistics.variables import by_leaving_out, error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.hooks import Attended, values_problem
from lcmae.probes.watching.knock_outs import (
    TokenMeans,
    changed_answers,
    changed_blocks,
    with_mean_values,
    without_entries,
)
from lcmae.randomness import generator
from lcmae.shapes import Float

HOWS = ("removed", "random", "mean")
"""Taken out; as many random entries taken out; replaced by its mean over images."""

HEAD, BLOCK = "head", "block"

MOST_GRAPH = 2**28
"""Bytes that autograd may hold, about, for the gradient with respect to a mean: more images are
taken in pieces."""


class Case(NamedTuple):
    """One forward pass: what is taken out of which block, and how."""

    what: str
    how: str
    layer: int | None = None
    """Counted from 0; None is every block at once."""

    head: int = 0

    @property
    def has_means_of_its_own(self) -> bool:
        """Whether something is replaced by its mean in one block alone."""
        return self.how == "mean" and self.layer is not None

    @property
    def part(self) -> str:
        """What has the mean."""
        return {BLOCK: "updates", HEAD: "answers"}.get(self.what, "values")


class KnockOut(Probe):
    """Returns the intact `loss`, and increases over it (0.1 is a loss of 110 %), each with its
    jackknife error, paired by image: `increase` [what how] with attention taken out in all blocks,
    `block_increase` [what how layer] in one block alone, `head_increase` [layer head how] without
    single heads, `skip_increase` [layer] without whole blocks and `skip_mean_increase` with the
    mean of what they add."""

    name: ClassVar[str] = "knock_out"
    question: ClassVar[str] = "Which attention, which heads and which blocks does a prediction need?"
    concludes_last: ClassVar[bool] = True
    needs_prediction: ClassVar[bool] = True
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {"untrained": ("loss", "increase")}

    baseline_images: int = Field(default=32, ge=0)
    """How many of the first images the untrained network sees, too; 0 leaves it out."""

    mask: AnyMask = Random()
    """Which patches are hidden."""

    knocked_images: int = Field(default=128, ge=1)
    """How many of the first images are measured with attention removed from all blocks at once."""

    single_images: int = Field(default=32, ge=0)
    """How many of these are measured without single blocks and heads, which costs a forward pass
    each; 0 leaves them out."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    def for_baselines(self) -> "KnockOut":
        """Without single blocks and heads."""
        return self.model_copy(update={"single_images": 0})

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_KnockOut":
        self.require(
            len(model.decoder_blocks) > 0 or (model.encodes_hidden and len(model.blocks) > 0),
            "a decoder of blocks, or an encoder of blocks that sees mask tokens, got neither",
        )
        return _KnockOut(self, model, num_images, seed)


@dataclass
class _KnockOut(Accumulator):
    probe: KnockOut
    model: MaskedImageModel
    num_images: int
    seed: int
    images: list[Tensor] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)
    losses: dict[Case, list[Float[Tensor, " b"]]] = field(default_factory=dict)
    intact: list[Float[Tensor, " b"]] = field(default_factory=list)
    gradients: dict[Case, Float[Tensor, "2 t c"]] = field(default_factory=dict)
    """Of the summed losses of a case with respect to the means that it replaces by."""
    pulls: dict[Case, list[Float[Tensor, " b"]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = self.model
        self.is_decoder = len(model.decoder_blocks) > 0
        self.blocks: nn.ModuleList = model.decoder_blocks if self.is_decoder else model.blocks
        self.num_prefix = model.num_decoder_prefix if self.is_decoder else model.num_prefix
        self.problem = values_problem(self.blocks)
        self.heads = [0 if self.problem else block.get_submodule("attn").num_heads for block in self.blocks]
        self.count = min(self.probe.knocked_images, self.num_images)
        self.means = {part: [TokenMeans() for _ in self.blocks] for part in ("values", "answers", "updates")}

    def update(self, batch: Batch) -> None:
        few = slice(0, max(0, self.count - batch.first))
        images = batch.images[few]
        if len(images):
            # all means must be known before anything is replaced by them
            self.images.append(images.clone())
            self.masks.append(batch.masks(self.probe.mask, 1)[few].to(images.device))

    # --- the work, once all images were seen ---

    @property
    def num_steps(self) -> int:
        return sum(2 + len(self._cases(part.start)) for part in self._parts())

    def _parts(self) -> list[slice]:
        """Images of one forward pass; single blocks and heads are taken out for whole parts."""
        size, single = self.probe.batch_size, self._num_single
        starts = [*range(0, single, size), *range(single, self.count, size)]
        return [slice(first, end) for first, end in zip(starts, [*starts[1:], self.count], strict=True)]

    def conclude(self) -> Iterator[None]:
        images, masks, parts = torch.cat(self.images), stack_masks(self.masks), self._parts()
        self.images, self.masks = [], []
        for part in parts:
            self._see(images[part], masks[part])
            yield
        for part in parts:
            knocked = _Part(self, images[part], masks[part], part.start)
            for case in self._cases(part.start):
                loss = knocked.loss_and_gradient(case) if case.has_means_of_its_own else knocked.loss(case)
                self.losses.setdefault(case, []).append(loss)
                yield
        for part in parts:
            self._pull(images[part], masks[part])
            yield

    @property
    def num_with_graph(self) -> int:
        """Images whose graph through all blocks takes about `MOST_GRAPH`: a block holds some four
        maps a head and a token some 24 times (queries, keys, values, answers, four times the width
        in the MLP, before and after its activation)."""
        tokens, width = self.num_prefix + self.model.num_patches, self.means["updates"][0].sums.shape[-1]
        per_image = 4 * len(self.blocks) * tokens * (4 * max(self.heads) * tokens + 24 * width)
        return max(1, MOST_GRAPH // per_image)

    @property
    def _num_single(self) -> int:
        return min(self.probe.single_images, self.count)

    def _cases(self, first: int) -> list[Case]:
        """What is done with the images from this one on."""
        hows = HOWS if self.count > 1 else HOWS[:2]  # an image is not replaced by itself
        layers = range(len(self.blocks))
        has_prefix = self.num_prefix > 0
        whats = [] if self.problem else [what for what in KEYS if what != "class token" or has_prefix]
        cases = [Case(what, how) for what in whats for how in hows]
        if first < self._num_single:
            cases += [Case(what, how, layer) for what in whats for how in hows for layer in layers]
            cases += [Case(BLOCK, how, layer) for how in hows if how != "random" for layer in layers]
            for layer, num_heads in enumerate(self.heads):
                cases += [Case(HEAD, how, layer, head) for how in hows if how != "random" for head in range(num_heads)]
                cases += [Case(HEAD, "random", layer)] * (num_heads > 0)
        return cases

    def _see(self, images: Tensor, mask: Mask) -> None:
        """The intact loss of each image, and what is to be replaced by its mean."""
        part = _Part(self, images, mask, 0)
        num_tokens = self.num_prefix + self.model.num_patches

        def see(name: str, layer: int, values: Tensor) -> None:
            self._require_tokens(values.shape[1], num_tokens)
            self.means[name][layer].add(values, part.is_hidden)

        self.intact.append(self._seen(part, see))

    def _pull(self, images: Tensor, mask: Mask) -> None:
        """How far each image moved the losses of all by its part in the means."""
        part = _Part(self, images, mask, 0)

        def see(name: str, layer: int, values: Tensor) -> None:
            for case, gradient in self.gradients.items():
                if case.layer == layer and case.part == name:
                    found = self.means[name][layer].pulls(values, part.is_hidden, gradient, self.columns(case))
                    self.pulls.setdefault(case, []).append(found.double().cpu())

        self._seen(part, see)

    def columns(self, case: Case) -> slice:
        """Those of the means that the case replaces by."""
        if case.what != HEAD or case.layer is None:
            return slice(None)
        size = self.means["answers"][case.layer].sums.shape[-1] // self.heads[case.layer]
        return slice(case.head * size, (case.head + 1) * size)

    def _seen(self, part: "_Part", see: Callable[[str, int, Tensor], None]) -> Float[Tensor, " b"]:
        """The intact loss of each image, while `see` gets what the means of a layer are of [b t
        d]."""

        def see_answers(layer: int, attended: Attended, own: Tensor) -> Tensor:
            for name, one in (("values", attended.values()), ("answers", own)):
                see(name, layer, rearrange(one, "b h t e -> b t (h e)"))
            return own

        def see_block(layer: int, entered: Tensor, given: Tensor) -> Tensor:
            see("updates", layer, given.float() - entered.float())
            return given

        layers = range(len(self.blocks))
        with changed_blocks(self.blocks, see_block, layers):
            if self.problem:
                return part.run()
            with changed_answers(self.blocks, see_answers, layers):
                return part.run()

    def _require_tokens(self, got: int, expected: int) -> None:
        self.probe.require(
            got == expected, f"blocks that see {self.num_prefix} prefix tokens and every patch, got {got} tokens"
        )

    # --- the numbers ---

    def result(self) -> xr.Dataset:
        if not self.intact:
            for _ in self.conclude():
                pass
        intact = torch.cat(self.intact)
        num_single = self._num_single
        layers, num_heads = range(len(self.blocks)), max(self.heads)
        loss = GroupedSums(len(intact))
        loss.add(range(len(intact)), loss=intact, count=torch.ones_like(intact))
        value, error = loss.estimate(lambda total: total["loss"] / total["count"])
        words, units = "masked loss of the intact network", _units(self.model)
        result = {
            "loss": variable((), value, words, units),
            "loss_sem": error_of((), error, words, units, degrees=loss.degrees_of_freedom, method="jackknife"),
        }
        result |= self._increases(
            "increase", ("what", "how"), [[Case(what, how) for how in HOWS] for what in KEYS], intact, keep=True
        )
        if self.probe.single_images:
            some = intact[:num_single]
            result |= self._increases(
                "block_increase",
                ("what", "how", "layer"),
                [[[Case(what, how, layer) for layer in layers] for how in HOWS] for what in KEYS],
                some,
            )
            skipped = {"skip_increase": "removed", "skip_mean_increase": "mean"}
            for name, how in skipped.items():
                result |= self._increases(name, ("layer",), [Case(BLOCK, how, layer) for layer in layers], some)
            heads = [
                [[Case(HEAD, how, layer, 0 if how == "random" else head) for how in HOWS] for head in range(num_heads)]
                for layer in layers
            ]
            if num_heads:
                result |= self._increases("head_increase", ("layer", "head", "how"), heads, some)
        coordinates = {
            "what": list(KEYS),
            "how": list(HOWS),
            "layer": [layer + 1 for layer in layers],
            "head": [head + 1 for head in range(num_heads)],
        }
        attributes = {
            "stage": "decoder" if self.is_decoder else "encoder",
            "mask_ratio": self.probe.mask.ratio,
            "num_knocked_images": len(intact),
            "num_single_images": num_single,
            "definition": "increases over the intact loss, random control and mean replacement are lcmae's own",
        }
        return xr.Dataset(result, coordinates, attributes)

    def _increases(
        self, name: str, dims: tuple[str, ...], cases: Sequence[Any], intact: Float[Tensor, " b"], *, keep: bool = False
    ) -> dict[str, xr.Variable]:
        """Increases over the intact loss, paired by image; NaN where a case does not apply."""
        flat, shape = _flat(cases)
        count, every = len(intact), sum(map(len, self.intact))
        found = torch.full((every, len(flat)), torch.nan, dtype=torch.float64)
        pull, own = torch.zeros_like(found), torch.zeros(every, dtype=torch.float64)
        own[:count] = intact
        for column, case in enumerate(flat):
            if case in self.losses:
                found[:count, column] = torch.cat(self.losses[case]).double() - own[:count]
                found[count:, column] = 0.0
            if case in self.pulls:
                pull[:, column] = torch.cat(self.pulls[case])
        sums = GroupedSums(every)
        # those that are counted, and those that are in the means alone, in every group
        group = torch.cat([groups_of(range(size), size) for size in (count, every - count) if size])
        sums.add_to(group, more=found + pull, intact=own)
        whole, without = sums.leave_out(lambda total: total["more"] / total["intact"])
        error = sums.error(whole, without)
        words = f"increase of the masked loss over the intact network's, {_WORDS[name]}"
        missing = {"missing": reason} if (reason := self._missing(name)) else {}
        degrees = sums.degrees_of_freedom
        result = {
            name: variable(dims, whole.reshape(shape), words, **missing),
            f"{name}_sem": error_of(dims, error.reshape(shape), words, degrees=degrees, method="jackknife"),
        }
        if keep:
            by_group = without.reshape(len(without), *shape)
            result |= by_leaving_out(dims, by_group, sums.filled_sizes, name, words)
        return result

    def _missing(self, name: str) -> str:
        """Why some of these numbers are NaN."""
        if self.problem and not name.startswith("skip"):
            return f"needs {self.problem}"
        reasons = []
        if "skip" not in name and name != "head_increase" and not self.num_prefix:
            reasons.append("class token: there is none")
        if self.count == 1:
            reasons.append("mean: needs at least 2 images")
        return "; ".join(reasons)


class _Part:
    """Some images under their masks: encoded once, predicted as often as somebody asks."""

    def __init__(self, whole: _KnockOut, images: Tensor, mask: Mask, first: int) -> None:
        self.whole, self.images, self.mask, self.first = whole, images, mask, first
        self.is_hidden = torch.nn.functional.pad(mask.is_hidden, (whole.num_prefix, 0))
        self.target = take(whole.model.targets(images), mask.hidden)
        self.encoded: tuple[Tensor, Tensor] | None = None
        self.scores: Tensor | None = None

    @cached_property
    def pieces(self) -> "list[_Part]":
        """The same images, in parts that are small enough for a gradient."""
        size = self.whole.num_with_graph
        if size >= len(self.images):
            return [self]
        pieces = [slice(first, first + size) for first in range(0, len(self.images), size)]
        return [_Part(self.whole, self.images[few], self.mask[few], self.first + few.start) for few in pieces]

    @torch.no_grad()
    def run(self) -> Float[Tensor, " b"]:
        """The masked loss of each image."""
        return self._losses().cpu()

    def _losses(self) -> Float[Tensor, " b"]:
        model = self.whole.model
        if not self.whole.is_decoder:
            pred = model(self.images, self.mask).pred
        else:
            with torch.autocast(self.images.device.type, dtype=torch.bfloat16, enabled=model.precision == "bfloat16"):
                if self.encoded is None:
                    with torch.no_grad():
                        self.encoded = model.encode(self.images, self.mask)[:2]
                pred = model.predict(*self.encoded, self.mask).float()
        return (take(pred, self.mask.hidden) - self.target).square().mean((1, 2))

    def loss(self, case: Case) -> Float[Tensor, " b"]:
        """The masked loss of each image in this case."""
        with self._knocked_out(case):
            return self.run()

    def loss_and_gradient(self, case: Case) -> Float[Tensor, " b"]:
        """The same where something is replaced by its mean; adds up the gradient with respect to
        it."""
        return torch.cat([piece._piece_with_gradient(case) for piece in self.pieces])

    def _piece_with_gradient(self, case: Case) -> Float[Tensor, " b"]:
        assert case.layer is not None
        means = self.whole.means[case.part][case.layer]
        means.shift = torch.zeros_like(means.sums, dtype=torch.float32, requires_grad=True)
        with torch.enable_grad(), self._knocked_out(case):
            losses = self._losses()
        (gradient,) = torch.autograd.grad(losses.sum(), means.shift)
        means.shift = None
        # a head has a part of the width: all heads together take no more memory than their block
        gradient = gradient[..., self.whole.columns(case)].clone()
        self.whole.gradients[case] = self.whole.gradients.get(case, 0) + gradient
        return losses.detach().cpu()

    def _knocked_out(self, case: Case) -> AbstractContextManager[None]:
        blocks, means = self.whole.blocks, self.whole.means
        layers = range(len(blocks)) if case.layer is None else [case.layer]
        if case.what == BLOCK:
            if case.how == "removed":
                return changed_blocks(blocks, lambda layer, entered, given: entered, layers)
            return changed_blocks(
                blocks,
                lambda layer, entered, given: entered + means["updates"][layer].at(self.is_hidden).to(given.dtype),
                layers,
            )
        if case.what == HEAD:
            return changed_answers(blocks, partial(self._without_head, case), layers)
        removed = removed_entries(case.what, self.mask.is_hidden, self.whole.num_prefix)
        if case.how == "random":
            removed = random_entries(removed, self._scores())

        def change(layer: int, attended: Attended, own: Tensor) -> Tensor:
            if case.how == "mean":
                return with_mean_values(attended, own, removed[:, None], means["values"][layer].at(self.is_hidden))
            return without_entries(attended, own, removed[:, None])

        return changed_answers(blocks, change, layers)

    def _without_head(self, case: Case, layer: int, attended: Attended, own: Tensor) -> Tensor:
        if case.how == "random":
            return without_entries(attended, own, spread_over_heads(self._scores(), own.shape[1]))
        changed = own.clone()
        changed[:, case.head] = 0.0
        if case.how == "mean":
            means = self.whole.means["answers"][layer].at(self.is_hidden)
            by_head = rearrange(means, "b t (h e) -> b h t e", h=own.shape[1])
            changed[:, case.head] = by_head[:, case.head].to(own.dtype)
        return changed

    def _scores(self) -> Float[Tensor, "b t t"]:
        """Random numbers of an image's own, whatever batch it comes in: the lowest entries of a row
        are removed."""
        if self.scores is None:
            size = self.whole.num_prefix + self.whole.model.num_patches
            each = [
                torch.rand(size, size, generator=generator("knock-out", self.whole.seed, self.first + row))
                for row in range(len(self.images))
            ]
            self.scores = torch.stack(each).to(self.images.device)
        return self.scores


_WORDS = {
    "increase": "attention taken out in all blocks",
    "block_increase": "attention taken out in one block",
    "head_increase": "one head taken out",
    "skip_increase": "one block skipped",
    "skip_mean_increase": "what one block adds replaced by its mean",
}


def _flat(cases: Case | Sequence[Any]) -> tuple[list[Case], tuple[int, ...]]:
    """Cases in the order of an array of this shape."""
    if isinstance(cases, Case):
        return [cases], ()
    parts = [_flat(one) for one in cases]
    return [case for part, _ in parts for case in part], (len(parts), *parts[0][1])


def _units(model: MaskedImageModel) -> str:
    return "variance of a patch" if model.config.normalize_targets else "squared input units"
