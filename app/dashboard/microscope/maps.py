"""What the microscope shows of an image and of a patch, ready to be sent: pictures, attention,
receptive fields, contrast terms, each with its words. Nothing is sent from here; each view is drawn
once (`Inspection.view`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from lcmae.app.dashboard.components.patch_board import Tile
from lcmae.app.dashboard.live import inspection
from lcmae.app.dashboard.live.inspection import Inspection
from lcmae.app.dashboard.microscope import queries
from lcmae.app.figures import microscope as figures
from lcmae.app.figures import patch_maps, style
from lcmae.app.figures.patch_maps import Maps


@dataclass(frozen=True)
class Pictured:
    """Pictures of one image on which patches are picked."""

    panels: Sequence[Tile]
    is_hidden: Sequence[bool]
    words: Sequence[str]
    """What each patch is, in raster order."""

    @property
    def num_bytes(self) -> int:
        """Of the pictures."""
        return sum(len(panel.source) for panel in self.panels)


@dataclass(frozen=True)
class Mapped:
    """Maps with their words."""

    title: str
    caption: str
    maps: Maps
    panels: Sequence[Tile]
    """The maps as pictures."""

    @property
    def num_bytes(self) -> int:
        """Of maps and pictures."""
        return sum(len(panel.source) for panel in self.panels) + sum(one.nbytes for one in self.maps.panels.values())


@dataclass(frozen=True)
class Nothing:
    """There is no such view of this patch."""

    num_bytes: int = 0


def steps(inspected: Inspection) -> list[Callable[[], object]]:
    """Everything that can be shown, one call a view."""
    views: list[Callable[[Inspection], object]] = [pictures, encoder_attention, receptive_field, query_maps]
    if inspected.loaded.model.has_prediction:
        views += [decoder_attention, contrast]
    return [partial(view, inspected) for view in views]


def every(inspected: Inspection) -> dict[str, Mapped]:
    """All maps that this model has, by name."""
    found: dict[str, Mapped | None] = {}
    if inspected.loaded.model.has_prediction:
        found |= {"decoder": decoder_attention(inspected), "contrast": contrast(inspected)}
    found |= {"encoder": encoder_attention(inspected), "field": receptive_field(inspected)}
    found |= {"queries": query_maps(inspected)}
    return {name: mapped for name, mapped in found.items() if mapped is not None}


def pictures(inspected: Inspection) -> Pictured:
    """Image, mask, reconstruction and errors."""
    return inspected.view("pictures", inspected.picture.name, lambda: _pictures(inspected))


def _pictures(inspected: Inspection) -> Pictured:
    shown = inspected.pictures()
    hidden = shown["hidden"].values.reshape(-1) > 0
    original = style.png(shown["original"].values)
    panels = [
        Tile("Image", original, f"the image, {name_of(inspected)}"),
        Tile(f"Masked ({hidden.mean():.0%} hidden)", original, "the image without its hidden patches", "solid"),
    ]
    words = ["hidden" if is_hidden else "visible" for is_hidden in hidden]
    if "reconstruction" in shown:
        own = style.png(shown["reconstruction"].values)
        panels.append(Tile("Reconstruction", own, "visible patches pasted, hidden ones predicted"))
        if "reconstruction_leaky" in shown:
            leaky = style.png(shown["reconstruction_leaky"].values)
            alt = "the same, with the true mean and deviation of hidden patches"
            panels.append(Tile("With true statistics (leaks)", leaky, alt))
        errors = shown["picture_error"].where(shown["hidden"] == 1)
        unit = str(shown["picture_error"].attrs["units"])
        panels.append(
            Tile(
                "Error",
                style.png(patch_maps.coloured(errors)),
                "squared error of each hidden patch",
                scale=("0", f"{patch_maps.largest(errors):.3g}", unit),
            )
        )
        values, nearest = errors.values.reshape(-1), shown["nearest_error"].values.reshape(-1)
        words = [
            f"{word}, error {value:.3g} (a copy of the nearest visible patch: {copy:.3g})" if word == "hidden" else word
            for word, value, copy in zip(words, values, nearest, strict=True)
        ]
    return Pictured(panels, hidden.tolist(), words)


def name_of(inspected: Inspection) -> str:
    """The image's file, and its class."""
    picture = inspected.picture
    return f"{picture.name}, class {picture.label}" if picture.label else picture.name


def decoder_attention(inspected: Inspection) -> Mapped | None:
    """None for a model without a decoder of blocks, or whose attention cannot be seen."""
    settings = (inspected.patch, inspected.decoder_layer, inspected.chosen.decoder_head)
    return _view(inspected, "decoder", settings, _decoder_attention)


