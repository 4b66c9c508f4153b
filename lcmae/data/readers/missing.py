"""Packages that only some containers need: the command that installs them, where they are
missing."""

import shlex
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from types import ModuleType

from lcmae.errors import InputError


def needed(module: str, extra: str, why: str) -> ModuleType:
    """Import a module, or `InputError` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise InputError(
            f"{why}: expected the package {package}, got none; install it with: pip install {packages(extra, package)}"
        ) from error


def packages(extra: str, package: str) -> str:
    """What an extra of lcmae consists of, as words of a shell: lcmae itself is on no package index.
    The package alone where lcmae runs without being installed."""
    try:
        found = requires("lcmae") or []
    except PackageNotFoundError:
        return package
    return shlex.join(one.partition(";")[0].strip() for one in found if f"extra == '{extra}'" in one) or package
