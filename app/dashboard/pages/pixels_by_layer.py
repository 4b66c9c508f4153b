"""The page of the pixels_by_layer probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import pixels_by_layer as figures


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Own pixels, touching patches, what is gathered, and maps of one run."""
    yield Panel(
        "The patch's own pixels, by layer",
        "Share of the own patch's variance (about the mean of each position) that a ridge regression reads off its token, on "
        "images that it was not fitted on. Dashed: an untrained network; pixels: the patch read from itself, exact except "
        "for the ridge.",
        figures.by_layer(results, "own"),
    )
    yield Panel(
        "Touching patches, by layer",
        "The same for the patches around, a mean over the eight. Pixels: what a patch's own pixels tell about its "
        "neighbours, that is, the images' covariance.",
        figures.by_layer(results, "around"),
    )
    yield Panel(
        "Gathered from the touching patches, by layer",
        "What tokens hold of the patches around beyond what their own pixels tell; 95 % intervals of paired differences. "
        "Above 0 the token holds what only attention can have brought. A ring marks the highest layer of each run.",
        figures.by_layer(results, "gathered"),
    )
    yield Panel(
        "How far away the read patches are, by layer",
        "Mean distance of the patches that are read, weighted by their shares.",
        figures.by_layer(results, "reach"),
    )
    name = choose("maps of", list(results))
    yield Panel(
        f"What is read, by offset: {name}",
        "Centre: the token's own patch; each cell the patch at that offset.",
        figures.maps(results[name]),
        is_wide=True,
    )


PAGE = ProbePage(
    probe="pixels_by_layer",
    summary="What each layer's tokens hold of their own pixels and of the patches around, compared with what the images' "
    "covariance allows. The definition is lcmae's own.",
    panels=panels,
    answer=figures.answer,
    terms=("standard error",),
)
