"""How much of the image does one token, and one reconstructed patch, depend on, and what does
masking do to that?

The effective receptive field (Luo et al., 1701.04128): the gradient of one output with respect to
every pixel, averaged over images. Two forms of it: `raw`, the mean over images of the channels' sum
of |gradient|, and `log`, the published form of RepLKNet (Ding et al., 2203.06717), log10(g + 1) /
max with g the mean of the positive part. The logarithm flattens peaks and so enlarges the areas:
read it beside the raw form. Area ratio: pixels of the smallest centred square that holds a share t
of the mass, over all pixels, as in RepLKNet. Radius: that of the smallest disc that does; it is
ours.

The output is the patch at the centre of the grid: its token after a block and *before* the final
norm (after it, the sum over channels is constant and its gradient zero), or its prediction. So that
every mask has it, one patch of a mask may change places with the centre: for a random mask that is
exactly the random mask given that the centre is visible (token) or hidden (prediction).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import xarray as xr
from pydantic import Field, field_validator
from torch import Tensor

from lcmae.errors import InputError
from lcmae.masking import STRATEGIES, Mask, MaskStrategy, stack_masks
from lcmae.models import MaskedImageModel
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.gradients import (
    leaf_of,
    prediction_gradient,
    predictions,
    product,
    random_signs,
    rows_at_once,
    token_gradients,
    token_index,
)
from lcmae.probes.watching.reach import pixel_distances, reach_of_mass
from lcmae.randomness import generator
from lcmae.settings import parse
from lcmae.shapes import Float

FORMS = ("raw", "log")
COMPARED = ("area_ratio", "radius", "image_radius", "half_radius")
TARGETS = ("token", "prediction")


class ReceptiveField(Probe):
    """Returns `field` (maps), `area_ratio` and `radius` by (target, view, form, mass), views being
    the full image and every mask at every ratio; `depth_field`, `depth_area_ratio` and
    `depth_radius` of tokens by layer (some of them) on full images; and `image_radius`, the mean
    over images of each one's own raw radius (`half_radius`: for half of the mass), with standard
    errors. Predictions of full images are NaN."""

    name: ClassVar[str] = "receptive_field"
    question: ClassVar[str] = (
        "How much of the image do a token and a reconstructed patch depend on, and how does masking bound it?"
    )
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": tuple(f"{depth}{name}" for depth in ("", "depth_") for name in COMPARED)
    }

    baseline_images: int = Field(default=8, ge=0)
    """How many of the first images the untrained network sees, too: few, because gradients cost
    much; 0 leaves it out."""

    masks: tuple[str, ...] = ("random", "block")
    """Mask strategies by name, with their default settings, each used at all of `ratios`."""

    ratios: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    """Masking ratios, between 0 and 1, both excluded."""

    masses: tuple[float, ...] = (0.2, 0.5, 0.99)
    """Shares of the gradient's mass for which area ratio and radius are given, above 0 and at most
    1."""

    num_layers: int = Field(default=6, ge=1)
    """How many blocks are looked at for the field by depth: evenly spaced, the first and the last
    among them (one: the last)."""

    cotangent: Literal["random", "positive"] = "random"
    """Which scalar of the output is differentiated: its product with random signs, drawn for each
    image, so that errors over images hold this draw, too; or the sum of its positive values
    (RepLKNet's; it is zero where a whole prediction is negative)."""

    num_images: int = Field(default=20, ge=1)
    """How many of the first images are looked at. RepLKNet takes 50; 20 take a ViT-Base at 224
    pixels minutes on two cores."""

    backend: Literal["autograd", "captum"] = "autograd"
    """Who takes the gradients: torch itself, or captum's NeuronGradient and Saliency. Same result;
    captum runs a forward pass for every layer."""

    batch_size: int = Field(default=8, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    @field_validator("masks")
    @classmethod
    def _masks_are_known(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        # those that look at images cannot be drawn beforehand
        known = [name for name, strategy in STRATEGIES.items() if not strategy.needs_images]
        if not set(values) <= set(known):
            raise ValueError(f"expected masks out of {', '.join(known)}")
        return values

    @field_validator("ratios")
    @classmethod
    def _ratios_fit(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < value < 1 for value in values):
            raise ValueError("expected ratios between 0 and 1, both excluded")
        return values

    @field_validator("masses")
    @classmethod
    def _masses_fit(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or not all(0 < value <= 1 for value in values):
            raise ValueError("expected one or more masses above 0 and at most 1")
        return values

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_ReceptiveField":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        strategies: dict[str, MaskStrategy] = {}
        for kind in self.masks:
            for ratio in self.ratios:
                try:
                    strategy = parse(STRATEGIES[kind], {"ratio": ratio})
                    strategy.check(model.grid)
                except InputError as error:
                    self.require(False, f"masks that fit the model's grid ({error})")
                    raise
                strategies[f"{kind} {ratio:g}"] = strategy
        return _ReceptiveField(self, model, seed, strategies)


@dataclass
class _ReceptiveField(Accumulator):
    probe: ReceptiveField
    model: MaskedImageModel
    seed: int
    strategies: dict[str, MaskStrategy]

    def __post_init__(self) -> None:
        model = self.model
        rows, columns = model.grid
        self.centre = (rows // 2) * columns + columns // 2
        centre = torch.tensor([(rows // 2 + 0.5) * model.patch_size, (columns // 2 + 0.5) * model.patch_size])
        self.square = pixel_distances(model.config.image_size, centre.double(), "square")
        self.disc = pixel_distances(model.config.image_size, centre.double(), "disc")
        self.fields: dict[tuple[str, str | int], GradientField] = {}
        self.layers = spaced_layers(len(model.blocks), self.probe.num_layers)

    def update(self, batch: Batch) -> None:
        images = batch.images[: max(self.probe.num_images - batch.first, 0)]
        if not len(images):
            return
        # depth: some blocks, on full images; one forward pass serves them all
        whole = Mask.none(len(images), self.model.num_patches, images.device)
        signs = random_signs(self.model, self.seed, batch.indices[: len(images)])
        of_layers = self._token_gradients(images, whole, self.layers, signs["token"])
        for layer, gradient in zip(self.layers, of_layers, strict=True):
            self._add("token", layer, gradient)

        # masking: the last block's token and the prediction; masks that hide equally many patches
        # go together
        drawn = {view: batch.masks(strategy, 1)[slice(0, len(images))] for view, strategy in self.strategies.items()}
        for num_hidden in dict.fromkeys(mask.hidden.shape[1] for mask in drawn.values()):
            masks = {view: mask for view, mask in drawn.items() if mask.hidden.shape[1] == num_hidden}
            several = images.repeat(len(masks), 1, 1, 1)
            of_several = {target: some.repeat(len(masks), 1) for target, some in signs.items()}
            visible = self._with_centre(masks, batch, hidden=False)
            [of_token] = self._token_gradients(several, visible, self.layers[-1:], of_several["token"])
            for view, gradient in zip(masks, of_token.chunk(len(masks)), strict=True):
                self._add("token", view, gradient)
            if self.model.has_prediction:
                hidden = self._with_centre(masks, batch, hidden=True)
                of_prediction = self._prediction_gradient(several, hidden, of_several["prediction"])
                for view, gradient in zip(masks, of_prediction.chunk(len(masks)), strict=True):
                    self._add("prediction", view, gradient)

    def _with_centre(self, masks: dict[str, Mask], batch: Batch, *, hidden: bool) -> Mask:
        """The masks one after the other, the centre hidden in all of them or visible in all of
        them."""
        changed = []
        for view, mask in masks.items():
            rngs = [generator("centre", self.seed, view, index) for index in batch.indices[: len(mask)]]
            changed.append(with_patch(mask, self.centre, hidden=hidden, rngs=rngs))
        return stack_masks(changed).to(batch.images.device)

    def _add(self, target: str, view: str | int, gradient: Tensor) -> None:
        if (target, view) not in self.fields:
            self.fields[target, view] = GradientField(self.disc, (*self.probe.masses, 0.5))
        self.fields[target, view].add(gradient)

    def _scalar(self, output: Float[Tensor, "b d"], signs: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        if self.probe.cotangent == "positive":
            return output.relu().sum(1)
        return product(output, signs)

    def _in_parts(
        self, images: Tensor, mask: Mask, signs: Tensor, compute: Callable[[Tensor, Mask, Tensor], list[Tensor]]
    ) -> list[Float[Tensor, "b c h w"]]:
        """What `compute` gives for all rows, as many of them at a time as one graph may hold."""
        size = rows_at_once(self.model)
        rows = [slice(first, first + size) for first in range(0, len(images), size)]
        parts = [compute(images[some], mask[some], signs[some]) for some in rows]
        return [torch.cat(gradients) for gradients in zip(*parts, strict=True)]

    def _token_gradients(
        self, images: Tensor, mask: Mask, layers: Sequence[int], signs: Float[Tensor, "b d"]
    ) -> list[Float[Tensor, "b c h w"]]:
        def compute(images: Tensor, mask: Mask, signs: Tensor) -> list[Tensor]:
            index = token_index(self.model, mask, self.centre)

            def scalar(output: Any) -> Tensor:
                return self._scalar(output[torch.arange(len(output), device=output.device), index], signs)

            if self.probe.backend == "captum":
                return [self._captum_neuron(images, mask, layer, scalar) for layer in layers]
            return token_gradients(self.model, images, mask, layers, scalar)

        return self._in_parts(images, mask, signs, compute)

    def _captum_neuron(self, images: Tensor, mask: Mask, layer: int, scalar: Callable[[Any], Tensor]) -> Tensor:
        from captum.attr import NeuronGradient

        explain = NeuronGradient(lambda x: self.model.encode(x, mask)[1], self.model.blocks[layer])
        return explain.attribute(leaf_of(images), neuron_selector=scalar).detach()

    def _prediction_gradient(self, images: Tensor, mask: Mask, signs: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        def compute(images: Tensor, mask: Mask, signs: Tensor) -> list[Tensor]:
            def scalar(pred: Tensor) -> Tensor:
                return self._scalar(pred[:, self.centre], signs)

            if self.probe.backend == "captum":
                from captum.attr import Saliency

                predict = Saliency(lambda x: scalar(predictions(self.model, x, mask)))
                return [predict.attribute(leaf_of(images), abs=False).detach()]
            return [prediction_gradient(self.model, images, mask, scalar)]

        [gradient] = self._in_parts(images, mask, signs, compute)
        return gradient

    def result(self) -> xr.Dataset:
        views = ["full", *self.strategies]
        # the full image's field is that of the last layer
        of_view = {(target, view): self.fields.get((target, view)) for target in TARGETS for view in views}
        of_view["token", "full"] = self.fields["token", self.layers[-1]]
        by_view = [[self._numbers(of_view[target, view]) for view in views] for target in TARGETS]
        by_layer = [self._numbers(self.fields["token", layer]) for layer in self.layers]

        result = {}
        for name, (dims, long_name, units) in _NUMBERS.items():
            stacked = torch.stack([torch.stack([numbers[name] for numbers in row]) for row in by_view])
            result[name] = self._labelled(name, ("target", "view", *dims), stacked, long_name, units)
            by_depth = torch.stack([numbers[name] for numbers in by_layer])
            words = f"{long_name}, full image"
            result[f"depth_{name}"] = self._labelled(name, ("layer", *dims), by_depth, words, units)
        coordinates = {
            "target": list(TARGETS),
            "view": views,
            "strategy": ("view", ["none", *(kind for kind in self.probe.masks for _ in self.probe.ratios)]),
            "ratio": ("view", [0.0, *(ratio for _ in self.probe.masks for ratio in self.probe.ratios)]),
            "form": list(FORMS),
            "mass": list(self.probe.masses),
            "layer": [layer + 1 for layer in self.layers],
        }
        attributes = {
            "patch_size": self.model.patch_size,
            "centre_patch": self.centre,
            "images_used": self.fields["token", self.layers[-1]].positive.count,
            "definition": "raw: mean |gradient|; log: RepLKNet's log10(g + 1) / max; radius: lcmae's own",
            "area_ratio_convention": "square round the centre of the centre patch; RepLKNet's is round the centre of the image",
        }
        return xr.Dataset(result, coordinates, attributes)

    def _labelled(self, name: str, dims: tuple[str, ...], values: Tensor, words: str, units: str) -> xr.Variable:
        if not name.endswith("_sem"):
            return variable(dims, values, words, units)
        degrees = self.fields["token", self.layers[-1]].radius.degrees_of_freedom
        return error_of(dims, values, words, units, degrees=degrees)

    def _numbers(self, field: "GradientField | None") -> dict[str, Tensor]:
        size, count = self.model.config.image_size, len(self.probe.masses)
        if field is None:
            shapes = {"field": (2, *size), "area_ratio": (2, count), "radius": (2, count)}
            shapes |= {"image_radius": (count,), "image_radius_sem": (count,), "half_radius": (), "half_radius_sem": ()}
            return {name: torch.full(shape, math.nan) for name, shape in shapes.items()}
        assert field.radius.mean is not None
        maps = torch.stack([field.raw, field.log])
        reach = torch.stack([reach_of_mass(maps, self.square, mass) for mass in self.probe.masses], dim=1)
        area = (self.square <= reach[..., None, None]).double().mean((2, 3))
        radius = torch.stack([reach_of_mass(maps, self.disc, mass) for mass in self.probe.masses], dim=1)
        numbers = {"field": maps, "area_ratio": torch.where(reach.isnan(), math.nan, area), "radius": radius}
        for name, values in (("", field.radius.mean), ("_sem", field.radius.sem)):
            numbers |= {f"image_radius{name}": values[:-1], f"half_radius{name}": values[-1]}
        return numbers


_NUMBERS = {
    "field": (("form", "y", "x"), "effective receptive field of the centre patch", "1"),
    "area_ratio": (("form", "mass"), "share of the image in the square with this mass", "1"),
    "radius": (("form", "mass"), "radius of the disc with this mass", "pixels"),
    "image_radius": (("mass",), "radius with this mass, mean over images", "pixels"),
    "image_radius_sem": (("mass",), "radius with this mass, mean over images", "pixels"),
    "half_radius": ((), "radius with half of the mass, mean over images", "pixels"),
    "half_radius_sem": ((), "radius with half of the mass, mean over images", "pixels"),
}


class GradientField:
    """Gradients of any number of images, summed: two maps, and the radius of each image's own."""

    def __init__(self, disc: Float[Tensor, "h w"], masses: tuple[float, ...]) -> None:
        self.disc, self.masses = disc, masses
        self.absolute, self.positive, self.radius = RunningMean(), RunningMean(), RunningMean()

    def add(self, gradient: Float[Tensor, "b c h w"]) -> None:
        gradient = gradient.double().cpu()
        own = gradient.abs().sum(1)
        self.absolute.add(own)
        self.positive.add(gradient.relu().sum(1))
        self.radius.add(torch.stack([reach_of_mass(own, self.disc, mass) for mass in self.masses], dim=1))

    @property
    def raw(self) -> Float[Tensor, "h w"]:
        """Mean over images of the channels' sum of |gradient|."""
        assert self.absolute.mean is not None
        return self.absolute.mean

    @property
    def log(self) -> Float[Tensor, "h w"]:
        """RepLKNet's form, in [0, 1]; zero where nothing is positive."""
        assert self.positive.mean is not None
        logarithm = (self.positive.mean + 1).log10()
        return logarithm / logarithm.max().clamp(min=torch.finfo(torch.float64).tiny)


def spaced_layers(depth: int, num_layers: int) -> list[int]:
    """Indices of blocks, evenly spaced from the first to the last; all where there are no more, the
    last where one is wanted."""
    if num_layers == 1:
        return [depth - 1]
    return torch.linspace(0, depth - 1, min(num_layers, depth), dtype=torch.float64).round().long().tolist()


def with_patch(mask: Mask, patch: int, *, hidden: bool, rngs: list[torch.Generator]) -> Mask:
    """The mask with one patch hidden, or visible: where it is not, it changes places with a random
    one that is."""
    is_hidden = mask.is_hidden.cpu().clone()
    for row, rng in zip(is_hidden, rngs, strict=True):
        if bool(row[patch]) != hidden:
            others = (row == hidden).nonzero()[:, 0]
            row[others[torch.randint(len(others), (), generator=rng)]] = not hidden
            row[patch] = hidden
    return Mask.from_hidden(is_hidden, mask.hidden.shape[1]).to(mask.is_hidden.device)
