"""The page of the fidelity probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import fidelity as figures


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """One measure, first on unmasked images, then by masking ratio."""
    measure = figures.MEASURES[choose("measure", list(figures.MEASURES))]
    yield Panel(
        "Unmasked images, every patch predicted",
        "The setting of Kong et al.: nothing is hidden, and the whole picture is the model's prediction; 95 % intervals over "
        "images. Squared errors are those of all pixels. An MAE is never trained to predict what it sees, so a bad value here "
        "is not a failure of training.",
        figures.unmasked(results, measure),
    )
    yield Panel(
        "By masking ratio, visible patches pasted",
        "Coloured lines: networks (dashed: fresh weights; short dashes: de-normalised with the hidden patches' true "
        "statistics, which LEAKS the answer). Grey: copies of the nearest visible patch (dash-dotted), the mean visible "
        "colour (dotted) and, for squared errors, the mean of the images at each position (dashed). "
        "Visible pixels have no error, so whole pictures improve as the ratio falls; the squared error of hidden pixels "
        "counts these alone.",
        figures.by_ratio(results, measure),
    )


PAGE = ProbePage(
    probe="fidelity",
    summary="How close reconstructed pictures are to the images, in pixels from 0 to 1, beside predictions that need no "
    "learning. SSIM, PSNR and squared error on unmasked images are the low-level evaluations of Kong et al. (arXiv "
    "2306.04898); the baselines and the masked pictures are lcmae's.",
    panels=panels,
    answer=figures.answer,
    terms=("SSIM", "PSNR", "nearest-patch baseline", "normalised targets", "leaky picture", "standard error"),
)
