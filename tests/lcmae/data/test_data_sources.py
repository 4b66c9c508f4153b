"""What all sources share: limits, streaming, devices, corrupt images, arguments."""

import os
import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcmae.data import SOURCES, ImageSource, open_source
from lcmae.data.kinds import KINDS
from lcmae.data.parquet import parquet_images
from lcmae.data.readers.missing import needed, packages
from lcmae.errors import InputError
from tests.reference.image_files import one_line, picture, png, refused, write_parquet

# two of their images cannot be read, which every opening says (test_data_odd_files.py)
pytestmark = pytest.mark.filterwarnings("ignore:.*left out:lcmae.data.survey.ImagesWarning")


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
    named = {"digits", "photographs", "cifar10", "cifar100", "stl10", "hierarchy"}
    assert set(SOURCES) == {*named, *(f"{kind}:PATH" for kind in KINDS), "PATH"}
    assert all(text and "\n" not in text for text in SOURCES.values())


def test_importing_needs_none_of_the_formats() -> None:
    heavy = ("PIL", "pyarrow", "sklearn", "torchvision")
    code = f"import sys, lcmae.data; print([name for name in {heavy!r} if name in sys.modules])"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=dict(os.environ))
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(("extra", "parts"), [("tiff", ("imagecodecs", "tifffile")), ("dicom", ("pydicom",))])
def test_a_missing_package_is_named_itself(extra: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(
        InputError, match="expected the package nowhere, got none; install it with: pip install "
    ) as caught:
        needed("nowhere", extra, "scan")
    words = shlex.split(str(caught.value).partition("pip install ")[2])
    assert len(words) == len(parts)
    assert all(word.startswith(part) for word, part in zip(sorted(words), parts, strict=True))


def test_an_unknown_extra_leaves_the_package() -> None:
    assert packages("none", "nowhere") == "nowhere"
