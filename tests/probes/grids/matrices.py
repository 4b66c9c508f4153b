"""Matrices of training and test ratios with known numbers."""

import numpy as np
import xarray as xr

from lcmae.probes.grids.ratio_verdict import MEASURES, assembled


def synthetic(levels: dict[float, list[float]], seeds: int = 5, noise: float = 0.01) -> xr.Dataset:
    """Cells of these training ratios whose kNN and loss have known levels at test ratios 0.25, 0.5
    and 0.75."""
    rng = np.random.default_rng(0)
    found, keys = {}, {}
    for ratio, at in levels.items():
        for seed in range(seeds):
            values = {name: np.full(3, np.nan) for name in MEASURES}
            values["mean_knn"] = np.array(at) + noise * rng.normal(size=3)
            values["local_contrast.loss"] = 1 - values["mean_knn"]
            name = f"{ratio}-s{seed}"
            found[name] = xr.Dataset(
                {key: ("test_ratio", one, dict(zip(("long_name", "units"), MEASURES[key], strict=True)))
                 for key, one in values.items()},
                {"test_ratio": ("test_ratio", [0.25, 0.5, 0.75], {"long_name": "masking ratio of the test", "units": "1"})},
            )  # fmt: skip
            keys[name] = (("mae", "random", ratio, 1), seed)
    return assembled(found, keys, 2000)
