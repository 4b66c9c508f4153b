"""Parquet files: splits, labels and their names, row groups, damage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lcmae.data import open_source
from tests.reference.image_files import picture, png, refused, write_parquet

# two rows cannot be read, which every opening says (test_data_odd_files.py)
pytestmark = pytest.mark.filterwarnings("ignore:.*left out:lcmae.data.survey.ImagesWarning")


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
