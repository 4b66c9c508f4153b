"""Which probes cannot apply to a run, by its config alone: a page says so instead of offering them.
No torch."""

from pathlib import Path
from typing import Any

from lcmae.app.dashboard.stored import reading
from lcmae.errors import InputError

OF_PREDICTIONS = frozenset(
    {
        "attribution",
        "bounds",
        "decoder_attention",
        "fidelity",
        "knock_out",
        "local_contrast",
        "reconstruction",
        "second_order",
    }
)
"""Probes that need a model with a prediction; a test holds this to `Probe.needs_prediction`."""


WITHOUT_MASKS = frozenset({"digits", "cifar10", "cifar100", "stl10", "photographs"})
"""Sources that have no segmentation masks."""


def problem(path: Path, probe: str, data: str | None = None) -> str | None:
    """Why this probe cannot be computed for the run, to go after its name; None where it can, or
    where the config does not say. `data`: images other than those that it was trained on."""
    try:
        config = reading.config_of(path)
    except InputError:
        return None  # the run's own line says so
    model: Any = config.get("model")
    kind = model.get("kind") if isinstance(model, dict) else None
    data = data or config.get("data")
    if kind == "vit" and probe in OF_PREDICTIONS:
        return "is an encoder alone, which predicts no patch: this probe has nothing to measure."
    if kind == "simmim" and probe == "decoder_attention":
        return "predicts by one linear layer, without a decoder whose attention could be measured."
    if probe == "hierarchy" and isinstance(data, str) and not data.startswith("hierarchy"):
        return (
            f"was trained on {data}: this probe needs images made from a tree of known latents "
            "(`lcmae train ... --data hierarchy`)."
        )
    if probe == "dense" and isinstance(data, str) and data in WITHOUT_MASKS:
        return (
            f"was trained on {data}, images without segmentation masks: name images that have them "
            "(`lcmae probe dense --data PHOTOS --masks MASKS`)."
        )
    return None
