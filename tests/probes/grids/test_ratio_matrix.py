"""Trained at one ratio, tested at another: the numbers are those of the model, what is done is not
done again, and the sentence says who leads where."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import lcmae
from lcmae.app.cli import main
from lcmae.app.figures import ratio_matrix as figures
from lcmae.app.matrix_page import document, table
from lcmae.errors import InputError
from lcmae.probes.grids.cells import Comparison
from lcmae.probes.grids.ratio_matrix import cells_of, matrix, measure
from lcmae.probes.grids.ratio_verdict import FILE, MEASURES, read_matrix, sentences
from lcmae.probes.grids.run import compare
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.results.store import save_result
from lcmae.randomness import generator
from lcmae.runs.run import Run
from lcmae.training.monitor import evaluate, unmasked_features
from lcmae.training.train import open_training_data
from tests.app.pages import traces
from tests.probes.grids.matrices import synthetic

TINY = (
    "model.width=8", "model.depth=1", "model.heads=2", "model.decoder_width=8", "model.decoder_depth=1",
    "model.decoder_heads=2", "batch_size=32", "limit=64", "monitor_images=40",
)  # fmt: skip
RATIOS = (0.0, 0.5, 0.75)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training ratios and a schedule, two seeds, one step each."""
    out = tmp_path_factory.mktemp("matrix") / "runs"
    grid = Comparison(ratios=(0.5, 0.75), schedules=("uniform:0.3:0.7",), seeds=2, epochs=1, set=TINY, probes=("none",))
    compare(grid, out, Engine())
    return out


# --- one run ---


def test_the_numbers_are_those_of_the_model(folder: Path) -> None:
    run = Run.open(folder / "mae-random-0.5-s0")
    found = measure(run, RATIOS, images=30)
    assert found["test_ratio"].values.tolist() == list(RATIOS)
    assert all(found[name].attrs["units"] for name in MEASURES)

    # the loss, written out from its definition, under the masks that the docstring promises
    model = lcmae.load(run.path)
    config = lcmae.config.RunConfig.model_validate(run.config)
    images = model.prepare(open_training_data(config, "test", limit=30)[slice(None)])
    mask = lcmae.masking.Random(ratio=0.5)(30, model.grid, generator("ratio matrix", "test", 0, 500_000))
    with torch.inference_mode():
        error = (model(images, mask).pred - model.targets(images)).square().mean(-1)
    expected = float(error[mask.is_hidden].mean())
    assert float(found["local_contrast.loss"][1]) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(float(found["local_contrast.loss"][0])), "whole images have no hidden patch"

    # at ratio 0 the features are those that training measures
    train = open_training_data(config, "train", limit=40)
    test = open_training_data(config, "test", limit=30)
    bank, query = (unmasked_features(model, part[slice(None)])["mean"] for part in (train, test))
    assert train.labels is not None
    assert test.labels is not None
    whole = evaluate(bank, train.labels, query, test.labels)
    assert float(found["mean_knn"][0]) == pytest.approx(whole["knn"])
    assert float(found["spectrum.effective_rank"][0]) == pytest.approx(whole["effective_rank"], rel=1e-4)


@pytest.mark.parametrize("ratio", [1.0, -0.5, 0.99])
def test_a_test_ratio_that_cannot_be_is_one_line(folder: Path, ratio: float) -> None:
    with pytest.raises(InputError) as caught:
        measure(Run.open(folder / "mae-random-0.5-s0"), (0.5, ratio), images=8)
    assert "\n" not in str(caught.value)


