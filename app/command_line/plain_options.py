"""Options as a newcomer reads them: `[PROBE ...]` for `[[STR [STR ...]]]`, no `{None}|`, and a
default only where there is one.

A rule for tyro's registry: what an option accepts stays tyro's own, only its help is ours.
"""

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from lcmae.app.command_line.checkpoint_options import Overrides
from lcmae.app.command_line.image_options import ImageOptions
from lcmae.probes.jobs.executors import Engine
from lcmae.settings import Settings

WORDS = {Path: "PATH", int: "INT", float: "FLOAT", bool: "{True,False}"}
"""What stands for a value of a type; text is named by its option."""

SHARED = (Engine, ImageOptions, Overrides)
"""Options of several commands, in the order in which they end a help."""


def registry() -> ConstructorRegistry:
    """The rule for settings classes, for one command line."""
    found = ConstructorRegistry()
    kinds: dict[type[Settings], tuple[str, ...]] = {}  # of the union that a class was met in

    @found.struct_rule
    def options_of(info: StructTypeInfo) -> StructConstructorSpec | None:
        if not (isinstance(info.type, type) and issubclass(info.type, Settings)):
            return None
        hints = get_type_hints(info.type, include_extras=True)
        for hint in hints.values():
            classes = _classes(hint)
            names = tuple(str(one.model_fields["kind"].default) for one in classes if "kind" in one.model_fields)
            kinds.update(dict.fromkeys(classes, names))
        fields = [_field(info, name, hints[name], kinds.get(info.type, ())) for name in in_order(info.type)]
        return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))

    return found


def in_order(cls: type[Settings]) -> list[str]:
    """Fields of a command before those that it shares with others, so that what it is about stands
    on top; the kind of a mask, an objective or a model before its other fields."""
    if "kind" in cls.model_fields:
        return sorted(cls.model_fields, key=lambda name: name != "kind")
    shared = {
        name: rank
        for rank, group in enumerate(SHARED, start=1)
        for name in group.model_fields
        if issubclass(cls, group)
    }
    return sorted(cls.model_fields, key=lambda name: shared.get(name, 0))


def metavar(hint: Any, name: str) -> str:
    """What stands for the value of the field `name`: `PATH`, `[PROBE ...]`, `{cls,mean}`."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return metavar(inner[0], name)
    if kind in (Union, types.UnionType):
        return "|".join(metavar(one, name) for one in inner if one is not type(None))
    if kind is Literal:
        return "{" + ",".join(map(str, inner)) + "}"
    if kind is tuple and inner[-1] is Ellipsis:
        return f"[{metavar(inner[0], name.removesuffix('s'))} ...]"
    if kind is tuple:
        return " ".join(metavar(one, name) for one in inner)
    return WORDS.get(hint, name.strip("_").rpartition("_")[2].upper())


def _field(info: StructTypeInfo, name: str, hint: Any, kinds: tuple[str, ...]) -> StructFieldSpec:
    """One option, with its help in one piece and the words for its value."""
    field: Any = info.type.model_fields[name]
    if isinstance(info.default, Settings):
        default = getattr(info.default, name)
    else:
        default = MISSING_NONPROP if field.is_required() else field.get_default(call_default_factory=True)
    text = " ".join((field.description or "").split()) or None
    if name == "kind" and len(kinds) > 1:
        text = f"Another kind, with its own options: {', '.join(kinds)}."
    if not isinstance(default, Settings):
        inner, *said = get_args(hint) if get_origin(hint) is Annotated else [hint]
        words = None if inner is bool else "KIND" if name == "kind" else metavar(inner, name)
        if words and any(one is tyro.conf.Positional for one in said):
            words = words.strip("[]") if field.is_required() else f"[{words.strip('[]')}]"
        # what a command says of an option comes after, so it stands
        hint = Annotated[inner, tyro.conf.arg(metavar=words, help_behavior_hint=_default), *said]
    return StructFieldSpec(name=name, type=hint, default=default, helptext=text)


def _classes(hint: Any) -> list[type[Settings]]:
    """The settings classes of a field: one, several of a union, or none."""
    if get_origin(hint) in (Annotated, Union, types.UnionType):
        return [found for one in get_args(hint) for found in _classes(one)]
    return [hint] if isinstance(hint, type) and issubclass(hint, Settings) else []


def _default(text: str) -> str:
    return "" if text in ("", "None") else f"(default: {text})"
