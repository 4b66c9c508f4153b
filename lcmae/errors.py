"""Errors that a user can act on: each message says what was expected and what was got, in one
line."""


class InputError(ValueError):
    """Bad input: a setting, a name, a folder, an image. The command line prints it as one line and
    exits with 2."""


class CheckpointError(InputError):
    """A checkpoint that cannot be trusted or understood: torn, hostile, of an unknown layout, or of
    other shapes."""
