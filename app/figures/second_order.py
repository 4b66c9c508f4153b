"""Pictures of the second_order probe: what is explained against the masking ratio, where the model
gains over a linear predictor, and how many directions patches share."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, series, style
from lcmae.app.figures.answers import Answer, Headline, number
from lcmae.app.figures.series import Series
from lcmae.probes.results.networks import TRAINED, networks_of
from lcmae.probes.statistics import intervals

STYLES: dict[str, tuple[str, str]] = {
    "wiener": ("#6A6A6A", "solid"),
    "linear": ("#787878", "dash"),
    "linear, 8 neighbours": ("#868686", "dashdot"),
    "nearest": ("#949494", "dot"),
    "constant": ("#949494", "dot"),
}
"""Colour and dash of the baselines, which belong to the images: greys that stand 3 to 1 off white
and off the dark page. The position mean is the zero of the scale."""
LABELS = {"wiener": "Wiener filter", "linear": "linear predictor", "nearest": "nearest patch"}
"""Of the legend, where the name that is stored is no word of the text."""


def explained(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """R2 about the position mean against the masking ratio: each run in its colour (dashed:
    untrained), linear baselines grey, drawn once where runs share them."""
    colour, rows = style.colours(results), []
    drawn: list[tuple[str, np.ndarray]] = []
    for name, result in results.items():
        for network in networks_of(result, "r2"):
            values = result["r2"].sel(network=network)
            low, high = intervals.ends(result, "r2", network=network)
            ratios = values["ratio"].values.tolist()
            if network in (TRAINED, "untrained"):
                label = name if network == TRAINED else f"{name}, untrained"
                dash = "solid" if network == TRAINED else style.REFERENCES["untrained"]
                rows.append(Series(label, ratios, values.values, colour[name], low, high, dash=dash))
            elif network in STYLES and network != "constant":
                if any(label == network and np.array_equal(values.values, other) for label, other in drawn):
                    continue
                again = sum(label == network for label, _ in drawn)
                drawn.append((network, values.values))
                shade, dash = STYLES[network]
                words = LABELS.get(network, network)
                label = words if not again else f"{words} ({name})"
                rows.append(Series(label, ratios, values.values, shade, low, high, dash=dash))
    first = next(iter(results.values()))["r2"]
    shown = series.curves(rows, style.axis_title(first["ratio"]), style.axis_title(first))
    highest = np.concatenate([part for row in rows for part in (row.y, row.high) if part is not None])
    solid = [part for row in rows if row.dash == "solid" for part in (row.y, row.low) if part is not None]
    best, least = float(np.nanmax(highest)), min(0.0, float(np.nanmin(np.concatenate(solid))))
    # an untrained network and the nearest patch may be far below the position mean, which is 0
    room = 0.05 * (best - least)
    return shown.update_yaxes(range=[least - room, best + room])


def gains(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """The trained network's explained share less that of the linear predictor and of the Wiener
    filter, against the ratio; above 0 it knows more."""
    colour, rows = style.colours(results), []
    for name, result in results.items():
        for other, dash in (("linear", "dash"), ("wiener", "solid")):
            variable = f"gain_over_{other}"
            low, high = intervals.ends(result, variable)
            ratios = result["ratio"].values.tolist()
            rows.append(
                Series(
                    f"{name} over {LABELS[other]}", ratios, result[variable].values, colour[name], low, high, dash=dash
                )
            )
    first = next(iter(results.values()))
    shown = series.curves(rows, style.axis_title(first["ratio"]), "gain in explained share")
    shown.add_hline(y=0, line={"color": style.GREY, "width": 1})
    return shown


def gain_maps(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Where in the image each run gains over the linear predictor, on one scale."""
    return style.maps({name: result["gain_map"] for name, result in results.items()}, title="share gained")


