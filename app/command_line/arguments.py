"""Command lines out of settings classes, by tyro; what it refuses becomes an `InputError` of one
line."""

import contextlib
import io
import itertools
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import tyro
from pydantic import ValidationError

from lcmae.app.command_line.examples import epilog
from lcmae.app.command_line.plain_options import registry
from lcmae.errors import InputError, did_you_mean
from lcmae.settings import explain

Kind = TypeVar("Kind")

_CONFIG: Any = (tyro.conf.AvoidSubcommands,)


def parse_arguments(
    cls: type[Kind],
    arguments: Sequence[str],
    *,
    command: str,
    default: Kind | None = None,
    description: str | None = None,
) -> Kind:
    """Settings of `cls` from command line arguments. `--help` prints and leaves with 0, as
    `SystemExit`."""
    errors = io.StringIO()
    keywords: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(errors), registry():
            return tyro.cli(
                cls, args=list(arguments), prog=f"lcmae {command}", config=_CONFIG, description=description, **keywords
            )
    except SystemExit as stop:
        if stop.code in (0, None):  # tyro has printed the help
            print(epilog(command))
            raise
        cause = _validation_error(stop)
        raise InputError(explain(cause) if cause else one_line(errors.getvalue())) from None
    except ValidationError as error:
        raise InputError(explain(error)) from error


def one_line(box: str) -> str:
    """The message in tyro's box (drawn with lines, or with dashes where the terminal has no
    lines), and its first hint."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    if not box.startswith("╭") and len(lines) > 1 and _is_rule(lines[1]):
        lines = lines[2:]  # a box of dashes holds its title, one of lines wears it on its border
    message = " ".join(" ".join(itertools.takewhile(lambda line: not _is_rule(line), lines)).split())
    hinted = [line.split()[0].rstrip(",") for line in lines if line.startswith("--") and "Perhaps you meant:" in lines]
    if hinted:
        # tyro lists the likely ones by the alphabet
        unknown = re.search(r"--[^\s=,]+", message)
        nearest = get_close_matches(unknown[0], hinted, n=1, cutoff=0) if unknown else hinted
        return f"{message}; perhaps you meant {nearest[0]}"
    choice = re.search(r"invalid choice '([^']*)' for argument .* Expected one of \(([^)]*)\)", message)
    near = did_you_mean(choice[1], re.findall(r"'([^']*)'", choice[2])) if choice else ""
    return message.rstrip(".") + near if near else message


def _is_rule(line: str) -> bool:
    return len(line) > 2 and set(line) <= {"─", "-"}


def check_device(name: str | None) -> None:
    """`InputError` for a device that torch does not know, or this machine does not have."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"expected a device of this machine (cpu, cuda, cuda:N), got {name!r}") from error


def _validation_error(error: BaseException | None) -> ValidationError | None:
    """The pydantic error behind tyro's exit, if there is one: it knows field and value."""
    while error is not None and not isinstance(error, ValidationError):
        error = error.__cause__ or error.__context__
    return error
