"""Models shared by all sessions, within bounds; images of sources and of uploads; answers by
weights and settings."""

import io
import shutil
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from safetensors.torch import save_file

from lcmae.app.dashboard.components.picks import Picks
from lcmae.app.dashboard.live import models, uploads
from lcmae.app.dashboard.live.cache import Cache
from lcmae.app.dashboard.stored.reading import runs_below
from lcmae.errors import CheckpointError, InputError
from lcmae.probes.watching.views import open_view
from tests.app.trained import published
from tests.conftest import tiny_mae

# --- the cache ---


def cache(**limits: int) -> Cache[str]:
    return Cache(**{"max_bytes": 100, "max_entries": 100, **limits}, size=len)


def test_a_value_is_computed_once():
    found, calls = cache(), []
    for _ in range(3):
        assert found.get("a", lambda: calls.append(1) or "value") == "value"
    assert calls == [1]


def test_bytes_and_number_are_bounded_and_the_oldest_goes_first():
    found = cache(max_bytes=10)
    for name in "abc":
        found.get(name, lambda: "xxxx")
        found.get("a", lambda: pytest.fail("a was used last, so it stays"))
    assert found.find("b") is None
    assert found.find("a") == found.find("c") == "xxxx"
    assert found.num_bytes == 8
    found = cache(max_entries=2)
    for name in "abc":
        found.get(name, lambda: "")
    assert len(found) == 2
    assert found.find("a") is None


def test_the_newest_stays_however_big():
    found = cache(max_bytes=10)
    found.get("a", lambda: "small")
    assert found.get("b", lambda: "x" * 1000) == "x" * 1000
    assert found.find("a") is None
    assert found.find("b") is not None
    found.get("c", lambda: "small")
    assert found.num_bytes == 5


def test_a_failure_is_not_cache():
    found = cache()
    with pytest.raises(InputError, match="no"):
        found.get("a", lambda: (_ for _ in ()).throw(InputError("no")))
    assert found.get("a", lambda: "yes") == "yes"
    assert len(found) == 1


def test_of_threads_that_ask_at_once_one_computes():
    found, calls, start = cache(), [], threading.Barrier(8)

    def ask(_: int) -> str:
        start.wait(10)
        return found.get("a", slow)

    def slow() -> str:
        calls.append(1)
        time.sleep(0.05)
        return "value"

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["value"] * 8
    assert calls == [1]


# --- checkpoints ---


def picks(root: Path, *names: str, step: int | None = None) -> Picks:
    return Picks(root, runs_below(root), list(names), step)


def test_names_are_the_picked_runs_then_the_others_then_files(tmp_path: Path):
    for name in ("a", "b", "c"):
        published(tmp_path / name, steps=(10,))
    save_file(tiny_mae().state_dict(), tmp_path / "other.safetensors")
    assert models.names(picks(tmp_path, "c")) == ["c", "a", "b", "other.safetensors"]


def test_a_place_is_the_step_asked_for_else_that_of_the_side_bar_else_the_newest(tmp_path: Path):
    published(tmp_path / "a")
    published(tmp_path / "empty", steps=())
    assert models.locate(picks(tmp_path), "a").step == 20
    assert models.locate(picks(tmp_path, step=10), "a").step == 10
    assert models.locate(picks(tmp_path, step=15), "a").step == 20
    assert models.locate(picks(tmp_path, step=20), "a", 10).path == tmp_path / "a" / "checkpoints" / "000010"
    with pytest.raises(InputError, match="no step 15"):
        models.locate(picks(tmp_path), "a", 15)
    with pytest.raises(InputError, match="no checkpoint yet"):
        models.locate(picks(tmp_path), "empty")


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "missing", "a\0b"])
def test_no_path_leads_out_of_the_root(tmp_path: Path, name: str):
    (tmp_path / "root").mkdir()
    save_file(tiny_mae().state_dict(), tmp_path / "outside.safetensors")
    with pytest.raises(CheckpointError, match="expected a checkpoint below"):
        models.locate(picks(tmp_path / "root"), name)


def test_a_model_is_loaded_once_and_again_when_its_file_changes(tmp_path: Path):
    published(tmp_path / "a")
    first = models.load(models.locate(picks(tmp_path), "a"))
    assert models.load(models.locate(picks(tmp_path), "a")) is first
    assert (first.encoder, first.decoder, first.data) == ((2, 2), (1, 2), "digits")
    assert first.location.label == "a, step 20"
    assert not any(parameter.requires_grad for parameter in first.model.parameters())
    assert not first.model.training
    second = models.load(models.locate(picks(tmp_path), "a", 10))
    assert second.key != first.key
    assert second.sha256 != first.sha256


def test_the_same_weights_and_settings_have_one_key_wherever_they_lie(tmp_path: Path):
    published(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    keys = {models.load(models.locate(picks(tmp_path), name)).key for name in "ab"}
    assert len(keys) == 1


def test_a_torn_checkpoint_is_one_sentence(tmp_path: Path):
    published(tmp_path / "a", steps=(10,))
    file = tmp_path / "a" / "checkpoints" / "000010" / "model.safetensors"
    location = models.locate(picks(tmp_path), "a")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="sha256") as caught:
        models.load(location)
    assert "\n" not in str(caught.value)


def test_a_deleted_checkpoint_is_one_sentence(tmp_path: Path):
    published(tmp_path / "a", steps=(10,))
    location = models.locate(picks(tmp_path), "a")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(InputError, match="expected") as caught:
        models.load(location)
    assert "\n" not in str(caught.value)


# --- images ---


