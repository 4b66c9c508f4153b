"""The one pattern of the house: a frozen, validated settings class that you call.

Mask strategies, objectives, probes and run configs all derive from `Settings`, so the command line,
the JSON in a run folder and the dashboard's forms are made from the same classes.
"""

import types
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from lcmae.errors import InputError


class Settings(BaseModel):
    """Frozen; unknown fields, NaN and values out of range are refused. A string under a field is
    its help text."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )


def explain(error: ValidationError) -> str:
    """One line for a person: every field that is wrong, what it expects, and what it got."""
    parts = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or error.title
        message = problem["msg"].removeprefix("Value error, ")
        got = problem["input"]
        shown = "" if isinstance(got, dict | BaseModel) else f", got {got!r}"
        parts.append(f"{where}: {message[:1].lower() + message[1:]}{shown}")
    return "; ".join(parts)


Kind = TypeVar("Kind", bound=Settings)


def parse(cls: type[Kind], values: dict[str, Any] | str | bytes) -> Kind:
    """Settings from JSON text or a dict, with an `InputError` of one line when they do not fit."""
    try:
        if isinstance(values, str | bytes):
            return cls.model_validate_json(values)
        return cls.model_validate(values)
    except ValidationError as error:
        raise InputError(explain(error)) from error


def members(union: Any) -> tuple[type[Settings], ...]:
    """The classes of an `A | B | C` annotation, also behind `Annotated`."""
    if get_origin(union) in (Union, types.UnionType):
        return get_args(union)
    if hasattr(union, "__metadata__"):
        return members(get_args(union)[0])
    return (union,)
