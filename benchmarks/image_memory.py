"""Memory that the largest accepted image of each kind takes: the table of docs/images.md.

    python -P benchmarks/image_memory.py [KIND...]

Each kind of file is written at about the largest size that is accepted, twice into a folder, and
`lcmae.images` opens the folder at 224 x 224 pixels in a process of its own: a look at both, then
both are decoded. Printed is how far that process rose above what it held before. Linux, whose
kernel counts it.
"""

import os
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

import lcmae
from lcmae.errors import InputError
from tests.reference.dicom import write_dicom

BOUND = 200
"""MiB above base that no accepted file may reach."""

Write = Callable[[Path], None]


def drawn(mode: str, side: int, kind: str, **options: Any) -> Write:
    """By Pillow, of one colour: what is decoded is large whatever the file is."""

    def write(path: Path) -> None:
        colour = {"I;16": 30_000, "F": 0.5}.get(mode, 100 if mode in ("L", "P", "1") else (100,) * len(mode))
        image = Image.new(mode, (side, side), colour)
        if mode == "P":
            image.putpalette([90, 90, 90, 200, 10, 20] * 100)
        if options.get("save_all"):
            options["append_images"] = [Image.new(mode, (side, side)) for _ in range(2)]
        image.save(path, kind, **options)

    return write


def turned(mode: str, side: int, kind: str) -> Write:
    exif = Image.Exif()
    exif[0x0112] = 6
    return drawn(mode, side, kind, exif=exif)


def deep_png(side: int) -> Write:
    """16-bit colour, which Pillow reads and does not write."""

    def write(path: Path) -> None:
        def chunk(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        packer = zlib.compressobj(1)
        rows = [packer.compress(b"\0" + b"\x40\0" * 3 * side) for _ in range(side)]
        header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
        content = chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(rows) + packer.flush()) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)

    return write


def tiff(shape: tuple[int, ...], dtype: str = "uint16", **options: Any) -> Write:
    def write(path: Path) -> None:
        import tifffile

        values = np.full(shape, {"uint8": 100, "float32": 0.5}.get(dtype, 30_000), dtype)
        usual = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}
        tifffile.imwrite(path, values, **{**usual, **options})

    return write


def dicom(side: int, **header: Any) -> Write:
    def write(path: Path) -> None:
        write_dicom(path, np.full((side, side), 900), **header)

    return write


def npy(shape: tuple[int, ...]) -> Write:
    return lambda path: np.save(path, np.full(shape, 300, np.uint16))


