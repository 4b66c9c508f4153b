"""The page of the transfer probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import transfer as figures

TESTED = ("mean", "cls", "pixels")
"""What corruptions and confusions are counted of."""


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Accuracies with baselines, by layer, on corrupted images, and the confusion of one run."""
    classifier = choose("classifier", ["linear", "knn"])
    trained_on = ", ".join(f"{name}: {result.attrs['num_train_images']}" for name, result in results.items())
    yield Panel(
        "Accuracy of frozen features",
        "Features of unmasked test images after the last norm, classified by what was learned from the other split (images: "
        f"{trained_on}); Wilson's 95 % intervals. An untrained network and raw pixels are the level to beat."
        + (figures.at_edge(results) if classifier == "linear" else ""),
        figures.accuracies(results, classifier),
    )
    layered = {name: result for name, result in results.items() if "layer_accuracy" in result}
    if layered:
        found = {feature for result in layered.values() for feature in result["feature"].values.tolist()}
        feature = choose("feature", sorted(found, reverse=True))
        yield Panel(
            f"Accuracy after each block: {feature}",
            "Before any final norm. Dotted: the same network with fresh weights.",
            figures.by_layer(layered, classifier, feature),
        )
    corrupted = {name: result for name, result in results.items() if "corruption_accuracy" in result}
    if corrupted:
        found = {one for result in corrupted.values() for one in figures.representations(result)}
        tested = choose("representation", [one for one in TESTED if one in found])
        severity = choose("severity", figures.severities(list(corrupted.values())))
        yield Panel(
            f"Corrupted images: {tested}, severity {severity}",
            "The same heads on some of the test images, clean and corrupted. Kinds are in the style of CIFAR-10-C, parameters are "
            "lcmae's own, so numbers are not those of CIFAR-10-C.",
            figures.robustness(corrupted, classifier, tested, severity),
        )
    name = choose("confusion of", list(results))
    here = figures.representations(results[name])
    tested = choose("classified from", [one for one in TESTED if one in here])
    yield Panel(
        f"Confusion matrix: {name}, {tested}",
        "Share of the test images of each true class (rows) by predicted class (columns).",
        figures.confusion(results[name], classifier, tested),
    )


PAGE = ProbePage(
    probe="transfer",
    summary="Which classes can be read off frozen features of unmasked images, by their neighbours and by a linear map, layer by "
    "layer and on corrupted images. "
    "kNN is that of Wu et al. (arXiv 1805.01978), the linear head that of MAE (He et al., arXiv 2111.06377) under one fixed "
    "protocol; U-MAE's online accuracy, on masked images, is another number.",
    panels=panels,
    answer=figures.answer,
    terms=("kNN accuracy", "linear probe", "corruption", "standard error"),
)
