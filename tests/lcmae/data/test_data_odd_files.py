"""Files that are no images, or hardly any: pipes, odd colours, broken containers, small files that
unpack to much."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lcmae.data.decode import Unreadable, converted
from lcmae.data.kinds import with_kind
from lcmae.data.opening import open_source
from lcmae.data.readers.arrays import load_npy
from lcmae.data.survey import ImagesWarning
from lcmae.errors import InputError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def opened(folder: Path, left_out: str) -> list[str]:
    with pytest.warns(ImagesWarning, match=left_out):
        return open_source(f"folder:{folder}", split="all", image_size=8, channels=3).skipped


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["pipe.png", "pipe.tif"])
def test_a_pipe_among_images_is_left_out_and_named(photos: Path, name: str) -> None:
    os.mkfifo(photos / name)
    (skipped,) = opened(photos, "left out 1 image that cannot be read .*pipe")
    assert skipped == f"{photos / name}: a pipe, socket or device, not a file"


@pytest.mark.timeout(60)
def test_a_pipe_is_no_dicom_file_and_no_array(photos: Path) -> None:
    os.mkfifo(photos / "pipe")
    assert with_kind(str(photos)).startswith("folder:")
    with pytest.raises(InputError, match="got a pipe, socket or device"):
        load_npy(photos / "pipe")


@pytest.mark.timeout(60)
def test_a_pipe_among_tables_is_passed_over(tmp_path: Path) -> None:
    table({"image": [encoded()] * 4}, tmp_path / "a.parquet")
    os.mkfifo(tmp_path / "b.parquet")
    assert len(open_source(f"parquet:{tmp_path}", split="all", image_size=8, channels=3)) == 4


def test_colours_of_a_laboratory_are_read(photos: Path) -> None:
    Image.new("LAB", (12, 12), (140, 20, 230)).save(photos / "a.tif")
    source = open_source(f"folder:{photos}", split="all", image_size=8, channels=3)
    assert source.skipped == []
    expected = Image.new("LAB", (1, 1), (140, 20, 230)).convert("RGB").getpixel((0, 0))
    assert tuple(source.pixels[source.paths.index(str(photos / "a.tif")), :, 4, 4].tolist()) == expected


def test_colours_that_are_not_converted_are_named() -> None:
    with pytest.raises(Unreadable, match="expected grey or colours, got La"):
        converted(Image.new("La", (2, 2)), "RGB")


def test_an_array_of_no_image_in_a_tiff_is_left_out_and_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as tifffile gives it of a damaged file
    monkeypatch.setattr("lcmae.data.readers.tiff.tiff_bands", lambda file, *, pages_are_bands: np.zeros(5, np.uint16))
    monkeypatch.setattr("lcmae.data.decode.needs_tifffile", lambda file: True)
    Image.new("RGB", (12, 12)).save(photos / "a.tif")
    (skipped,) = opened(photos, "left out 1 image that")
    assert "expected an image [height width bands], got an array of shape (5,)" in skipped


def encoded() -> dict[str, object]:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": ""}


def table(columns: dict[str, object], file: Path) -> None:
    pq.write_table(pa.table(columns), file, compression="zstd")


@pytest.mark.parametrize("begin", [b"{'descr': '<f4', 'shape': (2, ", b"{'descr': [('<f4'", b"\x00" * 60])
def test_a_broken_header_is_said_of_the_file(tmp_path: Path, begin: bytes) -> None:
    file = tmp_path / "a.npy"
    header = begin.ljust(117) + b"\n"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(InputError, match=r"a.npy: expected an .npy file of numbers, got one that cannot be read"):
        open_source(str(file))


def test_a_broken_archive_is_said_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, images=np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8))
    with zipfile.ZipFile(file) as archive:
        begin = archive.infolist()[0].header_offset + 80
    content = bytearray(file.read_bytes())
    content[begin : begin + 40] = b"\xff" * 40
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a.npz: expected an .npz file of numbers, got one that cannot be read"):
        open_source(str(file))


def test_a_broken_name_in_a_table_is_said_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [encoded()], "zzzz": [1]}), file, store_schema=False)
    file.write_bytes(file.read_bytes().replace(b"zzzz", b"\xff\xfe\xff\xfe"))
    with pytest.raises(InputError, match=r"a.parquet: expected a complete Parquet file, got one that cannot be read"):
        open_source(str(file))


def test_what_unpacks_to_far_more_than_images_is_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((140, 1024, 1024), np.uint8))
    table({"image": [{"bytes": bytes(140 << 20), "path": ""}] * 2}, tmp_path / "b.parquet")
    for name in ("a.npz", "b.parquet"):
        with pytest.raises(InputError, match=f"{name}: .*unpack to 140 MiB, taken for a decompression bomb"):
            open_source(str(tmp_path / name))


def test_an_array_that_compresses_well_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((50, 1024, 1024), np.uint8))
    assert len(open_source(str(tmp_path / "a.npz"), split="all", image_size=8, limit=4)) == 4