@pytest.fixture
def loaded(tmp_path: Path) -> models.Loaded:
    published(tmp_path / "a", steps=(10,))
    return models.load(models.locate(picks(tmp_path), "a"))


def test_images_are_those_of_the_batch_command_in_its_order(loaded: models.Loaded):
    view = open_view(loaded.model, "digits", split="test", limit=20)
    for index in (0, 7, 19):
        picture = models.picture(loaded, "digits", "test", index)
        assert (loaded.model.prepare(picture.pixels) == view[index : index + 1]).all()
        assert picture.index == index
        assert picture.name.startswith("digits#")
        assert picture.label == str(int(view.labels[index]))  # pyright: ignore[reportOptionalSubscript]
    assert models.num_images(loaded, "digits", "test") == 360


def test_pictures_have_the_key_of_their_pixels(loaded: models.Loaded):
    keys = [models.picture(loaded, "digits", "test", index).key for index in (0, 1, 0)]
    assert keys[0] == keys[2] != keys[1]


def test_sources_and_images_that_are_not_there(loaded: models.Loaded):
    with pytest.raises(InputError, match="expected data out of digits"):
        models.picture(loaded, "folder:/etc", "test", 0)
    with pytest.raises(InputError, match="from 0 to 359 of digits, got 360"):
        models.picture(loaded, "digits", "test", 360)


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_an_upload_of_any_mode_becomes_an_image_of_the_model(loaded: models.Loaded, mode: str):
    deep = Image.fromarray(np.full((30, 20), 65535, np.uint16))
    image = deep if mode == "I;16" else Image.new("L", (20, 30), 255).convert(mode)
    name = uploads.keep(file_of(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert uploads.is_stored(name)
    picture = models.uploaded(loaded, name)
    assert picture.pixels.shape == (1, 1, 8, 8)
    assert (picture.pixels == 255).all()
    assert picture.index == 0


def test_uploads_that_are_refused(loaded: models.Loaded, monkeypatch: pytest.MonkeyPatch):
    whole = file_of(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)))
    for file, words in ((b"", "image file"), (b"<svg/>", "image file"), (whole[:200], "cannot be read")):
        with pytest.raises(InputError, match=words) as caught:
            models.uploaded(loaded, uploads.keep(file))
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(uploads, "MAX_PIXELS", 1599)
    with pytest.raises(InputError, match="at most 1,599 pixels, got 40x40"):
        models.uploaded(loaded, uploads.keep(whole))
    monkeypatch.setattr(uploads, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="at most"):
        uploads.keep(whole)
    with pytest.raises(InputError, match="no longer kept"):
        models.uploaded(loaded, "0" * 64)


def test_an_upload_is_decoded_once_for_each_size(loaded: models.Loaded, monkeypatch: pytest.MonkeyPatch):
    decoded: list[tuple[int, ...]] = []
    decode = uploads._decoded

    def counted(file: bytes, *shape: int) -> np.ndarray:
        decoded.append(shape)
        return decode(file, *shape)

    monkeypatch.setattr(uploads, "_decoded", counted)
    name = uploads.keep(file_of(Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 40), np.uint8))))
    first, second = models.uploaded(loaded, name), models.uploaded(loaded, name)
    assert decoded == [(8, 8, 1)]
    assert first.pixels.equal(second.pixels)
    assert uploads.pixels(name, 4, 4, 3).shape == (3, 4, 4)
    assert decoded == [(8, 8, 1), (4, 4, 3)]
    with pytest.raises(ValueError, match="read-only"):
        uploads.pixels(name, 4, 4, 3)[:] = 0


def test_a_bomb_is_refused_by_its_header(loaded: models.Loaded):
    """A 10 kB PNG that says 20,000 x 20,000 pixels: refused before a row is decoded."""
    small = bytearray(file_of(Image.new("L", (8, 8))))
    small[16:24] = (20_000).to_bytes(4, "big") * 2
    small[29:33] = zlib.crc32(bytes(small[12:29])).to_bytes(4, "big")
    with pytest.raises(InputError, match="expected an image"):
        models.uploaded(loaded, uploads.keep(bytes(small)))


# --- answers ---


def test_answers_are_computed_once_for_all_files_of_the_same_weights(loaded: models.Loaded):
    calls = []

    def compute() -> xr.Dataset:
        calls.append(1)
        return xr.Dataset({"x": 1.0})

    for settings in ((1, "a"), (1, "a"), (2, "a")):
        assert float(models.answer(loaded, "test_live", settings, compute)["x"]) == 1.0
    assert len(calls) == 2


def test_one_computation_runs_at_a_time(loaded: models.Loaded):
    running: list[int] = []

    def compute() -> xr.Dataset:
        running.append(1)
        assert len(running) == 1
        time.sleep(0.01)
        running.pop()
        return xr.Dataset()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: models.answer(loaded, "alone", number, compute), range(8)))


def test_what_is_shown_is_drawn_once(loaded: models.Loaded):
    @dataclass
    class Drawn:
        num_bytes: int = 1

    first = models.view(loaded, "test_live", (1, "a"), Drawn)
    assert models.view(loaded, "test_live", (1, "a"), lambda: pytest.fail("it is there")) is first
    assert models.view(loaded, "test_live", (2, "a"), Drawn) is not first


def test_strategies_are_checked_against_the_grid():
    assert models.strategy("random", 0.5, (4, 4)).ratio == 0.5
    with pytest.raises(InputError, match="leaves 0 of the 4"):
        models.strategy("random", 0.9, (2, 2))
    with pytest.raises(InputError, match="expected a mask out of"):
        models.strategy("attention?", 0.5, (4, 4))
