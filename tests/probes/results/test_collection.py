"""`lcmae.probe` and `lcmae.results`: one object with its table, its figures and its differences."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lcmae
from lcmae.errors import InputError
from lcmae.probes.reconstruction import Reconstruction
from lcmae.probes.results.collection import COLUMNS, Results
from lcmae.training.train import build_model
from tests.reference.tiny_runs import tiny_config, tiny_run

PROBES = ["reconstruction", "local_contrast"]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def found(pixels: np.ndarray) -> Results:
    models = {name: build_model(tiny_config(seed=seed)).eval() for seed, name in enumerate(("a", "b"))}
    return lcmae.probe(models, pixels, PROBES)


def test_the_table_is_tidy_and_small(found: Results) -> None:
    frame = found.to_frame()
    assert tuple(frame.columns) == COLUMNS
    assert set(frame["run"]) == {"a", "b"}
    assert set(frame["probe"]) == set(PROBES)
    assert len(frame) < 1000
    assert not frame["quantity"].str.endswith(("_sem", "_groups")).any()
    loss = frame.query("run == 'a' and quantity == 'loss' and part == ''")
    assert float(loss["value"].item()) == float(found["local_contrast"]["a"]["loss"].sel(network="trained"))


def test_a_result_is_a_dataset_without_internal_variables(found: Results, pixels: np.ndarray) -> None:
    assert set(found["local_contrast"]) == {"a", "b"}
    only = lcmae.probe(build_model(tiny_config()).eval(), pixels, "local_contrast")["local_contrast"]
    assert not [name for name in only if name.endswith("_groups")]
    with pytest.raises(InputError, match=r"to_frame\(\)"):
        only.expand_dims(a=1000, b=1000).to_dataframe()
    assert len(only[["term"]].to_dataframe())


def test_figures_differences_and_words(found: Results) -> None:
    assert "What the loss is made of" in found.figures("local_contrast")
    differences = found.compare("a", "b")
    assert differences["interval"].str.startswith("paired, 6 images").any()
    assert repr(found).splitlines()[0] == "Results: 2 probes, 2 runs"
    assert "6 images" in repr(found)
    assert "<table>" in found._repr_html_()
    with pytest.raises(InputError, match="expected a run out of a, b, got 'c'"):
        found.compare("a", "c")
    with pytest.raises(InputError, match="expected a probe out of "):
        found["spectrum"]


def test_saved_results_come_back(found: Results, tmp_path: Path) -> None:
    found.save(tmp_path)
    again = lcmae.results(tmp_path)
    order = ["run", "probe", "quantity", "part"]
    left, right = (one.to_frame().sort_values(order, ignore_index=True).drop(columns="step") for one in (found, again))
    assert left.equals(right)


def test_out_finds_what_is_stored_and_keeps_conditions_apart(tmp_path: Path, pixels: np.ndarray) -> None:
    model = build_model(tiny_config()).eval()
    for count in (6, 3, 6):
        lcmae.probe(model, pixels[:count], [Reconstruction(num_pictures=0)], out=tmp_path)
    stored = lcmae.results(tmp_path)
    assert sorted(entry.condition.num_images for entry in stored.entries) == ["3", "6"]
    titles = stored.figures("reconstruction")
    assert any("3 images" in title for title in titles)
    assert any("6 images" in title for title in titles)


def test_a_path_is_a_model_and_its_mask_the_default(tmp_path: Path, pixels: np.ndarray) -> None:
    run = tiny_run(tmp_path / "tiny")
    run.publish(3, build_model(tiny_config()).state_dict(), config=run.config, resume=None)
    images = [Image.fromarray(image[..., 0]) for image in pixels]
    found = lcmae.probe(run.path, images, ["reconstruction"])
    assert (found.runs, found.entries[0].step) == (["tiny"], 3)
    assert found["reconstruction"].attrs["mask"] == "random 0.5"
    assert found["reconstruction"].attrs["trained_mask"] == "random 0.5"


BAD_IMAGES = {
    "none": (np.zeros((0, 8, 8, 1), np.uint8), r"expected images, got an empty array of shape \(0, 8, 8, 1\)"),
    "empty list": ([], "expected at least one image, got none"),
    "7 channels": (np.zeros((3, 8, 8, 7), np.uint8), r"expected 1 bands, got 7; choose among them.*--bands"),
    "5 channels first": (torch.zeros(3, 5, 8, 8), r"expected 1 bands, got 5; choose among them.*bands=\("),
    "1-d": (np.zeros(4), r"expected images \[b h w\].*got an array of shape \(4,\)"),
    "volumes": (np.zeros((2, 3, 8, 8, 4)), r"got an array of shape \(2, 3, 8, 8, 4\); of volumes or videos choose"),
    "normalised": (
        torch.linspace(-2, 2, 64).reshape(1, 1, 8, 8),
        r"expected float pixels from 0 to 1, got -2 to 2 \(norm",
    ),
    "not finite": (np.full((2, 8, 8, 1), np.nan, np.float32), r"none of 2 images can be read.*not finite"),
    "None": (None, "expected images: an array or tensor, a list of PIL images or paths.*; got NoneType"),
    "a number": (3, "expected images: .*; got int"),
    "object": (object(), "expected images: .*; got object"),
    "list of objects": ([object()], "expected an image .*got object"),
    "list of None": ([None, None], "none of 2 images can be read.*got NoneType"),
    "empty text": ("", "expected the name of a source of images, or a path, got an empty text"),
    "no such name": ("digts", "expected data to be digits, .*; got 'digts', and no file or folder has this name"),
    "list of missing files": (["a.png", "b.png"], "none of 2 images can be read; the first is a.png"),
    "bytes of no image": (b"abc", "not an image format that is read here"),
    "empty dict": ({}, "expected an array under images, got an empty dict"),
    "stream": (iter([1]), "expected limit=NUMBER with a stream of images"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_are_one_sentence(name: str) -> None:
    images, expected = BAD_IMAGES[name]
    with pytest.raises(InputError, match=expected) as caught:
        lcmae.probe(build_model(tiny_config()).eval(), images, ["reconstruction"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 33, 9, 1), np.uint8),
        np.zeros((3, 3, 8, 8), np.uint8),
        torch.zeros(3, 1, 8, 8, dtype=torch.uint8),
        [Image.new("RGBA", (9, 20))] * 3,
        Image.new("L", (8, 8)),
    ],
    ids=["another size", "colour", "uint8 tensor", "list of PIL", "one PIL image"],
)
def test_other_sizes_and_colours_are_fitted_to_the_model(images: object) -> None:
    found = lcmae.probe(build_model(tiny_config()).eval(), images, [Reconstruction(num_pictures=0)])
    assert np.isfinite(found["reconstruction"]["error"].sel(network="trained")).all()


def test_bad_models_probes_and_folders_are_one_sentence(pixels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a model of lcmae\.load"):
        lcmae.probe(3, pixels)
    with pytest.raises(InputError, match="expected a probe out of"):
        lcmae.probe(build_model(tiny_config()).eval(), pixels, ["nonsense"])
    with pytest.raises(InputError, match="expected stored results of probes"):
        lcmae.results(tmp_path)
    with pytest.raises(InputError, match="expected a folder, a run, or several of them, got int"):
        lcmae.results(3)


def test_stored_results_need_no_torch(found: Results, tmp_path: Path) -> None:
    found.save(tmp_path)
    program = (
        "import sys, lcmae; found = lcmae.results(sys.argv[1]); found.to_frame(); found.figures('local_contrast'); "
        "found.compare('a', 'b'); assert not {'torch', 'timm', 'streamlit'} & set(sys.modules)"
    )
    command = [sys.executable, "-P", "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
