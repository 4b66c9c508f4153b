"""Labelled numbers: what a result is made of. Every variable has `units` and `long_name`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from lcmae.probes.statistics.running import NUM_GROUPS, RunningMean
from lcmae.probes.statistics.two_way import FEW_MASKS, LEAST, TwoWay
from lcmae.shapes import Float

GIVEN_FIT = "images, given the fit"
"""Of numbers that are measured with what was fitted to other images: of other test images, not of
other training images, nor of another draw of them, of weights or of an order."""


def variable(dims: tuple[str, ...] | str, values: Any, long_name: str, units: str = "1", **attrs: Any) -> xr.Variable:
    """A labelled variable; tensors become float32 arrays on the CPU unless they are integers or
    booleans."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float().numpy() if values.is_floating_point() and values.ndim else values.numpy()
    return xr.Variable(dims, np.asarray(values), {"long_name": long_name, "units": units, **attrs})


def error_of(
    dims: tuple[str, ...] | str,
    values: Any,
    long_name: str,
    units: str = "1",
    *,
    degrees: int,
    over: str = "images",
    method: str = "",
) -> xr.Variable:
    """The standard error of a number called `long_name`, from `degrees` of freedom, over images or
    masks or both: what `lcmae.probes.statistics.intervals` makes an interval of."""
    words = f"standard error over {over}{f' ({method})' if method else ''}: {long_name}"
    return variable(dims, values, words, units, degrees_of_freedom=int(degrees), error_sources=over)


def crossed_errors(
    dims: tuple[str, ...] | str, found: TwoWay, name: str, long_name: str, units: str = "1", *, method: str = ""
) -> Mapping[str, xr.Variable]:
    """`name_sem` over images and the masks they share, and `name_masks_sem`, the masks' part of
    it."""
    both = error_of(dims, found.sem, long_name, units, degrees=found.groups - 1, over="images and masks", method=method)
    masks = error_of(dims, found.masks_sem, long_name, units, degrees=found.masks - 1, over="masks")
    if found.masks < LEAST:
        both.attrs["missing"] = masks.attrs["missing"] = FEW_MASKS
    return {f"{name}_sem": both, f"{name}_masks_sem": masks}


def with_sem(
    dims: tuple[str, ...] | str, running: RunningMean, name: str, long_name: str, units: str = "1", **attrs: Any
) -> Mapping[str, xr.Variable]:
    """`name` and `name_sem`: a mean over images and its standard error; and, for a few numbers,
    `name_groups`, the means of interleaved groups of the images, of which two models over the same
    images make a paired error (`lcmae.probes.results.differences`)."""
    result = {
        name: variable(dims, running.mean, long_name, units, **attrs),
        f"{name}_sem": error_of(dims, running.sem, long_name, units, degrees=running.degrees_of_freedom),
    }
    means = running.group_means
    return result if means is None else {**result, **by_groups(dims, means, running.count, name, long_name, units)}


def by_groups(
    dims: tuple[str, ...] | str, means: Float[Tensor, "g ..."], count: int, name: str, long_name: str, units: str = "1"
) -> Mapping[str, xr.Variable]:
    """`name_groups`: means over interleaved groups of `count` images
    (`RunningMean.group_means`)."""
    axes = ("group", *((dims,) if isinstance(dims, str) else dims))
    words = f"mean of every {NUM_GROUPS}th image: {long_name}"
    return {f"{name}_groups": variable(axes, means, words, units, num_images=count)}


def by_leaving_out(
    dims: tuple[str, ...] | str,
    without: Float[Tensor, "g ..."],
    sizes: Float[Tensor, " g"],
    name: str,
    long_name: str,
    units: str = "1",
) -> Mapping[str, xr.Variable]:
    """`name_without`: the estimate without each group of images, of `sizes`
    (`lcmae.probes.statistics.jackknife`), of which two models over the same images make a paired
    error."""
    axes = (f"left_out_of_{len(without)}", *((dims,) if isinstance(dims, str) else dims))
    words = f"without one of {len(without)} groups of images: {long_name}"
    return {f"{name}_without": variable(axes, without, words, units, sizes=sizes.tolist())}


def by_network(
    parts: Mapping[str, Float[Tensor, "..."]], networks: Sequence[str], num_features: int, axis: int
) -> Float[Tensor, "..."]:
    """Numbers of several networks, features along `axis`, with a new axis of networks before it.

    A network with one feature has it at every feature; a network without numbers has NaN.
    """
    shape = list(next(iter(parts.values())).shape)
    shape[axis] = num_features
    rows = []
    for network in networks:
        one = parts.get(network)
        rows.append(torch.full(shape, torch.nan, dtype=torch.float64) if one is None else one.expand(shape))
    return torch.stack(rows, dim=axis)
