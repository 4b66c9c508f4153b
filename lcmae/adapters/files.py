"""An adapter in a file: `my_file.py:make`, whose function returns what `lcmae.adapt` gave.

The file is a program of whoever starts the command, and runs with their rights, as any script of
theirs does. It is named on a command line alone: no link, no run folder and no checkpoint can name
one.
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lcmae.errors import InputError
from lcmae.safety.text import reason

if TYPE_CHECKING:
    from lcmae.models import MaskedImageModel


def split(name: str) -> tuple[Path, str]:
    """The file and the function that `my_file.py:make` names. `InputError` where it names none."""
    file, _, function = name.rpartition(":")
    if not file or not function.isidentifier():
        raise InputError(f"expected an adapter as FILE.py:FUNCTION, got {name!a}")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"expected a Python file with an adapter, got none at {file!a}")
    return path, function


def from_file(name: str) -> "MaskedImageModel":
    """The model that the function of an owner's file makes; its code runs. `InputError` in one line
    where it fails.

    Its folder goes to the end of `sys.path`, so that it finds the modules that lie beside it.
    """
    from lcmae.models import MaskedImageModel

    path, function = split(name)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"lcmae_adapter_{path.stem}", path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"expected a Python file with an adapter, got {path}")
    module = importlib.util.module_from_spec(spec)
    # classes and functions look their module up by name
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        builder = getattr(module, function, None)
        if not callable(builder):
            raise InputError(f"expected a function {function} in {path}, got none")
        model = builder()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name}: {type(error).__name__}: {reason(error)}") from error
    if not isinstance(model, MaskedImageModel):
        raise InputError(f"expected {name} to return lcmae.adapt(...), got {type(model).__name__}")
    return model
