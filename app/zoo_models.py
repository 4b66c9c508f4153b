"""Where the small trained models lie that come with lcmae. Imports no torch."""

from pathlib import Path


def zoo_folder() -> Path:
    """Where the models lie: zoo/ of a checkout, lcmae/zoo of an installed wheel."""
    return Path(__file__).parents[1] / "zoo"


def models() -> dict[str, Path]:
    """Name -> its folder: model.safetensors in half precision, config.json, zoo.json, README.md."""
    return {file.parent.name: file.parent for file in sorted(zoo_folder().glob("*/model.safetensors"))}
