"""Errors that a user can act on: each message says what was expected and what was got, in one
line."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input: a setting, a name, a folder, an image. The command line prints it as one line and
    exits with 2."""


class CheckpointError(InputError):
    """A checkpoint that cannot be trusted or understood: torn, hostile, of an unknown layout, or of
    other shapes."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of a message about a word that is not among `choices`: the one that it begins, else
    the nearest one, or nothing where none is near."""
    by_name = {choice.lower().replace("-", "_"): choice for choice in choices}
    meant = word.lower().replace("-", "_")
    begun = [name for name in by_name if len(meant) > 2 and name.startswith(meant)]
    found = begun if len(begun) == 1 else get_close_matches(meant, by_name, n=1)
    return f"; did you mean {by_name[found[0]]!r}?" if found else ""
