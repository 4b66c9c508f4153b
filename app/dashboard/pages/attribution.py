"""The page of the attribution probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import attribution as figures
from lcmae.app.figures.baselines import caption as of_baselines

MEASURES = {"the prediction": "curve", "its squared error": "error"}


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Maps and agreement of one run, faithfulness and reach of every run, curves of one."""
    name = choose("maps and curves of", list(results))
    result = results[name]
    if "attribution_map" in result:
        picture = choose("picture", list(range(result.sizes["picture"])))
        yield Panel(
            f"What the prediction depends on:  {name}",
            "The ringed patch is predicted; visible patches are coloured by their effect on the prediction: red towards it, "
            "blue away from it, relative to the largest of each map. Nearness uses no model.",
            figures.maps(result, picture),
            is_wide=True,
        )
    yield Panel(
        f"Do the methods agree: {name}",
        "Rank correlation over the visible patches of an image, mean over images; 1: the same order. Where two methods "
        "disagree, at most one of them says what the prediction depends on.",
        figures.agreement(result),
    )
    yield Panel(
        "Which order is faithful",
        "Area under the insertion curve less that under the deletion curve, 95 % intervals by images. A random order has 0 "
        "whatever the model; nearness is an order by position alone."
        + of_baselines(results, "faithfulness", "Short lines"),
        figures.by_method(results, "faithfulness"),
    )
    measure = choose("curves of", list(MEASURES))
    for kind, words in (("deletion", "First patches removed"), ("insertion", "First patches put back")):
        yield Panel(
            f"{words}: {name}",
            f"Visible patches are {'replaced by the blank image' if kind == 'deletion' else 'brought back into it'}, the one "
            "of the highest attribution first. "
            + ("Steeper is more faithful." if measure == "the prediction" else "The error of the queried patch."),
            figures.curves(result, f"{kind}_{MEASURES[measure]}"),
        )
    yield Panel(
        "How far away the attributed patches are",
        "Mean distance from the query to the visible patches, weighted by the magnitudes of attribution; a random order has "
        "the mean of all visible patches." + of_baselines(results, "reach", "Short lines"),
        figures.by_method(results, "reach"),
    )


PAGE = ProbePage(
    probe="attribution",
    summary="How each visible patch affects the prediction of a hidden one, by ablation, integrated gradients (Sundararajan et "
    "al., arXiv 1703.01365), gradient x input, Shapley values, hiding one more patch and the decoder's attention; and which "
    "of these methods is faithful, by deletion and insertion (Petsiuk et al., arXiv 1806.07421). The number that is "
    "explained (the prediction along the direction in which all visible patches move it), the blank image (the mean at each "
    "position) and faithfulness as the difference of both areas are lcmae's own.",
    panels=panels,
    answer=figures.answer,
    terms=("attribution", "faithfulness", "completeness error", "additivity", "standard error"),
)
