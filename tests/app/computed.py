"""Results of real probes on a tiny model, for pages whose curves and tables are tedious to make up;
computed once."""

from dataclasses import dataclass
from functools import cache

import torch
import xarray as xr
from einops import reduce, repeat
from torch import Tensor

from lcmae.probes.registry import probe_class
from lcmae.settings import parse
from tests.app.synthetic import ATTRS
from tests.conftest import tiny_mae

SETTINGS = {
    "fidelity": {"ratios": (0.25, 0.75)},
    "frequency": {},
    "transfer": {
        "train_images": 20,
        "neighbours": 3,
        "epochs": 2,
        "pooled_epochs": 2,
        "seeds": 1,
        "corruptions": ("contrast",),
        "severities": (1, 5),
    },
    "dense": {"rates": (0.1,), "neighbours": (1, 3), "epochs": 2},
    "patch_retrieval": {"num_sampled": 6, "clusters": 3},
    "local_contrast": {"num_masks": 2},
    "spectrum": {"num_masks": 2},
    "knock_out": {"single_images": 4},
    "attribution": {"path_steps": 4, "shapley_permutations": 2, "num_images": 4},
    "second_order": {"ratios": (0.5,), "num_masks": 8, "components": 4},
    "receptive_field": {"masks": ("random",), "ratios": (0.5,)},
    "embedding_consistency": {"num_neighbours": 3, "num_masks": 0, "num_directions": 8},
}
"""What makes a probe quick on a tiny model; every other probe runs with its defaults."""


@dataclass(frozen=True)
class Labelled:
    """Random images of two classes, and as many again to train on."""

    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Tensor:
        return self.images[index]

    @property
    def labels(self) -> Tensor:
        return torch.arange(len(self)) % 2

    def class_maps(self, index: slice) -> Tensor:
        """Two classes of pixels, by patch: whether the patch is brighter than most."""
        means = reduce(self.images[index], "b c (r y) (s x) -> b r s", "mean", y=2, x=2)
        return repeat((means > 0).long(), "b r s -> b (r 2) (s 2)")

    def other_split(self, limit: int | None) -> "Labelled":
        return some_images(20, seed=1)


def some_images(count: int, seed: int = 0) -> Labelled:
    return Labelled(torch.randn(count, 3, 8, 12, generator=torch.Generator().manual_seed(seed)))


@cache
def _compute(name: str, normalised: bool) -> xr.Dataset:
    with torch.random.fork_rng():
        torch.manual_seed(0)  # whichever test asks first
        model = tiny_mae(normalize_targets=normalised)
    return parse(probe_class(name), SETTINGS.get(name, {}))(model, some_images(7), torch.Generator().manual_seed(0))


def result(name: str, *, normalised: bool = False) -> xr.Dataset:
    """What the probe says of a tiny model, with the made-up runs' attributes."""
    return _compute(name, normalised).copy().assign_attrs({**ATTRS, "probe": name})


@cache
def with_baselines(name: str, seed: int = 0) -> xr.Dataset:
    """A real result of a tiny model on four images, with its baselines; another seed is another
    model and other baselines."""
    torch.manual_seed(seed)
    model = tiny_mae(decoder_depth=1)
    return parse(probe_class(name), SETTINGS.get(name, {}))(model, some_images(4), torch.Generator().manual_seed(seed))
