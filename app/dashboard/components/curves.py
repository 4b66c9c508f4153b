"""The curves of training runs with their words, for the dashboard and the report alike. No
streamlit here."""

import xarray as xr

from lcmae.app.dashboard.page import Panel
from lcmae.app.figures import style
from lcmae.app.figures import training as figures

SUMMARY = (
    "The loss of each run beside its collapse level: a run at its level has learned nothing but the mean patch. "
    "Accuracies are those of frozen features of *unmasked* images (kNN and ridge regression), so they compare runs with "
    "different masks and losses; the losses themselves cannot be compared."
)

TERMS = (
    "loss", "collapse level", "kNN accuracy", "ridge accuracy", "effective rank", "gradient norm", "learning rate",
)  # fmt: skip
"""Words of the glossary that the page uses."""


def all_curves(runs: dict[str, xr.Dataset]) -> list[Panel]:
    """Loss, terms, accuracies and the optimiser, as far as the runs have logged them."""
    if not runs:
        return []
    found = [
        Panel(
            f"Loss{unit}",
            "What the optimiser minimises, mean over the logged steps; in grey, the loss of the best constant prediction on "
            "the same hidden patches. Only runs with the same targets and objective have comparable losses.",
            figures.loss(group),
        )
        for unit, group in style.by_units(runs, "loss")
    ]
    monitors = [f"{feature}_{name}" for name in figures.MONITORS for feature in ("cls", "mean")]
    parts = {
        "Accuracy of frozen features": (
            monitors,
            "Unmasked test images: kNN and ridge regression on the class token and on the mean token; and the effective rank.",
        ),
        "Terms of the objective": (
            figures.term_names(runs),
            "Each term unweighted; a run has the terms of its own objective only.",
        ),
        "Optimiser": (
            ["lr", "grad_norm", "seconds_per_step"],
            "Learning rate, norm of the gradient before clipping, and time of a step.",
        ),
    }
    for title, (names, caption) in parts.items():
        if any(name in run for name in names for run in runs.values()):
            found.append(Panel(title, caption, figures.curves(runs, names)))
    return found
