"""The answer of second_order: at which ratios the network beats each linear predictor."""

import numpy as np
import pytest
import xarray as xr

from lcmae.app.figures import second_order
from tests.app.pages import traces
from tests.app.synthetic import var


def result(linear: list[float], wiener: list[float], own_ratio: float = 0.75) -> xr.Dataset:
    """Gains at three ratios, each with a standard error of 0.01 from 100 degrees of freedom."""
    at, networks = ("network", "ratio"), ["trained", "linear", "wiener"]
    r2 = np.array([[0.5] * 3, [0.4] * 3, [0.45] * 3])
    values = {"r2": var(at, r2, "explained share")}
    for name, gains in (("linear", linear), ("wiener", wiener)):
        values[f"gain_over_{name}"] = var("ratio", gains, f"gain over {name}")
        error = var("ratio", np.full(3, 0.01), "standard error over images")
        error.attrs |= {"degrees_of_freedom": 100, "error_sources": "images"}
        values[f"gain_over_{name}_sem"] = error
    return xr.Dataset(values, {"ratio": [0.25, 0.5, 0.75], "network": networks}, {"own_ratio": own_ratio})


def test_each_ratio_has_its_verdict():
    said = second_order.answer({"a": result([-0.2, 0.001, 0.1], [-0.3, -0.1, -0.05])}).sentence
    assert (
        "It loses to the fixed linear predictor at ratio 0.25, cannot be told apart from it at ratio 0.5 and beats it at ratio "
        "0.75." in said
    )
    assert said.endswith("It loses to the Wiener filter of each mask at every ratio.")


def test_ratios_of_one_verdict_stand_together():
    said = second_order.answer({"a": result([0.1, 0.2, -0.3], [0.1, 0.1, 0.1])}).sentence
    assert "It beats the fixed linear predictor at ratios 0.25 and 0.5 and loses to it at ratio 0.75." in said
    assert said.endswith("It beats the Wiener filter of each mask at every ratio.")


def test_several_runs_are_held_against_them_at_their_own_ratio():
    runs = {"a": result([0, 0, 0.1], [0, 0, -0.1]), "b": result([0, 0, -0.1], [0, 0, -0.2])}
    said = second_order.answer(runs).sentence
    assert "Each at its own ratio, a beats the fixed linear predictor; b loses to it;" in said
    assert said.endswith("; both lose to the Wiener filter of each mask.")


def test_what_holds_of_both_predictors_is_said_once():
    runs = {name: result([0, 0, 0.1], [0, 0, 0.2]) for name in ("a", "b", "c")}
    said = second_order.answer(runs).sentence
    assert said.endswith(
        "Each at its own ratio, all 3 beat the fixed linear predictor and the Wiener filter of each mask."
    )
    split = {**runs, "c": result([0, 0, -0.1], [0, 0, -0.2])}
    said = second_order.answer(split).sentence
    assert said.endswith(
        "Each at its own ratio, a and b beat the fixed linear predictor and the Wiener filter of each mask; c loses to them."
    )


def test_greys_of_the_baselines_are_seen_on_white_and_on_the_dark_page():
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour, _ in second_order.STYLES.values():
        for page in ("#ffffff", "#0e1117"):
            dark, bright = sorted((luminance(colour), luminance(page)))
            assert (bright + 0.05) / (dark + 0.05) >= 3, (colour, page)


@pytest.mark.parametrize("missing", ["linear", "wiener"])
def test_what_has_no_interval_is_not_said(missing: str):
    one = result([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]).drop_vars(f"gain_over_{missing}_sem")
    assert second_order.OTHERS[missing] not in second_order.over_ratios(one)
    assert second_order.over_ratios(one)


def test_what_comes_from_afar_is_drawn_once_for_the_same_images():
    one = result([0.1] * 3, [0.1] * 3)
    error = var("ratio", [0.01] * 3, "standard error over images")
    error.attrs |= {"degrees_of_freedom": 100, "error_sources": "images"}
    one = one.assign(far_gain=var("ratio", [0.0, 0.05, 0.1], "far"), far_gain_sem=error)
    one = one.assign(reach=var("ratio", [1.4, 1.5, 1.84], "reach", "patches"))
    one["ratio"].attrs |= {"long_name": "masking ratio", "units": "1"}
    shown = traces(second_order.far({"a": one, "b": one, "c": one.assign(far_gain=one["far_gain"] * 2)}))
    assert [row.name for row in shown] == ["a", "c"]
    np.testing.assert_allclose(shown[0].y, [0.0, 0.05, 0.1])
    # 1.98 standard errors: Student's t of 100 degrees of freedom
    np.testing.assert_allclose(shown[0].error_y.array, 0.0198, rtol=1e-2)
    assert second_order.reach_words({"a": one}) == (
        "What it uses lies 1.4 patches away on average at ratio 0.25, and 1.8 at ratio 0.75."
    )
    assert "(images of a)" in second_order.reach_words({"a": one, "b": one})
    assert second_order.reach_words({"a": one.drop_vars("reach")}) == ""
