"""The page of the decoder_attention probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import decoder_attention as figures
from lcmae.app.figures.attention import by_layer
from lcmae.app.figures.baselines import caption as of_baselines


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Shares and distances of every run, then masses and maps of one."""
    yield Panel(
        "How much of attention is position alone",
        "1: the map depends only on the position of the query; 0: it does not depend on it. Values a little below 0 occur by "
        "chance, because the share that chance explains is subtracted. Solid: the same masks for all images, so images vary. "
        "Dashed: one image at a time, so masks vary."
        + of_baselines(results, "positional_share_over_images_pooled", "Broken lines without marks"),
        figures.positional_share(results),
    )
    yield Panel(
        "How far hidden patches look",
        "Attention-weighted distance, class token left out. Dots are heads, the line their mean; dotted: uniform attention."
        + of_baselines(results, "distance"),
        by_layer(results, "distance", "distance_uniform"),
    )
    yield Panel(
        "How widely hidden patches look",
        "Entropy of attention rows: near the dotted line a head attends evenly to all tokens, near zero to a single one."
        + of_baselines(results, "entropy"),
        by_layer(results, "entropy", "entropy_uniform"),
    )
    name = choose("attention of", list(results))
    result = results[name]
    yield Panel(
        f"Where hidden patches look: {name}",
        "Attention to itself, to visible and to other hidden patches and to the class token, mean over heads, hidden patches "
        "and images; below, what uniform attention would give."
        + of_baselines({name: result}, "mass", "Fainter rows below"),
        figures.masses(result),
    )
    if "attention_map" in result:
        picture = choose("picture", list(range(result.sizes["picture"])))
        layer = choose("layer", result["layer"].values.tolist())
        yield Panel(
            f"Whole maps: {name}, layer {layer}",
            "Each row is a query at a hidden patch, orange in the masked image; each map is one head's attention to all "
            "patches, on one scale.",
            figures.maps(result, picture, layer),
            is_wide=True,
        )


PAGE = ProbePage(
    probe="decoder_attention",
    summary="To fill in a hidden patch the decoder attends to visible patches, to other hidden ones and to the class token; "
    "if its maps were the same for every image, they would depend on position alone. The positional share is lcmae's own "
    "definition (variance of attention rows between positions, corrected for chance); the question is that of Yue et al. "
    "(arXiv 2310.01994).",
    panels=panels,
    answer=figures.answer,
    terms=("positional share", "attention distance", "attention entropy", "patch", "masking ratio"),
)
