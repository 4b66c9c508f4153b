"""What does a model make of one image under one mask, and of one patch in it?

Nothing is defined here. The numbers are those of the probes `reconstruction`, `decoder_attention`,
`encoder_attention`, `receptive_field` and `local_contrast`, by their own functions, for a single
image and without a mean over images; the image's mask is the one that `lcmae probe --seed` gives
it.

Two forward passes serve all of it but the contrast terms, and belong to no patch or layer
(`forward`):

    whole, masked = forward(batch), forward(batch, mask)
    pictures(masked); attention(whole, masked, patch); receptive_field(whole, masked, patch, layer)

Each function returns a dataset whose variables have `units` and `long_name`; what cannot be (the
token of a patch that the encoder does not see) is NaN, and what a model cannot say at all (a
prediction, of an encoder alone) is left out.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
import xarray as xr
from torch import Tensor

from lcmae.contrast import decompose_step
from lcmae.masking import Mask, MaskStrategy
from lcmae.models import MaskedImageModel, take
from lcmae.probes.baselines.pixels import nearest_visible
from lcmae.probes.statistics.seeds import probe_seed
from lcmae.probes.statistics.variables import variable
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.gradients import Traced, graph_bytes, product, random_signs, token_index
from lcmae.probes.watching.hooks import Attended, attention_inputs, attention_problem
from lcmae.probes.watching.pictures import draw, labelled, picture_maps
from lcmae.probes.watching.reach import pixel_distances, reach_of_mass
from lcmae.shapes import Float, UInt8

VIEWS = ("full", "masked")
TARGETS = ("token, full image", "token", "prediction")
_POSITION = ("row", "column")


def batch_of(model: MaskedImageModel, pixels: UInt8[Tensor, "1 c h w"], index: int, seed: int) -> Batch:
    """One image as the batch command sees it: `index` among its images, `seed` as of `--seed`."""
    return Batch(model, model.prepare(pixels), index, probe_seed(seed))


def mask_of(batch: Batch, strategy: MaskStrategy, is_hidden: Sequence[bool] | None = None) -> Mask:
    """The image's mask: drawn as the probes draw it, or the one that is given, patch by patch in
    raster order."""
    mask = batch.masks(strategy, 1) if is_hidden is None else Mask.from_hidden(torch.tensor([list(is_hidden)]))
    return mask.to(batch.images.device)


def error_units(model: MaskedImageModel) -> str:
    """Of a squared error in the space of the model's targets."""
    return "variance of a patch" if model.config.normalize_targets else "squared input units"


@dataclass(frozen=True, eq=False)
class CachedForward:
    """One forward pass over an image, with its graph and its attention.

    It is made in full precision. One thread at a time.
    """

    batch: Batch
    mask: Mask
    trace: Traced
    """For gradients; with a prediction where a mask is on and the model has one."""

    encoder: list[Attended]
    """Attention of every encoder block; none where it cannot be seen."""

    decoder: list[Attended]
    """Attention of every decoder block; none where it cannot be seen, or nothing is predicted."""

    @property
    def model(self) -> MaskedImageModel:
        return self.batch.model

    @property
    def num_bytes(self) -> int:
        """About what is kept in memory, without the model's own weights."""
        model, tokens = self.model, next(iter(self.trace.tokens.values()), self.trace.leaf[:, 0]).shape[1]
        decoder_tokens = model.num_patches + model.num_decoder_prefix if self.trace.prediction is not None else 0
        inputs = sum(one.x.nbytes for one in [*self.encoder, *self.decoder])
        return int(graph_bytes(model, tokens, decoder_tokens)) + self.trace.leaf.nbytes + inputs

    def has_token(self, patch: int) -> bool:
        """Whether the encoder has a token for this patch."""
        return self.model.encodes_hidden or not bool(self.mask.is_hidden[0, patch])


def forward(batch: Batch, mask: Mask | None = None) -> CachedForward:
    """The pass under a mask up to the prediction; without one, over the whole image and up to the
    encoder's end."""
    model = batch.model
    predicts = mask is not None and model.has_prediction
    mask = Mask.none(1, model.num_patches, batch.images.device) if mask is None else mask
    with ExitStack() as stack:
        encoder, decoder = (
            stack.enter_context(attention_inputs(blocks)) if attention_problem(blocks) is None else []
            for blocks in (model.blocks, model.decoder_blocks)
        )
        trace = Traced(model, batch.images, mask, to_prediction=predicts)
    return CachedForward(batch, mask, trace, encoder, decoder)