def shared(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Share of each direction of a linear code in what all explain, at the run's own ratio."""
    colour, rows = style.colours(results), []
    for name, result in results.items():
        values = result["shared_variance"].sel(ratio=float(result.attrs["own_ratio"]))
        rows.append(Series(name, values["direction"].values.tolist(), values.values, colour[name]))
    first = next(iter(results.values()))["shared_variance"]
    shown = series.curves(rows, "direction, largest first", style.axis_title(first))
    return shown.update_yaxes(type="log", exponentformat="power")


def far(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """What the linear predictor gains from beyond the 8 touching patches, against the ratio: of the
    images, so runs that share them have one curve."""
    colour, rows = style.colours(results), list[Series]()
    for name, result in results.items():
        values, ratios = result["far_gain"].values, result["ratio"].values.tolist()
        if not any(list(row.x) == ratios and np.array_equal(row.y, values) for row in rows):
            rows.append(Series(name, ratios, values, colour[name], *intervals.ends(result, "far_gain")))
    first = next(iter(results.values()))
    shown = series.curves(rows, style.axis_title(first["ratio"]), "gain in explained share")
    shown.add_hline(y=0, line={"color": style.GREY, "width": 1})
    return shown


def reach_words(results: Mapping[str, xr.Dataset]) -> str:
    """How far off the patches lie that the linear predictor uses, at the smallest and the largest
    ratio; nothing where that is not stored."""
    of_runs = [
        (name, result["reach"].values[[0, -1]], result["ratio"].values[[0, -1]])
        for name, result in results.items()
        if "reach" in result and bool(np.isfinite(result["reach"].values[[0, -1]]).all())
    ]
    if not of_runs:
        return ""
    name, (near, away), (low, high) = of_runs[0]
    of = f" (images of {name})" if len(results) > 1 else ""
    return (
        f"What it uses lies {near:.2g} patches away on average at ratio {low:g}, and {away:.2g} at ratio {high:g}{of}."
    )


OTHERS = {"linear": "the fixed linear predictor", "wiener": "the Wiener filter of each mask"}
"""The linear predictors that the network is held against, in words."""

VERBS: dict[answers.Verdict, str] = {
    "above": "beats {}",
    "below": "loses to {}",
    "cannot be told apart from": "cannot be told apart from {}",
    "beside": "stands beside {}",
}
"""What a gain's interval allows to be said."""


def over_ratios(result: xr.Dataset) -> str:
    """At which ratios the network beats or loses to each linear predictor; nothing where no
    interval is stored."""
    ratios = result["ratio"].values.tolist()
    sentences = []
    for other, words in OTHERS.items():
        found = _by_verdict({f"{ratio:g}": number(result, f"gain_over_{other}", ratio=ratio) for ratio in ratios})
        clauses = [
            f"{_verb(verdict, words, again)} {_at(where, len(ratios))}" for again, (verdict, where) in enumerate(found)
        ]
        sentences += [f"It {answers.listed(clauses)}."] if clauses else []
    return " ".join(sentences)


def at_own_ratios(results: Mapping[str, xr.Dataset]) -> str:
    """Which runs beat or lose to each linear predictor, each at its own ratio."""
    found = {
        words: _by_verdict(
            {name: number(result, f"gain_over_{other}", _own_ratio(result)) for name, result in results.items()}
        )
        for other, words in OTHERS.items()
    }
    if len({str(one) for one in found.values()}) == 1:
        found = {answers.listed(list(found)): next(iter(found.values()))}  # what is said of both is said once
    clauses = []
    for words, verdicts in found.items():
        for again, (verdict, runs) in enumerate(verdicts):
            named, is_plural = _named(runs, len(results))
            clauses.append(f"{named} {_verb(verdict, words, again, several=is_plural)}")
    return f"Each at its own ratio, {'; '.join(clauses)}." if clauses else ""


def _by_verdict(gains: Mapping[str, answers.Number]) -> list[tuple[answers.Verdict, list[str]]]:
    """Names of the gains by what their intervals allow to be said."""
    found: dict[answers.Verdict, list[str]] = {}
    for name, gain in gains.items():
        if gain.is_known and gain.has_interval:
            found.setdefault(answers.verdict(gain), []).append(name)
    return list(found.items())


def _verb(verdict: answers.Verdict, words: str, again: int, *, several: bool = False) -> str:
    verb = VERBS[verdict].format(("them" if " and " in words else "it") if again else words)
    first, rest = verb.split(" ", 1)
    return f"{first.removesuffix('s')} {rest}" if several else verb


def _at(ratios: list[str], all_of_them: int) -> str:
    if len(ratios) == all_of_them > 1:
        return "at every ratio"
    return f"at ratio{answers.ends_in_s(len(ratios))} {answers.listed(ratios)}"


def _named(names: list[str], all_of_them: int) -> tuple[str, bool]:
    """Runs in words, and whether these are a plural."""
    if len(names) == all_of_them:
        return ("both" if all_of_them == 2 else f"all {all_of_them}"), True
    if len(names) <= answers.MOST_NAMES:
        return answers.listed(names), len(names) > 1
    return f"{len(names)} of the {all_of_them} runs", True


def _own_ratio(result: xr.Dataset) -> dict[str, float]:
    return {"ratio": float(result.attrs["own_ratio"])}


HEADLINE = Headline(
    "r2", "explained share of hidden patches", "highest", _own_ratio, share=True,
    beside={"network": "linear"}, beside_words="linear predictor",
)  # fmt: skip


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """What is explained beyond the best linear predictor, at the run's own ratio."""
    if len(results) > 1:
        ranked = answers.of_runs(results, HEADLINE)
        return Answer(f"{ranked.sentence} {at_own_ratios(results)}".strip(), ranked.tiles)
    [result] = results.values()
    at = _own_ratio(result)
    own, linear, wiener = (
        number(result, "r2", at, share=True, network=network) for network in (TRAINED, "linear", "wiener")
    )
    gain, over_wiener = (number(result, f"gain_over_{other}", at, share=True) for other in ("linear", "wiener"))
    words = {
        "above": "more than the best linear predictor",
        "below": "less than the best linear predictor",
        "cannot be told apart from": "which cannot be told apart from the best linear predictor",
        "beside": "beside the best linear predictor",
    }[answers.verdict(gain)]
    negative = " (below 0: the mean of each position is nearer)" if own.value < 0 else ""
    sentence = (
        f"At ratio {at['ratio']:g} the network explains {own}{negative} of the variance of hidden patches about the mean of each "
        f"position, {words} ({linear}); the difference is {gain}. {over_ratios(result)}"
    ).strip()
    tiles = [own.tile("explained by the network"), linear.tile("by the best linear predictor")]
    tiles += [wiener.tile("by each mask's Wiener filter"), over_wiener.tile("network less Wiener filter")]
    return Answer(sentence, answers.known(tiles))
