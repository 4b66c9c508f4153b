"""What stands beside a probe's numbers: the same numbers, by the same code, of models that learned
nothing.

`untrained` is a network of the same shape with fresh weights (`lcmae.probes.baselines.untrained`),
`pixels` no network at all: tokens that are the patches' pixels, and predictions that copy the
nearest visible patch (`lcmae.probes.baselines.pixels`). They see the first images only, which
bounds their cost: `untrained_images` and `pixels_images` in a result's attributes say how many.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import xarray as xr
from pydantic import Field

from lcmae.models import MaskedImageModel
from lcmae.probes.base import Accumulator, Batch, Probe, Watching
from lcmae.probes.baselines.pixels import RawPixels
from lcmae.probes.baselines.untrained import untrained

KINDS = {"untrained": "untrained network of the same shape", "pixels": "raw pixels, nearest visible patch copied"}


class ComparedProbe(Probe):
    """A probe some of whose variables have companions `NAME_untrained` (and `NAME_pixels`).
    Sub-classes implement `begin`."""

    compared: ClassVar[Mapping[str, tuple[str, ...]]]
    """Baseline (out of `KINDS`) -> variables that it is told of."""

    baseline_images: int = Field(default=64, ge=0)
    """How many of the first images the baselines (untrained network, raw pixels) see, too; 0 leaves
    them out."""

    def begin(self, model: MaskedImageModel, num_images: int, seed: int) -> Accumulator:
        """The accumulator of one model's numbers."""
        raise TypeError(f"{type(self).__name__} does not accumulate")

    def as_baseline(self) -> "ComparedProbe":
        """The settings with which baselines are measured: without what only the model itself is
        asked for."""
        return self

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> Accumulator:
        own, count = self.begin(model, num_images, seed), min(self.baseline_images, num_images)
        others = {}
        for kind in self.compared if count else ():
            other = untrained(model, seed) if kind == "untrained" else RawPixels.like(model)
            if other is not None:
                others[kind] = other, self.as_baseline().begin(other, count, seed)
        return Beside(self, own, others, count)


@dataclass
class Beside:
    """A model's accumulator, and those of its baselines."""

    probe: ComparedProbe
    own: Accumulator
    others: dict[str, tuple[MaskedImageModel, Accumulator]]
    count: int

    def watch(self, batch: Batch) -> None:
        for accumulator, seen in self._parts(batch):
            if isinstance(accumulator, Watching):
                accumulator.watch(seen)

    def update(self, batch: Batch) -> None:
        for accumulator, seen in self._parts(batch):
            accumulator.update(seen)

    def _parts(self, batch: Batch) -> list[tuple[Accumulator, Batch]]:
        parts = [(self.own, batch)]
        if batch.first < self.count:
            parts += [
                (accumulator, batch.of(model, most=self.count - batch.first))
                for model, accumulator in self.others.values()
            ]
        return parts

    def result(self) -> xr.Dataset:
        result = self.own.result()
        del self.own  # what it has summed is let go of before the baselines conclude
        while self.others:
            kind = next(iter(self.others))
            _, accumulator = self.others.pop(kind)
            result = with_companions(result, accumulator.result(), self.probe.compared[kind], kind)
            result.attrs[f"{kind}_images"] = self.count
        return result


def with_companions(result: xr.Dataset, other: xr.Dataset, names: tuple[str, ...], kind: str) -> xr.Dataset:
    """`NAME_kind`, and `NAME_kind_sem` where there is one, at the labels of `result`; NaN where a
    baseline has no such label."""
    for name in names:
        for suffix in ("", "_sem"):
            if f"{name}{suffix}" in other:
                found = other[f"{name}{suffix}"]
                labels: Any = {dim: result.indexes[dim] for dim in found.dims if dim in result.indexes}
                found = found.reindex(labels)
                found.attrs = {**found.attrs, "long_name": f"{found.attrs['long_name']}, {KINDS[kind]}"}
                result[f"{name}_{kind}{suffix}"] = found.variable
    return result
