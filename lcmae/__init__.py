"""lcmae: train masked autoencoders and take them apart.

    model = lcmae.load("runs/demo/mae-digits-s0")    # a run, a step, or a foreign file
    images = lcmae.images("folder:photos", limit=500)
    results = lcmae.probe(model, images, ["local_contrast"])    # stored ones: lcmae.results(folder)
    mask = lcmae.masking.Random(ratio=0.75)(len(images), model.grid, rng)

Importing this costs nothing; a name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcmae import config, contrast, data, formats, masking, models, objectives, patches, recipes, runs, training
    from lcmae.adapters import adapt
    from lcmae.data.images import images
    from lcmae.formats import load
    from lcmae.recipes import recipe
    from lcmae.runs.run import Run
    from lcmae.training.train import train

__version__ = "0.2.0"

# One line a name: the module, and behind a colon what of it; one more above, for type checkers (not
# of lcmae.app: probes import this file, and nothing below the app may import it).
# A function must not have the name of a module of lcmae: importing that would hide the function.
_NAMES = {
    "Run": "lcmae.runs.run:Run",
    "Watch": "lcmae.probes.jobs.watch:Watch",
    "adapt": "lcmae.adapters:adapt",
    "check": "lcmae.probes.loading.check:check",
    "config": "lcmae.config",
    "contrast": "lcmae.contrast",
    "data": "lcmae.data",
    "embed": "lcmae.probes.embeddings.embed:embed",
    "formats": "lcmae.formats",
    "images": "lcmae.data.images:images",
    "load": "lcmae.formats:load",
    "masking": "lcmae.masking",
    "models": "lcmae.models",
    "objectives": "lcmae.objectives",
    "patches": "lcmae.patches",
    "plot": "lcmae.app.figures",
    "probe": "lcmae.probes.jobs.direct:probe",
    "recipe": "lcmae.recipes:recipe",
    "recipes": "lcmae.recipes",
    "results": "lcmae.probes.results.collection:results",
    "runs": "lcmae.runs",
    "stitch": "lcmae.probes.stitching.stitch:stitch",
    "train": "lcmae.training.train:train",
    "training": "lcmae.training",
}

__all__ = ["__version__", *_NAMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'lcmae' has no attribute {name!r}")
    module, _, attribute = _NAMES[name].partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted(__all__)
