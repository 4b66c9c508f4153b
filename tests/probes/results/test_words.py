"""Labels in words: those of features and views, and never along other dimensions."""

import numpy as np
import xarray as xr

from lcmae.probes.results import tables
from lcmae.probes.results.words import called, located


def test_labels_have_words_and_numbers_say_what_they_count() -> None:
    assert called("cls") == "class token"
    assert called("coarse_random") == "coarse random"
    assert located("layer", "3") == "layer 3"
    assert located("view", "full") == "whole images"
    assert located("how", "mean") == "mean", "what replaces is no token"


def test_a_number_of_a_result_knows_its_place() -> None:
    about = {"long_name": "a number", "units": "1"}
    values = xr.DataArray(np.zeros((1, 2, 1)), {"feature": ["cls"], "layer": [1, 2], "head": [1]}, attrs=about)
    found = list(tables.cells(xr.Dataset({"number": values})))
    assert [cell.part for cell in found] == ["cls, 1, 1", "cls, 2, 1"]
    assert [cell.where for cell in found] == ["class token, layer 1, head 1", "class token, layer 2, head 1"]
