"""What an image file may cost: formats by list, bounded memory, and large images that keep their
look."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from lcmae.data.decode import Decoder, Unreadable
from lcmae.data.kinds import SUFFIXES
from lcmae.data.large import FORMATS

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"

PEAK = """
import resource, sys
from pathlib import Path
from PIL import Image
import numpy
from lcmae.data.decode import Decoder, Unreadable
Image.init()
decoder = Decoder(224, 224, 3)
noise = numpy.zeros((300, 300, 3), numpy.uint8)
decoder(Image.fromarray(noise))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(decoder(Path(sys.argv[1])).shape)
except Unreadable as error:
    print("refused:", error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""

SIDE = 8_900


def _write(path: Path, kind: str) -> None:
    match kind:
        case "16-bit PNG":
            Image.new("I;16", (8_000, 8_000), 300).save(path, "PNG")
        case "palette with alpha":
            image = Image.new("P", (SIDE, SIDE), 1)
            image.putpalette([0, 0, 0, 200, 10, 20])
            image.save(path, "PNG", transparency=bytes([0, 128]))
        case "palette too large for its colours" | "RGB" | "grey" | "bilevel":
            mode = {"RGB": "RGB", "grey": "L", "bilevel": "1"}.get(kind, "P")
            side = 5_700 if mode == "RGB" else SIDE
            Image.new(mode, (side, side)).save(path, "PNG")
        case "CMYK":
            Image.new("CMYK", (5_600, 5_600)).save(path, "JPEG")
        case "JPEG turned by EXIF":
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.new("RGB", (5_700, 5_700)).save(path, "JPEG", exif=exif)
        case "progressive JPEG":
            Image.new("RGB", (3_500, 3_500)).save(path, "JPEG", progressive=True, subsampling=0)
        case "WebP":
            Image.new("RGBA", (2_880, 2_880), (9, 9, 9, 9)).save(path, "WEBP", lossless=True)
        case "AVIF":
            Image.new("RGB", (2_560, 2_560)).save(path, "AVIF", speed=10)
        case "JPEG2000":
            Image.new("RGB", (2_560, 2_560)).save(path, "JPEG2000")
        case "TIFF in one strip":
            Image.new("RGB", (4_000, 4_000)).save(path, "TIFF", compression="tiff_deflate", strip_size=1 << 30)
        case "a long strip":
            Image.new("P", (400, 150_000)).save(path, "PNG", transparency=0)


KINDS = (
    "16-bit PNG",
    "palette with alpha",
    "palette too large for its colours",
    "RGB",
    "grey",
    "bilevel",
    "CMYK",
    "JPEG turned by EXIF",
    "progressive JPEG",
    "WebP",
    "AVIF",
    "JPEG2000",
    "TIFF in one strip",
    "a long strip",
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_accepted_file_takes_200_mib(kind: str, tmp_path: Path) -> None:
    """The largest that is accepted of each kind, decoded by a process of its own."""
    _write(tmp_path / "a.img", kind)
    command = [sys.executable, "-P", "-c", PEAK, str(tmp_path / "a.img")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, peak = done.stdout.splitlines()
    assert said == "(3, 224, 224)"
    assert int(peak) < 200


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16", "LA", "CMYK", "1", "F"])
def test_a_large_image_looks_like_the_whole_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduced in strips before it is converted, it is the picture that was converted whole."""
    import lcmae.data.large

    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    values = np.stack([np.tile(ramp, (48, 1)), np.tile(ramp[::-1], (48, 1)), np.tile(ramp[:48, None], (1, 64))], -1)
    image = Image.fromarray(values).resize((640, 480))
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.float32) / 255)
    elif mode == "P":
        image = image.quantize(64)
    else:
        image = image.convert(mode)
    whole = Decoder(24, 32, 3)(image.copy()).astype(int)
    monkeypatch.setattr(lcmae.data.large, "LARGE", 1000)
    monkeypatch.setattr(lcmae.data.large, "STRIP", 6400)
    reduced = Decoder(24, 32, 3)(image.copy()).astype(int)
    # means of blocks before a bicubic filter: a few levels, away from the edges of a dither
    assert np.abs(whole - reduced).mean() < 2


def test_a_large_image_is_turned_as_exif_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import lcmae.data.large

    values = np.zeros((400, 600, 3), np.uint8)
    values[:200] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    Image.fromarray(values).save(file, "PNG", exif=exif)
    whole = Decoder(48, 32, 3)(file.getvalue()).astype(int)
    assert (
        np.abs(
            whole - np.asarray(ImageOps.fit(Image.fromarray(np.rot90(values, -1)), (32, 48))).transpose(2, 0, 1)
        ).mean()
        < 3
    )
    monkeypatch.setattr(lcmae.data.large, "LARGE", 1000)
    reduced = Decoder(48, 32, 3)(file.getvalue()).astype(int)
    assert np.abs(whole - reduced).mean() < 3


@pytest.mark.parametrize(("mode", "size", "kind"), [("RGB", (6_000, 6_000), "PNG"), ("RGBA", (4_000, 4_000), "WEBP")])
def test_what_costs_too_much_is_refused_before_it_is_decoded(mode: str, size: Any, kind: str) -> None:
    image = Image.new(mode, size)
    image.format = kind
    with pytest.raises(Unreadable, match="MiB, of at most 128"):
        Decoder(8, 8, 3)(image)


def test_no_program_is_started_for_a_file_of_another_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS that is called cat.png: Pillow would start Ghostscript, if it were asked to guess."""
    started = []
    monkeypatch.setattr(subprocess, "check_call", lambda *args, **_: started.append(args))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    (tmp_path / "cat.png").write_bytes(POSTSCRIPT)
    for file in (tmp_path / "cat.png", POSTSCRIPT):
        with pytest.raises(Unreadable, match="not an image format"):
            Decoder(8, 8, 3)(file)
    assert not started


def test_formats_are_those_that_the_suffixes_promise() -> None:
    Image.init()
    promised = {Image.EXTENSION[suffix] for suffix in SUFFIXES}
    assert promised <= set(FORMATS)
    # beside them only what the same suffixes hide: a bitmap without its head
    assert set(FORMATS) - promised == {"DIB"}


def test_pillow_is_not_older_than_its_holes() -> None:
    import PIL

    assert tuple(map(int, PIL.__version__.split(".")[:2])) >= (12, 2)
