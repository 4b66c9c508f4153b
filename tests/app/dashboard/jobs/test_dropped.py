"""Images that people drop: their pixels alone are written, within bounds, in a folder that goes
with the server."""

import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lcmae.app.dashboard.jobs import dropped
from lcmae.app.dashboard.jobs.dropped import Store, as_png
from lcmae.data import open_source
from lcmae.data.decode import Decoder
from lcmae.data.names import lasting
from lcmae.errors import InputError
from tests.reference.image_files import picture, png, refused

GREY16 = Image.fromarray(np.linspace(0, 65535, 80, dtype=np.uint16).reshape(8, 10))


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def store() -> Iterator[Store]:
    found = Store()
    yield found
    found.close()


@pytest.mark.parametrize(
    "file",
    [
        png(0),
        file_of(picture(1), "JPEG"),
        file_of(picture(1).convert("CMYK"), "JPEG"),
        file_of(picture(2).convert("L"), "PNG"),
        file_of(picture(2).convert("1"), "PNG"),
        file_of(picture(3).convert("LA"), "PNG"),
        file_of(picture(4).convert("P"), "PNG", transparency=3),
        file_of(picture(5).convert("RGBA"), "WEBP", lossless=True),
        file_of(picture(6), "GIF"),
        file_of(picture(7), "TIFF"),
        file_of(GREY16, "PNG"),
        file_of(GREY16, "TIFF"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_file(file: bytes, channels: int) -> None:
    decoder = Decoder(7, 9, channels)
    np.testing.assert_array_equal(decoder(as_png(file)), decoder(file))


def test_nothing_but_pixels_is_kept() -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text("comment", "at home, 52.1 N")
    exif = Image.Exif()
    exif[0x010E] = "at home, 52.1 N"
    file = file_of(picture(0), "PNG", pnginfo=about, exif=exif, icc_profile=b"at home, 52.1 N")
    assert b"at home" in file
    written = as_png(file)
    assert b"at home" not in written
    with Image.open(BytesIO(written)) as image:
        assert image.info == {}


def test_a_large_image_is_made_smaller() -> None:
    written = as_png(file_of(Image.new("RGB", (3000, 2400), "red"), "PNG"))
    with Image.open(BytesIO(written)) as image:
        assert image.size == (1500, 1200)
        assert image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (b"", "empty file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image format"),
        (png(0)[:60], "cannot be read"),
        (b"x" * (dropped.MOST_FILE + 1), "at most 20 MiB"),
        (file_of(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "got float32 of 1 bands.*--data FOLDER"),
    ],
)
def test_what_is_no_image_is_refused(file: bytes, why: str, store: Store) -> None:
    with pytest.raises(InputError, match=why) as error:
        store.add(None, file, "a.png")
    assert "\n" not in str(error.value)


def test_a_set_grows_and_is_named_by_its_content(store: Store) -> None:
    first = store.add(None, png(0), "../../etc/pass wd.png")
    both = store.add(first, png(1), "<b>.png")
    assert [name for name, _ in both.files] == ["000-pass-wd.png", "001-b.png"]
    assert sorted(path.name for path in both.folder.iterdir()) == ["000-pass-wd.png", "001-b.png"]
    assert both.folder.stat().st_mode & 0o077 == 0, "nobody else reads them"
    assert store.add(both, png(0), "again.png") == both
    assert Store.add(store, store.add(None, png(0), "other.png"), png(1), "name.png").folder == both.folder
    source = open_source(both.data, split="all", image_size=(8, 10))
    np.testing.assert_array_equal(source.pixels[1].permute(1, 2, 0).numpy(), np.asarray(picture(1)))
    assert source.description.container == "dropped"


def test_a_set_goes_and_its_name_says_so(store: Store) -> None:
    found = store.add(None, png(0), "a.png")
    store.close()
    assert not found.folder.exists()
    assert not found.folder.parent.exists()
    assert lasting(found.data) == f"dropped:{found.folder.name}"
    for name in (found.data, lasting(found.data)):
        refused("dropped on a dashboard .*drop them again, or give their folder", name)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "MOST_IMAGES", 2)
    monkeypatch.setattr(dropped, "MOST_SETS", 3)
    used: set[Path] = set()
    size = len(as_png(png(0)))
    store = Store(used.__contains__, most_bytes=4 * size)
    one = store.add(None, png(0), "")
    two = store.add(one, png(1), "")
    with pytest.raises(InputError, match="at most 2 images"):
        store.add(two, png(2), "")
    used.add(two.folder)
    others = [store.add(None, png(number), "") for number in (3, 4, 5)]
    assert not store.has(one), "what grew into another goes first"
    assert store.has(two), "a job reads it"
    assert not others[0].folder.exists()
    used |= {one.folder for one in others}
    with pytest.raises(InputError, match="MiB of dropped images on this server"):
        store.add(None, png(6), "")
    store.close()


def test_folders_of_servers_that_were_killed_go(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stray, foreign = tmp_path / f"lcmae-dropped-{ended.pid}-abc", tmp_path / "lcmae-dropped-notes"
    for folder in (stray, foreign):
        folder.mkdir()
    (tmp_path / f"lcmae-dropped-{ended.pid}-link").symlink_to(foreign)
    dropped.sweep_dead(tmp_path)
    assert not stray.exists()
    assert foreign.exists()


def test_dropping_imports_no_torch() -> None:
    script = (
        "import sys; from lcmae.app.dashboard.jobs.dropped import as_png; as_png(sys.stdin.buffer.read());"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=png(0), capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == b"False"
