"""Thirty-odd kinds of input to `lcmae.images`: the right pixels, or one sentence that says what to
do.

Pixels are checked against the values that the input was made of, and ranges against exact fractions
(`tests.reference.eight_bits`). Each kind holds six images, of 5 x 7 pixels or of 13 x 13 with 12
bands.
"""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import lcmae
from lcmae.data.survey import ImagesWarning
from lcmae.errors import InputError
from tests.reference.dicom import write_dicom
from tests.reference.eight_bits import to_eight_bits

COUNT, HEIGHT, WIDTH = 6, 5, 7

Build = Callable[[Path], tuple[Any, dict[str, Any], np.ndarray]]
"""A folder -> the input, options, and the pixels [b h w c] that it should give."""


def numbers(bands: int, most: int, dtype: type = np.uint8) -> np.ndarray:
    """Images [b h w c] that hold 0 and `most`, so that their range is used."""
    height, width = (13, 13) if bands > 4 else (HEIGHT, WIDTH)
    values = np.random.default_rng(bands + most).integers(0, most, (COUNT, height, width, bands), endpoint=True)
    values[0, 0, :2, 0] = 0, most
    return values.astype(dtype)


COLOUR, GREY = numbers(3, 255), numbers(1, 255)
DEEP, TWELVE = numbers(1, 65535, np.uint16), numbers(12, 4000, np.uint16)
TWELVE_8 = to_eight_bits(TWELVE, 0, 4000)
RANGE = {"value_range": (0, 4000)}


def files(folder: Path, images: np.ndarray, write: Callable[[Path, np.ndarray], Any], suffix: str) -> Path:
    folder.mkdir(exist_ok=True)
    for row, image in enumerate(images):
        write(folder / f"{row}{suffix}", image)
    return folder


def save_pil(file: Path, image: np.ndarray) -> None:
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file)


def save_tiff(file: Path, image: np.ndarray, **options: Any) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(file, image, **{"photometric": "minisblack", "planarconfig": "contig", **options})


def save_planes(file: Path, image: np.ndarray) -> None:
    save_tiff(file, np.moveaxis(image, -1, 0), planarconfig="separate", compression="lzw")


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def saved(name: str, save: Callable[[Path, Any], Any], values: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save(folder / name, values)
        return folder / name

    return write


def piped(folder: Path) -> Path:
    os.mkfifo(folder / "a.png")
    return folder


def tar(folder: Path) -> Path:
    with tarfile.open(folder / "shard.tar", "w") as file:
        for row, image in enumerate(COLOUR):
            for name, data in ((f"{row}.png", png(image)), (f"{row}.cls", str(row % 3).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return folder / "shard.tar"


def parquet(folder: Path) -> Path:
    cells = [{"bytes": png(image), "path": f"{row}.png"} for row, image in enumerate(COLOUR)]
    pq.write_table(pa.table({"image": cells, "label": list(range(COUNT))}), folder / "a.parquet")
    return folder / "a.parquet"


def zarr_group(folder: Path) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(folder / "a.zarr", mode="w")
    group.create_array("images", data=COLOUR, chunks=(2, HEIGHT, WIDTH, 3))
    group.create_array("labels", data=np.arange(COUNT))
    return folder / "a.zarr"


def dicom(folder: Path, values: np.ndarray, **header: Any) -> Path:
    """A series of CT slices, written by hand out of pydicom's parts."""
    pytest.importorskip("pydicom")
    for row, image in enumerate(values):
        write_dicom(folder / f"{row}.dcm", image[..., 0], **header)
    return folder


def hugging_face(folder: Path, *, to_disk: bool = False) -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list("abcdef"))})
    cells = [{"bytes": png(image), "path": None} for image in COLOUR]
    data = datasets.Dataset.from_dict({"image": cells, "label": list(range(COUNT))}, features=features)
    if not to_disk:
        return data
    datasets.disable_progress_bars()
    data.save_to_disk(str(folder / "saved"))
    return folder / "saved"


