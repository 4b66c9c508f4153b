"""The queries of an attentive probe that `transfer` has trained for this checkpoint, as stored with
its result."""

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lcmae.app.dashboard.live.inspection import Inspection
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures import transfer
from lcmae.errors import InputError

PROBE = "transfer"


@dataclass(frozen=True)
class Queries:
    """Trained queries of one stored result, layer by layer."""

    result: xr.Dataset
    which: Hashable
    """Names the file, as it was read."""

    @property
    def layers(self) -> list[int]:
        """Encoder blocks, from 1, that have queries."""
        return [int(layer) for layer in self.result["query_layer"].values]

    def layer(self, wanted: int) -> int:
        """The block that is nearest to the wanted one; of two as near the later one."""
        return min(self.layers, key=lambda layer: (abs(layer - wanted), -layer))

    def of(self, layer: int) -> np.ndarray:
        """Queries [q d] of a block."""
        return self.result["query_weight"].sel(query_layer=layer).values

    def words(self, layer: int) -> str:
        """What they name right, beside poolings that do not choose where to look, and of what
        data."""
        return f"{transfer.pooled_words(self.result, layer)} (Data: {self.result.attrs.get('data', 'not said')}.)"


def stored(inspected: Inspection) -> Queries | None:
    """Queries of this very checkpoint, of the shown images' data where there are some; None where
    no result has any."""
    location, data = inspected.loaded.location, inspected.chosen.data or inspected.loaded.data
    if location.run is None or location.step is None:
        return None
    known = reading.conditions_at(location.run, location.step, PROBE)
    # the newest last, and those of the same data behind all others
    for condition in sorted(known, key=lambda one: one.data == data)[::-1]:
        try:
            result = reading.result_of(location.run, location.step, PROBE, condition)
        except InputError:
            continue  # damaged or foreign: its own page says so
        is_own = result.attrs.get("checkpoint_sha256") == inspected.loaded.sha256
        if is_own and fits(result, inspected):
            return Queries(result, reading.stamp(known[condition]))
    return None


def fits(result: xr.Dataset, inspected: Inspection) -> bool:
    """Whether a result, which may be anybody's, has queries for this model's layers."""
    if not {"query_weight", "pooled_accuracy"} <= set(result) or "num_pooled_images" not in result.attrs:
        return False  # of before queries were stored, or without the comparison of poolings
    layers, of_model = set(result["query_layer"].values.tolist()), range(1, inspected.loaded.encoder[0] + 1)
    known = set(of_model) & set(result["layer"].values.tolist())
    return result.sizes["width"] == inspected.loaded.model.config.width and bool(layers) and layers <= known
