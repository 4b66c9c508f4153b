"""The page of the mask_graph probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import mask_graph as figures

BAND = "Line: the middle bandwidth with 95 % intervals over images and the masks they share. Band: all bandwidths, "


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Edges, label error, tail, connectivity and spectrum; then what the estimators are worth on
    the toy."""
    name = choose("edges of", list(results))
    result = results[name]
    widths = ", ".join(f"{width:g}" for width in result["bandwidth"].values)
    band = f"{BAND}{widths} x the distance to the nearest image. "
    mask = choose("mask unit", result["mask"].values.tolist())
    sides = {words: side for side, words in figures.SIDES.items()}
    shared = choose("edges share", list(sides))
    yield Panel(
        f"Where edges lead: images that share {shared}, {mask}, {name}",
        f"{result.attrs['num_sampled']} images; a Gaussian kernel says how far two of them share a content. {band}"
        "Dotted: the toy world, exact, over all masks. The spectrum is the same whichever part is shared; label error belongs "
        "to what is visible.",
        figures.edges(result, mask, sides[shared]),
    )
    yield Panel(
        f"Label error alpha: {name}",
        "How often the most likely class of an image's visible part is not its own (kernel vote of the other images; theorem "
        f"4.1's alpha). {band}Dotted: the toy, exact.",
        figures.label_error(result),
    )
    same = {run: other for run, other in results.items() if mask in other["mask"].values}
    ranks = [rank for rank in (10, 2, 32, 64) if rank in result["rank"].values] or [1]
    rank = choose("beyond rank", ranks)
    reference = f"Grey: kernel form on the images of {next(iter(same))}, whose band is over bandwidths. "
    yield Panel(
        f"Tail of the spectrum beyond rank {rank}, {mask}",
        "The sum of squared eigenvalues that theorem 4.2 asks to be small; k there is the width of the encoder. "
        + reference
        + "Lines: lower estimates from each run's features of visible and hidden parts (held-out canonical correlations). "
        "Pink, dotted: the toy, exact. Few images inflate the grey curve (see the last figure); values below 0.001 are not "
        "drawn.",
        figures.tails(same, mask, rank),
    )
    yield Panel(
        f"Connectivity: the second eigenvalue, {mask}",
        "At 1 the graph falls into parts that do not communicate; how many eigenvalues are above 0.99 is in the table. "
        + reference
        + "Lines: lower estimates from the runs' features.",
        figures.connectivity(same, mask),
    )
    ratio = choose("ratio", sorted(result["ratio"].values.tolist(), key=lambda value: abs(value - 0.5)))
    yield Panel(
        f"Eigenvalues by rank at ratio {ratio:g}, {mask}",
        reference + "Lines: lower estimates from the runs' features.",
        figures.spectra(same, mask, ratio),
    )
    yield Panel(
        "How good the estimators are: their error on the toy",
        "Root mean square difference from the exact numbers, by the number of images drawn (two of four blocks hidden; three "
        "draws). Solid: kernel form. Dashed: canonical correlations of the best possible features. It shows how much of the "
        "curves above is due to too few images.",
        figures.toy_errors(result),
    )


PAGE = ProbePage(
    probe="mask_graph",
    summary="Which images masking joins, whether they are of one class, and how fast the spectrum of that graph falls, against "
    "masking ratio and mask unit: the quantities of “How Mask Matters” (Zhang, Wang and Wang, arXiv 2210.08344). "
    "The paper defines them for a distribution; the estimators are lcmae's own, and the kernel's bandwidth decides much of the "
    "answer, so it is always shown as a band.",
    panels=panels,
    answer=figures.answer,
    terms=("augmentation graph", "label error", "tail of the spectrum", "bandwidth", "masking ratio", "standard error"),
)
