"""The page of the hierarchy probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results, ask_in_words
from lcmae.app.figures import hierarchy as figures
from lcmae.probes.results.words import called

MOST = 6
"""Runs that a figure with a row for each run can take; of more, only the one that was picked is
drawn."""


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Prediction, prediction beside measurement, then what is decoded, by level and by block."""
    name = choose("tree of", list(results))
    end = choose("shared set", list(figures.ENDS_SAY))
    yield Panel(
        f"Level of what visible and hidden parts share: {name}",
        "Predicted without training, a mean over masks of each ratio and unit: the smallest set of latents that separates "
        "what is visible from what is hidden, and its mean level, from 1 (textures) up to the class. Where several sets are "
        "smallest, the highest or the lowest one is taken.",
        figures.predicted(results[name], end),
    )
    features = _features(results)
    feature = ask_in_words(choose, "read from", features)
    if figures.random_runs(results):
        words = choose("measured", [words for words, name in figures.MEASURES.items() if _has(results, name)])
        yield Panel(
            "Prediction and measurement side by side",
            "Above: share of each level's latents that the mask shares (solid: highest smallest set, dotted: lowest). Below: "
            f"how well each level is decoded from frozen features ({called(feature)}), a dot for each picked run at the ratio and "
            "unit of its mask, with 95 % intervals over images, given the decoders. The theory's "
            "latents are identified up to any one-to-one map; decoding here is linear. Use runs of `lcmae compare ... "
            "--own-masks`; runs with another tree than the "
            "first are left out.",
            figures.side_by_side(results, feature, figures.MEASURES[words]),
            is_wide=True,
        )
    few, which = (results, "") if len(results) <= MOST else ({name: results[name]}, f": {name}")
    yield Panel(
        f"What can be read off the features{which}",
        "Accuracy of kinds and R2 of attributes on one scale, 95 % intervals over images, given the decoders. "
        "Open: the same network with fresh "
        "weights; grey: the pixels themselves.",
        figures.decodability(few, feature),
    )
    with_layers = {name: result for name, result in few.items() if "layer_skill" in result}
    if with_layers:
        levels = next(iter(with_layers.values()))["level"].values.tolist()
        level = choose("level", levels)
        yield Panel(
            f"Where in the encoder: {level}{', ' + name if which else ''}",
            "Mean token after each block. Dashed: the same network with fresh weights. A ring marks the highest block of "
            "each run.",
            figures.by_layer(with_layers, level),
        )


def _features(results: Results) -> list[str]:
    """Features that every run has, the mean token first."""
    first, *others = (
        [name for name in ("mean", "cls", "patch") if name in r["feature"].values] for r in results.values()
    )
    return [name for name in first if all(name in other for other in others)]


def _has(results: Results, variable: str) -> bool:
    return all(variable in result for result in results.values())


PAGE = ProbePage(
    probe="hierarchy",
    summary="Images were made from a tree of known latents (`--data hierarchy`): which of them do the visible and the hidden "
    "part share, and which can be read off the features? The theory is that of Kong et al. (CVPR 2023, 2306.04898); the "
    "images, the minimum cut that stands for their Theorem 1, and the linear decoding are *lcmae's own*.",
    panels=panels,
    answer=figures.answer,
    terms=("latent", "shared latents", "decodability", "masking ratio", "standard error"),
)
