"""The page of the second_order probe."""

from collections.abc import Iterator

import xarray as xr

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import second_order as figures
from lcmae.probes.statistics import intervals


def answer(name: str, result: xr.Dataset) -> str:
    """One run's answer at its own ratio, in a sentence with intervals."""
    ratio = float(result.attrs["own_ratio"])
    here = result.sel(ratio=ratio)
    own, linear, wiener = (float(here["r2"].sel(network=network)) for network in ("trained", "linear", "wiener"))
    low, high = (float(end) for end in intervals.ends(result, "gain_over_linear", ratio=ratio))
    verdict = (
        "it passes the linear predictor"
        if low > 0
        else "a linear predictor explains more than the network"
        if high < 0
        else "it cannot be told from the linear predictor"
    )
    return (
        f"{name} at ratio {ratio:g} explains {own:.1%} of the variance about the position mean, the best fixed linear predictor "
        f"{linear:.1%}, the Wiener filter of each mask {wiener:.1%}: {verdict} (difference {low:+.3f} to {high:+.3f})."
    )


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Explained share, gains, where, and shared directions."""
    answers = " ".join(answer(name, result) for name, result in results.items())
    yield Panel(
        "What is explained, by masking ratio",
        f"{answers} 1 is a perfect prediction of hidden patches, 0 the mean of each position over the training images. Grey: "
        "what covariance alone reaches, fitted on the other split; the nearest visible patch may lie below the picture.",
        figures.explained(results),
    )
    yield Panel(
        "Gain over linear prediction",
        "Explained share of the network less that of the linear predictor that does not see the mask (dashed) and of the Wiener "
        "filter, the best linear predictor of each mask (solid). Above 0 the network knows what second-order statistics do not "
        "say; for Gaussian images nothing can lie above the Wiener filter.",
        figures.gains(results),
    )
    yield Panel(
        "Where the network gains",
        "At the run's own ratio: error of the linear predictor less the network's, as a share of the position's variance. "
        "Negative where the linear predictor is better.",
        figures.gain_maps(results),
    )
    yield Panel(
        "Directions that patches share",
        "What a linear code of the visible patches explains of all patches, direction by direction: the closed form of the "
        "loss on all pixels. A steep fall means that few directions carry what patches know of each other.",
        figures.shared(results),
    )


PAGE = ProbePage(
    probe="second_order",
    summary="What the network learned beyond patch covariance: its masked error beside the best linear predictors of the same "
    "hidden patches. Closed forms are lcmae's own, in the family of linear masked autoencoders (Bisulco et al., 2508.15404); "
    "the baseline that a reviewer asks for first.",
    panels=panels,
    terms=("standard error",),
)
