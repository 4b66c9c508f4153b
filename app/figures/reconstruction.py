"""Pictures of the reconstruction probe: images filled in, errors against baselines, errors by
position."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers, style
from lcmae.app.figures.answers import Answer, Headline, against, exactly, number
from lcmae.app.figures.baselines import baselines_of, own_numbers, segments
from lcmae.probes.statistics import intervals

HIDDEN_GREY = 128
LEAKY = "LEAKY: true patch statistics"
ERRORS = {
    "error": "model",
    "error_nearest": "copy of the nearest visible patch",
    "error_constant": "best constant patch",
    "error_position": "mean patch of each position",
    "error_linear": "best linear predictor",
}


def pictures(results: Mapping[str, xr.Dataset], first: int = 0, count: int = 4) -> go.Figure:
    """Rows are images; columns are the original, the masked image, and each run's reconstruction
    and error map.

    Original and mask are drawn once where all runs have the same. Pictures that use the hidden
    patches' true statistics stand in a column of their own whose heading says so. All runs must
    have errors of one unit: they share a scale.
    """
    chosen = slice(first, first + count)
    columns: list[tuple[str, Sequence[np.ndarray | xr.DataArray]]] = []
    previous: xr.Dataset | None = None
    for name, whole in results.items():
        result = whole.isel(picture=chosen)
        if previous is None or not _same_input(previous, result):
            columns.append(("original", list(result["original"].values)))
            columns.append(("masked", list(masked(result))))
        columns.append((f"{name}<br>reconstruction", list(result["reconstruction"].values)))
        if "reconstruction_leaky" in result:
            columns.append((f"{name}<br>{LEAKY}", list(result["reconstruction_leaky"].values)))
        columns.append((f"{name}<br>error", [errors_where_hidden(result, at) for at in range(result.sizes["picture"])]))
        previous = result
    units = str(next(iter(results.values()))["picture_error"].attrs["units"])
    return style.mosaic(columns, colour_title=f"squared error [{units}]")


def masked(result: xr.Dataset) -> np.ndarray:
    """The images as the model saw them, hidden patches grey: uint8 [picture y x channel]."""
    original = result["original"].values
    hidden = result["hidden"].values.astype(bool)
    rows, columns = original.shape[1] // hidden.shape[1], original.shape[2] // hidden.shape[2]
    by_pixel = hidden.repeat(rows, axis=1).repeat(columns, axis=2)
    return np.where(by_pixel[..., None], HIDDEN_GREY, original).astype(np.uint8)


def errors_where_hidden(result: xr.Dataset, picture: int) -> xr.DataArray:
    """The error map of one picture; visible patches, which no model is asked for, are left
    blank."""
    one = result["picture_error"].isel(picture=picture)
    return one.where(result["hidden"].isel(picture=picture) > 0)


def errors(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Mean error over hidden patches with its 95 % interval, beside predictions that need no
    network."""
    names = list(results)
    shown = style.figure(height=140 + 54 * len(names))
    for position, (name, result) in enumerate(results.items()):
        segments(shown, baselines_of({name: result}, "error"), [name], {name: {}}, first=position, upright=True)
    results = own_numbers(results)
    marks = {
        "error": "circle",
        "error_nearest": "line-ns-open",
        "error_constant": "x-thin-open",
        "error_position": "diamond-open",
        "error_linear": "star-triangle-up-open",
    }
    colours = style.colours(names)
    for variable, label in ERRORS.items():
        there = [at for at, result in enumerate(results.values()) if np.isfinite(result.get(variable, np.nan))]
        if not there:
            continue  # stored before this baseline was, or there was no other split
        colour = [colours[names[at]] for at in there] if variable == "error" else style.GREY
        shown.add_trace(
            go.Scatter(
                x=[float(results[names[at]][variable]) for at in there],
                y=there,
                customdata=[names[at] for at in there],
                error_x={
                    "array": [float(intervals.half_width(results[names[at]], variable)) for at in there],
                    "width": 4,
                    "color": style.GREY,
                },
                mode="markers",
                name=label,
                marker={
                    "symbol": marks[variable],
                    "color": colour,
                    "size": 18 if variable == "error_nearest" else 11,
                    "line": {"width": 0 if variable == "error" else 3},
                },
                hovertemplate="%{customdata}: %{x:.4g}<extra>" + label + "</extra>",
            )
        )
    shown.update_layout(legend_itemsizing="constant")  # else the tall bar reaches into the entry below
    shown.update_xaxes(title=style.axis_title(next(iter(results.values()))["error"]), rangemode="tozero")
    return shown.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5])


def error_maps(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """Where on the grid hidden patches are predicted badly, one map a run, on one scale."""
    units = str(next(iter(results.values()))["error_map"].attrs["units"])
    return style.maps({name: result["error_map"] for name, result in results.items()}, title=f"squared error [{units}]")


def _same_input(one: xr.Dataset, other: xr.Dataset) -> bool:
    return all(np.array_equal(one[name].values, other[name].values) for name in ("original", "hidden"))


HEADLINE = Headline("error", "error of hidden patches", "lowest")


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """The error of hidden patches, beside predictions that need no network."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    own = number(result, "error")
    nearest, position = number(result, "error_nearest"), exactly(number(result, "error_position"))
    constant = exactly(number(result, "error_constant"))
    untrained = number(result, "error", network="untrained")
    levels = {"a copy of the nearest visible patch": nearest, "the mean patch of each position": position}
    levels |= {"the best linear predictor": number(result, "error_linear")}
    levels |= {"full collapse": constant, "an untrained network": untrained}
    tiles = [own.tile("error of hidden patches"), nearest.tile("nearest visible patch copied")]
    tiles += [position.tile("mean patch of each position"), constant.tile("full collapse")]
    return Answer(f"The error of hidden patches is {own}{against(own, levels, ', which ')}.", answers.known(tiles))
