"""The page of the dense probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import dense as figures


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Scores by layer, each class, and the segmentation of some images."""
    classifier = choose("classifier", list(figures.CLASSIFIERS))
    words = figures.CLASSIFIERS[classifier]
    lines = (
        "Dashed and grey: an untrained network of the same shape, patches of raw pixels, and the commonest class at each "
        "position. The upper line is the best score that one class per patch allows."
    )
    yield Panel(
        f"mIoU by layer, {words}",
        "Mean intersection over union of the classes, by pixel, on images not used for training; 95 % intervals over these "
        "images, given the classifiers. " + lines,
        figures.by_layer(results, classifier, "miou"),
    )
    yield Panel(
        f"Correctly classified pixels by layer, {words}",
        f"Share of the pixels that have a class. Common classes count more than in mIoU. {lines}",
        figures.by_layer(results, classifier, "accuracy"),
    )
    yield Panel(
        f"Each class, {words}",
        "Intersection over union of each class, at the layer that held-out training images chose. Grey: the baselines of the "
        "first run.",
        figures.by_class(results, classifier),
        is_wide=True,
    )
    drawn = {name: result for name, result in results.items() if "picture_named" in result}
    if drawn:
        name = choose("pictures of", list(drawn))
        yield Panel(
            f"Segmentation: {name}",
            "Each patch in the colour of the commonest class of its pixels, and of the predicted class. Grey: no pixel of "
            "the patch has a class.",
            figures.pictures(drawn[name]),
            is_wide=True,
        )


PAGE = ProbePage(
    probe="dense",
    summary="Whether parts of an image can be told apart from its patch tokens, layer by layer: segmentation masks, or "
    "images made of known parts, against frozen tokens. kNN and logistic regression scored by mIoU are the evaluation of "
    "CAPI (Darcet et al., arXiv 2502.08769); the choice of layers, the baselines and the errors are lcmae's own.",
    panels=panels,
    answer=figures.answer,
    terms=("mIoU", "standard error"),
)
