"""Packages that only some containers need: the command that installs them, where they are
missing."""

from importlib import import_module
from types import ModuleType

from lcmae.errors import InputError


def needed(module: str, extra: str, why: str) -> ModuleType:
    """Import a module, or `InputError` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise InputError(
            f"{why}: expected the package {package}, got none; install it with: pip install 'lcmae[{extra}]'"
        ) from error
