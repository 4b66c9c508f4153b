"""Figures of made-up results: what is drawn is what is stored, axes say name and unit, blanks stay
blank."""

# plotly makes the attributes of its traces at run time
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
# pyright: reportOperatorIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

import base64
import io

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from PIL import Image

from lcmae.app.figures import local_contrast, reconstruction, style, training
from lcmae.probes.results import tables
from tests.app import synthetic


def titles(figure: go.Figure) -> str:
    """All words of axes, colour bars and headings."""
    layout = figure.to_dict()["layout"]
    axes = [value.get("title", {}).get("text", "") for name, value in layout.items() if "axis" in name]
    colour = layout.get("coloraxis", {}).get("colorbar", {}).get("title", {}).get("text", "")
    notes = [note["text"] for note in layout.get("annotations", ())]
    return " | ".join([*axes, colour, *notes])


def traces(figure: go.Figure, kind: type) -> list:
    return [trace for trace in figure.data if isinstance(trace, kind)]


def test_stacked_terms_show_each_run_and_its_collapse_level():
    results = {"a": synthetic.local_contrast(seed=1), "b": synthetic.local_contrast(seed=2)}
    figure = local_contrast.terms(results)
    solid = [bar for bar in traces(figure, go.Bar) if bar.offsetgroup == "term"]
    hatched = [bar for bar in traces(figure, go.Bar) if bar.offsetgroup == "collapse"]
    total = np.sum([bar.x for bar in solid], axis=0)
    np.testing.assert_allclose(total, [float(result["loss"]) for result in results.values()])
    np.testing.assert_allclose(np.sum([bar.x for bar in hatched], axis=0), [0.7, 0.7])
    assert titles(figure).startswith("masked loss (squared error) [squared input units]")
    assert len({bar.marker.color for bar in solid}) == 4


def test_terms_have_intervals_of_1_96_standard_errors():
    figure = local_contrast.terms_with_errors({"a": synthetic.local_contrast(seed=1)})
    (dots,) = [trace for trace in figure.data if trace.name == "a"]
    result = synthetic.local_contrast(seed=1)
    np.testing.assert_allclose(dots.x, result["term"].values)
    np.testing.assert_allclose(dots.error_x.array, 1.96 * result["term_sem"].values)
    assert "part of the masked loss [squared input units]" in titles(figure)


def test_one_image_has_no_interval_and_still_a_dot():
    figure = local_contrast.terms_with_errors({"a": synthetic.local_contrast(one_image=True)})
    (dots,) = [trace for trace in figure.data if trace.name == "a"]
    assert np.isnan(dots.error_x.array).all()
    assert np.isfinite(dots.x).all()


@pytest.mark.parametrize("number", [1, 3, 14])
def test_many_runs_are_told_apart(number):
    results = {f"run {position}": synthetic.local_contrast(seed=position) for position in range(number)}
    dots = [trace for trace in local_contrast.terms_with_errors(results).data if trace.name in results]
    assert len({(trace.marker.color, trace.marker.symbol) for trace in dots}) >= min(number, 6)
    names = list(results)
    styles = [(style.colours(names)[name], style.dashes(names)[name]) for name in names]
    assert len(set(styles)) == number


def test_shares_are_shares():
    results = {"a": synthetic.local_contrast(seed=1), "b": synthetic.local_contrast(seed=2)}
    bars = traces(local_contrast.token_share(results), go.Bar)
    np.testing.assert_allclose(np.sum([bar.x for bar in bars], axis=0), [1, 1])
    assert "share of the encoder tokens' variance" in titles(local_contrast.token_share(results))
    by_position = local_contrast.position_share(results).layout
    assert by_position.yaxis.title.text.replace("<br>", " ") == "share of the variance that position alone explains"
    assert by_position.xaxis.title.text is None, "the title stands there once"


def test_maps_keep_their_orientation_and_their_blanks():
    result = synthetic.reconstruction()
    figure = reconstruction.error_maps({"a": result})
    (heat,) = traces(figure, go.Heatmap)
    np.testing.assert_array_equal(heat.z, result["error_map"].values)
    assert np.isnan(heat.z[0, 0])
    assert (heat.customdata[2, 3] == [2, 3]).all()
    low, high = figure.layout.yaxis.range
    assert low > high, "the first row belongs on top"
    assert heat.y0 - heat.dy / 2 == 0
    assert "squared error [squared input units]" in titles(figure)


