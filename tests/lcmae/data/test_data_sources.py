"""Sources: what they hold, how they split, and that streaming gives the same pixels as memory
does."""

import json
import os
import pickle
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lcmae.data import SOURCES, ImageSource, open_source
from lcmae.data.parquet import parquet_images
from lcmae.data.paths import KINDS
from lcmae.errors import InputError


@pytest.fixture(autouse=True)
def _own_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the user's data is found, and nothing is written into it, unless a test says
    so."""
    if "data_root" in request.fixturenames:
        request.getfixturevalue("data_root")  # looks for the user's data before it is hidden
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LCMAE_DATA", str(home))
    monkeypatch.chdir(home)


def picture(number: int, size: tuple[int, int] = (10, 8)) -> Image.Image:
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def png(number: int) -> bytes:
    file = BytesIO()
    picture(number).save(file, "PNG")
    return file.getvalue()


def write_folder(root: Path, classes: dict[str, int]) -> Path:
    number = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            picture(number).save(root / name / f"{number:03}.png")
            number += 1
    return root


def write_parquet(
    file: Path,
    cells: list[Any],
    labels: list[Any] | None,
    *,
    metadata: dict[str, str] | None = None,
    image: str = "image",
    group: int = 4,
) -> Path:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": cell, "path": f"{row}.png"} for row, cell in enumerate(cells)]
    columns: dict[str, Any] = {image: pa.array(images, kind)}
    if labels is not None:
        columns["label"] = pa.array(labels)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file, row_group_size=group)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 images of cats, 10 of dogs and one broken file of each."""
    root = write_folder(tmp_path / "pets", {"cat": 20, "dog": 10})
    (root / "cat" / "broken.png").write_bytes(png(0)[:100])
    (root / "dog" / "page.jpg").write_text("<html>")
    return root


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """30 rows of three classes; row 7 is broken and row 9 is empty."""
    cells: list[Any] = [png(row) for row in range(30)]
    cells[7], cells[9] = cells[7][:100], None
    return write_parquet(tmp_path / "table.parquet", cells, [row % 3 for row in range(30)])


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def refused(match: str, name: str, **arguments: Any) -> None:
    with pytest.raises(InputError, match=match) as error:
        open_source(name, **arguments)
    one_line(error)


# digits


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


# what all sources share


def test_a_limit_takes_a_balanced_part_of_the_same_shuffle() -> None:
    small, large = (open_source("digits", limit=limit, channels=1) for limit in (50, 120))
    assert large.labels is not None
    assert small.labels is not None
    assert small.labels.bincount().tolist() == [5] * 10
    assert large.labels.bincount().tolist() == [12] * 10
    assert large.paths[:50] == small.paths
    assert torch.equal(large.pixels[:50], small.pixels)
    assert len(open_source("digits", limit=10**6, channels=1)) == 1437


def test_slices_tensors_and_batches_agree(folder: Path) -> None:
    source = open_source(f"folder:{folder}", image_size=(8, 10))
    assert torch.equal(source[2:5], source.pixels[2:5])
    assert torch.equal(source[torch.tensor([4, 0, 4])], source.pixels[[4, 0, 4]])
    order = torch.arange(len(source)).flip(0)
    batches = list(source.batches(order, 7))
    assert len(batches) == len(source) // 7
    assert torch.equal(torch.cat([indices for indices, _ in batches]), order[: 7 * len(batches)])
    for indices, pixels in batches:
        assert torch.equal(pixels, source.pixels[indices])


@pytest.mark.parametrize("kind", ["folder", "parquet"])
@pytest.mark.parametrize("limit", [None, 10])
def test_streaming_gives_the_pixels_of_memory(kind: str, limit: int | None, folder: Path, table: Path) -> None:
    name = f"{kind}:{folder if kind == 'folder' else table}"
    resident = open_source(name, image_size=(6, 5), limit=limit)
    streaming = open_source(name, image_size=(6, 5), limit=limit, resident_limit=0)
    assert resident.resident
    assert not streaming.resident
    assert len(streaming) == len(resident)
    assert streaming.paths == resident.paths
    assert streaming.skipped == resident.skipped
    assert resident.labels is not None
    assert streaming.labels is not None
    assert torch.equal(streaming.labels, resident.labels)
    everything = torch.arange(len(resident)).flip(0)
    assert torch.equal(streaming[everything], resident.pixels.flip(0))
    assert torch.equal(streaming[1:4], resident[1:4])
    pairs = zip(streaming.batches(everything, 4), resident.batches(everything, 4), strict=True)
    for (indices, pixels), (same_indices, same_pixels) in pairs:
        assert torch.equal(indices, same_indices)
        assert torch.equal(pixels, same_pixels)
    with pytest.raises(InputError, match="fits in memory, got"):
        _ = streaming.pixels
    with pytest.raises(IndexError, match="positions from 0 to"):
        streaming[torch.tensor([len(streaming)])]


