"""95 % intervals of stored numbers: the stored interval, or what standard errors make of it. No
torch, no scipy: pages wait for neither.

The one rule of the house. Beside a number `x` a result keeps `x_sem`, whose attributes say over
what it is (`error_sources`: images, masks, or both) and from how many independent pieces it was
estimated (`degrees_of_freedom`: N - 1 for a mean over N images, G - 1 for a jackknife or bootstrap
of G groups). Half of the 95 % interval is

    h = t(df) x_sem,                                           t: Student's 0.975 quantile
    h = sqrt(t(G - 1)^2 v_images + t(K - 1)^2 v_masks)         where images share K masks

(Banerjee, 1960: never below 95 % for normal components, whatever their sizes). The second holds
where `x_masks_sem` = sqrt(v_masks) stands beside, with degrees of freedom of its own; `x_sem` is
then sqrt(v_images + v_masks), and its degrees of freedom are G - 1. Results that were stored before
degrees of freedom were keep 1.96 standard errors, and `method` says so.
"""

import math
from functools import lru_cache

import numpy as np
import xarray as xr

NORMAL = 1.96
"""Standard errors to either side where it is not known from how many pieces they were estimated."""

DEGREES = "degrees_of_freedom"
"""The attribute of a `_sem`."""

NETWORK = "network"
_CLOSED_FORM = 200
"""Up to so many degrees of freedom the distribution is summed term by term; beyond, the expansion
has an error below 1e-9."""


@lru_cache(maxsize=1024)
def student(degrees: int) -> float:
    """Student's 0.975 quantile: 12.71 for 1 degree of freedom, 2.36 for 7, 1.96 for many; NaN below
    1."""
    if degrees < 1:
        return math.nan
    normal = 1.959963984540054
    if degrees > _CLOSED_FORM:
        # Abramowitz and Stegun, 26.7.5
        x, n = normal, degrees
        return (
            x
            + (x**3 + x) / (4 * n)
            + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * n**2)
            + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * n**3)
        )
    low, high = normal, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < 0.95 else (low, middle)
    return (low + high) / 2


def _within(t: float, degrees: int) -> float:
    """P(|T| <= t), Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, total, factor = math.cos(angle), 0.0, 1.0
    if degrees % 2 == 0:
        for k in range(0, degrees - 1, 2):  # 1 + 1/2 cos^2 + 1 3 / (2 4) cos^4 ...
            total += factor
            factor *= cosine**2 * (k + 1) / (k + 2)
        return math.sin(angle) * total
    factor = cosine
    for k in range(1, degrees - 1, 2):  # cos + 2/3 cos^3 + 2 4 / (3 5) cos^5 ...
        total += factor
        factor *= cosine**2 * (k + 1) / (k + 2)
    return 2 / math.pi * (angle + math.sin(angle) * total)


def reach(error: xr.DataArray) -> xr.DataArray:
    """How many standard errors half a 95 % interval is, at every number of a stored `_sem`.

    Baselines have seen fewer images than the network itself, so they have degrees of freedom of
    their own (`lcmae.probes.results.networks`).
    """
    own = student(int(error.attrs[DEGREES])) if DEGREES in error.attrs else NORMAL
    found = np.full(error.shape, own, dtype=float)
    if NETWORK in error.coords:
        networks = error[NETWORK].values
        others = [error.attrs.get(of_baseline(str(one))) for one in np.atleast_1d(networks)]
        known = np.array([own if degrees is None else student(int(degrees)) for degrees in others])
        # in arrays, here and below: xarray aligns labels at every sum, and a page of 30 runs waits
        found[:] = known.reshape([-1 if dim == NETWORK else 1 for dim in error.dims]) if networks.ndim else known[0]
    return error.copy(data=found)


def of_baseline(network: str) -> str:
    """The attribute with a baseline's degrees of freedom."""
    return f"{DEGREES}_{network.replace(' ', '_').replace(',', '')}"


def half(result: xr.Dataset, variable: str) -> xr.DataArray:
    """Half a 95 % interval of each number, labelled as the variable; NaN where no error is
    stored."""
    values, name = result[variable], f"{variable}_sem"
    if name not in result:
        return xr.full_like(values, np.nan, dtype=float)
    error = result[name]
    own = reach(error).values * error.values
    masks = _stored(result, f"{variable}_masks_sem")
    if masks is None:
        return error.copy(data=own)
    if masks.dims != error.dims:
        masks = masks.broadcast_like(error).transpose(*error.dims)
    of_images = (error.values**2 - masks.values**2).clip(min=0)
    both = reach(error).values ** 2 * of_images + reach(masks).values ** 2 * masks.values**2
    return error.copy(data=both**0.5)


def half_width(result: xr.Dataset, variable: str) -> np.ndarray:
    """The numbers of `half`."""
    return np.asarray(half(result, variable).values)


def ends(result: xr.Dataset, variable: str, **chosen: object) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval at the chosen labels: the stored interval, or `half` on either
    side."""
    stored = _stored(result, f"{variable}_interval")
    if stored is not None:
        part = stored.sel(chosen)
        return part.isel(bound=0).values, part.isel(bound=1).values
    values = result[variable]
    width = half_width(result, variable)
    low, high = values.copy(data=values.values - width), values.copy(data=values.values + width)
    return low.sel(chosen).values, high.sel(chosen).values


def method(result: xr.Dataset, variable: str) -> str:
    """How the interval of a variable comes about, in words; nothing where it has none."""
    stored, error = (_stored(result, f"{variable}_{end}") for end in ("interval", "sem"))
    if stored is not None:
        return "stored (Wilson)" if "Wilson" in str(stored.attrs.get("long_name")) else "stored"
    if error is None:
        return ""
    if DEGREES not in error.attrs:
        return "1.96 standard errors (stored before degrees of freedom were)"
    over = error.attrs.get("error_sources", "images")
    degrees = f"{error.attrs[DEGREES]:g}"
    masks = _stored(result, f"{variable}_masks_sem")
    if masks is not None:
        degrees += f" and {masks.attrs[DEGREES]:g}"
    return f"Student's t over {over}, {degrees} degrees of freedom"


def _stored(result: xr.Dataset, name: str) -> xr.DataArray | None:
    # `result.get` looks for similar names, a millisecond for each that is not there
    return result[name] if name in result else None  # noqa: SIM401
