"""Every kind of image file: what becomes of it, or the reason why it is not used."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcmae.data.decode import Decoder, Unreadable


@pytest.fixture
def values() -> np.ndarray:
    """A smooth colour picture 6 high and 8 wide: JPEG keeps it to a few steps."""
    down, along = np.mgrid[0:6, 0:8]
    return np.stack([20 * down, 20 * along, 10 * (down + along)], -1).astype(np.uint8)


def encoded(image: Any, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("L"))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_an_image_of_the_asked_size_is_untouched(values: np.ndarray, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = Decoder(6, 8, 3)(encoded(Image.fromarray(values), kind, **options))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, values.transpose(2, 0, 1))


def test_path_bytes_and_open_image_give_the_same(values: np.ndarray, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(values), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    decoder = Decoder(3, 5, 3)
    np.testing.assert_array_equal(decoder(tmp_path / "a.png"), decoder(data))
    np.testing.assert_array_equal(decoder(Image.fromarray(values)), decoder(data))


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma(values: np.ndarray) -> None:
    plane = values[..., 1]
    np.testing.assert_array_equal(Decoder(6, 8, 3)(encoded(Image.fromarray(plane), "PNG")), np.stack([plane] * 3))
    luma = Decoder(6, 8, 1)(encoded(Image.fromarray(values), "PNG"))[0]
    weighed = values @ np.array([0.299, 0.587, 0.114])  # ITU-R 601, the definition
    assert np.abs(luma - weighed).max() <= 1


def test_bilevel(values: np.ndarray) -> None:
    bits = values[..., 0] > 40
    pixels = Decoder(6, 8, 1)(encoded(Image.fromarray(bits), "PNG"))[0]
    np.testing.assert_array_equal(pixels, 255 * bits)


def test_palette(values: np.ndarray) -> None:
    flat = np.where(values[..., :1] > 40, [255, 0, 0], [0, 0, 255]).astype(np.uint8)
    image = Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(Decoder(6, 8, 3)(encoded(image, "PNG")), flat.transpose(2, 0, 1))


def test_transparency_shows_white_and_alpha_is_kept_when_asked_for(values: np.ndarray) -> None:
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:, 4:] = 255
    data = encoded(Image.fromarray(np.dstack([values, alpha])), "PNG")
    colour = Decoder(6, 8, 3)(data)
    assert (colour[:, :, :4] == 255).all()
    np.testing.assert_array_equal(colour[:, :, 4:], values[:, 4:].transpose(2, 0, 1))
    assert (Decoder(6, 8, 1)(data)[:, :, :4] == 255).all()
    both = Decoder(6, 8, 4)(data)
    np.testing.assert_array_equal(both[3], alpha)
    np.testing.assert_array_equal(both[:3, :, 4:], values[:, 4:].transpose(2, 0, 1))
    np.testing.assert_array_equal(Decoder(6, 8, 2)(data)[1], alpha)


def test_a_transparent_palette_colour_shows_white() -> None:
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) % 2, "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    pixels = Decoder(6, 8, 3)(encoded(image, "GIF", transparency=0))
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 0, 1].tolist() == [200, 100, 50]


def test_an_opaque_image_gets_full_alpha(values: np.ndarray) -> None:
    pixels = Decoder(6, 8, 4)(encoded(Image.fromarray(values), "PNG"))
    assert (pixels[3] == 255).all()
    np.testing.assert_array_equal(pixels[:3], values.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_cmyk(values: np.ndarray, channels: int) -> None:
    image = Image.fromarray(values).convert("CMYK")
    pixels = Decoder(6, 8, channels)(encoded(image, "TIFF")).astype(int)
    expected = values.transpose(2, 0, 1) if channels > 2 else grey(values)[None]
    assert np.abs(pixels[: len(expected)] - expected).max() <= 2  # rounding there and back
    # in a JPEG the blocks of 8x8 pixels are not exact
    jpeg = Decoder(6, 8, channels)(encoded(image, "JPEG", quality=100)).astype(int)
    assert np.abs(jpeg[: len(expected)] - expected).max() <= 8


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    exact = np.arange(48, dtype=np.uint16).reshape(6, 8) * 5
    pixels = Decoder(6, 8, 1)(encoded(Image.fromarray(exact * 257), "PNG"))[0]
    np.testing.assert_array_equal(pixels, exact)
    pixels = Decoder(6, 8, 3)(encoded(Image.fromarray(exact * 257), "TIFF"))
    np.testing.assert_array_equal(pixels, np.stack([exact] * 3))
    between = np.random.default_rng(0).integers(0, 65536, (6, 8), np.uint16)
    pixels = Decoder(6, 8, 1)(encoded(Image.fromarray(between), "PNG"))[0]
    np.testing.assert_array_equal(pixels, np.round(between / 257))


def test_sixteen_bit_colour_is_scaled() -> None:
    values = (np.arange(48 * 3, dtype=np.uint16) * 257).reshape(6, 8, 3)
    pixels = Decoder(6, 8, 3)(png_of_16_bit_colour(values))
    np.testing.assert_array_equal(pixels, (values // 257).transpose(2, 0, 1))


def png_of_16_bit_colour(values: np.ndarray) -> bytes:
    """Written by hand (PNG, section 11.2), because Pillow reads such files but does not write
    them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_wide_integers_have_no_scale() -> None:
    image = Image.fromarray(np.full((6, 8), 70000, np.int32))
    with pytest.raises(Unreadable, match=r"from 70000 to 70000 have no range of their own; .*--value-range"):
        Decoder(6, 8, 1)(encoded(image, "TIFF"))


