"""Folders of image files: classes, splits, links."""

from pathlib import Path

import pytest

from lcmae.data import open_source
from tests.reference.image_files import png, refused, write_folder

# two of their images cannot be read, which every opening says (test_data_odd_files.py)
pytestmark = pytest.mark.filterwarnings("ignore:.*left out:lcmae.data.survey.ImagesWarning")


def test_folders_of_classes(folder: Path) -> None:
    train, test = (open_source(f"folder:{folder}", split=split) for split in ("train", "test"))
    assert train.label_names == test.label_names == ("cat", "dog")
    assert not set(train.paths) & set(test.paths)
    assert train.labels is not None
    for path, label in zip(train.paths, train.labels.tolist(), strict=True):
        assert Path(path).parent.name == ("cat", "dog")[label]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 10})
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(png(0))
    train, test = (open_source(f"folder:{tmp_path}", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 2)
    assert train.labels is None
    assert train.label_names is None
    assert train.skipped == test.skipped == []


@pytest.mark.parametrize("test_name", ["test", "val", "validation"])
def test_split_folders_are_used_and_share_their_classes(tmp_path: Path, test_name: str) -> None:
    write_folder(tmp_path, {"train/bird": 2, "train/cat": 3, "train/dog": 4, f"{test_name}/dog": 2})
    train, test = (open_source(f"folder:{tmp_path}", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (9, 2)
    assert train.label_names == test.label_names == ("bird", "cat", "dog")
    assert test.labels is not None
    assert test.labels.tolist() == [2, 2]


def test_a_train_folder_alone_is_split(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/cat": 5, "train/dog": 5})
    train, test = (open_source(f"folder:{tmp_path}", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 2)
    assert train.label_names == ("cat", "dog")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_folder(tmp_path, {"bus": 5, "car": 5, "train": 5})
    source = open_source(f"folder:{tmp_path}")
    assert source.label_names == ("bus", "car", "train")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 5})
    (tmp_path / "cat" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert sum(len(open_source(f"folder:{tmp_path}", split=split)) for split in ("train", "test")) == 5


def test_folders_that_are_none(tmp_path: Path) -> None:
    refused("expected a folder of images, got .*gone, which does not exist", f"folder:{tmp_path}/gone")
    refused("expected images .* found none", f"folder:{tmp_path}")
    (tmp_path / "a.png").write_bytes(png(0))
    refused("at least 2 images", f"folder:{tmp_path}")
    refused("which is a file", f"folder:{tmp_path}/a.png")
    write_folder(tmp_path, {"cat": 2})
    refused("either images or class folders", f"folder:{tmp_path}")