# Python 3.12 warns of every fork beside threads; what is decoded after it holds no lock of theirs
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_worker_processes_keep_the_order_and_leave_the_global_generator(kind: str, folder: Path, table: Path) -> None:
    name = f"{kind}:{folder if kind == 'folder' else table}"
    source = open_source(name, image_size=(6, 5), resident_limit=0)
    order = torch.arange(len(source)).flip(0)
    before = torch.get_rng_state()
    batches = list(source.batches(order, 5, workers=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.cat([indices for indices, _ in batches]), order[: 5 * len(batches)])
    assert torch.equal(torch.cat([pixels for _, pixels in batches]), source[order[: 5 * len(batches)]])


def test_a_streaming_source_survives_pickling(table: Path) -> None:
    source = open_source(f"parquet:{table}", resident_limit=0)
    first = source[:3]  # fills the cache of row groups, which must not travel
    again: ImageSource = pickle.loads(pickle.dumps(source))
    assert torch.equal(again[:3], first)


def test_a_batch_larger_than_the_source_is_refused(folder: Path) -> None:
    source = open_source(f"folder:{folder}", limit=4)
    for size in (0, 5):
        with pytest.raises(InputError, match=f"expected a batch of 1 to 4 images, got {size}"):
            source.batches(torch.arange(4), size)


def test_to_a_device_moves_pixels_and_leaves_labels(folder: Path) -> None:
    source = open_source(f"folder:{folder}", limit=4)
    moved = source.to("meta")  # a device that every machine has
    assert moved.pixels.device.type == "meta"
    assert moved.labels is not None
    assert moved.labels.device.type == "cpu"
    assert source.pixels.device.type == "cpu"
    assert moved[torch.tensor([1, 2])].device.type == "meta"
    assert next(moved.batches(torch.arange(4), 2))[1].device.type == "meta"
    streaming = open_source(f"folder:{folder}", limit=4, resident_limit=0).to("meta")
    assert streaming[0:2].device.type == "meta"
    assert next(streaming.batches(torch.arange(4), 2))[1].device.type == "meta"


def test_corrupt_images_are_skipped_and_named(folder: Path, table: Path) -> None:
    sources = [open_source(f"folder:{folder}", split=split) for split in ("train", "test")]
    assert sum(map(len, sources)) == 30
    skipped = sorted(Path(line.split(": ")[0]).name for source in sources for line in source.skipped)
    assert skipped == ["broken.png", "page.jpg"]
    sources = [open_source(f"parquet:{table}", split=split) for split in ("train", "test")]
    assert sum(map(len, sources)) == 28
    skipped = sorted(line for source in sources for line in source.skipped)
    assert skipped[0].startswith("table.parquet#7: ")
    assert skipped[1] == "table.parquet#9: the row has no bytes"


def test_labels_stay_with_their_images_when_some_are_skipped(table: Path) -> None:
    for limit in (None, 12):
        source = open_source(f"parquet:{table}", limit=limit, image_size=(8, 10))
        assert source.labels is not None
        for path, label, pixels in zip(source.paths, source.labels, source.pixels, strict=True):
            row = int(path.split("#")[1])
            assert label == row % 3
            assert torch.equal(pixels, torch.from_numpy(np.array(picture(row))).permute(2, 0, 1))


def test_a_limit_is_filled_up_past_corrupt_images(tmp_path: Path) -> None:
    cells = [png(row) if row % 2 else b"broken" for row in range(40)]
    file = write_parquet(tmp_path / "half.parquet", cells, None)
    source = open_source(f"parquet:{file}", limit=8)
    rows = parquet_images(file, "train").balanced().rows.tolist()
    readable = [row for row in rows if row % 2][:8]
    assert source.paths == [f"half.parquet#{row}" for row in readable]
    # all that were passed over on the way are named, and none behind the last that was needed
    passed = [row for row in rows[: rows.index(readable[-1])] if row % 2 == 0]
    assert [line.split(": ")[0] for line in source.skipped] == [f"half.parquet#{row}" for row in passed]


def test_if_every_image_is_corrupt_there_is_no_source(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_text("no image")
    refused(r"none of 4 images can be read; the first is .*\d.png: not an image", f"folder:{tmp_path}")


def test_a_streaming_source_is_checked_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_source(f"folder:{folder}", resident_limit=0)
    with monkeypatch.context() as patch:
        patch.setattr("lcmae.data.decode.Decoder.__call__", lambda *_: pytest.fail("decoded again"))
        again = open_source(f"folder:{folder}", resident_limit=0)
    assert again.skipped == first.skipped
    assert again.paths == first.paths
    # a file that changed is looked at again
    victim = Path(first.paths[0])
    victim.write_bytes(b"now broken")
    assert any(str(victim) in line for line in open_source(f"folder:{folder}", resident_limit=0).skipped)


def test_a_file_that_breaks_while_streaming_is_an_error_with_its_name(folder: Path) -> None:
    source = open_source(f"folder:{folder}", resident_limit=0)
    Path(source.paths[3]).unlink()
    with pytest.raises(InputError, match=r"\d+.png: readable when it was checked, now .*No such file") as error:
        source[2:5]
    one_line(error)


def test_without_a_place_to_remember_the_check_it_says_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="every run will check the images again"):
        source = open_source(f"folder:{folder}", resident_limit=0, root=tmp_path / "file")
    assert len(source) > 20


def test_long_decoding_shows_progress(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_source(f"folder:{folder}")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("lcmae.data.opening._CHUNK", 2)
    monkeypatch.setattr("lcmae.data.opening._PATIENCE", 0)
    shown: list[tuple[str, int]] = []

    class Bar:
        def __init__(self, label: str, total: int, done: int) -> None:
            self.total, self.done = total, done
            shown.append((label, total))

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            assert self.done == self.total

        def advance(self, steps: int) -> None:
            self.done += steps

    monkeypatch.setattr("lcmae.progress.ProgressBar", Bar)
    open_source(f"folder:{folder}")
    assert len(shown) == 1
    assert shown[0][0] == f"decoding folder:{folder}"


# folders


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


# Parquet


def test_one_file_is_split_and_a_folder_has_its_own_splits(tmp_path: Path) -> None:
    for name, first, count in (("train-00000-of-00002", 0, 6), ("train-00001-of-00002", 6, 5), ("test-00000", 11, 3)):
        rows = range(first, first + count)
        write_parquet(tmp_path / f"data/{name}.parquet", [png(row) for row in rows], [row % 2 for row in rows])
    train, test = (open_source(f"parquet:{tmp_path}", split=split, image_size=(8, 10)) for split in ("train", "test"))
    assert (len(train), len(test)) == (11, 3)
    assert train.paths[6] == "data/train-00001-of-00002.parquet#0"
    for row in (0, 5, 6, 10):
        assert torch.equal(train.pixels[row], torch.from_numpy(np.array(picture(row))).permute(2, 0, 1))
    assert test.labels is not None
    assert test.labels.tolist() == [1, 0, 1]
    alone = f"parquet:{tmp_path}/data/train-00000-of-00002.parquet"
    train, test = (open_source(alone, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (4, 2)
    assert not set(train.paths) & set(test.paths)


HUGGING_FACE = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"]}}}}


@pytest.mark.parametrize(
    "metadata", [{"label_names": '["cat", "dog"]'}, {"huggingface": json.dumps(HUGGING_FACE)}, None, {"pandas": "{}"}]
)
def test_label_names_come_from_the_metadata(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    file = write_parquet(tmp_path / "a.parquet", [png(row) for row in range(10)], [0, 1] * 5, metadata=metadata)
    names = open_source(f"parquet:{file}").label_names
    assert names == (None if metadata is None or "pandas" in metadata else ("cat", "dog"))


def test_labels_that_are_names_are_numbered_over_both_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [png(row) for row in range(3)], ["dog", "ant", "dog"])
    write_parquet(tmp_path / "test.parquet", [png(row) for row in range(2)], ["dog", "cat"])
    train, test = (open_source(f"parquet:{tmp_path}", split=split) for split in ("train", "test"))
    assert train.label_names == test.label_names == ("ant", "cat", "dog")
    assert train.labels is not None
    assert test.labels is not None
    assert (train.labels.tolist(), test.labels.tolist()) == ([2, 0, 2], [2, 1])


@pytest.mark.parametrize("labels", [None, [-1] * 6])
def test_parquet_without_labels(tmp_path: Path, labels: list[int] | None) -> None:
    file = write_parquet(tmp_path / "a.parquet", [png(row) for row in range(6)], labels)
    assert open_source(f"parquet:{file}").labels is None


def test_images_may_be_plain_bytes_in_a_column_img(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"img": [png(row) for row in range(6)]}), file)
    assert len(open_source(f"parquet:{file}")) == 4


def test_few_row_groups_are_kept_in_memory(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = open_source(f"parquet:{table}").pixels
    monkeypatch.setattr("lcmae.data.parquet.CACHED_BYTES", 1)
    source = open_source(f"parquet:{table}", resident_limit=0)
    assert torch.equal(source[:], expected)
    read: Any = source.images.read
    assert len(read._cached) == 1


def test_a_forked_process_waits_for_no_lock_of_its_parent(table: Path) -> None:
    read: Any = open_source(f"parquet:{table}", resident_limit=0).images.read
    expected = read(0)
    read._lock.acquire()  # as a thread of the parent may hold it when it forks
    read._process = -1
    assert read(0) == expected


def test_parquet_files_that_are_none(tmp_path: Path, table: Path) -> None:
    refused("got .*gone, which does not exist", f"parquet:{tmp_path}/gone")
    (tmp_path / "empty").mkdir()
    refused(r"expected \*.parquet files in .*empty, found none", f"parquet:{tmp_path}/empty")
    file = tmp_path / "a.parquet"
    file.write_text("no Parquet")
    refused("a.parquet: expected a complete Parquet file", f"parquet:{file}")
    data = table.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    refused("a.parquet: expected a complete Parquet file", f"parquet:{file}")
    refused("expected a column named image, got photo", f"parquet:{write_parquet(file, [png(0)], None, image='photo')}")
    pq.write_table(pa.table({"image": [1, 2]}), file)
    refused("expected column image to hold {bytes, path}, got int64", f"parquet:{file}")
    refused("labels from 0 to 3, got -1 to 3", f"parquet:{write_parquet(file, [png(0)] * 2, [-1, 3])}")
    refused("got 1 rows without", f"parquet:{write_parquet(file, [png(0)] * 2, [None, 3])}")
    refused("whole numbers or names, got double", f"parquet:{write_parquet(file, [png(0)] * 2, [0.5, 3.0])}")
    named = write_parquet(file, [png(0)] * 2, [0, 3], metadata={"label_names": '["a", "b"]'})
    refused("labels from 0 to 1, got 0 to 3", f"parquet:{named}")
    refused("without rows", f"parquet:{write_parquet(file, [], None)}")
    write_parquet(tmp_path / "two/train.parquet", [png(0)] * 2, [0, 1])
    write_parquet(tmp_path / "two/test.parquet", [png(0)] * 2, None)
    refused("test.parquet: expected the same columns as .*train.parquet", f"parquet:{tmp_path}/two")


def test_a_row_group_with_damaged_pages_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", [png(row) for row in range(20)], None)
    start = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + 60] = b"\xff" * 60
    file.write_bytes(data)
    refused("a.parquet: expected a complete Parquet file", f"parquet:{file}")


# downloaded sets


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


# arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digit"}, "expected data to be digits, .*; got 'digit'"),
        ({"name": "parquet:"}, "expected a path after parquet:"),
        ({"split": "val"}, "expected split train or test, got 'val'"),
        ({"channels": 4}, "expected 1 or 3 channels"),
        ({"channels": 5}, "expected 1 .*got 5"),
        ({"image_size": 0}, "got 0x0"),
        ({"image_size": (8, -1)}, "got 8x-1"),
        ({"limit": 0}, "got 0"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    refused(message, **{"name": "digits", **arguments})


def test_every_source_has_a_line_of_description() -> None:
    named = {"digits", "cifar10", "cifar100", "stl10", "hierarchy"}
    assert set(SOURCES) == {*named, *(f"{kind}:PATH" for kind in KINDS), "PATH"}
    assert all(text and "\n" not in text for text in SOURCES.values())


def test_importing_needs_none_of_the_formats() -> None:
    heavy = ("PIL", "pyarrow", "sklearn", "torchvision")
    code = f"import sys, lcmae.data; print([name for name in {heavy!r} if name in sys.modules])"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=dict(os.environ))
    assert done.stdout.strip() == "[]", done.stderr
