"""What does each layer keep of a patch's own pixels, and what does it know of the patches around?

A ridge regression reads the pixels of the patch at an offset (down, across) off the token of a
patch, layer by layer: `r2` by (network, layer, down, across), on images that it was not fitted on.
What the images' covariance alone allows stands beside it as the network `pixels`: the same read off
the patch itself. A token that knows more of a neighbour than its own pixels tell has *gathered* it.
The definition is lcmae's own; trained decoders of features (FeatInv, 2506.07803) ask the same
without a layer-by-layer baseline.

Errors hold both halves of the images: groups leave the half that is measured, and the half that is
fitted on, whose regression is then solved again (`lcmae.probes.statistics.jackknife.Refitted`). The
components are taken as given.
R2 is about the mean of each position, so the position embedding earns nothing. Patches are reduced
to their first principal components; what that leaves out counts as error. Only tokens whose
neighbours all lie in the image take part, so that all offsets share one regression a layer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypedDict

import numpy as np
import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from lcmae.models import MaskedImageModel
from lcmae.patches import patchify
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.measures.pixel_reach import around, interior, offsets, read, read_without, share
from lcmae.probes.results.networks import TRAINED
from lcmae.probes.statistics.jackknife import Refitted, groups_of
from lcmae.probes.statistics.sample import ImageSample
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.layers import layers, layers_of, watch_layers
from lcmae.shapes import Float

UNTRAINED, PIXELS = "untrained", "pixels"
MOST_BYTES = 256 * 2**20
"""Of tokens in half precision."""

Source = tuple[str, int]
"""A network and a layer, counted from 0; pixels have the layer -1."""


class _Jackknife(TypedDict):
    degrees: int
    method: str


class PixelsByLayer(Probe):
    """Returns `r2` by (network, layer, down, across), `own` (the patch's own pixels) and `around`
    (mean over the touching patches) by (network, layer), `gathered`, the trained network's `around`
    less that of pixels, and `reach`, the mean distance of what is read, in patches."""

    name: ClassVar[str] = "pixels_by_layer"
    question: ClassVar[str] = "What does each layer keep of a patch's own pixels, and know of its neighbours?"
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("r2", "own", "around", "reach"),
        "pixels": ("r2", "own", "around", "reach"),
    }

    num_sampled: int = Field(default=200, ge=8)
    """Most images; the first half of the sample is fitted on, the second measured."""

    radius: int = Field(default=3, ge=0)
    """Largest offset in rows and columns; at most a quarter of the grid's shorter side."""

    components: int = Field(default=32, ge=1)
    """Principal components of a patch that are read."""

    untrained: bool = True
    """Whether a network with fresh weights is measured, too."""

    batch_size: int = Field(default=32, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_PixelsByLayer":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        self.require(num_images >= 4, f"at least 4 images, got {num_images}")
        return _PixelsByLayer(self, model, num_images, seed)


@dataclass
class _PixelsByLayer(Accumulator):
    probe: PixelsByLayer
    model: MaskedImageModel
    num_images: int
    seed: int
    tokens: dict[Source, list[Tensor]] = field(default_factory=dict)
    scale: dict[Source, float] = field(default_factory=dict)
    patches: list[Tensor] = field(default_factory=list)
    sample: ImageSample | None = None

    def __post_init__(self) -> None:
        fresh = untrained(self.model, self.seed) if self.probe.untrained else None
        self.networks = {TRAINED: self.model} | ({} if fresh is None else {UNTRAINED: fresh})
        self.num_layers, self.grid = len(self.model.blocks), self.model.grid
        self.radius = min(self.probe.radius, min(self.grid) // 4)
        self.inner = interior(self.grid, self.radius)
        self.offsets = offsets(self.radius)
        self.sums: dict[Source, Refitted] = {}

    def watch(self, batch: Batch) -> None:
        watch_layers(batch)

    def update(self, batch: Batch) -> None:
        own = layers_of(batch).encoder
        if self.sample is None:
            each = 2 * len(self.networks) * self.num_layers * len(self.inner) * own[-1].shape[-1]
            most = max(8, min(self.probe.num_sampled, MOST_BYTES // each))
            self.sample = ImageSample(most, self.num_images, self.seed)
        rows = self.sample.rows(batch)
        if not len(rows):
            return
        images, inner = batch.images[rows], self.inner.to(rows.device) + self.model.num_prefix
        for name, network in self.networks.items():
            seen = own if name == TRAINED else layers(network, images, decoder=False).encoder
            for layer, tokens in enumerate(seen):
                chosen = (tokens[rows] if name == TRAINED else tokens)[:, inner].float().cpu()
                scale = self.scale.setdefault((name, layer), float(chosen.square().mean().sqrt().clamp(min=1e-12)))
                half = (chosen / scale).clamp(-6e4, 6e4).half()
                self.tokens.setdefault((name, layer), []).append(half)
        self.patches.append(patchify(images, self.model.patch_size).float().cpu())

    @property
    def num_steps(self) -> int:
        return len(self.networks) * self.num_layers + 1

    def conclude(self) -> Iterator[None]:
        patches = torch.cat(self.patches)
        self.patches = []
        half = len(patches) // 2
        reduced, rest = self._reduced(patches, half)
        targets, left = (around(values, self.grid, self.radius) for values in (reduced, rest))
        self.tokens[PIXELS, -1] = [patches[:, self.inner]]
        for source in list(self.tokens):
            every = torch.cat(self.tokens.pop(source)).float()
            self.sums[source] = self._summed(every, targets, left[half:].sum((1, 3)).double(), half)
            yield

    def _reduced(self, patches: Tensor, half: int) -> tuple[Tensor, Tensor]:
        """Coordinates of patches [s n q] about the mean of each position, and the squared length of
        what they leave out [s n 1]; directions are of the images that are fitted on."""
        mean = patches[:half].double().mean(0)
        off = patches.double() - mean
        rows = off[:half].flatten(0, 1)
        values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        number = min(self.probe.components, len(values))
        coordinates = off @ vectors.flip(1)[:, :number]
        rest = (off.square().sum(-1, keepdim=True) - coordinates.square().sum(-1, keepdim=True)).clamp(min=0)
        total = values.clamp(min=0).sum()
        self.left_out = float(1 - values.flip(0)[:number].clamp(min=0).sum() / total) if float(total) > 0 else 0.0
        return coordinates, rest

    def _summed(
        self,
        tokens: Float[Tensor, "s i d"],
        targets: Float[Tensor, "s i o q"],
        more: Float[Tensor, "t o"],
        half: int,
    ) -> Refitted:
        """Squared errors of the second half, and of it without each group of images, those of the
        first half left out of the fit; `more`, what the components leave out, counts as error."""
        parts = tokens[:half], targets[:half], tokens[half:], targets[half:]
        found = read(*parts, self.seed)
        group, fit_group = (groups_of(range(size), size) for size in (len(more), half))
        num_groups = int(group.max()) + 1
        errors, totals = read_without(*parts, found.strength, fit_group, group)
        sizes, fitted = (torch.bincount(one, minlength=num_groups).double() for one in (group, fit_group))
        values = tokens.shape[1] * self.model.config.patch_values
        each = {
            "error": found.error + more,
            "total": found.total + more,
            "count": torch.full_like(more, values),
        }

        def left(value: Tensor) -> Tensor:
            return torch.stack([value[group != one].sum(0) for one in range(num_groups)])

        refitted = {"error": errors + left(more), "total": totals + left(more), "count": left(each["count"])}
        given = {name: left(value) for name, value in each.items()}
        return Refitted({name: value.sum(0) for name, value in each.items()}, given, refitted, sizes, fitted)

    def result(self) -> xr.Dataset:
        if not self.sums:
            for _ in self.conclude():
                pass
        networks = [*self.networks, PIXELS]
        side = 2 * self.radius + 1
        shape = len(networks), self.num_layers, side, side
        centre = self.offsets.index((0, 0))
        touching = [at for at, (down, across) in enumerate(self.offsets) if max(abs(down), abs(across)) == 1]
        distance = torch.tensor([float(np.hypot(*offset)) for offset in self.offsets], dtype=torch.float64)

        def r2(total: Mapping[str, Tensor]) -> Tensor:
            return share(total["error"], total["total"], total["count"])

        def numbers(total: Mapping[str, Tensor]) -> Tensor:
            shares = r2(total)
            near = shares[touching].mean() if touching else shares.new_full((), torch.nan)
            known = shares.clamp(min=0)
            return torch.stack([shares[centre], near, (known * distance).sum() / known.sum().clamp(min=1e-12)])

        every, every_error = (torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(2))
        some, some_error = (torch.full((*shape[:2], 3), torch.nan, dtype=torch.float64) for _ in range(2))
        for (network, layer), sums in self.sums.items():
            at = networks.index(network), slice(None) if layer < 0 else layer
            value, error = sums.estimate(r2)
            every[at], every_error[at] = value.reshape(side, side), error.reshape(side, side)
            some[at], some_error[at] = sums.estimate(numbers)
        degrees = next(iter(self.sums.values())).degrees_of_freedom
        jackknife: _Jackknife = {"degrees": degrees, "method": "jackknife"}
        dims = ("network", "layer", "down", "across")
        words = "share of a patch's variance about the position mean that is read off the token"
        result = {
            "r2": variable(dims, every, words),
            "r2_sem": error_of(dims, every_error, words, **jackknife),
        }
        about = {
            "own": ("share of the variance of the token's own patch that is read off it", "1"),
            "around": ("share of the variance of the touching patches that is read off the token, mean over them", "1"),
            "reach": ("mean distance of what is read, weighted by its share", "patches"),
        }
        for index, (name, (long_name, units)) in enumerate(about.items()):
            result[name] = variable(dims[:2], some[..., index], long_name, units)
            result[f"{name}_sem"] = error_of(dims[:2], some_error[..., index], long_name, units, **jackknife)
        result |= self._gathered(numbers, degrees)
        coordinates = {
            "network": networks,
            "layer": variable("layer", np.arange(1, self.num_layers + 1), "encoder block"),
            "down": variable("down", np.arange(-self.radius, self.radius + 1), "offset downwards", "patches"),
            "across": variable("across", np.arange(-self.radius, self.radius + 1), "offset to the right", "patches"),
        }
        attributes = {
            "num_sampled": len(self.sample) if self.sample else 0,
            "num_interior": len(self.inner),
            "variance_left_out": self.left_out,
            "definition": "lcmae's own: ridge regression from tokens to patches about the mean of each position",
        }
        return xr.Dataset(result, coordinates, attributes)

    def _gathered(self, numbers: Callable[[dict[str, Tensor]], Tensor], degrees: int) -> dict[str, xr.Variable]:
        """What tokens know of the touching patches beyond what their own pixels tell, paired by
        image."""
        values, errors = (torch.full((self.num_layers,), torch.nan, dtype=torch.float64) for _ in range(2))
        of_pixels = self.sums[PIXELS, -1]
        for layer in range(self.num_layers):
            own = self.sums[TRAINED, layer]
            pairs = zip(own.leave_out(numbers), of_pixels.leave_out(numbers), strict=True)
            whole, given, refitted = (mine - other for mine, other in pairs)
            values[layer], errors[layer] = whole[1], own.error(whole, given, refitted)[1]
        words = "share read of the touching patches beyond what the patch's own pixels tell"
        return {
            "gathered": variable("layer", values, words),
            "gathered_sem": error_of("layer", errors, words, degrees=degrees, method="jackknife"),
        }
