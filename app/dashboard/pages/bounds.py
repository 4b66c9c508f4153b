"""The page of the bounds probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results, ask_in_words
from lcmae.app.figures import bounds as figures
from lcmae.app.figures import style
from lcmae.probes.results.words import called


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """A theorem after the other, both sides against the step; then eps and the alignment of pairs
    by overlap."""
    for unit, group in style.by_units(results, "loss"):
        yield Panel(
            f"Loss and alignment{unit} (theorem 3.4)",
            "Measured on patches that both masks of a pair hide. Unknown: the theorem's const, and eps (below). The bound is "
            "certain by algebra and without eps: ½ L_align + half of the mean squared length of predictions. What lies "
            f"between loss and bound is the error of the mean of the two predictions. {figures.marks(figures.PAIR_BOUND)}",
            figures.pair_bound(group),
        )
        yield Panel(
            f"Do loss and alignment fall together?{unit}",
            "Each point a checkpoint, in the order of steps. The theorem predicts that a small loss needs a small L_align; "
            "it says nothing about a slope, and longer predictions alone make L_align smaller.",
            figures.against_alignment(group),
        )
    level = choose("variance", list(figures.LEVELS))
    for unit, group in style.by_units(results, "loss"):
        yield Panel(
            f"Loss against full collapse, Var(x2) {figures.LEVELS[level]}{unit} (theorem 3.6)",
            "Var(x2) depends on images and masks alone, so it is constant over a run. With a constant encoder the loss "
            "cannot fall below the variance at each position, because the decoder then knows only the position. A loss below "
            f"it says only that collapse is not full. {figures.marks(figures.collapsing(level))}",
            figures.collapse(group, level),
        )
    yield Panel(
        "Loss as a share of Var(x2)",
        "The mean at each position is the level of a constant encoder; each image's own mean is of use only to a model that "
        f"knows the image. {figures.marks(figures.SHARES)}",
        figures.share_of_variance(results),
    )
    for unit, group in style.by_units(results, "loss"):
        weights = ", ".join(sorted({f"{float(result.attrs['weight']):g}" for result in group.values()}))
        yield Panel(
            f"The loss with its uniformity term, L_U-MAE{unit} (theorem 4.2, left side)",
            f"L_MAE + lambda L_unif with lambda {weights}, whatever the run was trained with; "
            f"L_unif over pairs of different images. {figures.marks(figures.UMAE)}",
            figures.umae(group),
        )
    yield Panel(
        "The tail of the augmentation graph (theorem 4.2, right side)",
        "Constant over a run: kernel form in pixels, so the lines of runs with equal images and masks coincide. Solid: the "
        "middle bandwidth; dotted: smaller ones; dashed: larger ones. The bound holds 1 / (4 L) of this value, and L, the "
        "decoder's Lipschitz constant, is unknown; so the figures show only that the loss falls while this side stays "
        "constant.",
        figures.tail(results),
    )
    for unit, group in style.by_units(results, "loss"):
        yield Panel(
            f"eps: autoencoding error of the decoder{unit}",
            "Patches reconstructed from themselves (masks swapped). The decoder was never trained to repeat visible patches, "
            "so the best decoder of its class can do better: the theorems' eps is at most this. A large eps loosens their "
            f"right sides. {figures.marks(figures.EPS)}",
            figures.autoencoding(group),
        )
    quantity = ask_in_words(choose, "alignment of", ["prediction", "cls", "mean"])
    centring = choose("cosines", ["centred", "raw"])
    available = {name: result for name, result in results.items() if quantity in result["quantity"].values}
    if available:
        yield Panel(
            f"Alignment of positive pairs: {called(quantity)}, {centring}",
            "Positive pairs are the same image under two masks that share a hidden part; another image is the shuffled "
            "baseline. Raw cosines count what all vectors have in common; centred ones (intraclass correlation) do not. "
            f"{figures.marks(figures.aligned(quantity, centring))}",
            figures.alignment(available, quantity, centring),
        )
        yield Panel(
            f"The same at the last step, by overlap of the visible patches: {called(quantity)}, {centring}",
            "At overlap 1 the two views are equal. The slope says how much of the alignment comes from input that both views "
            f"share. {figures.marks(figures.aligned(quantity, centring))}",
            figures.by_overlap(available, quantity, centring),
        )


PAGE = ProbePage(
    probe="bounds",
    summary="Both sides of the bounds of “How Mask Matters” (Zhang, Wang and Wang, arXiv 2210.08344) at every stored step: "
    "loss against alignment (theorem 3.4), variance (3.6) and spectrum (4.2). "
    "The theorems' constants are unknown, so these are trends and no proof; how each side is measured is lcmae's own.",
    panels=panels,
    answer=figures.answer,
    terms=("alignment", "collapse level", "positive pair", "tail of the spectrum", "eps", "standard error"),
    every_step=True,
)
