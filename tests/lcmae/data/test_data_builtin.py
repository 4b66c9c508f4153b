"""Named sets: digits, and torchvision's files."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lcmae.data
from lcmae.data import open_source
from tests.reference.image_files import refused


def test_digits_have_a_fixed_stratified_split() -> None:
    train, test = (open_source("digits", split=split, channels=1) for split in ("train", "test"))
    assert (len(train), len(test)) == (1437, 360)
    assert not set(train.paths) & set(test.paths)
    assert train.labels is not None
    assert test.labels is not None
    counts = train.labels.bincount() + test.labels.bincount()
    assert (test.labels.bincount() - counts / 5).abs().max() <= 1
    assert train.label_names == tuple("0123456789")
    assert train.pixels.shape == (1437, 1, 32, 32)
    assert train.pixels.min() == 0
    assert train.pixels.max() == 255
    assert train.resident
    assert train.skipped == []
    assert (train.name, train.split) == ("digits", "train")


def test_digits_are_the_enlarged_originals() -> None:
    from sklearn.datasets import load_digits

    source = open_source("digits", split="test", channels=1, limit=5)
    images: Any = load_digits()
    for path, pixels in zip(source.paths, source.pixels, strict=True):
        row = int(path.removeprefix("digits#"))
        small = torch.from_numpy(images.images[row] / 16)[None, None]
        expected = torch.nn.functional.interpolate(small, (32, 32), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(pixels / 255, expected.float(), atol=2 / 255, rtol=0)  # rounded twice
        assert source.labels is not None


@pytest.mark.parametrize(("size", "shape"), [(16, (16, 16)), ((8, 12), (8, 12)), ((32, 32), (32, 32))])
def test_size_and_channels(size: int | tuple[int, int], shape: tuple[int, int]) -> None:
    source = open_source("digits", split="test", image_size=size, channels=3, limit=4)
    assert source.pixels.shape == (4, 3, *shape)
    assert torch.equal(source.pixels[:, 0], source.pixels[:, 2])


def test_shared_cifar10(data_root: Path) -> None:
    if not (data_root / "cifar10" / "train.parquet").is_file():
        pytest.skip(f"no cifar10/train.parquet in {data_root}")
    source = open_source("cifar10", root=data_root, limit=200)
    assert source.labels is not None
    assert source.labels.bincount().tolist() == [20] * 10
    assert source.label_names is not None
    assert source.label_names[0] == "airplane"
    assert source.pixels.shape == (200, 3, 32, 32)
    assert source.paths[0].startswith("train.parquet#")
    assert len(open_source("cifar10", root=data_root, split="test", channels=1, limit=20)) == 20


def fake_cifar(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of torchvision's layout with 6 training and 2 test images; their checksums are not
    looked at."""
    from torchvision import datasets

    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    base = root / name / kind.base_folder
    base.mkdir(parents=True)
    key = "labels" if name == "cifar10" else "fine_labels"
    for files, count in ((kind.train_list, 6), (kind.test_list, 2)):
        for file, _ in files:
            values = np.random.default_rng(0).integers(0, 256, (count, 3072), np.uint8)
            (base / file).write_bytes(pickle.dumps({"data": values, key: list(range(count))}))
    names = {kind.meta["key"]: [f"class {label}" for label in range(10)]}
    (base / kind.meta["filename"]).write_bytes(pickle.dumps(names))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_torchvisions_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cifar(tmp_path, name, monkeypatch)
    train, test = (open_source(name, root=tmp_path, split=split) for split in ("train", "test"))
    assert len(test) == 2
    assert len(train) % 6 == 0
    assert test.labels is not None
    assert test.labels.tolist() == [0, 1]
    assert test.label_names is not None
    assert test.label_names[1] == "class 1"
    values = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8).reshape(2, 3, 32, 32)
    assert torch.equal(test.pixels, torch.from_numpy(values))  # stored plane by plane
    assert test.paths == [f"{name}/test#0", f"{name}/test#1"]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_a_set_that_is_not_there_names_the_way_to_get_it(name: str, tmp_path: Path) -> None:
    refused("--download", name, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("<urlopen error no route to host>")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    refused("cifar10: the download to .* failed .*no route", "cifar10", root=tmp_path, download=True)


def test_photographs_are_few_small_and_free() -> None:
    source = open_source("photographs", split="test", image_size=64)
    assert source.pixels.shape == (4, 3, 64, 64)
    assert source.labels is None
    assert torch.equal(open_source("photographs", split="train", image_size=64).pixels, source.pixels)
    folder = Path(lcmae.data.__file__).with_name("photographs")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_000_000
    terms = (folder / "LICENSE.md").read_text()
    assert all(Path(path).name in terms for path in source.paths)
