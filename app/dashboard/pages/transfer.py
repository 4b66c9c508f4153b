"""The page of the transfer probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results, ask_in_words
from lcmae.app.figures import transfer as figures
from lcmae.probes.results.words import called

CLASSIFIERS = {"linear": "linear", "kNN": "knn"}
"""Classifiers by the words that a person picks."""

TESTED = ("mean token", "class token", "pixels")
"""What corruptions and confusions are counted of."""


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Accuracies with baselines, by layer, on corrupted images, and the confusion of one run."""
    classifier = CLASSIFIERS[choose("classifier", list(CLASSIFIERS))]
    counts = {name: str(result.attrs["num_train_images"]) for name, result in results.items()}
    trained_on = ", ".join(f"{name}: {count}" for name, count in counts.items())
    if len(set(counts.values())) == 1:
        [trained_on] = set(counts.values())
    yield Panel(
        "Accuracy of frozen features",
        "Features of unmasked test images after the last norm, classified by classifiers trained on the other split (images: "
        f"{trained_on}); Wilson's 95 % intervals, given the classifiers. An untrained network and raw pixels are the level to beat."
        + (figures.at_edge(results) if classifier == "linear" else ""),
        figures.accuracies(results, classifier),
    )
    layered = {name: result for name, result in results.items() if "layer_accuracy" in result}
    if layered:
        found = {feature for result in layered.values() for feature in result["feature"].values.tolist()}
        feature = ask_in_words(choose, "feature", sorted(found, reverse=True))
        yield Panel(
            f"Accuracy after each block: {called(feature)}",
            "Before any final norm. Dashed: the same network with fresh weights.",
            figures.by_layer(layered, classifier, feature),
        )
    yield from pooled(results, choose)
    corrupted = {name: result for name, result in results.items() if "corruption_accuracy" in result}
    if corrupted:
        found = {one for result in corrupted.values() for one in figures.representations(result)}
        tested = choose("representation", [one for one in TESTED if one in found])
        severity = choose("severity", figures.severities(list(corrupted.values())))
        yield Panel(
            f"Corrupted images: {tested}, severity {severity}",
            "The same heads on some of the test images, clean and corrupted. Kinds are in the style of CIFAR-10-C, "
            "parameters are lcmae's own, so numbers are not those of CIFAR-10-C.",
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


def pooled(results: Results, choose: Choose) -> Iterator[Panel]:
    """What is gained by learning where to attend, of one run; nothing of results stored before."""
    there = {name: result for name, result in results.items() if "pooled_accuracy" in result}
    if not there:
        return
    name = choose("pooling of", list(there))
    result = there[name]
    count = result.attrs["num_pooled_images"]
    yield Panel(
        f"Which pooling reads the class best? {name}",
        f"{figures.pooled_words(result)} All poolings are trained on the same {count} images, before any final norm; the "
        "rate is chosen on held-out training images, the last epoch counts. Efficient probing and AbMILP learn which tokens "
        "to attend to; the MLP has as many parameters as efficient probing.",
        figures.pooled(result),
    )
    yield Panel(
        f"What the classifiers could fit anyway: {name}, last layer",
        "The same classifiers trained on shuffled labels classify test images at chance; the share of *training* images that "
        "they fit says how much they can memorise. The difference of the two test accuracies comes from the tokens "
        "(selectivity, after Hewitt and Liang, arXiv 1909.03368).",
        figures.controls(result),
    )
    yield Panel(
        f"Where queries attend: {name}, last layer",
        "Attention of efficient probing's queries over patches, mean over test images; the six whose maps are least even. An "
        "even mean does not imply even attention in each image: the microscope shows single images, at every layer.",
        figures.query_maps(result),
        is_wide=True,
    )


PAGE = ProbePage(
    probe="transfer",
    summary="Which classes can be read off frozen features of unmasked images, by their neighbours and by a linear map, "
    "layer by layer and on corrupted images. "
    "kNN is that of Wu et al. (arXiv 1805.01978), the linear head that of MAE (He et al., arXiv 2111.06377) under one fixed "
    "protocol; efficient probing is that of Psomas et al. (arXiv 2506.10178), AbMILP that of Przewiezlikowski et al. (arXiv "
    "2412.03215), both trained by Adam here; U-MAE's online accuracy, on masked images, is another number.",
    panels=panels,
    answer=figures.answer,
    terms=("kNN accuracy", "linear probe", "efficient probing", "selectivity", "corruption", "standard error"),
)