def test_float_images_are_shares_of_white() -> None:
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    pixels = Decoder(6, 8, 1)(encoded(Image.fromarray(values), "TIFF"))[0]
    np.testing.assert_array_equal(pixels, np.round(values * 255))


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, "not finite"), (np.inf, "not finite"), (37.5, "float pixels from 0 to 1")]
)
def test_float_images_without_meaning(value: float, reason: str) -> None:
    values = np.zeros((6, 8), np.float32)
    values[2, 3] = value
    with pytest.raises(Unreadable, match=reason):
        Decoder(6, 8, 3)(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(values: np.ndarray, orientation: int) -> None:
    # what the camera stored -> what the photographer saw (EXIF 2.3, tag 0x0112)
    upright = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.swapaxes(0, 1),
        6: np.rot90(values, -1),
        7: values[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(values, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(values), "PNG", exif=exif)
    height, width = upright.shape[:2]
    pixels = Decoder(height, width, 3)(data)
    np.testing.assert_array_equal(pixels, upright.transpose(2, 0, 1))


def test_one_pixel_fills_the_image() -> None:
    pixels = Decoder(4, 6, 3)(encoded(Image.new("RGB", (1, 1), (7, 80, 200)), "PNG"))
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.array([7, 80, 200])[:, None, None], (3, 4, 6)))


def test_the_centre_of_the_longer_side_is_kept() -> None:
    wide = np.zeros((10, 50, 3), np.uint8)
    wide[:, 20:30] = 255  # the central square, and nothing else, is white
    assert (Decoder(10, 10, 3)(encoded(Image.fromarray(wide), "PNG")) == 255).all()
    assert (Decoder(10, 10, 3)(encoded(Image.fromarray(wide.swapaxes(0, 1)), "PNG")) == 255).all()


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    pixels = Decoder(8, 8, 1)(encoded(Image.fromarray(stripes), "PNG")).astype(int)
    assert np.abs(pixels - 127).max() < 16  # picking pixels instead would give 0 or 255


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    pixels = Decoder(6, 8, 3)(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]


def test_a_decompression_bomb_is_refused_before_it_unfolds(values: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(Unreadable, match=r"48 pixels|8x6 pixels"):
        Decoder(6, 8, 3)(encoded(Image.fromarray(values), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow itself refuses twice as many
    with pytest.raises(Unreadable, match="bomb"):
        Decoder(6, 8, 3)(encoded(Image.fromarray(values), "PNG"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_a_truncated_file_is_unreadable(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    for length in (len(data) * 2 // 3, 20):
        with pytest.raises(Unreadable) as error:
            Decoder(40, 40, 3)(data[:length])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty file"), (b"<html>not found</html>", "not an image")])
def test_what_is_no_image(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    for file in (data, tmp_path / "a.jpg"):
        with pytest.raises(Unreadable, match=reason):
            Decoder(6, 8, 3)(file)


def test_a_file_that_vanished(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        Decoder(6, 8, 3)(tmp_path / "gone.png")
