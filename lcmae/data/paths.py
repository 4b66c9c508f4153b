"""The images of what lies at a path, and the masks beside them."""

import os
from collections.abc import Callable
from pathlib import Path

from lcmae.data.collection import Collection
from lcmae.data.folder import folder_images
from lcmae.data.kinds import SUFFIXES
from lcmae.data.parquet import parquet_images
from lcmae.data.readers.dicom import dicom_images
from lcmae.errors import InputError


def path_images(kind: str, path: Path, split: str, channels: int | None, masks: str | None) -> Collection:
    """The images of one split of what lies at a path of this kind."""
    images = _read(kind, path, split, channels, masks)
    if masks is not None and images.read_mask is None:
        return images.replaced(read_mask=mask_files(path, Path(masks).expanduser(), images))
    return images


def _read(kind: str, path: Path, split: str, channels: int | None, masks: str | None) -> Collection:
    if kind == "folder":
        return folder_images(path, split)
    if kind == "parquet":
        is_folder = masks is not None and (Path(masks).expanduser().is_dir() or (path / masks).is_dir())
        return parquet_images(path, split, None if is_folder else masks)
    if kind in ("numpy", "zarr"):
        from lcmae.data.readers import arrays

        return (arrays.numpy_images if kind == "numpy" else arrays.zarr_images)(path, split, channels)
    if kind == "tiff":
        from lcmae.data.readers.tiff import tiff_images

        return tiff_images(path, split)
    if kind == "webdataset":
        from lcmae.data.readers.tar import tar_images

        return tar_images(path, split)
    if kind == "dicom":
        return dicom_images(path, split)
    from lcmae.data.readers.saved import saved_images

    return saved_images(path, split, channels, masks)


def mask_files(root: Path, masks: Path, images: Collection) -> Callable[[int], Path]:
    """The mask of each image: the file of the same relative path, up to the suffix, below
    `masks`."""
    masks = masks if masks.is_absolute() or masks.is_dir() else root / masks
    if not masks.is_dir():
        raise InputError(f"expected a folder of masks at {masks}, which has none")
    below = {
        Path(folder, name).relative_to(masks).with_suffix("").as_posix(): Path(folder, name)
        for folder, _, names in os.walk(masks)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES
    }
    found: dict[int, Path] = {}
    for file, row in zip(images.paths, images.rows.tolist(), strict=True):
        name = Path(file)
        key = (name.relative_to(root) if name.is_relative_to(root) else name).with_suffix("").as_posix()
        if key not in below:
            raise InputError(f"{masks}: expected the mask {key}.png of the image {file}, found none")
        found[row] = below[key]
    return MaskFiles(found)


class MaskFiles:
    """Row numbers to files of masks."""

    def __init__(self, files: dict[int, Path]) -> None:
        self.files = files

    def __call__(self, row: int) -> Path:
        return self.files[row]
