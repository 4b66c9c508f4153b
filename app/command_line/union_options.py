"""`--objective.mask.kind block`: settings of another kind, before the command line's other words
are read.

Fields of a settings class can hold one of several kinds (mask strategies, objectives, models). The
options of a command line are those of the kinds at hand, so the kinds are changed first; fields
that both kinds have keep their values.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from lcmae.errors import InputError, did_you_mean
from lcmae.settings import Settings, members, parse

Kind = TypeVar("Kind", bound=Settings)


def of_kinds(settings: Kind, arguments: Sequence[str]) -> Kind:
    """`settings` with every `--path.kind NAME` of the command line applied. `InputError` for a kind
    that is not there."""
    words = [part for word in arguments for part in word.split("=", 1)]
    given = {
        word.replace("-", "_").lstrip("_"): value for word, value in pairwise(words) if word.startswith("--")
    }  # fmt: skip
    # the shortest path first: an objective of another kind, then its mask
    for path in sorted((path for path in given if path.endswith(".kind")), key=len):
        owner = path.removesuffix("kind")
        beside = {name.removeprefix(owner): value for name, value in given.items() if name.startswith(owner)}
        settings = _changed(settings, owner.rstrip(".").split("."), given[path], beside)
    return settings


def as_kind(settings: Settings, options: Any, kind: str, beside: Mapping[str, str] | None = None) -> Any:
    """Settings of another kind out of a union, keeping the values of fields that both have and that
    were changed.

    `beside`: options of the new kind by field; those that it cannot do without are taken from
    there.
    """
    kinds = {cls.model_fields["kind"].default: cls for cls in members(options) if "kind" in cls.model_fields}
    if kind not in kinds:
        raise InputError(f"expected a kind out of {', '.join(kinds)}, got {kind!r}{did_you_mean(kind, kinds)}")
    cls = kinds[kind]
    if isinstance(settings, cls):
        return settings
    values: dict[str, Any] = {
        name: getattr(settings, name)
        for name, field in type(settings).model_fields.items()
        if name != "kind" and name in cls.model_fields and getattr(settings, name) != field.default
    }
    required = (name for name, field in cls.model_fields.items() if field.is_required())
    values |= {name: beside[name] for name in required if beside and name in beside}
    return parse(cls, values)


def _changed(settings: Any, path: list[str], kind: str, beside: Mapping[str, str]) -> Any:
    name, *rest = path
    field = type(settings).model_fields.get(name) if isinstance(settings, Settings) else None
    if field is None:
        return settings  # the reader of the other words names it
    inner = getattr(settings, name)
    if rest:
        return settings.model_copy(update={name: _changed(inner, rest, kind, beside)})
    return settings.model_copy(update={name: as_kind(inner, field.annotation, kind, beside)})
