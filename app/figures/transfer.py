"""Pictures of the transfer probe: accuracies of frozen features, by layer, on corrupted images,
and confusions."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, Number, against, beside, exactly, number
from lcmae.app.figures.series import Series
from lcmae.probes.results.networks import networks_of
from lcmae.probes.results.words import called
from lcmae.probes.statistics import intervals


def representations(result: xr.Dataset) -> dict[str, dict[str, str]]:
    """Name -> labels, of all that is classified: features of both networks, and pixels, which are
    one feature."""
    features = [str(feature) for feature in result["feature"].values]
    found = {}
    for network in networks_of(result, "accuracy"):
        if network == "pixels":
            found[network] = {"network": network, "feature": features[0]}
            continue
        words = "" if network == "trained" else f"{network} "
        found |= {f"{words}{called(feature)}": {"network": network, "feature": feature} for feature in features}
    return found


def accuracies(results: Mapping[str, xr.Dataset], classifier: str) -> go.Figure:
    """Accuracy of the output's features beside untrained ones, pixels and the commonest class; 95 %
    intervals."""
    colour = style.colours(results)
    rows, categories = [], []
    for position, (name, result) in enumerate(results.items()):
        found = representations(result)
        categories += [one for one in found if one not in categories]
        values = np.array(
            [float(result["accuracy"].sel({"classifier": classifier, **chosen})) for chosen in found.values()]
        )
        ends = [intervals.ends(result, "accuracy", classifier=classifier, **chosen) for chosen in found.values()]
        low, high = np.array(ends).T
        rows.append(Series(name, list(found), values, colour[name], low, high, style.SYMBOLS[position % 6]))
    shown = series.dots(rows, categories, f"{classifier} accuracy")
    levels = sorted({float(result["majority_accuracy"]) for result in results.values()})
    for majority in levels:
        shown.add_hline(
            majority,
            line={"color": style.GREY, "dash": style.REFERENCES["chance"]},
            annotation={"text": "commonest<br>class"},
            annotation_position="right",  # beside the plot: within it the words would lie under points
        )
    return _shares(shown.update_layout(margin_r=75), rows)


def by_layer(results: Mapping[str, xr.Dataset], classifier: str, feature: str) -> go.Figure:
    """Accuracy after each block; dashed: the same network with fresh weights."""
    colour = style.colours(results)
    rows = []
    for position, (name, result) in enumerate(results.items()):
        if feature not in result["feature"].values:
            continue
        for network in networks_of(result, "layer_accuracy"):
            chosen = {"classifier": classifier, "feature": feature, "network": network}
            values = result["layer_accuracy"].sel(chosen)
            low, high = intervals.ends(result, "layer_accuracy", **chosen)
            label = name if network == "trained" else f"{name}, {network}"
            marks = {
                "dash": style.REFERENCES.get(network, "solid"),
                "symbol": style.SYMBOLS[position % 6],
            }
            rows.append(Series(label, values["layer"].values.tolist(), values.values, colour[name], low, high, **marks))
    first = next(iter(results.values()))["layer_accuracy"]
    shown = series.curves(rows, style.axis_title(first["layer"]), f"{classifier} accuracy")
    series.mark_best(shown, [row for row in rows if row.name in results])
    return _shares(shown.update_xaxes(dtick=1), rows)


def robustness(results: Mapping[str, xr.Dataset], classifier: str, representation: str, severity: int) -> go.Figure:
    """Accuracy on the same images clean and under each corruption at one severity; 95 %
    intervals."""
    colour = style.colours(results)
    rows, categories = [], ["clean"]
    for position, (name, result) in enumerate(results.items()):
        found = representations(result)
        if representation not in found or severity not in result["severity"].values:
            continue
        chosen = {"classifier": classifier, **found[representation]}
        clean = _with_bounds(result, "clean_accuracy", chosen)
        corrupted = _with_bounds(result, "corruption_accuracy", {**chosen, "severity": severity})
        y, low, high = (xr.concat([one.expand_dims(corruption=["clean"]), other], "corruption").values
                        for one, other in zip(clean, corrupted, strict=True))  # fmt: skip
        found = [str(kind).replace("_", " ") for kind in result["corruption"].values]
        categories += [one for one in found if one not in categories]
        rows.append(Series(name, ["clean", *found], y, colour[name], low, high, style.SYMBOLS[position % 6]))
    return _shares(series.dots(rows, categories, f"{classifier} accuracy"), rows)


def confusion(result: xr.Dataset, classifier: str, representation: str) -> go.Figure:
    """Rows are true classes, columns predicted ones; each row adds to 1, and is blank where no
    image has the class."""
    counts = result["confusion"].sel({"classifier": classifier, **representations(result)[representation]})
    total = counts.sum("predicted")
    return series.table_map(
        counts / total.where(total > 0),
        x_title="predicted class",
        y_title="true class",
        colour_title="share of the true class",
        top=1,
    )


POOLINGS = {
    "cls": "class token",
    "mean": "mean of patch tokens",
    "mlp": "MLP on the mean",
    "abmilp": "AbMILP",
    "efficient": "efficient probing",
}
"""Kinds of pooling in words, in their order."""


def pooled(result: xr.Dataset) -> go.Figure:
    """Accuracy of every pooling by layer, on the same training images; grey: efficient probing of
    the untrained network's last layer and of patches of pixels."""
    colour, rows = style.colours(POOLINGS), []
    layers = result["layer"].values.tolist()
    for position, pooling in enumerate(result["pooling"].values.tolist()):
        chosen = {"network": "trained", "pooling": pooling}
        values = result["pooled_accuracy"].sel(chosen).values
        low, high = intervals.ends(result, "pooled_accuracy", **chosen)
        marks = {"dash": style.DASHES[position % 4], "symbol": style.SYMBOLS[position % 6]}
        rows.append(Series(POOLINGS[pooling], layers, values, colour[pooling], low, high, **marks))
    for network, symbol in (("untrained", "x"), ("pixels", "circle-open")):
        if network in networks_of(result, "pooled_accuracy"):
            values = result["pooled_accuracy"].sel(network=network, pooling="efficient").values
            label = f"efficient probing, {'patches of pixels' if network == 'pixels' else network}"
            rows.append(Series(label, layers, values, style.GREY, dash=style.REFERENCES[network], symbol=symbol))
    shown = series.curves(rows, style.axis_title(result["layer"]), "accuracy")
    return _shares(shown.update_xaxes(dtick=1), rows)


