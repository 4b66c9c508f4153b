"""The runs that claims read, each grid a comparison of its own folder, so that no run is made
twice. No torch.

Seeds are pairs: runs of one seed have the same initial weights (where the shapes agree), images and
order.
"""

from dataclasses import dataclass, field
from typing import Any

from lcmae.probes.grids.cells import Comparison

IMAGES = 360
"""Test images that probes look at: all of digits'."""


@dataclass(frozen=True)
class Grid:
    """A comparison, and how its runs are probed."""

    comparison: Comparison
    """Epochs are what the claims were declared for; seeds are those of the command."""

    seconds: float
    """Training of one run, mean over the grid, on the machine of `rerun.REFERENCE_SECONDS`."""

    probes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings of probes that differ from `SETTINGS`."""


SETTINGS: dict[str, dict[str, Any]] = {
    "transfer": {"each_layer": False, "corruptions": []},
    "receptive_field": {"masks": ["random"], "ratios": [0.25, 0.9]},
    "mask_graph": {"units": [1]},
    "hierarchy": {"each_layer": False},
}
"""Settings of probes: what no claim reads is left out."""


FINETUNED = {"transfer": {**SETTINGS["transfer"], "finetune_epochs": 10}}
"""Where a claim is about fine-tuning, too."""


def _grid(seconds: float, probes: dict[str, dict[str, Any]] | None = None, **changes: Any) -> Grid:
    comparison = Comparison.model_validate({"ratios": (0.5,), "epochs": 72, "probes": ("none",), **changes})
    return Grid(comparison, seconds, probes or {})


GRIDS: dict[str, Grid] = {
    "untrained": _grid(0.3, untrained=True),
    "mae": _grid(53.0, FINETUNED),
    "umae": _grid(53.0, FINETUNED, objectives=("umae",)),
    "ratios": _grid(52.0, ratios=(0.1, 0.9)),
    "simmim": _grid(65.0, objectives=("simmim", "usimmim")),
    "deep_decoder": _grid(75.0, set=("model.decoder_depth=4",)),
    "hierarchy": _grid(20.0, data="hierarchy:images=2048", recipes="hierarchy", ratios=(0.1, 0.5, 0.9), epochs=10),
}
"""By the name of their folder."""
