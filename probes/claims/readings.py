"""One number of one run, by name: which run, which probe, which variable, which labels. No
torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.results.networks import NETWORK, TRAINED
from lcmae.probes.statistics import intervals

LAST = "last"
"""As a label: the last one of its axis."""


class Value(NamedTuple):
    """A number and half of its 95 % interval (NaN where no error is stored)."""

    value: float
    half: float = math.nan


@dataclass(frozen=True)
class Reading:
    """What is read off each seed of a cell."""

    grid: str
    probe: str
    variable: str
    at: Mapping[str, Any] = field(default_factory=dict)
    """Label on each axis of the variable; of `network`, the trained one where none is given."""
    objective: str = "mae"
    ratio: float = 0.5
    """Masking ratio of the training."""

    def __str__(self) -> str:
        labels = ", ".join(str(label) for label in self.at.values())
        return f"{self.probe}.{self.variable}{f'[{labels}]' if labels else ''}"

    def of(self, result: xr.Dataset) -> Value:
        """The number in a stored result. `InputError` where the result has none of this name, or no
        such label."""
        if self.variable not in result:
            raise InputError(f"expected the variable {self.variable} in a result of {self.probe}, got none")
        return Value(self._number(result[self.variable]), self._number(intervals.half(result, self.variable)))

    def _number(self, found: xr.DataArray) -> float:
        if NETWORK in found.dims and NETWORK not in self.at:
            found = found.sel({NETWORK: TRAINED})
        for dim, label in self.at.items():
            found = self._along(found, dim, label)
        if found.ndim:
            axes = ", ".join(map(str, found.dims))
            raise InputError(f"expected a label for each axis of {self.probe}.{self.variable}, got none for {axes}")
        return float(found)

    def _along(self, found: xr.DataArray, dim: str, label: Any) -> xr.DataArray:
        if label == LAST:
            return found.isel({dim: -1})
        try:
            # numbers (ratios) come back from files to the last bit or not
            return found.sel(
                {dim: label}, **({"method": "nearest", "tolerance": 1e-6} if isinstance(label, float) else {})
            )
        except KeyError as error:
            raise InputError(f"expected {dim} {label!r} in {self}, got {found[dim].values.tolist()}") from error
