"""Baselines stand in every result in one way: as labels of the dimension `network`. No torch.

`trained` is the checkpoint itself; `untrained` a network of the same shape with fresh weights
(`lcmae.probes.baselines.untrained`); `pixels` no network at all: tokens that are the patches'
pixels, and predictions that copy the nearest visible patch (`lcmae.probes.baselines.pixels`).
Probes that see the first images of baselines only say how many in the attributes `untrained_images`
and `pixels_images`.

    result["loss"].sel(network="untrained")    # any number of any probe, of a baseline
    trained(result)["loss"]                    # without the dimension
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from lcmae.probes.statistics.intervals import DEGREES, of_baseline

NETWORK, TRAINED = "network", "trained"
BASELINES = {
    "untrained": "untrained network of the same shape",
    "pixels": "raw pixels, nearest visible patch copied",
    "mean colour": "mean colour of the visible pixels",
    "position": "what the position alone says",
    "position mean": "mean of the images at each position",
    "trained, leaky": "with the hidden patches' true statistics, which give the answer away",
}
"""What the networks beside the trained one are, in words."""

ACCOMPANYING = ("_masks_sem", "_sem", "_interval", "_groups", "_without")
"""What follows a variable's name in those that belong to it; they have its dimension `network`."""


BY_GROUP = ("_groups", "_without")
"""Those of them whose first dimension is groups of images."""


def trained(result: xr.Dataset) -> xr.Dataset:
    """The trained network's own numbers, without the dimension `network`."""
    return of_network(result, TRAINED)


def of_network(result: xr.Dataset, network: str) -> xr.Dataset:
    """The numbers of one network, without the dimension; what has no such dimension stays as it
    is. Without such a network, its numbers are left out."""
    if NETWORK not in result.dims:
        return result
    networks = list(result.variables[NETWORK].values)
    if network not in networks:
        return result.drop_dims(NETWORK)
    chosen = result.isel({NETWORK: networks.index(network)}, drop=True)
    for variable in chosen.data_vars.values():
        degrees = variable.attrs.get(of_baseline(network))
        if degrees is not None:
            variable.attrs[DEGREES] = degrees
    return chosen


def networks_of(result: xr.Dataset, variable: str) -> list[str]:
    """The networks that have any number in this variable; none where it has no such dimension."""
    # in arrays: a page of 30 runs asks some thousand times, and xarray takes a millisecond for each
    values = result.variables.get(variable)
    if values is None or NETWORK not in values.dims:
        return []
    rows = np.moveaxis(pd.notna(values.values), values.dims.index(NETWORK), 0)
    labels = result.variables[NETWORK].values
    return [str(network) for network, row in zip(labels, rows, strict=True) if row.any()]


def with_baselines(
    result: xr.Dataset, others: Mapping[str, xr.Dataset], baselines: Mapping[str, tuple[str, ...]]
) -> xr.Dataset:
    """Give the variables of `baselines` (network -> names) the dimension `network`: the numbers of
    `result` as `trained`, then those of `others` at the labels of `result`.

    NaN stands where a baseline has no such number, label or means of groups: groups are of all the
    images, which baselines have not seen. Without `others`, `trained` is the only label.
    """
    names = dict.fromkeys(name for some in baselines.values() for name in some)
    stacked = {}
    for whole in _present(result, names):
        own, suffix = result[whole], _suffix(whole, names)
        rows = [own]
        for network, other in others.items():
            is_measured = suffix not in BY_GROUP and whole.removesuffix(suffix) in baselines[network] and whole in other
            rows.append(_at_labels(other[whole], own) if is_measured else _nothing(own))
        axis = 1 if suffix in BY_GROUP else 0
        dims = (*own.dims[:axis], NETWORK, *own.dims[axis:])
        attrs = dict(own.attrs)
        if DEGREES in attrs:  # baselines have seen fewer images
            attrs |= {
                of_baseline(name): other[whole].attrs[DEGREES] for name, other in others.items() if whole in other
            }
        stacked[whole] = xr.Variable(dims, np.stack([row.values for row in rows], axis), attrs)
    found = result.assign(stacked)
    return found.assign_coords({NETWORK: [TRAINED, *others]}) if stacked else found


def _present(result: xr.Dataset, names: Mapping[str, None]) -> Iterator[str]:
    for name in names:
        yield from (f"{name}{suffix}" for suffix in ("", *ACCOMPANYING) if f"{name}{suffix}" in result)


def _suffix(whole: str, names: Mapping[str, None]) -> str:
    # a variable may itself be called ..._masks
    found = (suffix for suffix in ACCOMPANYING if whole.endswith(suffix) and whole.removesuffix(suffix) in names)
    return "" if whole in names else next(found)


def _nothing(own: xr.DataArray) -> xr.DataArray:
    return xr.full_like(own, np.nan, dtype=own.dtype if own.dtype.kind == "f" else float)


def _at_labels(found: xr.DataArray, own: xr.DataArray) -> xr.DataArray:
    labels = {dim: own.indexes[dim] for dim in found.dims if dim in own.indexes}
    return found.reindex(labels).transpose(*own.dims)