def controls(result: xr.Dataset) -> go.Figure:
    """Each pooling of the last layer: test accuracy with true and with shuffled labels, and the
    share of training images that it names right with either."""
    poolings = result["pooling"].values.tolist()
    categories, last = [POOLINGS[one] for one in poolings], result["layer"].values[-1]
    chosen = {"network": "trained", "layer": last}
    low, high = intervals.ends(result, "pooled_accuracy", **chosen)
    by_chance = intervals.ends(result, "shuffled_accuracy")
    rows = [
        Series("test", categories, result["pooled_accuracy"].sel(chosen).values, style.BLUE, low, high, "circle"),
        Series("test, shuffled", categories, result["shuffled_accuracy"].values, style.GREY, *by_chance, "circle-open"),
        Series("training", categories, result["pooled_fit"].values, style.ORANGE, symbol="square"),
        Series("training, shuffled", categories, result["shuffled_fit"].values, style.GREY, symbol="square-open"),
    ]
    shown = series.dots(rows, categories, "accuracy")
    # five names stand side by side only in several lines
    shown.update_xaxes(ticktext=[category.replace(" ", "<br>") for category in categories], tickangle=0)
    return _shares(shown, rows)


def query_maps(result: xr.Dataset, count: int = 6) -> go.Figure:
    """Where queries of efficient probing look, mean over images: the least even."""
    maps = result["query_map"]
    spread = -(maps * np.log(maps.where(maps > 0, 1))).sum(("row", "column"))
    order = np.argsort(spread.values, kind="stable")[:count]
    return style.maps({f"query {at + 1}": maps.isel(query=int(at)) for at in order}, title="share of attention")


def pooled_words(result: xr.Dataset, layer: int | None = None) -> str:
    """What efficient probing names right at a layer (the last one), beside linear maps and an MLP
    of its size; nothing where it was not measured."""
    if "pooled_accuracy" not in result:
        return ""
    at = {"layer": result["layer"].values[-1] if layer is None else layer}
    own, *others = (
        number(result, "pooled_accuracy", at, share=True, pooling=pooling)
        for pooling in ("efficient", "cls", "mean", "mlp")
    )
    words = (
        "a linear map of the class token",
        "one of the mean token",
        "an MLP of as many parameters on the mean token",
    )
    relation = against(own, dict(zip(words, others, strict=True)), ", which ")
    of = "the last layer" if layer is None else f"layer {layer}"
    return f"Efficient probing of {of}, on {result.attrs['num_pooled_images']} training images, gives {own}{relation}."


