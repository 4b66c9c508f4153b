"""The page of the encoder_attention probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results, ask_in_words
from lcmae.app.figures import encoder_attention as figures
from lcmae.app.figures.baselines import caption as of_baselines
from lcmae.probes.results.words import called

WORDS = {
    "distance": (
        "How far heads look",
        "Attention-weighted distance between patches, class token left out. Dots are heads, the line their mean; dotted: what "
        "uniform attention over the same tokens scores.",
    ),
    "entropy": (
        "How widely heads look",
        "Entropy of attention rows: near the dotted line a head attends evenly to all tokens, near zero to a single one.",
    ),
    "mutual_information": (
        "How much the query decides",
        "Normalised mutual information of queries and keys (Park et al.): 0 where all patches attend alike, 1 where each has "
        "a key of its own.",
    ),
    "head_divergence": (
        "How different heads are",
        "KL divergence of a head's rows to those of the layer's other heads (mean): 0 where all heads do the same.",
    ),
    "prefix_mass": (
        "How much goes to the class token",
        "Attention of patches to class token and registers; distance and mutual information leave it out.",
    ),
}


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Five measures by layer, on the chosen view."""
    view = ask_in_words(choose, "view", ["full", "masked"])
    for variable, (title, caption) in WORDS.items():
        yield Panel(
            f"{title}: {called(view)}",
            caption + of_baselines(results, variable),
            figures.measure(results, variable, view),
        )


PAGE = ProbePage(
    probe="encoder_attention",
    summary="Heads with near, narrow and diverse attention work on local detail; heads that attend evenly everywhere carry "
    "what the whole image shares. The measures are those of Dosovitskiy et al. (arXiv 2010.11929), Park et al. (2305.00729) "
    "and Xie et al. (2205.13543); distances are in patches, and masked images have fewer tokens, so compare with the dotted "
    "line of their own view.",
    panels=panels,
    answer=figures.answer,
    terms=("attention distance", "attention entropy", "mutual information", "head divergence", "patch"),
)
