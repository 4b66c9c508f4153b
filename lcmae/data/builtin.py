"""Data sets by name: scikit-learn's digits, which need no download, and torchvision's CIFAR and
STL-10. And four photographs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcmae.data.collection import Collection, in_order
from lcmae.data.folder import FolderImages
from lcmae.errors import InputError


class ArrayImages:
    """Images that lie decoded in one array [b h w] or [b h w c]."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __call__(self, row: int) -> Any:
        from PIL import Image

        return Image.fromarray(self.values[row])


class DigitImages(ArrayImages):
    """8x8 grey images, enlarged bilinearly to 32x32: so small a picture has no edges for a bicubic
    kernel to keep."""

    def __call__(self, row: int) -> Any:
        from PIL import Image

        return super().__call__(row).resize((32, 32), Image.Resampling.BILINEAR)


def digits(split: str) -> Collection:
    """1,797 handwritten digits (UCI Optdigits test set, in scikit-learn): fixed split, 1,437 train
    and 360 test."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    values = (data.images * (255 / 16)).round().astype(np.uint8)  # the files count ink from 0 to 16
    names = [f"digits#{row}" for row in range(len(values))]
    labels = torch.from_numpy(data.target.astype(np.int64))
    label_names = tuple(str(digit) for digit in range(10))
    return Collection(names, labels, label_names, in_order(len(values)), DigitImages(values)).split(split)


def photographs() -> Collection:
    """Four photographs, the same for every split; whose they are lies beside them."""
    folder = Path(__file__).with_name("photographs")
    files = sorted(folder.glob("*.jpg"))
    names = [f"photographs/{file.name}" for file in files]
    return Collection(
        names, None, None, in_order(len(files)), FolderImages(files), files=files, container="photographs"
    )


def torchvision_set(name: str, split: str, root: Path, *, download: bool) -> Collection:
    """cifar10, cifar100 or stl10 (its labelled images) from torchvision's files below `root`."""
    from torchvision import datasets

    folder, train = str(root / name), split == "train"
    try:
        if name == "stl10":
            data: Any = datasets.STL10(folder, split=split, download=download)
            values, targets, label_names = data.data.transpose(0, 2, 3, 1), data.labels, data.classes
        else:
            kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
            data = kind(folder, train=train, download=download)
            values, targets, label_names = data.data, data.targets, data.classes
    except RuntimeError as error:  # torchvision's word for files that are missing or fail their checksum
        if download:
            raise InputError(f"{name}: the download to {folder} is damaged ({error})") from error
        raise InputError(
            f"{name}: expected {split}.parquet or torchvision's files in {folder}, found neither; "
            "allow the download with --download (open_source(..., download=True)), or set LCMAE_DATA"
        ) from error
    except OSError as error:
        raise InputError(f"{name}: the download to {folder} failed ({error})") from error
    names = [f"{name}/{split}#{row}" for row in range(len(values))]
    labels = torch.as_tensor(np.asarray(targets), dtype=torch.int64)
    return Collection(names, labels, tuple(label_names), in_order(len(values)), ArrayImages(values))