KINDS: dict[str, tuple[str, Write]] = {
    "PNG, grey": ("9450 x 9450", drawn("L", 9_450, "PNG")),
    "PNG, bilevel": ("9450 x 9450", drawn("1", 9_450, "PNG")),
    "PNG, 16 bits": ("8190 x 8190", drawn("I;16", 8_190, "PNG")),
    "PNG, 16-bit colour": ("5790 x 5790", deep_png(5_790)),
    "PNG, palette with alpha": ("9450 x 9450", drawn("P", 9_450, "PNG", transparency=bytes([0, 128]))),
    "PNG, colour with alpha": ("5790 x 5790", drawn("RGBA", 5_790, "PNG")),
    "JPEG, grey": ("9450 x 9450", drawn("L", 9_450, "JPEG")),
    "JPEG, colour": ("5790 x 5790", drawn("RGB", 5_790, "JPEG")),
    "JPEG, turned by EXIF": ("5790 x 5790", turned("RGB", 5_790, "JPEG")),
    "JPEG, CMYK": ("5790 x 5790", drawn("CMYK", 5_790, "JPEG")),
    "JPEG, progressive": ("3660 x 3660", drawn("RGB", 3_660, "JPEG", progressive=True, subsampling=0)),
    "JPEG, progressive CMYK": ("3340 x 3340", drawn("CMYK", 3_340, "JPEG", progressive=True, subsampling=0)),
    "GIF, animated": ("9450 x 9450", drawn("P", 9_450, "GIF", save_all=True)),
    "WebP": ("2890 x 2890", drawn("RGBA", 2_890, "WEBP", lossless=True)),
    "WebP, animated": ("2890 x 2890", drawn("RGB", 2_890, "WEBP", save_all=True)),
    "AVIF": ("2590 x 2590", drawn("RGB", 2_590, "AVIF", speed=10)),
    "JPEG 2000": ("2590 x 2590", drawn("RGB", 2_590, "JPEG2000")),
    "BMP": ("5790 x 5790", drawn("RGB", 5_790, "BMP")),
    "TIFF, tiles": ("4090 x 4090", tiff((4_090, 4_090, 3), "uint8", photometric="rgb", tile=(256, 256))),
    "TIFF, one strip": ("4090 x 4090", drawn("RGB", 4_090, "TIFF", compression="tiff_deflate", strip_size=1 << 30)),
    "TIFF, 16 bits": ("4720 x 4720", tiff((4_720, 4_720))),
    "TIFF, floats": ("4090 x 4090", tiff((4_090, 4_090), "float32")),
    "TIFF, 16-bit colour, tiles": ("4700 x 4700", tiff((4_700, 4_700, 3), photometric="rgb", tile=(256, 256))),
    "TIFF, 12 bands, rows": ("2340 x 2340", tiff((2_340, 2_340, 12), rowsperstrip=8)),
    "TIFF, 12 bands, one strip": ("1360 x 1360", tiff((1_360, 1_360, 12), rowsperstrip=10**6)),
    "TIFF, 12 bands, planes": ("2340 x 2340", tiff((12, 2_340, 2_340), planarconfig="separate", rowsperstrip=8)),
    "DICOM, 16 bits": ("5790 x 5790", dicom(5_790, WindowCenter=900, WindowWidth=1800)),
    "DICOM, Hounsfield units": ("4720 x 4720", dicom(4_720, RescaleSlope=1, RescaleIntercept=-1024)),
    ".npy, 12 bands": ("2360 x 2360", npy((2_360, 2_360, 12))),
}
"""Kind -> size in words, and what writes it."""

SUFFIXES = {"JPEG 2000": ".jp2", ".npy": ".npy", "DICOM": ".dcm"}


def peak_of(kind: str) -> tuple[int, float, str]:
    """MiB above base, seconds, and what was said."""
    _, write = KINDS[kind]
    first = kind.partition(",")[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        folder.mkdir()
        file = folder / f"a{SUFFIXES.get(first, f'.{first.lower()}')}"
        _in_child(lambda: write(file) or "")
        shutil.copy(file, folder / f"b{file.suffix}")
        return _measured(folder)


def _measured(folder: Path) -> tuple[int, float, str]:
    def read() -> str:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before, begin = _status("VmRSS"), time.monotonic()
        try:
            source = lcmae.images(folder, image_size=224)
            assert len(source) == 2, source.skipped
            said = ""
        except (InputError, AssertionError) as error:
            said = " ".join(str(error).split())
        return f"{(_status('VmHWM') - before) >> 10}\n{time.monotonic() - begin}\n{said}"

    peak, seconds, said = _in_child(read).split("\n", 2)
    return int(peak), float(seconds), said


def _in_child(work: Callable[[], str]) -> str:
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(readable)
            os.write(writable, work().encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writable)
    with os.fdopen(readable, "rb") as words:
        said = words.read().decode()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the process ended with {status}")
    return said


def _status(name: str) -> int:
    """KiB, as the kernel counts them for this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0])


def main(kinds: list[str]) -> int:
    import pydicom.pixels  # noqa: F401 - what readers import lies in the base
    import tifffile
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    Image.init()
    with tempfile.TemporaryDirectory() as name:
        Image.new("RGB", (300, 300)).save(Path(name) / "a.png")
        tifffile.imwrite(
            Path(name) / "b.tif", np.zeros((8, 8, 12), np.uint16), photometric="minisblack", compression="zlib"
        )
        lcmae.images(Path(name), image_size=224)
    print("| largest file of its kind | pixels | MiB above base | s |\n|---|---|---|---|")
    code = 0
    for kind in kinds or KINDS:
        peak, seconds, said = peak_of(kind)
        print(f"| {kind} | {KINDS[kind][0]} | {peak} | {seconds:.1f} |{f' {said}' if said else ''}", flush=True)
        code |= bool(said) or peak >= BOUND
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
