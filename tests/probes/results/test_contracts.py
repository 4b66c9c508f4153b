"""The tables of what results hold agree with what every probe computes, and a result that is
mangled is named in a few words."""

from importlib import import_module

import numpy as np
import pytest
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.probes.registry import PROBES
from lcmae.probes.results import contracts, legacy
from tests.app import synthetic
from tests.few import few

FORMS = [(probe, normalised) for probe in PROBES for normalised in (False, True)]


def latest(probe: str, *, normalised: bool = False) -> xr.Dataset:
    return legacy.upgrade(synthetic.RESULTS[probe](seed=0, normalised=normalised))


def largest(result: xr.Dataset) -> str:
    """The variable of the most values: one that a page draws."""
    return str(max(result.data_vars, key=lambda name: result[name].size))


def test_every_probe_has_a_table():
    assert set(contracts.TABLES) == set(PROBES)
    for probe in PROBES:
        names = [name.removesuffix("!") for names in contracts.TABLES[probe].values() for name in names.split()]
        assert len(names) == len(set(names)), probe


@pytest.mark.parametrize(("probe", "normalised"), FORMS)
def test_a_table_has_every_variable_with_its_dims(probe: str, normalised: bool):
    result, (dims, _) = latest(probe, normalised=normalised), contracts.expected(probe)
    assert contracts.problem(result, probe) == ""
    found = {str(name): contracts.dims_of(values) for name, values in result.data_vars.items()}
    assert found.items() <= dims.items(), dict(found.items() - dims.items())


@pytest.mark.parametrize("probe", few(PROBES))
def test_what_is_needed_is_what_figures_fail_without(probe: str):
    result, (_, needed) = latest(probe), contracts.expected(probe)
    draw(result, probe)
    for name in needed:
        less = result.drop_vars(name)
        assert contracts.problem(less, probe) == f"none of the name {name}"
        with pytest.raises((LookupError, ValueError, RuntimeError, AssertionError)):
            draw(less, probe)


def draw(result: xr.Dataset, probe: str) -> None:
    page = import_module(f"lcmae.app.dashboard.pages.{probe}").PAGE
    page.answer({"run": result})
    list(page.panels({"run": result}, take_first))


MANGLED = {
    "text for numbers": lambda one: (one.dims, np.full(one.shape, "odd"), one.attrs),
    "a dimension too many": lambda one: one.expand_dims(odd=2),
    "a dimension too few": lambda one: one.isel({one.dims[0]: 0}, drop=True),
    "dimensions in another order": lambda one: one.transpose(*reversed(one.dims)),
}


@pytest.mark.parametrize("kind", MANGLED)
@pytest.mark.parametrize("probe", PROBES)
def test_a_variable_of_another_form_is_named(probe: str, kind: str):
    result = latest(probe)
    name = largest(result)
    assert len(result[name].dims) > 1
    mangled = result.assign({name: MANGLED[kind](result[name])})
    assert contracts.problem(mangled, probe).startswith(f"{name} ")


@pytest.mark.parametrize("probe", PROBES)
def test_words_for_coordinates_of_numbers_are_named(probe: str):
    result = latest(probe)
    words = {str(dim): [f"odd {n}" for n in range(size)] for dim, size in result.sizes.items()}
    mangled = result.assign_coords({dim: texts for dim, texts in words.items() if dim not in contracts.TEXT})
    assert contracts.problem(mangled, probe).endswith(" of text")


def test_what_no_table_knows_is_let_through():
    result = latest("spectrum").assign(other=("odd", np.array(["a", "b"])))
    assert contracts.problem(result, "spectrum") == ""
    assert contracts.problem(result, "somebody_else_s") == ""