# --- many runs ---


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(folder: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    found = matrix(folder, tmp_path, RATIOS, images=30, report=lambda run, *_: seen.append(run))
    assert len(seen) == 6
    assert found["name"].values.tolist() == ["random, 0.5", "random, 0.75", "random uniform:0.3:0.7, 0.5"]
    assert found["num_seeds"].values.tolist() == [2, 2, 2]
    one = np.mean([float(measure(Run.open(folder / f"mae-random-0.75-s{seed}"), RATIOS, images=30)["local_contrast.loss"][1])
                   for seed in (0, 1)])  # fmt: skip
    # means of losses are geometric, so near and not equal
    assert float(found["loss_mean"][1, 1]) == pytest.approx(one, rel=0.01)
    times = {file: os.stat(file).st_mtime_ns for file in tmp_path.glob("*-s*.nc")}
    assert len(times) == 6
    again = matrix(folder, tmp_path, RATIOS, images=30)
    assert {file: os.stat(file).st_mtime_ns for file in times} == times
    xr.testing.assert_identical(again, found)
    xr.testing.assert_equal(read_matrix(tmp_path / FILE), found)
    assert found.attrs["left_out"] == ""
    matrix(folder, tmp_path, (0.5,), images=30)  # another question
    assert all(os.stat(file).st_mtime_ns != before for file, before in times.items())


def test_runs_of_other_images_are_refused(folder: Path, tmp_path: Path) -> None:
    runs = {path.name: Run.open(path) for path in sorted(folder.glob("mae-*"))}
    keys = cells_of(runs)
    assert keys["mae-random-0.75-s1"] == (("mae", "random", 0.75, 1), 1)
    other = Run.create(tmp_path / "b", {**runs["mae-random-0.5-s0"].config, "data": "hierarchy"})
    with pytest.raises(InputError, match=r"the same images, got data digits in mae-.* and hierarchy in b"):
        cells_of({**runs, "b": other})
    longer = Run.create(tmp_path / "longer", {**runs["mae-random-0.5-s0"].config, "epochs": 9, "warmup_epochs": 1.0})
    named = cells_of({**runs, "long/mae-random-0.5-s0": longer})
    assert named["long/mae-random-0.5-s0"][0] == ("mae", "random (long)", 0.5, 1)
    with pytest.raises(InputError, match=r"told apart by mask, folder or seed, got .* twice"):
        cells_of({**runs, "again": runs["mae-random-0.5-s0"]})
    with pytest.raises(InputError, match=r"expected finished runs below .*, found none"):
        matrix(tmp_path / "nothing", tmp_path / "out")


# --- the verdict ---


def test_the_sentence_says_who_leads_where() -> None:
    found = synthetic({0.25: [0.8, 0.6, 0.3], 0.5: [0.7, 0.7, 0.5], 0.75: [0.5, 0.6, 0.6], 0.9: [0.4, 0.4, 0.59]})
    assert found["name"].values.tolist() == ["random, 0.25", "random, 0.5", "random, 0.75", "random, 0.9"]
    assert found["mean_knn_may_be_best"].values.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert np.nanmax(abs(found["mean_knn_mean"].values[0] - [0.8, 0.6, 0.3])) < 0.02
    assert (found["mean_knn_low"] < found["mean_knn_mean"]).all()
    assert (found["mean_knn_mean"] < found["mean_knn_high"]).all()
    lines = sentences(found)
    assert lines[2] == (
        "kNN accuracy: trained with random, 0.25 leads at test ratio 0.25, beyond chance; trained with random, 0.5 leads at "
        "test ratio 0.5, beyond chance; trained with random, 0.75 leads at test ratio 0.75, not beyond chance."
    )
    assert lines[0].startswith("Masked loss: trained with random, 0.25 leads at test ratio 0.25, beyond chance")
    assert lines[3] == "The best kNN accuracy is of the training at the test's own ratio at 3 of 3 test ratios."


def test_one_that_leads_everywhere_is_one_part() -> None:
    found = synthetic({0.5: [0.8, 0.7, 0.6], 0.75: [0.7, 0.6, 0.5], 0.25: [0.6, 0.5, 0.4], 0.9: [0.5, 0.4, 0.3]})
    assert sentences(found)[2] == (
        "kNN accuracy: trained with random, 0.5 leads at test ratios 0.25, 0.5 and 0.75, beyond chance."
    )


def test_one_seed_is_drawn_without_intervals() -> None:
    found = synthetic({0.25: [0.8, 0.6, 0.3], 0.5: [0.7, 0.7, 0.5]}, seeds=1)
    assert "not beyond chance" in sentences(found)[0]
    [heat] = traces(figures.heat_map(found, "mean_knn"))
    assert "±" not in heat.text[0][0]


def test_the_heat_map_has_numbers_intervals_and_stars() -> None:
    found = synthetic({0.25: [0.8, 0.6, 0.3], 0.5: [0.7, 0.7, 0.5], 0.75: [0.5, 0.6, 0.6], 0.9: [0.4, 0.4, 0.59]})
    assert figures.known(found) == ["loss", "mean_knn"]
    [heat] = traces(figures.heat_map(found, "mean_knn"))
    assert list(heat.x) == ["0.25", "0.5", "0.75"]
    assert list(heat.y) == found["name"].values.tolist()
    np.testing.assert_allclose(heat.z, found["mean_knn_mean"].values)
    assert heat.text[0][0].startswith("0.8") or heat.text[0][0].startswith("0.79")
    assert "*" in heat.text[0][0]
    assert "*" not in heat.text[1][0]
    assert "<br>± 0.0" in heat.text[0][0]


def test_the_page_escapes_names_and_holds_every_figure() -> None:
    found = synthetic({0.25: [0.8, 0.6, 0.3], 0.5: [0.7, 0.7, 0.5]})
    text = document(found, "<runs>")
    assert "&lt;runs&gt;" in text
    assert "<runs>" not in text
    assert text.count('class="plotly-graph-div"') == 2
    assert 'id="plotly"' in text, "what draws the figures is in the file"
    shown = table(found, "mean_knn")
    assert list(shown.columns) == ["training", "seeds", "test 0.25", "test 0.5", "test 0.75"]
    assert " to " in shown["test 0.5"][0]


# --- what is stored, and the command ---


@pytest.mark.parametrize("change", ["dropped", "turned", "text"])
def test_a_foreign_matrix_is_one_line(tmp_path: Path, change: str) -> None:
    found = synthetic({0.25: [0.8, 0.6, 0.3], 0.5: [0.7, 0.7, 0.5]})
    if change == "dropped":
        found = found.drop_vars("loss_low")
    elif change == "turned":
        found["loss_low"] = found["loss_low"].transpose()
    else:
        found["num_seeds"] = ("cell", ["a", "b"], {"long_name": "seeds", "units": "runs"})
    save_result(found, tmp_path / FILE)
    with pytest.raises(InputError) as caught:
        read_matrix(tmp_path / FILE)
    assert "\n" not in str(caught.value)


def test_the_command_answers_and_writes_a_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--matrix", str(folder), "--test-ratios", "0,0.5", "--images", "30", "--device", "cpu"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("Masked loss: trained with ")
    assert "Provisional: 2 seeds" in out
    assert out.splitlines()[-1] == str(folder / "matrix" / "matrix.html")
    assert (folder / "matrix" / "matrix.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--matrix", "a", "--predict", "b"],
            "expected --matrix FOLDER alone, as it trains nothing; got also --predict",
        ),
        (["--matrix", "a", "--race"], "expected --matrix FOLDER alone, as it trains nothing; got also --race"),
        (["--predict", "a", "--equal", "flops"], "expected --predict FOLDER alone, .* got also --equal flops"),
        (["--untrained", "--race"], "expected --untrained alone, as it trains nothing; got also --race"),
        (["--matrix", "nowhere"], "expected finished runs below nowhere, found none"),
        (["--equal", "flop"], "flop"),
    ],
)
def test_bad_combinations_are_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    err = capsys.readouterr().err
    assert re.search(message, err)
    assert len([line for line in err.splitlines() if line.strip()]) == 1
