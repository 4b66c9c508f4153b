"""`ImageSource.identity`: other images, another order or other labels are another condition; the
usual choice of a data set with a name needs none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lcmae
from lcmae.errors import InputError
from lcmae.probes.reconstruction import Reconstruction
from lcmae.training.train import build_model
from tests.reference.tiny_runs import tiny_config

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)


def test_sets_orders_contents_and_labels_are_told_apart() -> None:
    changed = PIXELS.copy()
    changed[1] = 0  # not among the few images that give an array its name
    sources = [
        lcmae.images(PIXELS),
        lcmae.images(PIXELS, limit=40),  # the same images, shuffled
        lcmae.images(PIXELS, limit=5),
        lcmae.images(PIXELS).first(5),
        lcmae.images(PIXELS[::-1]),
        lcmae.images(changed),
        lcmae.images((PIXELS, np.arange(40) % 2)),
        lcmae.images((PIXELS, np.arange(40) % 3)),
        lcmae.images(PIXELS, split="test"),
    ]
    assert sources[0].name == sources[1].name == sources[5].name
    assert len({source.identity for source in sources}) == len(sources)


def test_the_same_images_are_the_same_whatever_holds_them_and_whatever_size_is_asked_for(tmp_path: Path) -> None:
    assert lcmae.images(PIXELS).identity == lcmae.images(PIXELS.copy()).identity
    assert lcmae.images(PIXELS).identity == lcmae.images(torch.from_numpy(PIXELS)).identity
    source = lcmae.images(PIXELS, limit=7)
    assert source.at(4, 3).identity == source.identity == lcmae.images(PIXELS, limit=9).first(7).identity
    for number in range(3):
        Image.fromarray(PIXELS[number, ..., 0]).save(tmp_path / f"{number}.png")
    held, streamed = (lcmae.images(tmp_path, resident_limit=limit) for limit in (1 << 30, 0))
    assert (held.resident, streamed.resident) == (True, False)
    assert held.identity == streamed.identity
    Image.fromarray(PIXELS[3, ..., 0]).save(tmp_path / "1.png")
    assert lcmae.images(tmp_path).identity != held.identity
    streamed = lcmae.images(tmp_path, resident_limit=0)
    (tmp_path / "2.png").unlink()
    with pytest.raises(InputError, match=r"2\.png: readable when it was checked, now"):
        assert streamed.identity


def test_a_name_is_enough_for_the_usual_choice_alone() -> None:
    assert lcmae.images("digits", limit=9).identity == ""
    whole = lcmae.images("digits").identity
    assert whole
    assert whole != lcmae.images("digits").first(9).identity


def test_probes_keep_orders_apart_and_find_the_same_one_again(tmp_path: Path) -> None:
    model = build_model(tiny_config()).eval()
    wanted = [lcmae.images(PIXELS), lcmae.images(PIXELS, limit=40), lcmae.images(PIXELS)]
    for source in wanted:
        lcmae.probe(model, source, [Reconstruction(num_pictures=0)], out=tmp_path)
    stored = lcmae.results(tmp_path)
    assert len(stored) == 2
    first, second = (entry.attrs for entry in stored.entries)
    assert first["images_sha256"] != second["images_sha256"]
    assert first["image_description"].startswith("array of uint8, 8x8 pixels, 1 bands")
    assert len(stored.figures("reconstruction")) == 2 * len(
        lcmae.probe(model, PIXELS, [Reconstruction(num_pictures=0)]).figures("reconstruction")
    )