class Pairs(torch.utils.data.Dataset):
    """A torch data set of (image, label)."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: int) -> Any:
        return Image.fromarray(COLOUR[row]), row


PIL_LIST = [Image.fromarray(image) for image in COLOUR]
TENSORS = torch.from_numpy(COLOUR).permute(0, 3, 1, 2)
NORMALISED = torch.randn(6, 3, 5, 7, generator=torch.Generator().manual_seed(0))
FLOAT_12 = (TWELVE / 4000).astype(np.float32)
UNITS = {"RescaleSlope": 1, "RescaleIntercept": -1024}
SLICES = numbers(1, 4095, np.uint16)

RIGHT: dict[str, Build] = {
    "numpy uint8 [b h w c]": lambda _: (COLOUR, {}, COLOUR),
    "numpy uint8 [b c h w]": lambda _: (COLOUR.transpose(0, 3, 1, 2), {}, COLOUR),
    "numpy uint8 [b h w]": lambda _: (GREY[..., 0], {}, GREY),
    "numpy bool [b h w]": lambda _: (GREY[..., 0] > 99, {}, ((GREY > 99) * 255).astype(np.uint8)),
    "numpy uint16 [b h w 1]": lambda _: (DEEP, {}, to_eight_bits(DEEP, 0, 65535)),
    "numpy uint16 of 12 bits, range stated": lambda _: (TWELVE, RANGE, TWELVE_8),
    "numpy int64, range stated": lambda _: (COLOUR.astype(np.int64), {"value_range": (0, 255)}, COLOUR),
    "numpy float64 0..255, range stated": lambda _: (COLOUR.astype(float), {"value_range": (0, 255)}, COLOUR),
    "numpy float32 0..1, 12 bands": lambda _: (FLOAT_12, {}, TWELVE_8),
    "numpy 12 bands, three chosen": lambda _: (TWELVE, {**RANGE, "bands": (4, 3, 2)}, TWELVE_8[..., [3, 2, 1]]),
    "torch uint8 [b c h w]": lambda _: (TENSORS, {}, COLOUR),
    "torch bfloat16 0..1": lambda _: (torch.eye(5).repeat(6, 1, 1, 1).bfloat16(), {}, _eyes()),
    "(images, labels)": lambda _: ((COLOUR, np.arange(COUNT)), {}, COLOUR),
    "a dict of arrays": lambda _: ({"images": COLOUR, "labels": np.arange(COUNT)}, {}, COLOUR),
    "a list of PIL images": lambda _: (PIL_LIST, {}, COLOUR),
    "a list of arrays [h w c]": lambda _: (list(TWELVE), RANGE, TWELVE_8),
    "a list of paths": lambda folder: (sorted(files(folder, COLOUR, save_pil, ".png").iterdir()), {}, COLOUR),
    "a torch data set of pairs": lambda _: (Pairs(), {}, COLOUR),
    "a torch data set of dicts": lambda _: ([{"image": i, "label": "x"} for i in PIL_LIST], {}, COLOUR),
    "a TensorDataset of floats": lambda _: (torch.utils.data.TensorDataset(TENSORS / 255), {}, COLOUR),
    "a DataLoader": lambda _: (torch.utils.data.DataLoader(Pairs(), 4, collate_fn=list), {}, COLOUR),
    "a generator": lambda _: ((image for image in PIL_LIST), {"limit": COUNT}, COLOUR),
    "a Hugging Face data set": lambda folder: (hugging_face(folder), {}, COLOUR),
    "a saved Hugging Face data set": lambda folder: (hugging_face(folder, to_disk=True), {}, COLOUR),
    "a folder of PNG": lambda folder: (files(folder, COLOUR, save_pil, ".png"), {}, COLOUR),
    "a folder of 12-band TIFF, LZW": lambda folder: (files(folder, TWELVE, save_planes, ".tif"), RANGE, TWELVE_8),
    "a folder of 12-band TIFF, bands": lambda folder: (
        files(folder, TWELVE, save_tiff, ".tif"), {**RANGE, "bands": (12, 1)}, TWELVE_8[..., [11, 0]],
    ),
    "a folder of 16-bit RGB TIFF": lambda folder: (
        files(folder, TWELVE[..., :3], lambda file, image: save_tiff(file, image, photometric="rgb"), ".tif"),
        RANGE, TWELVE_8[..., :3],
    ),
    "a folder of .npy": lambda folder: (files(folder, TWELVE, np.save, ".npy"), RANGE, TWELVE_8),
    "an .npy file": lambda folder: (saved("a.npy", np.save, TWELVE)(folder), RANGE, TWELVE_8),
    "an .npz file": lambda folder: (
        saved("a.npz", lambda file, values: np.savez(file, x=values, y=np.arange(COUNT)), COLOUR)(folder), {}, COLOUR,
    ),
    "a TIFF stack": lambda folder: (saved("a.tif", save_stack, DEEP)(folder), {}, to_eight_bits(DEEP, 0, 65535)),
    "zarr": lambda folder: (zarr_group(folder), {}, COLOUR),
    "Parquet": lambda folder: (parquet(folder), {}, COLOUR),
    "a WebDataset shard": lambda folder: (tar(folder), {}, COLOUR),
    "DICOM, its window": lambda folder: (
        dicom(folder, SLICES, WindowCenter=1000.5, WindowWidth=2001), {}, to_eight_bits(SLICES, 0, 2000),
    ),
    "DICOM in Hounsfield units, range stated": lambda folder: (
        dicom(folder, SLICES, **UNITS), {"value_range": (-1024, 976)}, to_eight_bits(SLICES, 0, 2000),
    ),
}  # fmt: skip
"""Kind -> what it gives."""


def _eyes() -> np.ndarray:
    return np.repeat((np.eye(5) * 255).astype(np.uint8)[None, ..., None], 6, 0)


def save_stack(file: Path, images: np.ndarray) -> None:
    save_tiff(file, images[..., 0], planarconfig=None)


WRONG: dict[str, tuple[Callable[[Path], tuple[Any, dict[str, Any]]], str]] = {
    "normalised tensors": (lambda _: (NORMALISED, {}), "normalised already.*value_range="),
    "floats 0..255": (lambda _: (COLOUR.astype(np.float32), {}), "0:255.*value_range="),
    "int32": (lambda _: (COLOUR.astype(np.int32), {}), "int32 pixels .* no range of their own.*--value-range"),
    "complex": (lambda _: (COLOUR.astype(complex), {}), "expected real numbers as pixels, got complex128"),
    "12 bands for a model of 3": (lambda _: (TWELVE, {"channels": 3}), "expected 3 bands, got 12.*--bands"),
    "a band that is not there": (lambda _: (TWELVE, {"bands": (13,)}), "bands from 1 to 12, got 13"),
    "band 0": (lambda _: (TWELVE, {"bands": (0,)}), "bands counted from 1"),
    "a range turned round": (lambda _: (TWELVE, {"value_range": (9, 1)}), "LOW below HIGH, got 9 and 1"),
    "video": (lambda _: (np.zeros((2, 3, 4, 5, 3)), {}), r"choose the slices or frames first"),
    "an empty list": (lambda _: ([], {}), "expected at least one image, got none"),
    "nothing": (lambda _: ("nothing", {}), "got 'nothing', and no file or folder has this name"),
    "an empty text": (lambda _: ("", {}), "got an empty text"),
    "images without height": (lambda _: (np.zeros((3, 0, 4, 3)), {}), "got an empty array of shape"),
    "PIL images without pixels": (lambda _: ([Image.new("RGB", (0, 3))], {}), "at least 1x1 pixels, got 3x0"),
    "objects": (lambda _: (np.zeros((3, 4, 4, 3), object), {}), "expected an image, got ndarray of object"),
    "negative integers": (lambda _: (COLOUR.astype(np.int16) - 100, {}), "int16 pixels from 0 .*got -.*value_range="),
    "NaN": (lambda _: (np.full((3, 4, 4), np.nan), {}), "none of 3 images .*not finite"),
    "a vector": (lambda _: (np.zeros(5), {}), r"\[b h w\].*, got an array of shape \(5,\)"),
    "a list of vectors": (lambda _: ([np.zeros(784)] * 3, {}), r"none of 3 images .* got an array of shape \(784,\)"),
    "pairs the other way round": (lambda _: ([(3, COLOUR[0])], {}), r"does not begin with one: \(int, ndarray\)"),
    "text as images": (lambda _: (np.array([["a", "b"]]), {}), "expected real numbers as pixels, got <U1"),
    "a sparse tensor": (lambda _: (TENSORS.float().to_sparse(), {}), r"got a sparse one; hand over values.to_dense\(\)"),
    "a tensor without values": (lambda _: (TENSORS.to("meta"), {}), "with values, got one on the meta device"),
    "a folder without images": (lambda folder: (saved("a.txt", Path.write_text, "x")(folder).parent, {}), "files of .txt"),
    "a zip": (lambda folder: (saved("a.zip", Path.write_bytes, b"PK")(folder), {}), "unpack it to a folder first"),
    "a stream's limit of -1": (lambda _: (iter(PIL_LIST), {"limit": -1}), "limit of at least 1 image, got -1"),
    "a size of no pixels": (lambda _: (COLOUR, {"image_size": (0, 4)}), "at least 1x1 pixels, got 0x4"),
    "a size that no memory holds": (lambda _: (COLOUR, {"image_size": 10**6}), "at most 128 MiB, got 1000000x1000000"),
    "an empty array": (lambda _: (np.zeros((0, 4, 4)), {}), "got an empty array"),
    "a number": (lambda _: (3, {}), "expected images: an array or tensor.*got int"),
    "an endless generator": (lambda _: (iter(PIL_LIST), {}), "limit=NUMBER with a stream"),
    "labels of another length": (lambda _: ((COLOUR, np.arange(2)), {}), "a label for each of 6 images"),
    "a path that is not there": (lambda folder: (folder / "gone", {}), "found neither a file nor a folder"),
    "HDF5": (lambda folder: (saved("a.h5", Path.write_text, "x")(folder), {}), "open it with h5py"),
    "a pickle in .npy": (
        lambda folder: (saved("a.npy", np.save, np.array([{}], object))(folder), {}), "expected an .npy file of numbers",
    ),
    "a broken header in .npy": (
        lambda folder: (saved("a.npy", Path.write_bytes, b"\x93NUMPY\x01\x00\x08\x00{'shape'")(folder), {}),
        "expected an .npy file of numbers",
    ),
    "a folder with nothing but a pipe": (lambda folder: (piped(folder), {}), "a pipe, socket or device, not a file"),
    "a torn TIFF": (lambda folder: (saved("a.tif", Path.write_bytes, b"II*\0")(folder), {}), "expected a TIFF"),
    "a gzipped shard": (lambda folder: (saved("a.tar", Path.write_bytes, b"\x1f\x8b00")(folder), {}), "uncompressed tar"),
}  # fmt: skip
"""Kind -> what is said of it."""


@pytest.mark.parametrize("kind", RIGHT)
def test_right_pixels(kind: str, tmp_path: Path) -> None:
    given, options, expected = RIGHT[kind](tmp_path)
    source = lcmae.images(given, **options)
    assert source.skipped == []
    np.testing.assert_array_equal(source[:].permute(0, 2, 3, 1).numpy(), expected)
    assert len(set(source.paths)) == COUNT
    # at a model's size and channels they are decoded again, from where they lie
    again = source.at((3, 4))
    assert again[:].shape == (COUNT, expected.shape[-1], 3, 4)
    assert again.name == source.name


@pytest.mark.parametrize("kind", WRONG)
def test_one_sentence(kind: str, tmp_path: Path) -> None:
    build, message = WRONG[kind]
    given, options = build(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        lcmae.images(given, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [TWELVE, torch.from_numpy(FLOAT_12 / 16), list(TWELVE)])
def test_a_range_that_is_hardly_used_is_said_and_recorded(given: Any) -> None:
    with pytest.warns(ImagesWarning, match=r"an eighth or less; state theirs, for example --value-range 0:"):
        source = lcmae.images(given)
    assert source.description.notes
    assert source.description.range_from == "the type"
    assert source.description.sampled is not None
    assert source.description.sampled[0] == 0
    assert lcmae.images(given, value_range=(0, 4000)).description.range_from == "stated"


def test_labels_come_along() -> None:
    for given in (Pairs(), (COLOUR, np.arange(COUNT)), torch.utils.data.DataLoader(Pairs())):
        source = lcmae.images(given)
        assert source.labels is not None
        assert source.labels.tolist() == list(range(COUNT))
    named = lcmae.images([{"image": image, "label": "ba"[row % 2]} for row, image in enumerate(PIL_LIST)])
    assert named.label_names == ("a", "b")
    assert named.labels is not None
    assert named.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert lcmae.images(hugging_face(Path())).label_names == tuple("abcdef")
    assert lcmae.images(PIL_LIST).labels is None


@pytest.mark.parametrize(("rows", "is_taken"), [(HEIGHT, True), (2 * HEIGHT, True), (HEIGHT + 3, False)])
def test_a_mask_of_another_part_is_refused(rows: int, is_taken: bool) -> None:
    masks = np.arange(COUNT * rows * WIDTH).reshape(COUNT, rows, WIDTH) % 3
    masks = masks.repeat(2, axis=2) if rows == 2 * HEIGHT else masks
    pairs = [{"image": image, "mask": mask.astype(np.uint8)} for image, mask in zip(PIL_LIST, masks, strict=True)]
    source = lcmae.images(pairs)
    if is_taken:
        step = rows // HEIGHT
        assert source.masks(slice(None)).shape == (COUNT, HEIGHT, WIDTH)
        assert set(source.masks(slice(1)).unique().tolist()) <= {0, 1, 2}
        assert masks.shape == (COUNT, step * HEIGHT, step * WIDTH)
    else:
        with pytest.raises(
            InputError, match=r"its mask cannot be used: expected the image's shape of 5x7 pixels, .* got 8x7"
        ):
            source.masks(slice(None))


def test_masks_of_a_folder_a_column_and_an_array_are_cut_as_the_images_are(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 5, (COUNT, HEIGHT, WIDTH)).astype(np.uint8)
    images = files(tmp_path / "images", COLOUR, save_pil, ".png")
    files(tmp_path / "masks", masks[..., None], save_pil, ".png")
    cells = [{"bytes": png(image), "path": None} for image in COLOUR]
    mask_cells = [{"bytes": png(mask), "path": None} for mask in masks]
    pq.write_table(pa.table({"image": cells, "outline": mask_cells}), tmp_path / "a.parquet")
    pairs = [{"image": image, "mask": mask} for image, mask in zip(PIL_LIST, masks, strict=True)]
    for given, where in (
        (images, str(tmp_path / "masks")),
        (tmp_path / "a.parquet", "outline"),
        ({"images": COLOUR, "masks": masks}, None),
        (pairs, None),
    ):
        source = lcmae.images(given, masks=where)
        assert source.has_masks
        np.testing.assert_array_equal(source.masks(slice(None)).numpy(), masks)
        small = source.at((2, 3)).masks(torch.tensor([3, 0]))
        assert small.shape == (2, 2, 3)
        assert set(small.flatten().tolist()) <= set(range(5))
    with pytest.raises(InputError, match="expected segmentation masks"):
        lcmae.images(PIL_LIST).masks(slice(None))
    (tmp_path / "masks" / "0.png").unlink()
    with pytest.raises(InputError, match=r"expected the mask 0.png of the image .*0.png, found none"):
        lcmae.images(images, masks=tmp_path / "masks")