def at_edge(results: Mapping[str, xr.Dataset]) -> str:
    """For the end of a caption: whose linear probe is best at the edge of the rates tried; nothing
    where none is, or none knows."""
    runs: dict[str, list[str]] = {}
    for name, result in results.items():
        if "rate_at_edge" in result and bool(result["rate_at_edge"].any()):
            words = [
                f"{one} ({float(result['learning_rate'].sel(chosen)):g})"
                for one, chosen in representations(result).items()
                if result["rate_at_edge"].sel(chosen) == 1
            ]
            runs.setdefault(", ".join(words), []).append(name)
    if not runs:
        return ""
    found = [
        f"{', '.join(names) if len(names) <= answers.MOST_NAMES else f'{len(names)} runs'}: {words}"
        for words, names in runs.items()
    ]
    return f" The best learning rate is at the edge of the grid (a better one may lie beyond) for {'; '.join(found)}."


def severities(results: Sequence[xr.Dataset]) -> list[int]:
    """Severities that any of the results has, the middle one first."""
    found = sorted({int(level) for result in results if "severity" in result for level in result["severity"].values})
    return found[len(found) // 2 :] + found[: len(found) // 2]


def _with_bounds(result: xr.Dataset, variable: str, chosen: Mapping[str, object]) -> list[xr.DataArray]:
    values = result[variable].sel(chosen).reset_coords(drop=True)
    return [values, *(values.copy(data=end) for end in intervals.ends(result, variable, **chosen))]


def _shares(shown: go.Figure, rows: Sequence[Series]) -> go.Figure:
    return series.fit(shown, rows).update_yaxes(tickformat=style.PERCENT)


FEATURES = {"mean": "mean token", "cls": "class token"}


def _output(result: xr.Dataset) -> dict[str, str]:
    found = result["feature"].values.tolist()
    return {"classifier": "linear", "feature": "mean" if "mean" in found else str(found[0])}


HEADLINE = Headline(
    "accuracy",
    "linear-probe accuracy of the output's frozen features",
    "highest",
    _output,
    share=True,
    brief="linear probe of the output",
)


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """The best layer for a linear classifier, and the output's features beside the baselines."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    at = _output(result)

    def accuracy(feature: str = at["feature"], network: str = "trained", classifier: str = "linear") -> Number:
        return number(result, "accuracy", share=True, feature=feature, network=network, classifier=classifier)

    own = accuracy()
    levels = {"an untrained network": accuracy(network="untrained"), "raw pixels": accuracy(network="pixels")}
    levels["the commonest class"] = exactly(number(result, "majority_accuracy", share=True))
    name = FEATURES.get(at["feature"], at["feature"])
    outputs = f"the output's {name} gives {own}{against(own, levels, ', which ')}"
    layers = result["layer"].values.tolist() if "layer_accuracy" in result else []
    found = answers.best_of(
        {layer: number(result, "layer_accuracy", at, share=True, layer=layer) for layer in layers}, "highest"
    )
    sentence = f"{outputs[0].upper()}{outputs[1:]}."
    if found is not None and len(layers) > 1:
        begin = f"Layer {found.name} is best for a linear classifier of the {name}: {found.number}"
        sentence = f"{begin}{found.caution('layer')}; {outputs}."
    sentence = f"{sentence} {pooled_words(result)}".rstrip()
    other = next((one for one in FEATURES if one != at["feature"] and one in result["feature"].values), None)
    tiles = [] if found is None else [found.number.tile(f"best layer ({found.name}), {name}")]
    tiles.append(own.tile(f"output, {name}", beside("untrained", levels["an untrained network"])))
    tiles += [] if other is None else [accuracy(other).tile(f"output, {FEATURES[other]}")]
    tiles.append(
        accuracy(classifier="knn").tile(f"kNN, {name}", beside("pixels", accuracy(network="pixels", classifier="knn")))
    )
    return Answer(sentence, answers.known(tiles))
