"""What does a model make of one image under one mask, and of one patch in it?

Nothing is defined here. The numbers are those of the probes `reconstruction`, `decoder_attention`, `encoder_attention`,
`receptive_field` and `local_contrast`, by their own functions, for a single image and without a mean over images; the image's
mask is the one that `lcmae probe --seed` gives it.

Each function returns a dataset whose variables have `units` and `long_name`; what cannot be (the token of a patch that the
encoder does not see) is NaN, and what a model cannot say at all (a prediction, of an encoder alone) is left out.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack

import torch
import xarray as xr
from torch import Tensor

from lcmae.contrast import decompose_step
from lcmae.masking import Mask, MaskStrategy
from lcmae.models import MaskedImageModel, take
from lcmae.shapes import Float, UInt8
from probes.base import Batch, variable
from probes.gradients import Traced, random_signs, token_index
from probes.hooks import attention_problem, watch_attention
from probes.local_contrast import picture_maps
from probes.receptive_field import pixel_distances, reach_of_mass
from probes.reconstruction import draw, labelled, nearest_visible
from probes.seeds import probe_seed

VIEWS = ("full", "masked")
TARGETS = ("token, full image", "token", "prediction")
_PLACE = ("row", "column")


def batch_of(model: MaskedImageModel, pixels: UInt8[Tensor, "1 c h w"], index: int, seed: int) -> Batch:
    """One image as the batch command sees it: `index` among its images, `seed` as of `--seed`."""
    return Batch(model, model.prepare(pixels), index, probe_seed(seed))


def mask_of(batch: Batch, strategy: MaskStrategy, is_hidden: Sequence[bool] | None = None) -> Mask:
    """The image's mask: drawn as the probes draw it, or the one that is given, patch by patch in raster order."""
    mask = batch.masks(strategy, 1) if is_hidden is None else Mask.from_hidden(torch.tensor([list(is_hidden)]))
    return mask.to(batch.images.device)


def error_units(model: MaskedImageModel) -> str:
    """Of a squared error in the space of the model's targets."""
    return "variance of a patch" if model.config.normalize_targets else "squared input units"