@torch.no_grad()
def pictures(masked: CachedForward) -> xr.Dataset:
    """`original` and `hidden`; with a prediction also `reconstruction` (and `reconstruction_leaky`,
    which uses the hidden patches' true statistics), `picture_error` of each patch, `nearest_error`
    of a copy of the nearest visible patch, and `error` and `error_nearest`, means over hidden
    patches."""
    model, images, mask, pred = masked.model, masked.batch.images, masked.mask, masked.trace.prediction
    if pred is None:
        shown = model.to_picture(images)[0]
        return xr.Dataset(
            {
                "original": variable(("y", "x", "channel"), shown, "image", "pixel value"),
                "hidden": variable(_POSITION, mask.is_hidden.reshape(model.grid), "whether the patch was hidden"),
            }
        )
    return _filled_in(model, images, mask, pred.detach())


@torch.no_grad()
def frame(batch: Batch, mask: Mask) -> xr.Dataset:
    """`pictures` of a model with a prediction, by a pass of its own that keeps neither graph nor
    attention: for many masks in a row."""
    return _filled_in(batch.model, batch.images, mask, batch.model(batch.images, mask).pred)


def _filled_in(
    model: MaskedImageModel, images: Float[Tensor, "1 c h w"], mask: Mask, pred: Float[Tensor, "1 n p"]
) -> xr.Dataset:
    units, target = error_units(model), model.targets(images)
    found = xr.Dataset(labelled(draw(model, images, mask, pred), units)).isel(picture=0)
    nearest = (take(target, nearest_visible(mask, model.grid)) - target).square().mean(-1)
    found["nearest_error"] = variable(
        _POSITION, nearest.reshape(model.grid), "the same, copying the nearest patch", units
    )
    for name, errors, words in (
        ("error", (pred - target).square().mean(-1), "mean squared error of hidden patches"),
        ("error_nearest", nearest, "the same, copying the nearest visible patch"),
    ):
        found[name] = variable((), errors.gather(1, mask.hidden).mean(), words, units)
    return found


def attention(
    whole: CachedForward,
    masked: CachedForward,
    patch: int,
    layers: Sequence[int] | None = None,
    decoder_layers: Sequence[int] | None = None,
) -> xr.Dataset:
    """Attention from the patch to every patch: `encoder` by (view, layer, head) on the full and on
    the masked image (NaN to hidden patches and from them), `decoder` by (decoder_layer,
    decoder_head); and the rest of each row, which goes to class token and registers, as
    `encoder_prefix` and `decoder_prefix`. Layers count from 1; by default all are computed. Blocks
    of unknown attention are left out, and attributes `encoder_problem` and `decoder_problem` say
    why."""
    model = masked.model
    layers = range(1, len(masked.encoder) + 1) if layers is None else layers
    decoder_layers = range(1, len(masked.decoder) + 1) if decoder_layers is None else decoder_layers
    result: dict[str, xr.Variable] = {}
    problems = {"encoder": attention_problem(model.blocks) if len(model.blocks) else "an encoder of blocks"}
    if model.has_prediction and len(model.decoder_blocks):
        problems["decoder"] = attention_problem(model.decoder_blocks)
    if masked.encoder:
        views = [_row(one, patch, layers) for one in (whole, masked)]
        maps, prefix = (torch.stack(parts) for parts in zip(*views, strict=True))
        dims, name = ("view", "layer", "head"), "encoder attention of the patch"
        result["encoder"] = variable((*dims, *_POSITION), maps.unflatten(-1, model.grid), name)
        result["encoder_prefix"] = variable(dims, prefix, f"{name} to class token and registers")
    if masked.decoder:
        num_prefix = model.num_decoder_prefix
        maps = torch.stack([masked.decoder[layer - 1].maps()[0, :, num_prefix + patch] for layer in decoder_layers])
        dims, name = ("decoder_layer", "decoder_head"), "decoder attention of the patch"
        result["decoder"] = variable((*dims, *_POSITION), maps[..., num_prefix:].unflatten(-1, model.grid), name)
        result["decoder_prefix"] = variable(dims, maps[..., :num_prefix].sum(-1), f"{name} to the class token")
    coordinates = {"view": list(VIEWS), "layer": list(layers), "decoder_layer": list(decoder_layers)}
    known = {dim for values in result.values() for dim in values.dims}
    return xr.Dataset(
        result,
        {name: at for name, at in coordinates.items() if name in known},
        {f"{name}_problem": problem for name, problem in problems.items() if problem is not None},
    )


