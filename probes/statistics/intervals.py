"""95 % intervals of stored numbers: the stored interval, or what standard errors make of it. No
torch."""

import numpy as np
import xarray as xr


def half_width(result: xr.Dataset, variable: str) -> np.ndarray:
    """Half a 95 % interval of a mean over images, 1.96 standard errors; NaN where none is
    stored."""
    name = f"{variable}_sem"
    return np.asarray(1.96 * result[name].values if name in result else np.full(result[variable].shape, np.nan))


def ends(result: xr.Dataset, variable: str, **chosen: object) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval at the chosen labels: the stored interval, or 1.96 standard errors
    on either side."""
    stored = result.get(f"{variable}_interval")
    if stored is not None:
        part = stored.sel(chosen)
        return part.isel(bound=0).values, part.isel(bound=1).values
    values = result[variable]
    half = values.copy(data=half_width(result, variable))
    return (values - half).sel(chosen).values, (values + half).sel(chosen).values
