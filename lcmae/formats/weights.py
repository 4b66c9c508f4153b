"""From what lay in a file to the state dicts in it: every nested dict is looked at, words of
wrappers are taken out of names, neighbours read."""

import argparse
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lcmae.errors import CheckpointError
from lcmae.formats.facts import Facts
from lcmae.formats.pickles import SAVE_ALONE
from lcmae.formats.safety import Opened, check_file, folder_problem, open_weights
from lcmae.formats.shards import INDICES, open_shards
from lcmae.models import ModelConfig
from lcmae.safety.files import read_regular
from lcmae.safety.text import reason, show

WORDS = (
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
)
"""Put into names by DataParallel and AveragedModel, torch.compile, Fabric, FSDP and activation
checkpointing: anywhere in a name, and more than once."""

COUNTERS = ("n_averaged", "num_updates", "initted", "step")
"""Of weight averaging (AveragedModel, LitEma, ema-pytorch): beside the weights, and no part of a
model."""

MAX_STATES = 64
MAX_NESTED = 1000
MAX_DEPTH = 4
"""{"state_dict": {"model": {...}}} is seen in the wild, and lists of parts one level deeper."""

TABLES = ("pos_embed", "position_embeddings", "relative_position_index")
"""Ends of names whose values decide the grid: they are read even where weights are not."""

MAX_TABLES = 64 * 2**20

SIZES = ("image_size", "img_size", "input_size")
"""How trainers call the size of images, in args and hyper-parameters."""

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

    keys: tuple[str, ...] = ()
    """The nested dicts that lead to these tensors."""

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

    def at(self, root: str) -> "Weights":
        """The same file with only what lies below `root`, without it."""
        return replace(self, tensors=self.under(root), notes=list(self.notes)) if root else self


NEIGHBOURS = ("preprocessor_config.json", "args.json")
FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")


def open_states(path: Path, *, meta: bool = False) -> list[Weights]:
    """Every state dict in a file, or in a folder with config.json and weights (one file, or an
    index and its shards), in the order of the file.

    On the meta device if `meta`, but for small tables of positions, whose values say the grid.
    """
    shown = show(path)
    if os.path.isdir(path):  # Path.is_dir raises for names that are too long
        path = _in_folder(path)
    opened = open_shards(path, meta=meta) if path.name in INDICES else open_weights(path, meta=meta)
    config = _json(path.parent / "config.json") if _has_config(path) else None
    neighbours = {name: _json(path.parent / name) for name in NEIGHBOURS if (path.parent / name).is_file()}
    found = []
    for keys, extras, state in _states(opened):
        tensors, originals, stripped = strip(state)
        if meta:
            tensors |= _tables(opened, keys, originals)
        notes = [f"weights under '{'.'.join(keys)}'"] if keys else []
        if stripped:
            notes.append(f"prefix {' and '.join(stripped)} removed from names")
        if opened.extras:
            notes.append(f"left aside, and no code of theirs was run: objects of {_listed(list(opened.extras))}")
        found.append(
            Weights(shown, opened.sha256, tensors, extras, opened.metadata, config, neighbours, notes, keys=keys)
        )
    return found


def _in_folder(folder: Path) -> Path:
    found = [folder / name for name in (*FILES, *INDICES) if (folder / name).is_file()]
    if not (folder / "config.json").is_file() or not found:
        raise CheckpointError(folder_problem(folder))
    return found[0]


def _has_config(path: Path) -> bool:
    # the names that Hugging Face gives; any other file's neighbours are its own business
    return path.name in (*FILES, *INDICES) and (path.parent / "config.json").is_file()