def _decoder_attention(inspected: Inspection) -> tuple[str, str, Maps] | None:
    if not inspected.loaded.decoder[0]:
        return None
    found, layer = inspected.attention(), inspected.decoder_layer
    if "decoder" not in found:
        return None
    rest = float(found["decoder_prefix"].sel(decoder_layer=layer).mean())
    is_hidden = pictures(inspected).is_hidden[inspected.patch]
    caution = "" if is_hidden else " This patch is visible: its own prediction was never trained."
    return (
        f"Decoder attention, layer {layer}",
        f"Where the decoder looks from patch {inspected.patch} to predict it. {rest:.0%} goes to the class token, mean of "
        f"heads.{caution}",
        figures.attention(found["decoder"].sel(decoder_layer=layer), inspected.patch, inspected.chosen.decoder_head),
    )


def encoder_attention(inspected: Inspection) -> Mapped | None:
    """Under the mask where the patch has a token there, else on the full image; None where
    attention cannot be seen."""
    settings = (inspected.patch, inspected.encoder_layer, inspected.chosen.encoder_head)
    return _view(inspected, "encoder", settings, _encoder_attention)


def _encoder_attention(inspected: Inspection) -> tuple[str, str, Maps] | None:
    found, layer = inspected.attention(), inspected.encoder_layer
    if "encoder" not in found:
        return None
    has_token = bool(found["encoder"].sel(view="masked", layer=layer).notnull().any())
    view = "masked" if has_token else "full"
    where = "under this mask" if has_token else "in the full image, since the encoder does not see it under this mask"
    rest = float(found["encoder_prefix"].sel(view=view, layer=layer).mean())
    return (
        f"Encoder attention, layer {layer}",
        f"Where the encoder looks from patch {inspected.patch}, {where}. {rest:.0%} goes to class token and registers, mean of "
        "heads.",
        figures.attention(found["encoder"].sel(view=view, layer=layer), inspected.patch, inspected.chosen.encoder_head),
    )


def receptive_field(inspected: Inspection) -> Mapped | None:
    """None where every gradient is 0, or the encoder has no blocks."""
    return _view(inspected, "field", (inspected.patch, inspected.encoder_layer), _receptive_field)


def _receptive_field(inspected: Inspection) -> tuple[str, str, Maps] | None:
    if not inspected.loaded.encoder[0]:
        return None
    maps = figures.receptive_field(inspected.receptive_field(), inspected.patch, inspected.grid)
    return maps and (
        "Effective receptive field",
        f"Size of the gradient, at every pixel, of the patch's token after layer {inspected.encoder_layer} (on the full "
        "image, and under this mask where it is visible) and of its prediction, along random signs; each map to its own "
        "maximum. Half of the gradient lies within the dotted disc.",
        maps,
    )


def query_maps(inspected: Inspection) -> Mapped | None:
    """None where no result of `transfer` has trained queries of this checkpoint."""
    stored = queries.stored(inspected)
    if stored is None:
        return None
    settings = (inspected.patch, inspected.encoder_layer, stored.which)
    return _view(inspected, "queries", settings, partial(_query_maps, stored))


def _query_maps(stored: queries.Queries, inspected: Inspection) -> tuple[str, str, Maps]:
    layer = stored.layer(inspected.encoder_layer)
    found = inspected.query_maps(layer, stored.of(layer), stored.which)
    none = "" if layer == inspected.encoder_layer else f" Of layer {inspected.encoder_layer} none were trained."
    return (
        f"Queries of the attentive probe, layer {layer}",
        f"Where trained queries attend in the full image to classify it: their mean, and those that are most concentrated "
        f"here. {figures.query_words(found)} {stored.words(layer)}{none} They belong to the image, not to the patch.",
        figures.query_maps(found, inspected.patch),
    )


def contrast(inspected: Inspection) -> Mapped:
    """Of every patch; the picked one is marked."""
    found = _view(inspected, "contrast", inspected.patch, _contrast)
    assert found is not None
    return found


def _contrast(inspected: Inspection) -> tuple[str, str, Maps]:
    return (
        "Contrast terms",
        f"For each patch, over {inspection.NUM_MASKS} masks of the strategy: its loss; how much the mask alone changes its "
        "prediction (invariance); how badly it is told apart from the image's other patches (local consistency). Empty where "
        "no mask hides the patch. Terms between images need more than one.",
        figures.contrast(inspected.contrast(), inspected.patch),
    )


def _view(
    inspected: Inspection, what: str, settings: object, draw: Callable[[Inspection], tuple[str, str, Maps] | None]
) -> Mapped | None:
    def drawn() -> Mapped | Nothing:
        found = draw(inspected)
        return Nothing() if found is None else Mapped(*found, _panels(found[0], found[2]))

    found = inspected.view(what, settings, drawn)
    return found if isinstance(found, Mapped) else None


def _panels(title: str, shown: Maps) -> list[Tile]:
    return [
        Tile(
            heading,
            style.png(patch_maps.coloured(values, shown.top)),
            f"{title}: {heading}",
            disc=shown.disc(heading),
        )
        for heading, values in shown.panels.items()
    ]
