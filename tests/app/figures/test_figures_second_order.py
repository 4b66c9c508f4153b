"""The answer of second_order: at which ratios the network beats each linear predictor."""

import numpy as np
import pytest
import xarray as xr

from lcmae.app.figures import second_order
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
    assert "At the own ratio of each: beats the fixed linear predictor: a; loses to it: b." in said
    assert said.endswith("At the own ratio of each: loses to the Wiener filter of each mask: a and b.")


@pytest.mark.parametrize("missing", ["linear", "wiener"])
def test_what_has_no_interval_is_not_said(missing: str):
    one = result([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]).drop_vars(f"gain_over_{missing}_sem")
    assert second_order.OTHERS[missing] not in second_order.over_ratios(one)
    assert second_order.over_ratios(one)
