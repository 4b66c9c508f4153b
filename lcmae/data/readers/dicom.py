"""DICOM by pydicom: every frame of every file below a folder is an image.

Stored values become physical ones (rescale slope and intercept: Hounsfield units of a CT). Black
and white are the window that the first file names, else the range of its stored bits; `value_range`
says otherwise, in the same units. MONOCHROME1, where large values are dark, is turned round.
"""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcmae.data.collection import Collection, in_order
from lcmae.data.kinds import is_dicom
from lcmae.data.large import check_array
from lcmae.data.readers.missing import needed
from lcmae.data.values import Range, Unreadable
from lcmae.errors import InputError
from lcmae.progress import ProgressBar

MANY = 2000
"""Files, from which on reading their headers shows its progress."""


@dataclass
class DicomFrames:
    """Row numbers to frames [h w c]."""

    frames: list[tuple[Path, int]]
    """File and frame of each row."""

    def __call__(self, row: int) -> np.ndarray:
        file, frame = self.frames[row]
        return read_frame(file, frame)


def dicom_images(path: Path, split: str) -> Collection:
    """The frames of a file, or of the files below a folder, sorted by name; its subfolders are
    classes if there is nothing but subfolders."""
    pydicom = needed("pydicom", "dicom", str(path))
    files = [path] if path.is_file() else sorted(_files(path))
    if not files:
        raise InputError(f"expected DICOM files in {path}, found none")
    frames: list[tuple[Path, int]] = []
    own: tuple[Range, str] | None = None
    with ProgressBar("reading headers", len(files)) if len(files) > MANY else nullcontext() as bar:
        for file in files:
            try:
                header = pydicom.dcmread(file, stop_before_pixels=True, force=False)
                frames += [(file, frame) for frame in range(max(1, int(header.get("NumberOfFrames") or 1)))]
                own = own or _own_range(header)
            except Exception:  # a broken file makes it trip over anything; it is named when it is decoded
                frames.append((file, 0))
            if bar is not None:
                bar.advance()
    root = path.parent if path.is_file() else path
    several = {file for file, frame in frames if frame}
    names = [str(file) + (f"#{frame}" if file in several else "") for file, frame in frames]
    labels, classes = _classes(root, [file for file, _ in frames])
    images = Collection(
        names, labels, classes, in_order(len(frames)), DicomFrames(frames), files=files, container="dicom",
        own_range=own,
    )  # fmt: skip
    return images.split(split)


def _files(folder: Path) -> Iterator[Path]:
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            file = Path(directory, name)
            if not name.startswith(".") and name != "DICOMDIR" and is_dicom(file):
                yield file


def _classes(root: Path, files: list[Path]) -> tuple[torch.Tensor | None, tuple[str, ...] | None]:
    parts = [file.relative_to(root).parts for file in files]
    if len({part[0] for part in parts}) < 2 or any(len(part) < 2 for part in parts):
        return None, None
    names = tuple(sorted({part[0] for part in parts}))
    number = {name: directory for directory, name in enumerate(names)}
    return torch.tensor([number[part[0]] for part in parts]), names


def _own_range(header: Any) -> tuple[Range, str] | None:
    """The window of a file (PS3.3, C.11.2.1.2.1), else the range of its stored bits; None for
    colour."""
    if int(header.get("SamplesPerPixel") or 1) > 1:
        return None
    centre, width = (_number(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None and width > 1:
        return (centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2), "the first file's window"
    return _bit_range(header), "the first file's stored bits"


def _is_scaled(header: Any) -> bool:
    """Whether stored values have to be made physical ones."""
    slope, intercept = (_number(header.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    return (slope or 1.0, intercept or 0.0) != (1.0, 0.0)


def _physical(values: np.ndarray, header: Any) -> np.ndarray:
    """By PS3.3, C.11.1.1.2: slope times the stored value, and the intercept. In float32, which
    holds 16 bits exactly, and once in memory."""
    slope, intercept = (_number(header.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    scaled = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    scaled *= slope or 1.0
    scaled += intercept or 0.0
    return scaled


def _bit_range(header: Any) -> Range:
    bits, signed = int(header.get("BitsStored") or 16), int(header.get("PixelRepresentation") or 0)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = (_number(header.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    ends = sorted((slope or 1.0) * value + (intercept or 0.0) for value in (low, high))
    return ends[0], ends[1]


def _number(value: Any) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, str | int | float):
        return float(value)
    values = list(value)
    return float(values[0]) if values else None


def read_frame(file: Path, frame: int) -> np.ndarray:
    """One frame as [h w c], in physical units where the file gives them. `Unreadable` for what
    cannot be read."""
    pixels = needed("pydicom.pixels", "dicom", str(file))
    pydicom = needed("pydicom", "dicom", str(file))
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, force=False)
        size = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1)
        stored = size * (int(header.BitsAllocated) // 8 or 1)
        # the file's bytes lie beside what is decoded, and then physical values in its place
        check_array(
            stored, f"{header.Columns}x{header.Rows} pixels", max(stored, 4 * size if _is_scaled(header) else 0)
        )
        is_one = int(header.get("NumberOfFrames") or 1) == 1
        values = pixels.pixel_array(file, index=None if is_one else frame)
        if values.ndim == 3:
            return values
        if "ModalityLUTSequence" in header:
            values = pixels.apply_modality_lut(values, header)
        elif _is_scaled(header):
            values = _physical(values, header)
        if header.get("PhotometricInterpretation") == "MONOCHROME1":
            values = np.asarray(sum(_bit_range(header))).astype(values.dtype) - values
        return values[..., None]
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # a broken file makes it trip over anything
        reason = " ".join(str(error).split()) or "no message"
        raise Unreadable(f"{reason} ({type(error).__name__})") from error