def test_pictures_are_the_stored_pixels():
    result = synthetic.reconstruction(channels=3)
    figure = reconstruction.pictures({"a": result}, first=2, count=2)
    images = traces(figure, go.Image)
    assert len(images) == 6  # original, masked, reconstruction of two
    np.testing.assert_array_equal(decoded(images[0]), result["original"].values[2])
    np.testing.assert_array_equal(decoded(images[4]), result["reconstruction"].values[2])
    shown = decoded(images[2])
    hidden = result["hidden"].values[2].astype(bool).repeat(2, 0).repeat(2, 1)
    assert (shown[hidden] == reconstruction.HIDDEN_GREY).all()
    np.testing.assert_array_equal(shown[~hidden], result["original"].values[2][~hidden])


def test_errors_of_visible_patches_are_left_blank():
    result = synthetic.reconstruction()
    errors = reconstruction.errors_where_hidden(result, 1)
    np.testing.assert_array_equal(np.isnan(errors.values), result["hidden"].values[1] == 0)


def test_runs_on_the_same_images_and_masks_share_the_first_columns():
    same = reconstruction.pictures({"a": synthetic.reconstruction(seed=1), "b": synthetic.reconstruction(seed=2)})
    assert titles(same).count("original") == 1
    other = synthetic.reconstruction(seed=2)
    other["hidden"] = 1 - other["hidden"]
    apart = reconstruction.pictures({"a": synthetic.reconstruction(seed=1), "b": other})
    assert titles(apart).count("original") == 2


def test_leaky_pictures_say_so():
    assert "LEAKY" in titles(reconstruction.pictures({"a": synthetic.reconstruction(normalised=True)}))
    assert "LEAKY" not in titles(reconstruction.pictures({"a": synthetic.reconstruction()}))


def test_errors_stand_beside_both_baselines():
    figure = reconstruction.errors({"a": synthetic.reconstruction(seed=1), "b": synthetic.reconstruction(seed=2)})
    assert [trace.name for trace in figure.data] == list(reconstruction.ERRORS.values())
    assert figure.data[1].x == (0.5, 0.5)
    np.testing.assert_allclose(figure.data[0].error_x.array, 1.96 * 0.02)
    assert "mean squared error of hidden patches [squared input units]" in titles(figure)


def test_results_of_other_units_never_share_an_axis():
    results = {
        "raw": synthetic.reconstruction(),
        "norm": synthetic.reconstruction(normalised=True),
        "raw 2": synthetic.reconstruction(),
    }
    groups = style.by_units(results, "error")
    assert [list(group) for _, group in groups] == [["raw", "raw 2"], ["norm"]]
    assert [unit for unit, _ in groups] == [", in squared input units", ", in variance of a patch"]
    assert [unit for unit, _ in style.by_units({"raw": results["raw"]}, "error")] == [""]
    assert style.by_units({"other": xr.Dataset()}, "error") == []


def test_pictures_of_any_number_of_channels():
    for channels in (1, 3, 4):
        pixels = np.arange(2 * 3 * channels, dtype=np.uint8).reshape(2, 3, channels)
        image = style.picture(pixels, x0=0, y0=0, width=3, height=2, name="x")
        np.testing.assert_array_equal(decoded(image), pixels)
    with pytest.raises(ValueError, match="got 2"):
        style.png(np.zeros((2, 3, 2), np.uint8))


@pytest.mark.parametrize(
    "draw", [lambda: style.maps({}), lambda: style.mosaic([]), lambda: training.curves({}, ["loss"])]
)
def test_nothing_to_draw_is_refused_in_words(draw):
    with pytest.raises(ValueError, match="expected at least one"):
        draw()


def test_text_takes_its_colour_from_the_theme():
    """The dashboard's theme colours what the figure leaves open; a colour set here would vanish on
    the other background."""
    result = synthetic.local_contrast()
    for figure in (local_contrast.terms({"a": result}), local_contrast.position_maps(result)):
        layout = figure.to_dict()["layout"]
        assert "color" not in layout.get("font", {})
        assert "paper_bgcolor" not in layout
        assert all("color" not in note.get("font", {}) for note in layout.get("annotations", ()))


