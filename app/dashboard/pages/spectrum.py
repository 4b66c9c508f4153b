"""The page of the spectrum probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results, ask_in_words
from lcmae.app.figures import spectrum as figures
from lcmae.app.figures.baselines import caption as of_baselines
from lcmae.probes.results.words import called

TITLES = {
    "Effective rank": "effective_rank",
    "RankMe": "rankme",
    "Participation ratio": "participation_ratio",
    "Intrinsic dimension": "intrinsic_dimension",
    "U-MAE's uniformity": "uniformity",
    "Uniformity without the diagonal": "uniformity_of_others",
    "Uniformity of Wang and Isola": "wang_isola",
    "alpha-ReQ": "alpha_req",
}
"""Numbers by the words that a person picks."""


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """One number of every feature and view, LiDAR, then the spectra of one feature."""
    title = choose("number", list(TITLES))
    number = TITLES[title]
    # a setting may differ between runs (RankMe centred or not): then the caption says the
    # convention of each
    conventions = list(dict.fromkeys(str(result[number].attrs.get("convention", "")) for result in results.values()))
    yield Panel(
        title,
        "For class token, mean token and single tokens, on whole images and under the first mask, with 95 % intervals over images "
        f"(jackknife). Convention: {' / '.join(conventions)}." + of_baselines(results, number),
        figures.numbers(results, number),
    )
    yield Panel(
        "LiDAR rank",
        "How many directions tell images apart, after the directions in which masks move an image are scaled down; the views "
        "are masks of one image. At most the number of images less one." + of_baselines(results, "lidar"),
        figures.lidar(results),
    )
    feature = ask_in_words(choose, "feature", figures.features(results))
    view = ask_in_words(choose, "view", ["full", "masked"])
    yield Panel(
        f"Singular values: {called(feature)}, {called(view)}",
        "For the vectors as they are (uncentred, unless the probe is set to centre), over the root of their number. A cliff "
        "is dimensional collapse; so is a first value far above the others." + of_baselines(results, "singular_value"),
        figures.spectra(results, "singular_value", feature, view),
    )
    yield Panel(
        f"Shares of the variance: {called(feature)}, {called(view)}",
        "Eigenvalues of the centred covariance, scaled to sum 1." + of_baselines(results, "variance_share"),
        figures.spectra(results, "variance_share", feature, view),
    )


PAGE = ProbePage(
    probe="spectrum",
    summary="How many directions pooled vectors and tokens really use: a model that maps all images into a few has collapsed "
    "in the others. "
    "Every number has its source (U-MAE, RankMe, alpha-ReQ, LiDAR, TwoNN) and a convention that is printed with it; others "
    "publish other numbers under the same names.",
    panels=panels,
    answer=figures.answer,
    terms=("effective rank", "participation ratio", "intrinsic dimension", "standard error"),
)
