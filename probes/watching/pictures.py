"""What a model makes of single images, as pictures and maps: reconstructions, errors, parts of the
loss."""

import torch
import xarray as xr
from einops import rearrange
from torch import Tensor

from lcmae.contrast import Decomposition
from lcmae.masking import Mask
from lcmae.models import MaskedImageModel, take
from lcmae.patches import patch_statistics, patchify, unpatchify
from lcmae.probes.baselines.pixels import nearest_visible
from lcmae.probes.statistics.variables import variable
from lcmae.shapes import Float

_IMAGE = ("picture", "y", "x", "channel")
_PICTURE_DIMS = {
    "original": _IMAGE,
    "hidden": ("picture", "row", "column"),
    "reconstruction": _IMAGE,
    "reconstruction_leaky": _IMAGE,
    "picture_error": ("picture", "row", "column"),
}
_PICTURE_NAMES = {
    "original": "image",
    "hidden": "whether the patch was hidden",
    "reconstruction": "visible patches pasted, hidden ones predicted",
    "reconstruction_leaky": "the same, de-normalised with the hidden patches' true mean and deviation (leaks the answer)",
    "picture_error": "mean squared error of the patch, in target space",
}


def labelled(pictures: dict[str, Tensor], units: str) -> dict[str, xr.Variable]:
    """What `draw` gives, with dims and names; `units` are those of squared errors."""
    other_units = {"hidden": "1", "picture_error": units}
    return {
        name: variable(_PICTURE_DIMS[name], values, _PICTURE_NAMES[name], other_units.get(name, "pixel value"))
        for name, values in pictures.items()
    }


def draw(
    model: MaskedImageModel, images: Float[Tensor, "b c h w"], mask: Mask, pred: Float[Tensor, "b n p"]
) -> dict[str, Tensor]:
    """Pictures as uint8 [b h w k] (`MaskedImageModel.to_picture`): the image, its reconstruction
    with visible patches pasted, and error and mask maps."""
    patches = patchify(images, model.patch_size)
    target = model.targets(images)
    hidden = mask.is_hidden[..., None]
    rows, columns = model.grid

    def picture(content: Float[Tensor, "b n p"]) -> Tensor:
        pasted = torch.where(hidden, content, patches)
        return model.to_picture(unpatchify(pasted, model.grid, model.patch_size))

    pictures = {
        "original": picture(patches),
        "hidden": rearrange(mask.is_hidden, "b (r c) -> b r c", r=rows, c=columns).to(torch.uint8),
        "picture_error": rearrange((pred - target).square().mean(-1), "b (r c) -> b r c", r=rows, c=columns),
    }
    if model.config.normalize_targets:
        mean, std = patch_statistics(patches)
        neighbour = nearest_visible(mask, model.grid)
        pictures["reconstruction"] = picture(pred * take(std, neighbour) + take(mean, neighbour))
        pictures["reconstruction_leaky"] = picture(pred * std + mean)
    else:
        pictures["reconstruction"] = picture(pred)
    return pictures


def picture_maps(parts: Decomposition) -> dict[str, Float[Tensor, "b n"]]:
    """Loss, invariance and local consistency of each patch of each image: means over the masks that
    hide it, 0 where none does."""
    count = parts.count.clamp(min=1)
    maps = {
        "loss": parts.loss_map,
        "invariance": parts.invariance_map,
        "local_consistency": parts.local_consistency_map,
    }
    return {name: values / count for name, values in maps.items()}