def test_metric_lines_become_labelled_curves():
    run = training.dataset(synthetic.lines(kind="umae"), "squared input units")
    assert list(run["step"].values) == [10, 20, 30, 40]
    assert run["loss"].attrs["units"] == "squared input units"
    assert run["uniformity"].attrs["units"] == "1"
    assert np.isnan(run["cls_knn"].values[0])
    figure = training.curves({"a": run}, ["loss", "cls_knn", "unknown"])
    assert "kNN accuracy, class token" in titles(figure)
    assert "share of test images" in titles(figure)
    marks = next(trace for trace in figure.data if len(trace.x) == 2)
    assert list(marks.x) == [20, 40]


def test_a_metric_logged_once_has_one_tick_and_a_share_ends_at_1():
    run = training.dataset(synthetic.lines(), "squared input units").isel(step=[0, 3])
    rank, accuracy, loss = (
        training.curves({"a": run}, [name]).layout for name in ("cls_effective_rank", "cls_knn", "loss")
    )
    assert accuracy.xaxis.tickvals == rank.xaxis.tickvals == (40,)
    assert loss.xaxis.tickvals is None
    assert accuracy.yaxis.autorangeoptions.maxallowed == 1
    assert rank.yaxis.autorangeoptions.maxallowed is None


def test_a_loss_that_became_nan_is_a_gap_and_no_failure():
    lines = [*synthetic.lines(), {"step": 50, "loss": float("nan"), "lr": 1e-3}]
    figure = training.loss({"a": training.dataset(lines, "squared input units")})
    assert np.isnan(figure.data[0].y[-1])
    assert figure.data[0].x[-1] == 50


def test_the_loss_is_logarithmic_only_where_it_is_positive():
    run = training.dataset(synthetic.lines(), "squared input units")
    assert training.loss({"a": run}).layout.yaxis.type == "log"
    run["loss"] = run["loss"] - 1
    assert training.loss({"a": run}).layout.yaxis.type != "log"


def test_collapse_level_is_drawn_and_named_once():
    runs = {name: training.dataset(synthetic.lines(), "squared input units") for name in "ab"}
    levels = [trace for trace in training.loss(runs).data if trace.name == "collapse level"]
    assert [trace.showlegend for trace in levels] == [True, False]
    assert set(levels[0].y) == {0.4}


def test_terms_are_what_has_no_label_of_its_own():
    runs = {"a": training.dataset(synthetic.lines(kind="umae"), "squared input units")}
    assert training.term_names(runs) == ["reconstruction", "uniformity"]


def test_table_lists_scalars_and_vectors_with_intervals():
    frame = tables.scalars({"a": synthetic.local_contrast(), "b": synthetic.reconstruction()})
    row = frame[(frame["run"] == "a") & (frame["part"] == "local consistency")].iloc[0]
    np.testing.assert_allclose(row["high (95 %)"] - row["value"], 1.96 * row["standard error"])
    assert row["unit"] == "squared input units"
    assert not frame["quantity"].str.startswith("standard error").any()
    assert len(frame[frame["run"] == "b"]) == 5
    assert tables.scalars({}).columns.tolist() == list(tables.COLUMNS)


def test_table_takes_the_stored_interval_where_there_is_one():
    values = {
        "accuracy": synthetic.var("judge", [0.5, 1.0], "accuracy"),
        "accuracy_sem": synthetic.var("judge", [0.05, 0.0], "standard error over images: accuracy"),
        "accuracy_interval": synthetic.var(
            ("judge", "bound"), [[0.4, 0.6], [0.9, 1.0]], "95 % interval (Wilson): accuracy"
        ),
        "unlabelled": synthetic.var("place", [1.0, 2.0, 3.0], "of a dimension without labels"),
    }
    frame = tables.scalars({"a": xr.Dataset(values, {"judge": ["knn", "linear"]})}).set_index(["quantity", "part"])
    assert frame.index.get_level_values("quantity").unique().tolist() == ["accuracy", "of a dimension without labels"]
    ends = frame.loc["accuracy", ["low (95 %)", "high (95 %)"]]
    np.testing.assert_allclose(ends.to_numpy(float), [[0.4, 0.6], [0.9, 1.0]])


def test_provenance_has_a_column_a_run():
    frame = tables.provenance({"a": synthetic.local_contrast(), "b": synthetic.reconstruction()})
    assert frame.set_index("").loc["patch_size"].tolist() == ["", "2"]
    assert "question" not in frame[""].tolist()


def decoded(image: go.Image) -> np.ndarray:
    """Pixels [y x channel] of a drawn picture."""
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(image.source.partition(",")[2]))))
    return pixels if pixels.ndim == 3 else pixels[..., None]
