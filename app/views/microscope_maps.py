"""The microscope's maps of a patch, with their words: attention, receptive fields, contrast terms. Without any streamlit."""

from dataclasses import dataclass

from app import sight
from app.figures import microscope as figures
from app.figures.patch_maps import Maps
from app.sight import Sight


@dataclass(frozen=True)
class Mapped:
    """Maps with their words."""

    title: str
    caption: str
    maps: Maps


def every(seen: Sight) -> dict[str, Mapped]:
    """All that this model has, by name."""
    found: dict[str, Mapped | None] = {}
    if seen.loaded.model.has_prediction:
        found |= {"decoder": decoder_attention(seen), "contrast": contrast(seen)}
    found["encoder"] = encoder_attention(seen)
    if found["encoder"] is not None:
        found["field"] = receptive_field(seen)
    return {name: mapped for name, mapped in found.items() if mapped is not None}


def decoder_attention(seen: Sight) -> Mapped | None:
    """None for a model without a decoder of blocks, or whose attention cannot be seen."""
    if not seen.loaded.decoder[0]:
        return None
    found, layer = seen.attention(), seen.decoder_layer
    if "decoder" not in found:
        return None
    rest = float(found["decoder_prefix"].sel(decoder_layer=layer).mean())
    is_hidden = bool(seen.pictures()["hidden"].values.reshape(-1)[seen.patch])
    caution = "" if is_hidden else " This patch is visible: its own prediction was never trained."
    return Mapped(
        f"Decoder attention, layer {layer}",
        f"Where the decoder looks from patch {seen.patch} to predict it. {rest:.0%} goes to the class token, mean of "
        f"heads.{caution}",
        figures.attention(found["decoder"].sel(decoder_layer=layer), seen.patch, seen.chosen.decoder_head),
    )


def encoder_attention(seen: Sight) -> Mapped | None:
    """Under the mask where the patch has a token there, else on the full image; None where attention cannot be seen."""
    found, layer = seen.attention(), seen.encoder_layer
    if "encoder" not in found:
        return None
    has_token = bool(found["encoder"].sel(view="masked", layer=layer).notnull().any())
    view = "masked" if has_token else "full"
    where = "under this mask" if has_token else "in the full image, since the encoder does not see it under this mask"
    rest = float(found["encoder_prefix"].sel(view=view, layer=layer).mean())
    return Mapped(
        f"Encoder attention, layer {layer}",
        f"Where the encoder looks from patch {seen.patch}, {where}. {rest:.0%} goes to class token and registers, mean of "
        "heads.",
        figures.attention(found["encoder"].sel(view=view, layer=layer), seen.patch, seen.chosen.encoder_head),
    )


def receptive_field(seen: Sight) -> Mapped | None:
    """None where every gradient is 0."""
    maps = figures.receptive_field(seen.receptive_field(), seen.patch, seen.grid)
    return maps and Mapped(
        "Effective receptive field",
        f"Size of the gradient, at every pixel, of the patch's token after layer {seen.encoder_layer} (on the full image, and "
        "under this mask where it is visible) and of its prediction, along random signs; each map to its own maximum. Half of "
        "the gradient lies within the dotted disc.",
        maps,
    )


def contrast(seen: Sight) -> Mapped:
    """Of every patch; the picked one is marked."""
    return Mapped(
        "Contrast terms",
        f"Of each patch, over {sight.NUM_MASKS} masks of the strategy: its loss; what the mask alone changes in it "
        "(invariance); how badly it is told from the image's other patches (local consistency). Empty where no mask hides "
        "the patch. Terms between images need more than one.",
        figures.contrast(seen.contrast(), seen.patch),
    )
