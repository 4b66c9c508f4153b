"""The reference: a page a room of the public interface, from docstrings. The names are the code's
own lists, so that none is forgotten."""

from collections.abc import Iterable

import lcmae
from lcmae import masking, objectives
from lcmae.app.cli import COMMANDS
from lcmae.probes.registry import PROBES

MODELS = (
    "lcmae.models.MAEConfig",
    "lcmae.models.SimMIMConfig",
    "lcmae.masked_model.MaskedImageModel",
    "lcmae.masked_model.MaskedOutput",
    "lcmae.patches",
    "lcmae.contrast",
    "lcmae.config.RunConfig",
    "lcmae.recipes",
)
RESULTS = ("lcmae.probes.results.collection.Results", "lcmae.probes.embeddings.compare")


def pages() -> dict[str, str]:
    """Name of each page -> its Markdown."""
    masks = [masking.Mask, *masking.STRATEGIES.values()]
    losses = [getattr(objectives, name) for name in objectives.__all__ if not name.startswith("Any")]
    classes = {name: f"lcmae.probes.{name}.{cls}" for name, cls in PROBES.items()}
    return {
        "index": python(),
        "commands": commands(),
        "masking": listed("Mask strategies", masking.__doc__, map(path_of, masks)),
        "objectives": listed("Objectives", objectives.__doc__, map(path_of, losses)),
        "models": listed("Models, patches, recipes", "What every model offers.", MODELS),
        "probes": listed("Probes", "Settings that are called with (model, images, rng).", classes.values()),
        "results": listed("Results", "What probes found, as one object.", RESULTS),
    }


def python() -> str:
    """What `import lcmae` gives: functions and classes in full, modules as a line each."""
    found = dict(sorted(lcmae._NAMES.items()))
    parts = [
        "# What `import lcmae` gives",
        "",
        "Importing lcmae costs nothing; a name is loaded when it is first used.",
        "",
    ]
    parts += [block(target.replace(":", "."), f"lcmae.{name}") for name, target in found.items() if ":" in target]
    parts += ["## Modules", "", "| module | holds |", "|---|---|"]
    modules = [name for name, target in found.items() if ":" not in target]
    parts += [f"| `lcmae.{name}` | {sentence(getattr(lcmae, name).__doc__)} |" for name in modules]
    return "\n".join([*parts, ""])


def commands() -> str:
    """A line a command, and where its options are said."""
    rows = [f"| `lcmae {name}` | {what} |" for name, what in COMMANDS.items()]
    intro = "`lcmae COMMAND --help` shows its options with units, defaults and two examples in under a second."
    return "\n".join(["# Commands", "", intro, "", "| command | does |", "|---|---|", *rows, ""])


def listed(title: str, about: str | None, names: Iterable[str]) -> str:
    """A page of classes, functions or modules."""
    return "\n".join([f"# {title}", "", " ".join((about or "").split()), "", *map(block, names)])


def path_of(thing: type) -> str:
    """Where a class is defined."""
    return f"{thing.__module__}.{thing.__name__}"


def block(path: str, heading: str = "") -> str:
    """What mkdocstrings turns into the documentation of a name."""
    named = f"    options:\n      heading: {heading}\n      toc_label: {heading}\n" if heading else ""
    return f"::: {path}\n{named}"


def sentence(text: str | None) -> str:
    """The first sentence of a docstring, in a line."""
    first = " ".join((text or "").split("\n\n")[0].split())
    return first.replace("|", "\\|")
