"""Results stored before 2026-12 in the form of today: pure functions on labelled numbers. No torch.

Then baselines stood in variables of their own (`error_untrained`, `loss_pixels`), in names of
representations (`untrained cls`) or as predictors, and some settings and axes had other names. What
is in today's form already comes back as it is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from lcmae.probes.results.networks import ACCOMPANYING, NETWORK, TRAINED, with_baselines

_ATTENTION = ("distance", "entropy", "mutual_information", "head_divergence", "prefix_mass")
_RANKS = (
    "effective_rank", "rankme", "participation_ratio", "alpha_req", "uniformity", "uniformity_of_others", "wang_isola",
    "intrinsic_dimension", "lidar",
)  # fmt: skip
_REACHES = ("area_ratio", "radius", "image_radius", "half_radius")
_SHARES = tuple(f"positional_share_{over}{of}" for over in ("over_images", "over_masks") for of in ("_pooled", "_rise"))

COMPARED: dict[str, dict[str, tuple[str, ...]]] = {
    "reconstruction": {"untrained": ("error",)},
    "local_contrast": {
        "untrained": ("loss", "term", "token_share", "position_share"),
        "pixels": ("loss", "term", "token_share"),
    },
    "decoder_attention": {
        "untrained": ("mass", "distance", "entropy", "mean_mass", "mean_distance", "mean_entropy", *_SHARES)
    },
    "encoder_attention": {"untrained": (*_ATTENTION, *(f"mean_{name}" for name in _ATTENTION))},
    "receptive_field": {"untrained": tuple(f"{depth}{name}" for depth in ("", "depth_") for name in _REACHES)},
    "spectrum": {"untrained": (*_RANKS, "singular_value", "variance_share"), "pixels": _RANKS},
    "invariance": {
        "untrained": ("alignment", "alignment_by_overlap", "retrieval", "info_nce"),
        "pixels": ("retrieval", "info_nce"),
    },
    "embedding_consistency": {"untrained": ("consistency", "sliced_wasserstein", "gram_gap")},
}
"""Probe -> baseline -> the variables that had `NAME_baseline` beside them."""

SETTINGS = {"receptive_field": {"engine": "backend"}}
"""Probe -> settings that have another name today."""

_PREDICTORS = {"model": TRAINED, "model, leaky": "trained, leaky", "nearest": "pixels", "mean": "mean colour"}
_UNTRAINED = "untrained "


def upgrade(result: xr.Dataset) -> xr.Dataset:
    """The same numbers in the form in which probes store them today."""
    probe = str(result.attrs.get("probe", ""))
    if probe in COMPARED and not any(NETWORK in values.dims for values in result.data_vars.values()):
        result = _baselines_joined(result, COMPARED[probe])
    if "predictor" in result.dims:
        result = result.rename(predictor=NETWORK)
        labels = [_PREDICTORS.get(str(label), str(label)) for label in result[NETWORK].values]
        result = result.assign_coords({NETWORK: labels})
    if "judge" in result.dims:
        result = result.rename(judge="classifier")
    if "head" in result.dims and "head" not in result.coords:
        result = result.assign_coords(head=range(1, result.sizes["head"] + 1))
    if "representation" in result.dims or "tested" in result.dims:
        result = _representations_apart(result)
    return result.assign_attrs(attributes(result.attrs))


def attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of itself, with today's names of settings."""
    settings = str(attrs.get("settings", ""))
    for old, new in SETTINGS.get(str(attrs.get("probe", "")), {}).items():
        settings = settings.replace(f'"{old}":', f'"{new}":')
    return {**attrs, **({"settings": settings} if "settings" in attrs else {})}


def _baselines_joined(result: xr.Dataset, baselines: dict[str, tuple[str, ...]]) -> xr.Dataset:
    """`NAME_untrained` and `NAME_pixels` become labels of `network` in `NAME`."""
    others, gone = {}, []
    for network, names in baselines.items():
        found = {}
        for name in names:
            for suffix in ("", *ACCOMPANYING):
                old = f"{name}_{network}{suffix}"
                if old in result:
                    found[f"{name}{suffix}"] = result[old]
                    gone.append(old)
        if found:
            others[network] = xr.Dataset(found)
    return with_baselines(result.drop_vars(gone), others, baselines)


def _representations_apart(result: xr.Dataset) -> xr.Dataset:
    """Axes of representations ("mean", "untrained mean", "pixels", "patch pixels") become two:
    `network` and `feature`. Pixels, which are one feature, stand at every feature."""
    axis = [str(dim) for dim in ("representation", "tested") if dim in result.dims]
    labels = {dim: [str(label) for label in result[dim].values] for dim in axis}
    every = dict.fromkeys(label for dim in axis for label in labels[dim])
    features = [label for label in every if not label.startswith(_UNTRAINED) and "pixels" not in label]
    networks = [TRAINED, *(["untrained"] if any(label.startswith(_UNTRAINED) for label in every) else []), "pixels"]

    def label_of(network: str, feature: str) -> str:
        if network == "pixels":
            return "patch pixels" if feature == "patch" else "pixels"
        return feature if network == TRAINED else f"{_UNTRAINED}{feature}"

    found: dict[str, xr.Variable] = {}
    for name, values in result.data_vars.items():
        dim = next((dim for dim in axis if dim in values.dims), None)
        if dim is not None:
            rows = [[_row(values, dim, labels[dim], label_of(n, f)) for f in features] for n in networks]
            at = values.dims.index(dim)
            stacked = np.stack([np.stack(row, axis=at) for row in rows], axis=at)
            dims = (*values.dims[:at], NETWORK, "feature", *values.dims[at + 1 :])
            if name == "chance":  # the same of every network
                stacked, dims = stacked.take(0, axis=at), (*dims[:at], *dims[at + 1 :])
            found[str(name)] = xr.Variable(dims, stacked, values.attrs)
        elif NETWORK in values.dims:
            missing = values.reindex({NETWORK: networks})
            found[str(name)] = missing.variable
        else:
            found[str(name)] = values.variable
    coordinates = {name: part.variable for name, part in result.coords.items() if name not in (*axis, NETWORK)}
    both = {NETWORK: networks, "feature": features}
    return xr.Dataset(found, {**coordinates, **both}, result.attrs)


def _row(values: xr.DataArray, dim: str, labels: list[str], label: str) -> np.ndarray:
    if label in labels:
        return values.isel({dim: labels.index(label)}).values
    one = values.isel({dim: 0})
    return np.full(one.shape, np.nan, one.dtype if one.dtype.kind == "f" else float)
