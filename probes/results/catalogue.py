"""What is stored where: one file for each condition, and none that takes another one's place.

    probes/000500/<probe>/<readable>-<first 8 hex digits of the condition's hash>.nc

Results of before lie at probes/000500/<probe>.nc. They are found and listed as they are, and
nothing is written there any more. A folder of results of a checkpoint without a run (`--out`) is
laid out as probes/000500 is. No torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from lcmae.errors import InputError
from lcmae.probes.results import contracts
from lcmae.probes.results.conditions import Condition
from lcmae.probes.results.store import load_attrs, load_result, save_new, save_result
from lcmae.safety.text import printable

DIGITS = 8
"""Hex digits of a condition's hash in a file name; more of them where two would be alike."""


@dataclass(frozen=True)
class Stored:
    """A result on the disk."""

    path: Path
    probe: str
    condition: Condition

    def load(self) -> xr.Dataset:
        """The result itself; errors as those of `load`."""
        return load(self.path, self.probe)


def load(path: Path, probe: str) -> xr.Dataset:
    """A stored result, held against the contract of its probe (`lcmae.probes.results.contracts`):
    what every reader of results goes through. `InputError` in a sentence for a file that is gone,
    torn, of another probe, or not as this probe writes its results."""
    return checked(load_result(path), path, probe)


def checked(result: xr.Dataset, path: Path | str, probe: str) -> xr.Dataset:
    """The result itself, once it is seen to be one of this probe; errors as those of `load`."""
    where = printable(path)
    if result.attrs.get("probe", probe) != probe:
        raise InputError(f"expected a result of {probe} at {where}, got one of {printable(result.attrs['probe'], 60)}")
    for name, variable in result.data_vars.items():
        if not {"units", "long_name"} <= variable.attrs.keys():
            raise InputError(
                f"expected units and long_name of every variable of {where}, got {printable(name, 60)} without"
            )
    if found := contracts.problem(result, probe):
        raise InputError(f"expected a result as {probe} writes it at {where}, got {found}")
    return result


def files(folder: Path, probe: str = "*") -> list[Path]:
    """The files of results in a folder like probes/000500, whether they read or not: those of
    before first, then by name."""
    found = [*folder.glob(f"{probe}.nc"), *sorted(folder.glob(f"{probe}/*.nc"))]
    return [path for path in found if not path.name.startswith(".")]


def probe_of(path: Path, folder: Path) -> str:
    """The probe whose result a file of `files(folder)` is."""
    return path.stem if path.parent == folder else path.parent.name


def stored(folder: Path, probe: str = "*") -> Iterator[Stored]:
    """Every whole result in a folder like probes/000500; a damaged or foreign one is left out
    (`files` has it)."""
    for path in files(folder, probe):
        try:
            yield Stored(path, probe_of(path, folder), Condition.of(load_attrs(path)))
        except InputError:
            continue  # torn: nothing is known of it, and its condition is computed anew


def find(folder: Path, probe: str, condition: Condition) -> Stored | None:
    """The stored result of a probe under exactly this condition; None where there is none."""
    return next((one for one in stored(folder, probe) if one.condition == condition), None)


def add(result: xr.Dataset, folder: Path, *, overwrite: bool = False) -> Path:
    """Store a result under its own condition, and say where it lies.

    Where the condition is stored already, that file stays and is the answer: it was computed from
    the same. With `overwrite` the new result takes its place. Two writers of one condition leave
    one whole file.
    """
    probe, condition = str(result.attrs["probe"]), Condition.of(result.attrs)
    known = find(folder, probe, condition)
    if known is not None and not overwrite:
        return known.path
    if known is not None:
        save_result(result, known.path)
        return known.path
    for digits in (DIGITS, 16, 64):
        path = folder / probe / f"{condition.file_stem}-{condition.digest[:digits]}.nc"
        if save_new(result, path):
            return path
        try:
            theirs = Condition.of(load_attrs(path))
        except InputError:  # torn, so it is nobody's result
            save_result(result, path)
            return path
        if theirs == condition:  # another writer was faster
            return path
    raise AssertionError(f"two conditions of one sha256 at {path}")
