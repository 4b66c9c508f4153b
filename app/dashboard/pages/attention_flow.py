"""The page of the attention_flow probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import attention_flow as figures
from lcmae.app.figures.baselines import caption as of_baselines


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Shares of attention, flows beside dependence, pictures, norms and outliers."""
    found = figures.shares(results)
    words = choose("attention", [figures.GATHERED[name] for name in found])
    share = next(name for name in found if figures.GATHERED[name] == words)
    yield Panel(
        f"Attention on whole images: {words}",
        "Mean over images, and over heads (line); dots are single heads. MAE's class token is known to attend to itself and "
        "evenly to all patches (Przewiezlikowski et al.)." + of_baselines(results, share),
        figures.by_layer(results, share),
    )
    if any("class_entropy" in result for result in results.values()):
        uniform = next(iter(results.values())).attrs["entropy_of_uniform"]
        yield Panel(
            "How widely the class token attends to patches",
            f"Entropy of its attention over patches, renormalised; uniform attention has {uniform:.2f} nats."
            + of_baselines(results, "class_entropy"),
            figures.by_layer(results, "class_entropy"),
        )
    flowing = {name: result for name, result in results.items() if bool(result["agreement"].notnull().any())}
    drawn = {name: result for name, result in flowing.items() if "picture_flow" in result}
    if flowing:
        count = next(iter(flowing.values())).attrs["num_flow_images"]
        yield Panel(
            "Does attention say what the token depends on?",
            "Rank correlation, patch by patch, of attention's maps with the gradient of the token with respect to the "
            f"pixels, on {count} images. The control is another image's gradient: it reaches only what all images share, "
            "that is, position.",
            figures.agreement(flowing),
            is_wide=bool(drawn),  # the question of the pictures stands right above them
        )
    if drawn:
        name = choose("pictures of", list(drawn))
        yield Panel(
            f"Raw attention, rollouts and gradient: {name}",
            "Maps of the class token (of the mean patch token where there is none): last layer's attention, rollout, its "
            "gradient-weighted form, and the gradient of the pixels, each over its largest value.",
            figures.pictures(drawn[name]),
            is_wide=True,
        )
    yield Panel(
        "Outlier tokens, by layer",
        "Share of patch tokens whose norm lies more than 5 robust deviations above the median of their image. Gaussian norms "
        "would give almost none." + of_baselines(results, "outlier_share"),
        figures.by_layer(results, "outlier_share"),
    )
    yield Panel(
        "Largest norm over the median, by layer",
        "Patch tokens, mean over images. Registers (prefix tokens beyond the class token) exist to take the role of such "
        "tokens." + of_baselines(results, "norm_ratio"),
        figures.by_layer(results, "norm_ratio"),
    )
    yield Panel(
        "Where outliers lie: last layer",
        "Share of images with an outlier at the position. Where a map has few bright positions, outliers do not depend on "
        "the image.",
        figures.outlier_maps(results),
        is_wide=True,
    )


PAGE = ProbePage(
    probe="attention_flow",
    summary="What the class token gathers, how attention flows through all layers, and which tokens are outliers. Rollout is "
    "that of Abnar and Zuidema (arXiv 2005.00928), its gradient-weighted form that of Chefer et al. (arXiv 2103.15679); the "
    "scalar that is differentiated, the agreement with the gradient and the outliers' threshold are lcmae's own.",
    panels=panels,
    answer=figures.answer,
    terms=("attention rollout", "attention entropy", "outlier token", "receptive field", "standard error"),
)
