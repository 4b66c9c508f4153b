"""The page of the embedding_consistency probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results, ask_in_words
from lcmae.app.figures import embedding_consistency as figures
from lcmae.app.figures import style
from lcmae.app.figures.baselines import caption as of_baselines
from lcmae.probes.results.networks import trained

WORDS = {"CKA": "cka", "distances (RSA)": "rsa", "shared neighbours": "neighbours"}
"""Measures by the words that a person picks."""

MEASURES = {
    "cka": "debiased linear CKA (minibatch estimator): 1 for rotated and scaled copies, on average 0 for unrelated points",
    "rsa": "representational similarity: Spearman correlation of the distances of all pairs",
    "neighbours": "share of the nearest neighbours that both have in common",
}


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Geometry by layer, distances of reconstructions, then the points of one run."""
    words_of_measure = choose("measure", list(WORDS))
    measure = WORDS[words_of_measure]
    for scope, words in figures.SCOPES.items():
        points = (
            "the patches of an image"
            if scope == "within"
            else "one position in many images, so position explains nothing"
        )
        yield Panel(
            f"Tokens against patches, {words}: {words_of_measure}",
            f"{MEASURES[measure][0].upper()}{MEASURES[measure][1:]}. Points are {points}; 95 % intervals over images. Grey: "
            "shuffled patches (chance, dotted) and patches with themselves (ceiling, long dashes). Layer 0 is the embedding; a "
            "ring marks the highest layer of each run." + of_baselines(results, "consistency"),
            figures.consistency(results, scope, measure),
        )
    predicting = {
        name: result
        for name, result in results.items()
        if not bool(trained(result)["sliced_wasserstein"].isnull().all())
    }
    for variable, title in (("sliced_wasserstein", "Distribution of reconstructed patches"), ("gram_gap", "Gram gap")):
        for unit, group in style.by_units(predicting, variable):
            yield Panel(
                f"{title}{unit}",
                "Distance from the true hidden patches, of each image (within) and of all together (across). Grey: true "
                "patches of random images, the mean patch, and the patches themselves (0). Across images, true patches of "
                "random images are the same set in another order, so this baseline has no Wasserstein distance "
                "there." + of_baselines(group, variable),
                figures.distances(group, variable),
            )
    name = choose("points of", list(results))
    result = results[name]
    plane = ask_in_words(choose, "plane", figures.planes(result))
    colour_by = ask_in_words(choose, "colour", ["label", "position", "image"])
    yield Panel(
        f"Tokens and patches in a plane: {name}",
        f"{plane.upper()} of the same patches as tokens of the last block and as pixels; each has its own plane.",
        figures.points(result, plane, colour_by),
        is_wide=True,
    )


PAGE = ProbePage(
    probe="embedding_consistency",
    summary="Whether tokens that are near each other stand for patches that look alike, within an image and across images, "
    "layer by layer; and whether reconstructed patches are distributed like the true ones. "
    "It examines the claim of Yue et al. (arXiv 2310.01994) with standard measures, not with that paper's formulas, which "
    "were not available to us.",
    panels=panels,
    answer=figures.answer,
    terms=("CKA", "sliced Wasserstein distance", "Gram gap", "standard error"),
)