def _row(seen: CachedForward, patch: int, layers: Sequence[int]) -> tuple[Float[Tensor, "l h n"], Float[Tensor, "l h"]]:
    """What the patch's token gives to every patch and to prefix tokens, in encoder blocks; NaN
    where there are no tokens."""
    model = seen.model
    to_patches = torch.full((len(layers), model.config.heads, model.num_patches), math.nan, device=model.device)
    if not seen.has_token(patch):
        return to_patches, to_patches[..., 0]
    token = int(token_index(model, seen.mask, patch))
    rows = torch.stack([seen.encoder[layer - 1].maps()[0, :, token] for layer in layers])
    shown_tokens = slice(None) if model.encodes_hidden else seen.mask.visible[0]
    to_patches[..., shown_tokens] = rows[..., model.num_prefix :]
    return to_patches, rows[..., : model.num_prefix].sum(-1)


def token_field(seen: CachedForward, batch: Batch, patch: int, layer: int) -> Float[Tensor, "h w"]:
    """The channels' sum of |gradient| of the patch's token after block `layer` (from 1), times the
    probe's random signs of this batch (its seed and the image's index; a pass over the whole image
    may have been made for another seed); NaN where the encoder has no token of the patch."""
    model = seen.model
    if not seen.has_token(patch):
        return torch.full(model.config.image_size, math.nan, dtype=torch.float64)
    index = int(token_index(model, seen.mask, patch))
    signs = random_signs(model, batch.seed, batch.indices)["token"]
    return absolute(seen.trace.of_token(layer - 1, lambda out: product(out[:, index], signs)))


def receptive_field(
    whole: CachedForward,
    masked: CachedForward,
    patch: int,
    layer: int,
    *,
    of_whole: Float[Tensor, "h w"] | None = None,
) -> xr.Dataset:
    """`field` [target y x]: the channels' sum of |gradient| of the patch's token after block
    `layer` (from 1), on the full and on the masked image, and of its prediction, each times the
    probe's random signs; and `half_radius` [target] of the disc around the patch that holds half of
    it. NaN for the token of a patch that is hidden from the encoder. `of_whole` is the whole
    image's `token_field`, where it is known already."""
    model, batch = masked.model, masked.batch
    fields = {
        TARGETS[0]: token_field(whole, batch, patch, layer) if of_whole is None else of_whole,
        TARGETS[1]: token_field(masked, batch, patch, layer),
    }
    if masked.trace.prediction is not None:
        signs = random_signs(model, batch.seed, batch.indices)["prediction"]
        fields[TARGETS[2]] = absolute(masked.trace.of_prediction(lambda pred: product(pred[:, patch], signs)))
    middle = torch.tensor([patch // model.grid[1] + 0.5, patch % model.grid[1] + 0.5], dtype=torch.float64)
    disc = pixel_distances(model.config.image_size, middle * model.patch_size, "disc")
    maps = torch.stack(list(fields.values()))
    return xr.Dataset(
        {
            "field": variable(("target", "y", "x"), maps, "sum over channels of |gradient|", "1 / input unit"),
            "half_radius": variable("target", reach_of_mass(maps, disc, 0.5), "radius with half of the mass", "pixels"),
        },
        {"target": list(fields)},
    )


def absolute(gradient: Float[Tensor, "1 c h w"]) -> Float[Tensor, "h w"]:
    """The raw form of one image's field."""
    return gradient.double().cpu().abs().sum(1)[0]


@torch.no_grad()
def contrast(batch: Batch, strategy: MaskStrategy, num_masks: int) -> xr.Dataset:
    """`loss`, `invariance` and `local_consistency` of each patch over `num_masks` masks of this
    image, and `times_hidden`; NaN where no mask hides the patch. `image_...` are the image's own:
    means over all that is hidden. The terms between images (global consistency, offset) need more
    than one."""
    model, grid = batch.model, batch.model.grid
    masks, out = batch.masked(strategy, num_masks)
    hidden = masks.is_hidden[None]
    parts = decompose_step(out.pred[None].double(), model.targets(batch.images).double(), hidden)
    count, units = parts.count[0], error_units(model)
    result = {"times_hidden": variable(_POSITION, count.reshape(grid), "masks that hide the patch")}
    for name, values in picture_maps(parts).items():
        words = name.replace("_", " ")
        shown = torch.where(count > 0, values[0], math.nan).reshape(grid)
        result[name] = variable(_POSITION, shown, words, units)
        result[f"image_{name}"] = variable((), (values[0] * count).sum() / count.sum(), f"{words} of the image", units)
    return xr.Dataset(result, attrs={"num_masks": num_masks, "mask": strategy.model_dump_json()})