def _json(path: Path) -> dict[str, Any]:
    check_file(path)
    if path.stat().st_size > MAX_JSON:
        raise CheckpointError(f"expected at most {MAX_JSON} bytes of settings, got more: {show(path)}")
    try:
        values = json.loads(read_regular(os.path.realpath(path), MAX_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"expected JSON in {show(path)}, got something else: {reason(error)}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"expected a JSON object in {show(path)}, got {type(values).__name__}")
    return values


def _states(opened: Opened) -> list[tuple[tuple[str, ...], dict[str, Any], dict[str, Tensor]]]:
    """Every dict of tensors by dotted names: the keys that lead to it, what stands beside them, and
    the tensors."""
    if not isinstance(opened.tree, Mapping):
        raise CheckpointError(
            f"expected a state dict in {show(opened.path)}, got {type(opened.tree).__name__}; {SAVE_ALONE}"
        )
    found = []
    pending: list[tuple[tuple[str, ...], tuple[Mapping[Any, Any], ...]]] = [((), (opened.tree,))]
    for keys, trees in pending:  # grows while it is gone through, level by level
        tree = trees[-1]
        state = {name: value for name, value in tree.items() if isinstance(name, str) and isinstance(value, Tensor)}
        # a wrapper may hold a tensor or two: names of weights have dots
        if any("." in name for name in state):
            found.append((keys, _beside(keys, trees), state))
        inner = [name for name, value in tree.items() if isinstance(name, str) and isinstance(value, Mapping)]
        if len(keys) < MAX_DEPTH:
            pending += [((*keys, name), (*trees, tree[name])) for name in inner[: max(0, MAX_NESTED - len(pending))]]
        if len(found) == MAX_STATES:
            break
    if not found:
        flat = {name: value for name, value in opened.tree.items() if isinstance(value, Tensor)}
        if not flat:
            raise CheckpointError(
                f"expected a state dict in {show(opened.path)}, got a dict with {_listed(list(opened.tree))}; "
                f"{SAVE_ALONE}"
            )
        found.append(((), {}, {str(name): value for name, value in flat.items()}))
    return found


def _beside(keys: tuple[str, ...], trees: tuple[Mapping[Any, Any], ...]) -> dict[str, Any]:
    """What stands beside the weights, on every level that leads to them; the innermost wins."""
    return {
        str(name): value for key, tree in zip(keys, trees, strict=False) for name, value in tree.items() if name != key
    }


def strip(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Words of wrappers taken out of the names, wherever they stand; the tensors, for each name the
    one it had, and the words. A word without which two names would be the same stays. Counters of
    weight averaging are left out."""
    names = {name: name for name in state}
    stripped = []
    for word in WORDS:
        shorter = {name: ".".join(part for part in new.split(".") if part != word) for name, new in names.items()}
        if shorter != names and len(set(shorter.values())) == len(names) and all(shorter.values()):
            names = shorter
            stripped.append(f"{word}.")
    counters = {name for name, new in names.items() if new.split(".")[-1] in COUNTERS and state[name].numel() == 1}
    names = {name: new for name, new in names.items() if name not in counters}
    return {new: state[name] for name, new in names.items()}, {new: name for name, new in names.items()}, stripped


def _tables(opened: Opened, keys: tuple[str, ...], originals: Mapping[str, str]) -> dict[str, Tensor]:
    """The values of position tables, as long as they are small."""
    names = [name for name in originals if name.endswith(TABLES)]
    found: dict[str, Tensor] = {}
    left = MAX_TABLES
    for name, tensor in opened.fetch(keys, [originals[name] for name in names]).items() if names else ():
        left -= tensor.nbytes
        if left >= 0:
            found[name] = tensor.clone()
    return {name: found[originals[name]] for name in names if originals[name] in found}


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


def size_said(*sources: tuple[str, Any]) -> list[tuple[Any, str]]:
    """Sizes of images in args, a config or hyper-parameters, each with where it stands; nested ones
    too."""
    found = []
    for origin, inner in _with_nested(*sources):
        lower = {str(name).lower(): value for name, value in inner.items()}
        found += [(lower[name], f"{origin}.{name}") for name in SIZES if lower.get(name) is not None]
    return found


def _with_nested(*sources: tuple[str, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Args, configs and hyper-parameters as mappings, and the mappings right below them, each with
    where it stands."""
    for origin, values in sources:
        outer = _mapping(values)
        yield origin, outer
        below = [(name, value) for name, value in outer.items() if isinstance(value, Mapping | argparse.Namespace)]
        for name, value in below[: MAX_STATES - 1]:
            yield f"{origin}.{name}", _mapping(value)


def _mapping(values: Any) -> Mapping[Any, Any]:
    values = vars(values) if isinstance(values, argparse.Namespace) else values
    return values if isinstance(values, Mapping) else {}


def trainer_sizes(weights: Weights) -> list[tuple[Any, str]]:
    """Sizes of images that a trainer wrote beside the weights."""
    return size_said(*_of_trainer(weights))


def say_trained(facts: Facts, weights: Weights) -> None:
    """What a trainer's args, hyper-parameters or config say in the words of the published code:
    `norm_pix_loss` and `mask_ratio`. Where two of them differ, neither is believed."""
    for setting_name, name, is_one in (
        ("normalize_targets", "norm_pix_loss", lambda value: isinstance(value, bool)),
        ("mask_ratio", "mask_ratio", lambda value: isinstance(value, float) and 0 < value < 1),
    ):
        said = [(inner[name], origin) for origin, inner in _with_nested(*_of_trainer(weights)) if name in inner]
        said = [(value, origin) for value, origin in said if is_one(value)]
        if said and all(value == said[0][0] for value, _ in said):
            facts.say(setting_name, said[0][0], f"{said[0][1]}.{name}")


def _of_trainer(weights: Weights) -> list[tuple[str, Any]]:
    return [(name, weights.extras.get(name)) for name in ("args", "hyper_parameters", "config", "cfg")]


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
