"""Which probes cannot apply to a run, by its config alone: a page says so instead of offering them.
No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcmae.app.dashboard.stored import reading
from lcmae.data.names import parse_name
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

MASKS_BESIDE = frozenset({"folder", "dicom", "tiff", "dropped"})
"""Kinds of path that hold no masks themselves: where masks lie stands in the source's name."""

IMAGES_WITH_MASKS = (
    "name images that have them (`lcmae probe dense --data PHOTOS --masks MASKS`; "
    "`lcmae dashboard --data PHOTOS --masks MASKS` offers them here)."
)


def problem(path: Path, probe: str, data: str | None = None) -> str | None:
    """Why this probe cannot be computed for the run, to go after its name; None where it can, or
    where the config does not say. `data`: images other than those that it was trained on."""
    try:
        config = reading.config_of(path)
    except InputError:
        return None  # the run's own line says so
    if (why := _problem_of_model(config, probe)) is not None or data is not None:
        return why or _problem_of_images(str(data), probe, "cannot be probed on")
    trained_on = config.get("data")
    return _problem_of_images(trained_on, probe, "was trained on") if isinstance(trained_on, str) else None


def other_images_would_do(path: Path, probe: str) -> bool:
    """Whether the images of its training, and nothing else, are what is in the way."""
    return problem(path, probe) is not None and _problem_of_model(reading.config_of(path), probe) is None


def _problem_of_model(config: Mapping[str, Any], probe: str) -> str | None:
    model: Any = config.get("model")
    kind = model.get("kind") if isinstance(model, dict) else None
    if kind == "vit" and probe in OF_PREDICTIONS:
        return "is an encoder alone, which predicts no patch: this probe has nothing to measure."
    if kind == "simmim" and probe == "decoder_attention":
        return "predicts by one linear layer, without a decoder whose attention could be measured."
    return None


def _problem_of_images(data: str, probe: str, verb: str) -> str | None:
    if probe == "hierarchy" and not data.startswith("hierarchy"):
        return (
            f"{verb} {data}: this probe needs images made from a tree of known latents "
            "(`lcmae train ... --data hierarchy`)."
        )
    named = parse_name(data)
    has_none = named.base in WITHOUT_MASKS or named.base.partition(":")[0] in MASKS_BESIDE
    if probe == "dense" and has_none and named.masks is None:
        return f"{verb} {data}, images without segmentation masks: {IMAGES_WITH_MASKS}"
    return None
