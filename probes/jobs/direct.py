"""`lcmae.probe`: from Python, a model and images to `Results`."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lcmae
from lcmae.data.images import images as open_images
from lcmae.data.source import ImageSource
from lcmae.errors import InputError
from lcmae.models import MaskedImageModel
from lcmae.probes.base import Probe, ProbeError, run_probes
from lcmae.probes.registry import PROBES, probe_class
from lcmae.probes.results import catalogue
from lcmae.probes.results.collection import Entry, Results
from lcmae.probes.results.conditions import Condition
from lcmae.probes.statistics.seeds import probe_seed
from lcmae.probes.watching.views import View, about_images
from lcmae.provenance import Provenance
from lcmae.runs.durable import home
from lcmae.settings import parse


def probe(
    model: Any,
    images: Any,
    probes: Any = ("local_contrast", "spectrum"),
    *,
    seed: int = 0,
    out: Path | str | None = None,
    device: str = "cpu",
) -> Results:
    """Run probes on a model and images.

    `model`: a loaded one, a path, a name on the hub, or a dict of these by the names that results
    use. `images`: whatever `lcmae.images` takes. `probes`: names, "all", settings
    (`LocalContrast(num_masks=4)`), or {name: settings}. `seed` decides masks and all other draws.
    `out`: a folder where results are stored, and found again by the same call. `device`: for models
    that are loaded here. A probe that cannot run is named in `Results.failures`; `InputError` if
    none can.
    """
    chosen = chosen_probes(probes)
    models = dict(model) if isinstance(model, Mapping) else {"": model}
    if not models:
        raise InputError("expected at least one model, got none")
    source = open_images(images)
    entries: list[Entry] = []
    failures: dict[str, str] = {}
    for name, one in models.items():
        loaded = loaded_model(one, device)
        label = str(name) or model_name(one, loaded)
        found, failed = _probe_one(loaded, label, source, chosen, probe_seed(seed), out)
        entries += found
        failures |= failed
    if not entries:
        raise ProbeError("; ".join(failures.values()))
    return Results(entries, failures)


def _probe_one(
    model: MaskedImageModel, name: str, source: ImageSource, probes: Sequence[Probe], seed: int, out: Path | str | None
) -> tuple[list[Entry], dict[str, str]]:
    view = View(source.at(model.config.image_size, model.config.channels), model)
    about = provenance_of(model, source)
    folder = None if out is None else home(out) / name.replace("/", "-") / "probes" / f"{int(about['step'] or 0):06d}"
    entries, missing, failures = [], [], {}
    for one in (settings.under_trained_mask(model) for settings in probes):
        attrs = {**about, "settings": one.model_dump_json(), "num_images": len(view), "seed": seed}
        known = None if folder is None else catalogue.find(folder, one.name, Condition.of(attrs))
        if known is None:
            missing.append(one)
            continue
        try:
            dataset = known.load()
        except InputError as error:  # what is stored is not as this probe writes it: nobody overwrites it
            failures[one.name] = str(error)
            continue
        entries.append(Entry(name, dataset.attrs, dataset))
    computed = run_probes(missing, model, view, seed, show_progress=True) if missing else None
    for dataset in computed.datasets.values() if computed else ():
        dataset.attrs.update(about)
        if folder is not None:
            catalogue.add(dataset, folder)
        entries.append(Entry(name, dataset.attrs, dataset))
    return entries, failures | {probe: str(error) for probe, error in (computed.failures if computed else {}).items()}


def provenance_of(model: MaskedImageModel, source: ImageSource) -> dict[str, str]:
    """Checkpoint and images, as attributes of what is computed from them."""
    known = model.source
    return {
        "checkpoint": "a model of this process" if known is None else str(known.path),
        # the same weights read in another way are another checkpoint
        "checkpoint_sha256": digest_of(model) if known is None else " ".join([known.sha256, *_said(known)]),
        "step": "" if known is None or known.step is None else str(known.step),
        "data": source.name,
        **about_images(source),
    }


def _said(source: Provenance) -> list[str]:
    """What a person said of a file; what is said of an adapted model is in its fingerprint."""
    if source.format == "adapted":
        return []
    said = sorted(name for name, origin in source.origins.items() if origin == "you")
    return [f"{name}={source.read.get(name)}" for name in said]


def digest_of(model: MaskedImageModel) -> str:
    """sha256 of a model's weights as they are now."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return found.hexdigest()


def loaded_model(model: Any, device: str) -> MaskedImageModel:
    """The model itself, or that of a path or name. `InputError` for anything else."""
    if isinstance(model, MaskedImageModel):
        return model
    if isinstance(model, str | Path):
        return lcmae.load(model, device=device)
    raise InputError(
        f"expected a model of lcmae.load or lcmae.adapt, a path or a hub's name, got {type(model).__name__}; "
        "lcmae.adapt makes one of any PyTorch module"
    )


def model_name(given: Any, model: MaskedImageModel) -> str:
    """What results call a model that was given without a name: the last part of its path, a run's
    for its step."""
    path = given if isinstance(given, str | Path) else model.source.path if model.source is not None else "model"
    parts = list(Path(str(path)).parts) or ["model"]
    return parts[-3] if "checkpoints" in parts[-3:-1] and len(parts) > 2 else parts[-1]


def chosen_probes(probes: Any) -> list[Probe]:
    """Settings of the probes that names, settings, or {name: settings} mean."""
    if isinstance(probes, Mapping):
        return [parse(probe_class(name), settings) for name, settings in probes.items()]
    wanted = list(PROBES) if probes == "all" else [probes] if isinstance(probes, str | Probe) else list(probes)
    if not wanted:
        raise InputError(f"expected at least one probe out of {', '.join(PROBES)}, got none")
    return [one if isinstance(one, Probe) else probe_class(str(one))() for one in wanted]
