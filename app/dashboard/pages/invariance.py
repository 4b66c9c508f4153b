"""The page of the invariance probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results, ask_in_words
from lcmae.app.figures import invariance as figures
from lcmae.app.figures.baselines import caption as of_baselines
from lcmae.probes.results.networks import trained
from lcmae.probes.results.words import called


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Alignment overall and by overlap, then retrieval among an image's patches and among
    images."""
    centring = choose("cosines", ["centred", "raw"])
    about = (
        "Centred: the mean vector is subtracted first, and sums of products are divided by sums of squares (an intraclass "
        "correlation). "
        if centring == "centred"
        else "Raw: cosines of the vectors as they are; a mean that all vectors share makes them large. "
    )
    yield Panel(
        f"Alignment under two masks, {centring}",
        about
        + "Filled: the same patch, or the same image, under two masks. Open: the same patch of another image, or another "
        "image. The difference is what the features say about the image."
        + of_baselines(results, "alignment", "Lines, dashed and dotted alike"),
        figures.alignment(results, centring),
    )
    quantity = ask_in_words(choose, "vectors", ["token", "cls", "mean"])
    available = {name: result for name, result in results.items() if quantity in result["quantity"].values}
    if available:
        yield Panel(
            f"Alignment by overlap of the visible patches: {called(quantity)}, {centring}",
            "Two masks that show the same patches make the same features; the slope says how much of the alignment is shared "
            "input. Dotted: another image. Bins without a pair are left out."
            + of_baselines(available, "alignment_by_overlap", "Lines without marks, dashed and dotted alike"),
            figures.by_overlap(available, quantity, centring),
        )
    predicting = {
        name: result for name, result in results.items() if not bool(trained(result)["retrieval"].isnull().all())
    }
    if not predicting:
        return
    for scope, words in figures.SCOPES.items():
        yield Panel(
            f"Retrieval {words}",
            "Share of hidden patches whose prediction is most like their own target (identical patches share the credit). "
            "Dotted line: chance. Bar: with the targets of another image. Triangle: the ceiling, targets as predictions."
            + of_baselines(predicting, "retrieval"),
            figures.retrieval(predicting, "retrieval", scope),
        )
    for scope, words in figures.SCOPES.items():
        temperatures = sorted({float(result.attrs["temperature"]) for result in predicting.values()})
        yield Panel(
            f"InfoNCE {words}",
            "Minus the log of the own target's softmax; lower is better. Temperature "
            f"{' / '.join(f'{value:g}' for value in temperatures)}. References as above.",
            figures.retrieval(predicting, "info_nce", scope),
        )


PAGE = ProbePage(
    probe="invariance",
    summary="Whether the features of a patch and of an image survive another mask, and whether a hidden patch's prediction is "
    "nearer to its own target than to others. "
    "Both measurements are lcmae's own; alignment follows the positive pairs of “How Mask Matters” (Zhang et al., "
    "arXiv 2210.08344).",
    panels=panels,
    answer=figures.answer,
    terms=("alignment", "retrieval", "InfoNCE", "standard error"),
)
