"""From what lay in a file to the weights in it: wrappers removed, prefixes of wrappers stripped,
neighbours read."""

import argparse
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.facts import Facts
from lcmae.formats.safety import Opened, check_file, folder_problem, open_weights
from lcmae.models import ModelConfig
from lcmae.runs.durable import reason, show

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "teacher", "student", "net", "ema")
"""Keys under which trainers keep weights; averaged weights are preferred."""

PREFIXES = ("module.", "_orig_mod.", "_forward_module.")
"""Put before every name by DataParallel, torch.compile and Fabric."""

MAX_JSON = 2**20


@dataclass(frozen=True)
class Weights:
    """A flat state dict with everything that stood beside it."""

    path: str
    sha256: str
    tensors: dict[str, Tensor]
    extras: dict[str, Any]
    """What the file holds besides the weights: args, config, epoch, hyper-parameters."""

    metadata: dict[str, str]
    """Of safetensors."""

    config: dict[str, Any] | None = None
    """config.json beside the weights."""

    neighbours: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Other JSON files beside the weights that some format reads: preprocessor_config.json,
    args.json."""

    notes: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def prefixes(self, suffix: str) -> list[str]:
        """What goes before `suffix` in the names that end with it, shortest first; whole words
        only."""
        found = [name.removesuffix(suffix) for name in self.tensors if name.endswith(suffix)]
        return sorted((prefix for prefix in found if not prefix or prefix.endswith(".")), key=len)

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The part of the state dict below a prefix, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


NEIGHBOURS = ("preprocessor_config.json", "args.json")
FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")


def open_state(path: Path, *, meta: bool = False) -> Weights:
    """Weights from a file, or from a folder with config.json and one file of weights."""
    shown = show(path)
    if os.path.isdir(path):  # Path.is_dir raises for names that are too long
        path = _in_folder(path)
    opened = open_weights(path, meta=meta)
    state, extras, notes = _unwrap(opened)
    state, stripped = _strip(state)
    if stripped:
        notes.append(f"prefix {' and '.join(stripped)} removed from names")
    config = _json(path.parent / "config.json") if _has_config(path) else None
    neighbours = {name: _json(path.parent / name) for name in NEIGHBOURS if (path.parent / name).is_file()}
    return Weights(shown, opened.sha256, state, extras, opened.metadata, config, neighbours, notes)


def _in_folder(folder: Path) -> Path:
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if not (folder / "config.json").is_file() or not found:
        raise CheckpointError(folder_problem(folder))
    return found[0]


def _has_config(path: Path) -> bool:
    # the names that Hugging Face gives; any other file's neighbours are its own business
    return path.name in FILES and (path.parent / "config.json").is_file()


def _json(path: Path) -> dict[str, Any]:
    check_file(path)
    if path.stat().st_size > MAX_JSON:
        raise CheckpointError(f"expected at most {MAX_JSON} bytes of settings, got more: {show(path)}")
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"expected JSON in {show(path)}, got something else: {reason(error)}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"expected a JSON object in {show(path)}, got {type(values).__name__}")
    return values


def _unwrap(opened: Opened) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    tree, extras, notes = opened.tree, {}, []
    for _ in range(3):  # {"state_dict": {"model": {...}}} is seen in the wild, more is not
        if not isinstance(tree, Mapping):
            raise CheckpointError(f"expected a state dict in {show(opened.path)}, got {type(tree).__name__}")
        if _is_state(tree):
            break
        wrapper = next((name for name in WRAPPERS if isinstance(tree.get(name), Mapping) and tree[name]), None)
        if wrapper is None:
            break
        extras.update({str(name): value for name, value in tree.items() if name != wrapper})
        notes.append(f"weights under '{wrapper}'")
        tree = tree[wrapper]
    state = {name: value for name, value in tree.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"expected a state dict in {show(opened.path)}, got a dict with {_listed(list(tree))}")
    return state, extras, notes


def _is_state(tree: Mapping[Any, Any]) -> bool:
    """Tensors by dotted names, as opposed to a wrapper that happens to hold a tensor or two."""
    return any(isinstance(value, Tensor) and "." in str(name) for name, value in tree.items())


def _strip(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Remove a wrapper's prefix where every name has it; and _orig_mod. wherever it stands in
    one."""
    stripped = []
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        stripped.append(prefix)
    if any("_orig_mod." in name for name in state):
        state = {name.replace("_orig_mod.", ""): value for name, value in state.items()}
        stripped.append("_orig_mod.")
    return state, stripped


def _listed(names: list[Any]) -> str:
    shown = ", ".join(ascii(str(name)[:60])[1:-1] for name in names[:5])
    return (f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown) or "nothing"


def first_keys(tensors: Mapping[str, Tensor], count: int = 3) -> str:
    """The first names of a state dict, for a message."""
    return _listed(sorted(tensors)[:count])


def setting(values: Any, *path: str) -> Any:
    """A nested value of args or a config, by attribute or key; None where it is missing or not a
    plain value."""
    for name in path:
        if isinstance(values, argparse.Namespace):
            values = vars(values).get(name)
        elif isinstance(values, Mapping):
            values = values.get(name)
        else:
            return None
    plain = isinstance(values, bool | int | str) or (isinstance(values, float) and math.isfinite(values))
    return values if plain else None


def own_settings(weights: Weights) -> dict[str, Any]:
    """What lcmae wrote into a file that it exported: the settings that the layout leaves out."""
    ours = weights.extras.get("lcmae") or (weights.config or {}).get("lcmae")
    if ours is None and "lcmae" in weights.metadata:
        try:
            ours = json.loads(weights.metadata["lcmae"])
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"expected JSON under 'lcmae' in {weights.path}, got something else") from error
    return {str(name): value for name, value in ours.items()} if isinstance(ours, Mapping) else {}


def say_own_settings(
    facts: Facts, ours: Mapping[str, Any], kind: type[ModelConfig], besides: tuple[str, ...] = ()
) -> None:
    """Believe them, except where shapes decide."""
    for name, value in ours.items():
        if name in kind.model_fields and name not in ("kind", "image_size", *besides):
            facts.say(name, tuple(value) if isinstance(value, list) else value, "lcmae's own settings")
