"""The page of the local_contrast probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import local_contrast as figures
from lcmae.app.figures import style
from lcmae.app.figures.baselines import caption as of_baselines


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Parts against collapse for every run, tokens and positions, then maps of one run."""
    kind = ESTIMATES if figures.estimated(results) else EXACT
    term, share = ("term_unbiased", "token_share_unbiased") if kind == ESTIMATES else ("term", "token_share")
    for unit, group in style.by_units(results, "term"):
        yield Panel(
            f"What the loss is made of{unit}",
            f"Solid: the masked loss of the run, split into four parts. {kind} Hatched: the same parts for the best constant "
            "prediction, the level of full collapse; a model that always predicts one patch ends there."
            + of_baselines(group, term, "Fainter"),
            figures.terms(group),
        )
        yield Panel(
            f"Each part against its collapse level{unit}",
            "Dots with 95 % intervals over images; a grey bar marks the part's collapse level, a diamond what "
            f"the mean patch of each position would have. A dot left of its bar means that the run has learned something in "
            f"this part; invariance and offset are zero at collapse, so any distance there is a cost. {kind}"
            + of_baselines(group, term),
            figures.terms_with_errors(group),
        )
    yield Panel(
        "What makes encoder tokens differ",
        "Shares of the tokens' variance: from the mask (the same patch seen under other masks), from the patch within its "
        f"image, from the image. {kind}" + of_baselines(results, share, "Fainter"),
        figures.token_share(results),
    )
    yield Panel(
        "What position alone explains",
        "Share of the variance that a mean per position on the grid explains, without looking at the image."
        + of_baselines(results, "position_share"),
        figures.position_share(results),
    )
    name = choose("maps of", list(results))
    result = results[name]
    yield Panel(
        f"Where it happens: {name}",
        f"Means over images and masks by position, where the patch was hidden. {kind}",
        figures.position_maps(result),
        is_wide=True,
    )
    if "original" in result:
        number = result.sizes["picture"]
        first = choose("first picture", list(range(0, number, 4)))
        yield Panel(
            f"On the images: {name}",
            "Stored images beside the loss and its parts, means over the masks that hid the patch. Here the split is exact, "
            "over the masks that were drawn: for a single image an estimate would be too noisy.",
            figures.picture_maps(result, first),
            is_wide=True,
        )


ESTIMATES = (
    "Estimates of what infinitely many masks would give: they do not depend on how many were drawn, add up to the loss, and "
    "may come out a little negative by chance."
)
EXACT = "Exact split over the masks that were drawn: it depends on how many these were (stored before estimates were)."

PAGE = ProbePage(
    probe="local_contrast",
    summary="The masked loss is split into mask noise (invariance), structure within an image (local consistency), "
    "differences between images (global consistency) and a constant offset. "
    "This definition is lcmae's own: the four parts add up to the loss, as estimates and in the exact split that the LC-MAE "
    "objective weights. It is *not* the formula of the LC-MAE paper (Yue et al., arXiv 2310.01994), but serves to examine "
    "that paper's claim.",
    panels=panels,
    answer=figures.answer,
    terms=("invariance", "local consistency", "global consistency", "offset", "collapse level"),
)
