"""The answer card of one run: six headline numbers beside their baselines, three findings, and its
attention over a photograph. Made of the answers that the probes' own pages give."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from PIL import Image
from plotly.colors import get_colorscale, sample_colorscale

from lcmae.app.figures import (
    decoder_attention,
    encoder_attention,
    local_contrast,
    reconstruction,
    second_order,
    spectrum,
    style,
)
from lcmae.app.figures.answers import Answer, Tile, beside, number

MOST_FINDINGS = 3
MOST_HEADLINES = 6
FURTHER = ("encoder_attention", "spectrum")
"""Probes that any vision transformer has, whose other tiles stand in for what is not stored."""

ANSWERS: Mapping[str, Callable[[Mapping[str, xr.Dataset]], Answer]] = {
    "second_order": second_order.answer,
    "spectrum": spectrum.answer,
    "encoder_attention": encoder_attention.answer,
    "reconstruction": reconstruction.answer,
    "local_contrast": local_contrast.answer,
    "decoder_attention": decoder_attention.answer,
}
"""By probe, in the order in which findings are picked."""


@dataclass(frozen=True)
class Finding:
    """A sentence, and the probe whose page has the rest."""

    probe: str
    sentence: str


def headlines(results: Mapping[str, xr.Dataset]) -> list[Tile]:
    """Six tiles of one run's results by probe, or as many as are stored: one of each probe, then
    further ones of the first. Beside each stands what an untrained network scores, or the best
    linear predictor."""
    found: list[Tile] = []
    if (result := results.get("reconstruction")) is not None:
        levels = [beside("untrained", number(result, "error", network="untrained"))]
        levels += [beside("linear predictor", number(result, "error_linear"))]
        tile = number(result, "error").tile("error of hidden patches", ", ".join(filter(None, levels)))
        found.append(tile)
    if (result := results.get("second_order")) is not None:
        found += [
            _beside(second_order.answer({"": result}).tiles, "explained by the network", "by the best linear predictor")
        ]
    if (result := results.get("spectrum")) is not None:
        found += spectrum.answer({"": result}).tiles[:1]
    if (result := results.get("encoder_attention")) is not None:
        found += encoder_attention.answer({"": result}).tiles[:1]
    if (result := results.get("decoder_attention")) is not None:
        tiles = decoder_attention.answer({"": result}).tiles
        found += [replace(tile, label=f"decoder: {tile.label}") for tile in tiles[:1]]
    if (result := results.get("local_contrast")) is not None:
        name = "term_unbiased" if "term_unbiased" in result else "term"
        untrained = number(result, name, part="invariance", network="untrained")
        found.append(
            number(result, name, part="invariance").tile("moved by the mask alone", beside("untrained", untrained))
        )
    found = [tile for tile in found if not tile.value.startswith("–")]
    labels = {tile.label.removeprefix("decoder: ") for tile in found}
    for probe in FURTHER:
        if probe in results:
            found += [tile for tile in ANSWERS[probe]({"": results[probe]}).tiles if tile.label not in labels]
    return found[:MOST_HEADLINES]


def _beside(tiles: tuple[Tile, ...], own: str, other: str) -> Tile:
    """One tile, with the number of another one beside it."""
    by_label = {tile.label: tile for tile in tiles}
    if own not in by_label:
        return Tile(own, "–")
    words = f"best linear predictor {by_label[other].value}" if other in by_label else ""
    return replace(by_label[own], baseline=words)


def findings(results: Mapping[str, xr.Dataset]) -> list[Finding]:
    """Up to three sentences, each with its interval, of the probes that are stored."""
    known = [probe for probe in ANSWERS if probe in results]
    return [Finding(probe, ANSWERS[probe]({"": results[probe]}).sentence) for probe in known[:MOST_FINDINGS]]


def attention(result: xr.Dataset, count: int = 4) -> go.Figure:
    """The first photographs, and over each what the encoder's class token (without one, the mean
    patch) attends to: mean over heads of the first, the middle and the last layer, each map from 0
    to its own maximum."""
    layers = result["layer"].values.tolist()
    chosen = list(dict.fromkeys((layers[0], layers[(len(layers) - 1) // 2], layers[-1])))
    photographs = list(result["original"].values[:count])
    columns: list[tuple[str, list[np.ndarray]]] = [("photograph", photographs)]
    for layer in chosen:
        maps = result["attention_map"].sel(layer=layer).mean("head").values[:count]
        columns.append(
            (f"layer {layer}", [laid_over(photograph, one) for photograph, one in zip(photographs, maps, strict=True)])
        )
    return style.mosaic(columns)


def laid_over(photograph: np.ndarray, values: np.ndarray, opacity: float = 0.65) -> np.ndarray:
    """A map [row column] in colours over the grey photograph [y x channel]: uint8 [y x 3]; stronger
    where it is larger."""
    pixels = photograph[..., :3] if photograph.shape[-1] >= 3 else photograph[..., :1].repeat(3, axis=-1)
    height, width = max(pixels.shape[0], 128), max(pixels.shape[1], 128)
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    grey = np.asarray(small.convert("L"), dtype=float)[..., None].repeat(3, axis=-1)
    top = float(np.nanmax(values, initial=0.0)) or 1.0
    share = np.asarray(np.nan_to_num(values) / top, dtype=np.float32).clip(0, 1)
    # bilinear, as attention is said of a patch's neighbourhood, not of its edge
    fine = np.asarray(Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR), dtype=float)
    table = np.array(
        [_rgb(str(colour)) for colour in sample_colorscale(get_colorscale("Inferno"), np.linspace(0, 1, 256).tolist())]
    )
    weight = opacity * (0.25 + 0.75 * fine[..., None])
    return ((1 - weight) * grey + weight * table[(fine * 255).round().astype(int)]).round().astype(np.uint8)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
