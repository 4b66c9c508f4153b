"""The page of the patch_retrieval probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import patch_retrieval as figures


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Nearest patches and clusters as pictures, and what they have in common by layer."""
    name = choose("pictures of", list(results))
    drawn = results[name]
    if "match_thumbnail" in drawn:
        view = choose("nearest patches by", [str(one) for one in drawn["view"].values])
        yield Panel(
            f"Nearest patches of other images: {name}, {view}",
            "Each row: a patch (in full colour, in its surroundings) and the patches of other images whose tokens are "
            "nearest by cosine. The query is the patch with the most contrast in its image.",
            figures.matches(drawn, view),
            is_wide=True,
        )
    words = choose("position", list(figures.REMOVALS.values()))
    removal = next(name for name, known in figures.REMOVALS.items() if known == words)
    if "cluster" in drawn:
        yield Panel(
            f"Clusters of tokens: {name}, {words}",
            "k-means over the tokens of many images, layer by layer: in a column, patches of one colour belong to one "
            "cluster, in all images. Colours of different columns are unrelated; they are ordered by the size of the cluster.",
            figures.clusters(drawn, removal),
            is_wide=True,
        )
    known = [
        one for one in (*figures.WORDS, "position") if any(figures.is_known(result, one) for result in results.values())
    ]
    target = choose("same", known)
    chosen = {run: result for run, result in results.items() if figures.is_known(result, target)}
    lines = "Dashed: an untrained network; raw patches are drawn at every layer."
    yield Panel(
        f"Nearest patches with the same {target}, by layer, {words}",
        f"Share of the nearest patches of other images; 95 % intervals over images. Dotted: random patches. {lines}",
        figures.by_layer(chosen, "purity", target, removal),
    )
    yield Panel(
        f"What clusters tell about the {target}, by layer, {words}",
        f"Mutual information, adjusted for chance: 0 is nothing, 1 is all of it; 95 % intervals over images. {lines}",
        figures.by_layer(chosen, "information", target, removal),
    )


PAGE = ProbePage(
    probe="patch_retrieval",
    summary="Which patches of other images have the nearest tokens, and into which clusters the tokens of many images fall, "
    "beside raw patches, an untrained network, and tokens without the mean of their position. The definitions are lcmae's own.",
    panels=panels,
    answer=figures.answer,
    terms=("adjusted information", "standard error"),
)
