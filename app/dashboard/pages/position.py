"""The page of the position probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import position as figures


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Position by layer, components, nearest patches with and without position, maps."""
    yield Panel(
        "Position read off patch tokens, by layer",
        "R2 of row and column by ridge regression, on images that it was not fitted on; 95 % intervals over images. Dashed: an "
        "untrained network of the same shape, whose tokens hold the position embedding; raw patches show what the images' "
        "own layout tells about position. A ring marks the highest layer of each run.",
        figures.by_layer(results),
    )
    found = sorted({int(layer) for result in results.values() for layer in result["layer"].values}, reverse=True)
    layer = choose("layer", found)
    yield Panel(
        f"Invariant components: layer {layer}",
        "1: tokens at a position lie on the same side whatever the image shows, also on noise and gradients. An "
        "uninformative component scores 0.707, just below the paper's threshold of 0.75.",
        figures.scores(results, layer),
    )
    yield Panel(
        f"Nearest patches at the same position: layer {layer}",
        "Share of the nearest patches of other images (by cosine) that are at the same position, with position removed in "
        "each way. Top and random components are controls: as many as SOAP removes.",
        figures.removals(results, "same_position", layer),
    )
    labelled = {name: result for name, result in results.items() if bool(result["knn_accuracy"].notnull().any())}
    if labelled:
        yield Panel(
            f"Patch kNN: layer {layer}",
            "Share of patches whose nearest patches of other images vote for their own image's class. If it rises when "
            "position is removed, position stood in the way.",
            figures.removals(labelled, "knn_accuracy", layer),
        )
    name = choose("maps of", list(results))
    yield Panel(
        f"What invariant components say: {name}, last layer",
        "Mean of tokens along the most invariant components, by position.",
        figures.component_maps(results[name]),
        is_wide=True,
    )


PAGE = ProbePage(
    probe="position",
    summary="How much of the patch tokens is position, and whether it stands in the way of content. Score and projection are "
    "SOAP's (Hjelkrem-Tan et al., arXiv 2604.00172); the floor of the score, the mean of each position as an alternative and "
    "the plain images' parameters are lcmae's own.",
    panels=panels,
    answer=figures.answer,
    terms=("semantic invariance", "kNN accuracy", "standard error"),
)
