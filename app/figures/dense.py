"""Pictures of the dense probe: how well classes of pixels are told apart by layer and by class, and
the segmentation of some images."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, against, beside, level, number
from lcmae.app.figures.patch_classes import overlaid
from lcmae.app.figures.series import Series
from lcmae.probes.results.networks import TRAINED, networks_of
from lcmae.probes.statistics import intervals

CLASSIFIERS = {"logistic": "logistic regression", "knn": "kNN"}
"""In words, in their order."""

BASELINES = {"untrained": "an untrained network", "pixels": "raw patches", "position": "position alone"}
SCORES = {"miou": "mIoU", "accuracy": "share of pixels"}
HEADLINE = Headline(
    "miou",
    "mIoU of logistic regression on patch tokens",
    "highest",
    lambda result: {"classifier": "logistic"},
    brief="mIoU, logistic regression",
)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """Whether classes of pixels are told apart beyond baselines; of several runs, how well."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = {"classifier": "logistic"}
    own, knn = number(result, "miou", at), number(result, "miou", classifier="knn")
    others = {words: number(result, "miou", at, network=name) for name, words in BASELINES.items()}
    layer = number(result, "chosen_layer", at)
    sentence = (
        f"Logistic regression on the patch tokens of layer {layer.value:.0f} tells {result.sizes['class']} classes of "
        f"pixels apart with an mIoU of {own}{against(own, others, ', which ')}."
    )
    gains = [(words, number(result, "gain", at, baseline=name)) for name, words in BASELINES.items()]
    gains = [(words, gain) for words, gain in gains if gain.is_known]
    if gains:
        words, gain = min(gains, key=lambda one: one[1].value)
        relation = against(gain, {"0": level(0.0)}, ", which ").replace(" (0)", "")
        sentence += f" Its lead over the nearest of these, {words}, is {gain} on the same images{relation}."
    tiles = [
        own.tile("mIoU, logistic regression", beside("untrained", others["an untrained network"])),
        knn.tile("mIoU, kNN", beside("untrained", number(result, "miou", classifier="knn", network="untrained"))),
        number(result, "ceiling", measure="miou").tile("most that whole patches allow"),
        number(result, "constant", measure="miou").tile("commonest class everywhere"),
    ]
    return Answer(sentence, answers.known(tiles))


def by_layer(results: Mapping[str, xr.Dataset], classifier: str, score: str) -> go.Figure:
    """mIoU or accuracy by layer: runs in their colours, baselines grey, and the ceiling."""
    rows = series.of_networks(results, f"layer_{score}", "layer", classifier=classifier)
    first = next(iter(results.values()))
    shown = series.curves(rows, style.axis_title(first["layer"]), f"{SCORES[score]}, {CLASSIFIERS[classifier]}")
    for result in results.values():
        most = float(result["ceiling"].sel(measure=score))
        shown.add_hline(most, line={"color": style.GREY, "dash": style.REFERENCES["ceiling"], "width": 1})
    return shown.update_xaxes(dtick=1)


def by_class(results: Mapping[str, xr.Dataset], classifier: str) -> go.Figure:
    """Intersection over union of each class at the chosen layers; baselines of the first run in
    grey."""
    colour, rows = style.colours(results), []
    classes = [str(one) for one in next(iter(results.values()))["class"].values]
    for position, (name, result) in enumerate(results.items()):
        for network in networks_of(result, "class_iou"):
            if network != TRAINED and position:
                continue
            chosen = {"classifier": classifier, "network": network}
            low, high = intervals.ends(result, "class_iou", **chosen)
            label = name if network == TRAINED else network
            shade = colour[name] if network == TRAINED else style.GREY
            symbol = style.SYMBOLS[(position if network == TRAINED else 1 + list(BASELINES).index(network)) % 6]
            own = [str(one) for one in result["class"].values]
            classes += [one for one in own if one not in classes]
            rows.append(Series(label, own, result["class_iou"].sel(chosen).values, shade, low, high, symbol))
    return series.dots(rows, classes, "intersection over union").update_xaxes(title="class")


def pictures(result: xr.Dataset) -> go.Figure:
    """Images, the commonest class of each patch over them, and what each classifier names."""
    images = list(result["original"].values)
    maps = {"true classes": result["picture_class"].values}
    maps |= {words: result["picture_named"].sel(classifier=name).values for name, words in CLASSIFIERS.items()}
    columns: list[tuple[str, list[np.ndarray]]] = [("image", images)]
    for words, classes in maps.items():
        columns.append((words, [overlaid(*pair) for pair in zip(images, classes, strict=True)]))
    return style.mosaic(columns)
