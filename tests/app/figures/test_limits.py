"""Shared ranges: they hold everything that is drawn, join over figures, and leave what a figure has
decided itself."""

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.app.figures import limits, local_contrast, reconstruction, style
from tests.app import synthetic

finite = st.floats(-1e6, 1e6)
RANGES = st.dictionaries(
    st.sampled_from(["xaxis", "yaxis2", "coloraxis"]), st.tuples(finite, finite).map(sorted).map(tuple)
)


def test_points_count_with_their_error_bars_on_their_own_axis():
    figure = go.Figure()
    figure.add_scatter(x=[1, 2, np.nan], y=[1, np.nan, 5], error_y={"array": [2, 1, np.nan]})
    figure.add_scatter(x=[7], y=[8], xaxis="x2", error_x={"array": [1], "arrayminus": [3], "symmetric": False})
    found = limits.ranges(figure)
    assert found == {"xaxis": (1, 2), "yaxis": (-1, 8), "xaxis2": (4, 8)}


def test_stacked_bars_add_up_and_grouped_ones_do_not():
    figure = go.Figure(layout={"barmode": "stack"})
    for value, group in ((1.0, "term"), (2.0, "term"), (2.5, "collapse")):
        figure.add_bar(y=["a", "b"], x=[value, value], orientation="h", offsetgroup=group)
    assert limits.ranges(figure) == {"xaxis": (0, 3)}  # the categories of y have no range
    assert limits.ranges(figure.update_layout(barmode="group")) == {"xaxis": (0, 2.5)}


def test_lines_across_and_colours_count():
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], marker={"color": [3, 9], "coloraxis": "coloraxis"})
    figure.add_heatmap(z=[[1, np.nan], [5, 2]], coloraxis="coloraxis2", x=["a", "b"])
    figure.add_hline(4)
    figure.add_shape(type="line", xref="paper", x0=-9, x1=9, y0=6, y1=6)
    found = limits.ranges(figure)
    assert found == {"xaxis": (0, 1), "yaxis": (0, 6), "coloraxis": (3, 9), "coloraxis2": (1, 5)}


def test_what_is_not_finite_or_not_above_zero_on_a_logarithmic_axis_is_left_out():
    figure = go.Figure(layout={"yaxis": {"type": "log"}})
    figure.add_scatter(x=[1, np.inf], y=[0, 100.0])
    figure.add_scatter(x=["1", "2"], y=[-1.0, 10.0])  # categories that look like numbers
    found = limits.ranges(figure)
    assert found == {"xaxis": (1, 1), "yaxis": (10, 100)}
    low, high = limits.hold(figure, found).layout.yaxis.range
    assert low == pytest.approx(0.95)
    assert high == pytest.approx(2.05)


@given(st.lists(RANGES, min_size=1))
def test_a_union_holds_every_part_and_is_no_larger(many):
    joined = limits.union(many)
    assert set(joined) == {name for one in many for name in one}
    for name, (low, high) in joined.items():
        assert low == min(one[name][0] for one in many if name in one)
        assert high == max(one[name][1] for one in many if name in one)


def test_a_held_range_leaves_what_the_figure_set():
    figure = style.figure(height=100, xaxis={"range": [0, 1]}, yaxis={"autorange": "reversed"})
    figure.update_layout(xaxis2={"rangemode": "tozero"}, yaxis2={"type": "category"})
    figure.update_layout(coloraxis={"cmin": 0}, coloraxis2={"cmid": 0})
    names = ("xaxis", "yaxis", "xaxis2", "yaxis2", "coloraxis", "coloraxis2")
    layout = limits.hold(figure, dict.fromkeys(names, (2.0, 4.0))).layout
    assert layout.xaxis.range == (0, 1)
    assert layout.yaxis.range == (4.1, 1.9)
    assert layout.xaxis2.range == (0, 4.2)
    assert layout.yaxis2.range is None
    assert (layout.coloraxis.cmin, layout.coloraxis.cmax) == (0, 4)
    assert (layout.coloraxis2.cmin, layout.coloraxis2.cmax) == (-4, 4)


def test_one_value_alone_gets_room():
    figure = go.Figure().add_scatter(x=[3.0], y=[0.0])
    layout = limits.hold(figure, limits.ranges(figure)).layout
    assert layout.xaxis.range[0] < 3 < layout.xaxis.range[1]
    assert layout.yaxis.range[0] < 0 < layout.yaxis.range[1]


def test_figures_of_two_steps_get_the_same_axes():
    early, late = synthetic.local_contrast(seed=1), synthetic.local_contrast(seed=2)
    early["term"] = 5 * early["term"]
    figures = [local_contrast.terms_with_errors({"a": result}) for result in (early, late)]
    assert limits.ranges(figures[0]) != limits.ranges(figures[1])
    shared = limits.union(map(limits.ranges, figures))
    first, second = (limits.hold(figure, shared).layout for figure in figures)
    assert first.xaxis.range == second.xaxis.range
    assert first.xaxis.range[1] > float(early["term"].max())
    maps = [reconstruction.error_maps({"a": synthetic.reconstruction(seed=seed)}) for seed in (1, 2)]
    shared = limits.union(map(limits.ranges, maps))
    assert {limits.hold(figure, shared).layout.coloraxis.cmax for figure in maps} == {shared["coloraxis"][1]}