@torch.no_grad()
def pictures(batch: Batch, mask: Mask) -> xr.Dataset:
    """`original` and `hidden`; with a prediction also `reconstruction` (and `reconstruction_leaky`, which uses the hidden
    patches' true statistics), `picture_error` of each patch, `nearest_error` of a copy of the nearest visible patch, and
    `error` and `error_nearest`, means over hidden patches."""
    model = batch.model
    units = error_units(model)
    if not model.has_prediction:
        shown = model.to_pixels(batch.images)[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
        return xr.Dataset(
            {
                "original": variable(("y", "x", "channel"), shown, "image", "pixel value"),
                "hidden": variable(_PLACE, mask.is_hidden.reshape(model.grid), "whether the patch was hidden"),
            }
        )
    pred, target = model(batch.images, mask).pred, model.targets(batch.images)
    found = xr.Dataset(labelled(draw(model, batch.images, mask, pred), units)).isel(picture=0)
    nearest = (take(target, nearest_visible(mask, model.grid)) - target).square().mean(-1)
    found["nearest_error"] = variable(_PLACE, nearest.reshape(model.grid), "the same, copying the nearest patch", units)
    for name, errors, words in (
        ("error", (pred - target).square().mean(-1), "mean squared error of hidden patches"),
        ("error_nearest", nearest, "the same, copying the nearest visible patch"),
    ):
        found[name] = variable((), errors.gather(1, mask.hidden).mean(), words, units)
    return found


@torch.no_grad()
def attention(batch: Batch, mask: Mask) -> xr.Dataset:
    """Attention from every patch (`query`) to every patch: `encoder` by (view, layer, head) on the full and on the masked image
    (NaN to hidden patches and from them), `decoder` by (decoder_layer, decoder_head); and the rest of each row, which goes to
    class token and registers, as `encoder_prefix` and `decoder_prefix`. Blocks of unknown attention are left out, and attributes
    `encoder_problem` and `decoder_problem` say why."""
    model = batch.model
    result: dict[str, xr.Variable] = {}
    problems = {"encoder": attention_problem(model.blocks) if len(model.blocks) else "an encoder of blocks"}
    if model.has_prediction and len(model.decoder_blocks):
        problems["decoder"] = attention_problem(model.decoder_blocks)
    encoder, decoder = watched(
        batch, mask, encoder=not problems["encoder"], decoder=problems.get("decoder", "") is None
    )
    if encoder:
        whole = Mask.none(1, model.num_patches, batch.images.device)
        full, _ = watched(batch, whole, encoder=True, decoder=False)
        views = [_spread(model, maps, view) for maps, view in ((full, whole), (encoder, mask))]
        maps, prefix = (torch.stack(parts) for parts in zip(*views, strict=True))
        dims, name = ("view", "layer", "head", "query"), "encoder attention of the patch"
        result["encoder"] = variable((*dims, *_PLACE), maps.unflatten(-1, model.grid), name)
        result["encoder_prefix"] = variable(dims, prefix, f"{name} to class token and registers")
    if decoder:
        num_prefix = model.num_decoder_prefix
        maps = torch.stack(decoder)[:, :, num_prefix:]
        dims, name = ("decoder_layer", "decoder_head", "query"), "decoder attention of the patch"
        result["decoder"] = variable((*dims, *_PLACE), maps[..., num_prefix:].unflatten(-1, model.grid), name)
        result["decoder_prefix"] = variable(dims, maps[..., :num_prefix].sum(-1), f"{name} to the class token")
    coordinates = {"view": list(VIEWS), "layer": list(range(1, len(model.blocks) + 1))}
    coordinates["decoder_layer"] = list(range(1, len(model.decoder_blocks) + 1))
    known = {dim for values in result.values() for dim in values.dims}
    return xr.Dataset(
        result,
        {name: at for name, at in coordinates.items() if name in known},
        {f"{name}_problem": problem for name, problem in problems.items() if problem is not None},
    )


def watched(batch: Batch, mask: Mask, *, encoder: bool, decoder: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Attention maps [h q k] of every encoder block, and of every decoder block, in one pass; none where not asked for."""
    model = batch.model
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    with ExitStack() as stack:
        for blocks, maps, is_wanted in zip(
            (model.blocks, model.decoder_blocks), found, (encoder, decoder), strict=True
        ):
            if is_wanted:
                stack.enter_context(watch_attention(blocks, lambda layer, seen, maps=maps: maps.append(seen[0])))
        if decoder:
            model(batch.images, mask)
        elif encoder:
            model.encode(batch.images, mask)
    return found


def _spread(
    model: MaskedImageModel, maps: list[Tensor], mask: Mask
) -> tuple[Float[Tensor, "l h n n"], Float[Tensor, "l h n"]]:
    """Rows and columns of patches at their places, and what goes to prefix tokens; NaN where there are no tokens."""
    layers, num_prefix = torch.stack(maps)[:, :, model.num_prefix :], model.num_prefix
    to_patches, to_prefix = layers[..., num_prefix:], layers[..., :num_prefix].sum(-1)
    if model.encodes_hidden:
        return to_patches, to_prefix
    seen, num_patches = mask.visible[0], model.num_patches
    spread = layers.new_full((*layers.shape[:2], num_patches, num_patches), math.nan)
    spread[:, :, seen[:, None], seen] = to_patches
    prefix = layers.new_full((*layers.shape[:2], num_patches), math.nan)
    prefix[:, :, seen] = to_prefix
    return spread, prefix


def has_token(model: MaskedImageModel, mask: Mask, patch: int) -> bool:
    """Whether the encoder has a token for this patch under this mask."""
    return model.encodes_hidden or not bool(mask.is_hidden[0, patch])


def traced(batch: Batch, mask: Mask) -> tuple[Traced, Traced]:
    """The passes that `receptive_field` differentiates: of the full image, and of the masked one up to its prediction. They are
    the same for every patch and layer, so whoever asks for several keeps them."""
    model, whole = batch.model, Mask.none(1, batch.model.num_patches, batch.images.device)
    return (
        Traced(model, batch.images, whole, to_prediction=False),
        Traced(model, batch.images, mask, to_prediction=model.has_prediction),
    )


def receptive_field(
    batch: Batch, mask: Mask, patch: int, layer: int, passes: tuple[Traced, Traced] | None = None
) -> xr.Dataset:
    """`field` [target y x]: the channels' sum of |gradient| of the patch's token after block `layer` (from 1), on the full and
    on the masked image, and of its prediction, each times the probe's random signs; and `half_radius` [target] of the disc
    around the patch that holds half of it. NaN for the token of a patch that is hidden from the encoder. `passes` are
    `traced(batch, mask)`, if they are there already."""
    model = batch.model
    signs = random_signs(model, batch.seed)
    full, masked = passes or traced(batch, mask)
    whole = Mask.none(1, model.num_patches, batch.images.device)
    fields = {target: torch.full(model.config.image_size, math.nan, dtype=torch.float64) for target in TARGETS}
    for target, one, seen in ((TARGETS[0], full, whole), (TARGETS[1], masked, mask)):
        if has_token(model, seen, patch):
            index = int(token_index(model, seen, patch))
            gradient = one.of_token(layer - 1, lambda out, index=index: out[:, index] @ signs["token"].to(out))
            fields[target] = absolute(gradient)
    if model.has_prediction:
        fields[TARGETS[2]] = absolute(masked.of_prediction(lambda pred: pred[:, patch] @ signs["prediction"].to(pred)))
    else:
        del fields[TARGETS[2]]
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
    """`loss`, `invariance` and `local_consistency` of each patch over `num_masks` masks of this image, and `times_hidden`; NaN
    where no mask hides the patch. `image_...` are the image's own: means over all that is hidden. The terms between images
    (global consistency, offset) need more than one."""
    model, grid = batch.model, batch.model.grid
    masks, out = batch.masked(strategy, num_masks)
    hidden = masks.is_hidden[None]
    parts = decompose_step(out.pred[None].double(), model.targets(batch.images).double(), hidden)
    count, units = parts.count[0], error_units(model)
    result = {"times_hidden": variable(_PLACE, count.reshape(grid), "masks that hide the patch")}
    for name, values in picture_maps(parts).items():
        words = name.replace("_", " ")
        shown = torch.where(count > 0, values[0], math.nan).reshape(grid)
        result[name] = variable(_PLACE, shown, words, units)
        result[f"image_{name}"] = variable((), (values[0] * count).sum() / count.sum(), f"{words} of the image", units)
    return xr.Dataset(result, attrs={"num_masks": num_masks, "mask": strategy.model_dump_json()})
