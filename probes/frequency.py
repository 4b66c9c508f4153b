"""Which spatial frequencies do tokens carry through the layers, and how alike are the layers?

Sources: Fourier amplitudes by depth as in "What Do Self-Supervised Vision Transformers Learn?"
(Park et al., 2305.00729): log(|F| + 1e-6) of the grid of patch tokens, F the unnormalised 2-d
discrete Fourier transform of each channel, averaged over channels and images; the curve is its
diagonal (equal frequency in rows and columns) minus its value at frequency 0. We keep the Nyquist
frequency, which their half-diagonal leaves out. Similarity of layers by linear CKA (Kornblith et
al., 1905.00414) in its debiased minibatch form (Nguyen et al., 2010.15327, equation 2): a
minibatch's Gram matrices, never pairs of all images.

Images are whole. Layers are blocks before any final norm, `input` being the patches of the image:
the raw-pixel baseline. The decoder, too, gets unmasked images, which an MAE's never saw in
training. The other baseline is a network with fresh weights.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from einops import rearrange
from pydantic import Field
from torch import Tensor

from lcmae.errors import InputError
from lcmae.models import MaskedImageModel
from lcmae.patches import Grid, patchify
from lcmae.probes.base import Accumulator, Probe, batches, unchanged
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import error_of, variable, with_sem
from lcmae.probes.watching.batch import Batch, Images
from lcmae.probes.watching.layers import Layers, layers, layers_of, watch_layers
from lcmae.shapes import Float

EPSILON = 1e-6
"""What cl-vs-mim adds to amplitudes before the logarithm."""

CONSTANT = 1e-12
"""Features whose variance is at most this share of their mean square are constant: CKA is NaN."""

MOST_BYTES = 256 * 2**20
"""Of the tokens of one minibatch of CKA, all layers and networks, float32."""

FEW = 8
"""Images of a minibatch that are held in any case: dealt evenly no minibatch is then below the 4 of
which HSIC is defined."""

NETWORKS = ("trained", "untrained")
_CKA = "debiased linear CKA of all patch tokens"


class Frequency(Probe):
    """Returns `log_amplitude` by (network, layer, frequency) relative to frequency 0,
    `amplitude_map` by (network, layer, row and column frequency), both with standard errors, and
    `cka` by (network, layer, other_layer), NaN below 4 images; of the encoder's last block alone,
    for tables, `last_high_frequency` and `last_cka_to_input`."""

    name: ClassVar[str] = "frequency"
    question: ClassVar[str] = (
        "Which spatial frequencies do tokens carry through the layers, and how alike are the layers?"
    )

    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": ("log_amplitude", "amplitude_map", "cka", "last_high_frequency", "last_cka_to_input")
    }

    set_size: int = Field(default=32, ge=4)
    """Most images of one minibatch of CKA; images are dealt evenly to as few minibatches as this
    allows. The tokens of one minibatch, from all layers, are kept: of large networks (a ViT-B at
    224 pixels) minibatches are smaller, so that they take 256 MiB at most, or 8 images."""

    untrained: bool = True
    """Whether a network of the same shape with fresh weights is measured, too; doubles the forward
    passes."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass, whose tokens of all layers are kept; has no influence on the
    result but for rounding."""

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Frequency":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        return _Frequency(self, model, num_images, untrained(model, seed) if self.untrained else None)


@dataclass
class _Frequency(Accumulator):
    probe: Frequency
    model: MaskedImageModel
    num_images: int
    fresh: MaskedImageModel | None
    maps: RunningMean = field(default_factory=RunningMean)
    curves: RunningMean = field(default_factory=RunningMean)

    def __post_init__(self) -> None:
        self.networks = NETWORKS if self.fresh is not None else NETWORKS[:1]
        self.sets: list[Sets] = []

    def watch(self, batch: Batch) -> None:
        for model in (self.model, self.fresh):
            if model is not None:
                watch_layers(batch.of(model))

    def update(self, batch: Batch) -> None:
        patches = patchify(batch.images, self.model.patch_size)
        of_networks = [layers_of(batch)]
        if self.fresh is not None:
            of_networks.append(layers_of(batch.of(self.fresh)))

        every = [patch_tokens(self.model, of_network, patches) for of_network in of_networks]
        if not self.sets:
            each = 4 * sum(part[0].numel() for tokens in every for part in tokens)
            size = min(self.probe.set_size, max(FEW, MOST_BYTES // each))
            self.sets = [Sets(self.num_images, size) for _ in self.networks]
        amplitudes = []
        for tokens, sets in zip(every, self.sets, strict=True):
            amplitudes.append(torch.stack([log_amplitude(part, self.model.grid) for part in tokens], dim=1))
            sets.add([part.flatten(1) for part in tokens])
        amplitude = torch.stack(amplitudes, dim=1)
        self.maps.add(amplitude)
        self.curves.add(relative_diagonal(amplitude))

    def result(self) -> xr.Dataset:
        model = self.model
        curve, plane = ("network", "layer", "frequency"), ("network", "layer", "row_frequency", "column_frequency")
        relative = "log amplitude of tokens over that of frequency 0"
        result = {
            **with_sem(curve, self.curves, "log_amplitude", relative, "nats"),
            **with_sem(plane, self.maps, "amplitude_map", "log(amplitude + 1e-6) of tokens", "log of feature units"),
        }
        value, sem = (torch.stack(parts) for parts in zip(*(sets.cka() for sets in self.sets), strict=True))
        pair = ("network", "layer", "other_layer")
        result["cka"] = variable(pair, value, _CKA)
        degrees = self.sets[0].degrees_of_freedom
        result["cka_sem"] = error_of(pair, sem, _CKA, degrees=degrees, method="jackknife over minibatches")
        result |= self._of_the_last_block(value, sem)
        names = layer_names(model)
        return xr.Dataset(
            result,
            {
                "network": list(self.networks),
                "layer": names,
                "other_layer": names,
                "frequency": (
                    "frequency",
                    diagonal_frequencies(model.grid).numpy(),
                    _cycles("frequency along the diagonal"),
                ),
                "row_frequency": (
                    "row_frequency",
                    _frequencies(model.grid[0]).numpy(),
                    _cycles("frequency along rows"),
                ),
                "column_frequency": ("column_frequency", _frequencies(model.grid[1]).numpy(), _cycles("along columns")),
            },
            {
                "num_sets": self.sets[0].count,
                "decoder_input": "unmasked images",
                "normalised": "no: raw fft2, mean of logs",
                "headline_convention": "the highest frequency is Nyquist's, pi; Park and Kim show the one before it",
            },
        )

    def _of_the_last_block(self, cka: Float[Tensor, "n l l"], sem: Float[Tensor, "n l l"]) -> dict[str, xr.Variable]:
        """One number a network, for tables: of the encoder's last block, at the highest frequency
        and beside the pixels."""
        last = len(self.model.blocks)  # the input comes first
        curve = self.curves.mean
        assert curve is not None
        high = "log amplitude at the Nyquist frequency over that of frequency 0, last encoder block"
        alike = f"{_CKA}, last encoder block with the input"
        return {
            "last_high_frequency": variable("network", curve[:, last, -1], high, "nats"),
            "last_high_frequency_sem": error_of(
                "network", self.curves.sem[:, last, -1], high, "nats", degrees=self.curves.degrees_of_freedom
            ),
            "last_cka_to_input": variable("network", cka[:, last, 0], alike),
            "last_cka_to_input_sem": error_of(
                "network", sem[:, last, 0], alike, degrees=self.sets[0].degrees_of_freedom, method="jackknife"
            ),
        }


def compare_layers(
    first: MaskedImageModel, second: MaskedImageModel, images: Images, *, set_size: int = 32, batch_size: int = 16
) -> xr.Dataset:
    """CKA of every layer of one checkpoint with every layer of another: `cka` by (layer,
    other_layer), with standard errors.

    Images are in the input space of `first`, and are brought to that of `second`. Same estimator as
    the probe `frequency`. Raises `InputError` where the models do not take the same images, and
    below 4 images.
    """
    shapes = [(model.config.channels, *model.config.image_size) for model in (first, second)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"expected two models of the same images (channels, height, width), got {shapes[0]} and {shapes[1]}"
        )
    if len(images) < 4:
        raise InputError(f"expected at least 4 images to compare layers on, got {len(images)}")
    names = [layer_names(model) for model in (first, second)]
    sets = Sets(len(images), set_size)
    with unchanged(first), unchanged(second):
        for batch in batches(first, images, batch_size, seed=0):
            other = second.from_pixels(first.to_pixels(batch.images).to(second.device))
            features = []
            for model, seen in ((first, batch.images), (second, other)):
                tokens = patch_tokens(model, layers(model, seen), patchify(seen, model.patch_size))
                features += [part.flatten(1).cpu() for part in tokens]
            sets.add(features)
    value, sem = (part[: len(names[0]), len(names[0]) :] for part in sets.cka())
    pair = ("layer", "other_layer")
    return xr.Dataset(
        {
            "cka": variable(pair, value, f"{_CKA}, between two checkpoints"),
            "cka_sem": error_of(pair, sem, _CKA, degrees=sets.degrees_of_freedom, method="jackknife over minibatches"),
        },
        {"layer": names[0], "other_layer": names[1]},
        {"num_images": len(images), "num_sets": sets.count},
    )


def layer_names(model: MaskedImageModel) -> list[str]:
    """What `patch_tokens` returns, in its order."""
    encoder = [f"encoder {layer + 1}" for layer in range(len(model.blocks))]
    return ["input", *encoder, *(f"decoder {layer + 1}" for layer in range(len(model.decoder_blocks)))]


def patch_tokens(model: MaskedImageModel, of_network: Layers, patches: Float[Tensor, "b n p"]) -> list[Tensor]:
    """The patches themselves, and the patch tokens [b n d] after each block of encoder and
    decoder."""
    encoder = [tokens[:, model.num_prefix :] for tokens in of_network.encoder]
    return [patches, *encoder, *(tokens[:, model.num_decoder_prefix :] for tokens in of_network.decoder)]


def log_amplitude(tokens: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b r c"]:
    """log(|fft2| + 1e-6) of the grid of tokens, mean over channels; frequency 0 at [0, 0]."""
    planes = rearrange(tokens.double(), "b (r c) d -> b d r c", r=grid[0])
    return (torch.fft.fft2(planes).abs() + EPSILON).log().mean(1)


def relative_diagonal(amplitude: Float[Tensor, "... r c"]) -> Float[Tensor, "... f"]:
    """At `diagonal_frequencies`, minus the value at frequency 0."""
    rows, columns = amplitude.shape[-2:]
    steps = math.gcd(rows, columns)
    radius = torch.arange(steps // 2 + 1, device=amplitude.device)
    diagonal = amplitude[..., radius * (rows // steps), radius * (columns // steps)]
    return diagonal - diagonal[..., :1]


def diagonal_frequencies(grid: Grid) -> Float[Tensor, " f"]:
    """The frequencies, 0 to Nyquist, that rows and columns of the grid have in common, in cycles
    per patch."""
    steps = math.gcd(*grid)
    return torch.arange(steps // 2 + 1) / steps


class Sets:
    """Linear CKA of every pair of layers over minibatches: sums of l x l numbers, and the features
    of one open minibatch."""

    def __init__(self, num_images: int, set_size: int) -> None:
        self.count = math.ceil(num_images / set_size)
        self.ends = [num_images * (index + 1) // self.count for index in range(self.count)]
        self.sums = GroupedSums(self.count)
        self.open: list[list[Tensor]] = []
        self.seen = 0
        self.closed = 0

    def add(self, features: list[Tensor]) -> None:
        """Take in the features [b d] of each layer, of the next images; widths may differ between
        layers."""
        first = 0
        while first < len(features[0]):
            take = min(len(features[0]) - first, self.ends[self.closed] - self.seen)
            self.open.append([part[first : first + take] for part in features])
            first, self.seen = first + take, self.seen + take
            if self.seen == self.ends[self.closed]:
                self._close()

    def _close(self) -> None:
        grams = torch.stack([centred_gram(torch.cat(parts)) for parts in zip(*self.open, strict=True)])
        self.sums.add([self.closed], hsic=hsic(grams)[None])
        self.open, self.closed = [], self.closed + 1

    @property
    def degrees_of_freedom(self) -> int:
        """Of the standard errors."""
        return self.sums.degrees_of_freedom

    def cka(self) -> tuple[Float[Tensor, "l l"], Float[Tensor, "l l"]]:
        """CKA and its standard error over minibatches (NaN for a single one)."""
        return self.sums.estimate(lambda sums: _normalised(sums["hsic"]))


def centred_gram(features: Float[Tensor, "s d"]) -> Float[Tensor, "s s"]:
    """Inner products of centred features, float64; zero for features that are constant up to
    rounding."""
    features = features.double()
    centred = features - features.mean(0)
    if float(centred.square().sum()) <= CONSTANT * float(features.square().sum()):
        centred = torch.zeros_like(centred)
    return centred @ centred.T


def hsic(grams: Float[Tensor, "l s s"]) -> Float[Tensor, "l l"]:
    """Unbiased HSIC of every pair of layers (Song et al., 2012, equation 5) by U-centring: one
    matrix product. NaN below 4."""
    count = grams.shape[-1]
    if count < 4:
        return grams.new_full((len(grams), len(grams)), math.nan)
    # Szekely and Rizzo's U-centring (2014): the inner product of U-centred matrices is the same
    # U-statistic
    off = grams * (1 - torch.eye(count, dtype=grams.dtype, device=grams.device))
    row = off.sum(-1, keepdim=True) / (count - 2)
    mean = off.sum((-1, -2), keepdim=True) / ((count - 1) * (count - 2))
    centred = off - row - row.transpose(-1, -2) + mean
    centred = centred.masked_fill(torch.eye(count, dtype=torch.bool, device=grams.device), 0).flatten(1)
    return centred @ centred.T / (count * (count - 3))


def _normalised(products: Float[Tensor, "l l"]) -> Float[Tensor, "l l"]:
    own = products.diagonal()
    own = torch.where(own > 0, own, math.nan)
    return products / (own[:, None] * own).sqrt()


def _frequencies(side: int) -> Float[Tensor, " r"]:
    return torch.fft.fftfreq(side)


def _cycles(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "cycles per patch"}
