"""Where the queries of an attentive probe look, in the microscope: those that `transfer` has
stored, over any image."""

from pathlib import Path

import numpy as np
import pytest

from lcmae.app.dashboard.components.picks import Picks
from lcmae.app.dashboard.live import inspection, models
from lcmae.app.dashboard.live.selection import Selection
from lcmae.app.dashboard.microscope import queries
from lcmae.app.dashboard.stored.reading import runs_below
from lcmae.probes.jobs.batch import Job, run_job
from lcmae.probes.results.store import load_result, save_result
from lcmae.runs.run import Run
from tests.app.dashboard.pages.test_overlay import sent, unpacked
from tests.app.pages import checked, commands, maps, open_page, words
from tests.app.trained import published

SETTINGS = {
    "train_images": 40, "pooled_images": 40, "pooled_epochs": 2, "pooled_rates": (0.01,), "epochs": 1, "seeds": 1,
    "neighbours": 3, "corruptions": (), "rates": (0.1,),
}  # fmt: skip
NUM_IMAGES = 6


@pytest.fixture
def run(root: Path) -> Run:
    """Two steps, of which the last has a result of `transfer`."""
    found = published(root / "a", steps=(10, 29))
    transferred(found)
    return found


def transferred(run: Run, **settings: object) -> Path:
    results = run_job(Job(str(run.path), {"transfer": {**SETTINGS, **settings}}, images=NUM_IMAGES))
    assert not results.failures
    return Path(results.files["transfer"])


def seen(root: Path, **chosen: object) -> inspection.Inspection:
    picked = Picks(root, runs_below(root), [], None)
    selection = Selection.model_validate(chosen)
    return inspection.inspect(models.load(models.locate(picked, "a", None)), selection)


def test_maps_are_those_whose_mean_the_probe_stored(run: Run, root: Path):
    """Over the images that the probe has seen, map by map: one definition, two ways to it."""
    stored = load_result(next(run.results_folder(29).rglob("*.nc")))
    each = []
    for image in range(NUM_IMAGES):
        inspected = seen(root, image=image)
        own = queries.stored(inspected)
        assert own is not None
        assert own.layers == [1, 2]
        each.append(inspected.query_maps(2, own.of(2), own.which)["attention"].values)
    np.testing.assert_allclose(np.mean(each, axis=0), stored["query_map"].values, atol=1e-5)


def test_queries_stand_beside_the_other_maps_of_the_picked_layer(run: Run):
    app = open_page("microscope", image="2", encoder_layer="1", patch="3")
    board = maps(app)["queries"]
    assert board["patch"] == 3
    assert board["panels"][0]["title"] == "mean of 16 queries"
    assert len(board["panels"]) == 7
    assert "Queries of the attentive probe, layer 1" in words(app)
    assert "Efficient probing of layer 1, on 40 training images, gives" in words(app)
    assert "of 16 patches that they attend to most (if even: 12%)" in words(app)
    assert not any("lcmae probe transfer" in one for one in commands(app))
    checked(app.toggle("microscope-figure").set_value(True).run())


def test_queries_lie_over_the_photograph(run: Run, root: Path):
    data = sent(open_page("microscope", image="2", overlay="queries", encoder_layer="1"))
    assert data["kind"] == "queries"
    inspected = seen(root, image=2)
    own = queries.stored(inspected)
    assert own is not None
    wanted = inspected.query_maps(1, own.of(1), own.which)["attention"].mean("query")
    np.testing.assert_allclose(unpacked(data["values"]), wanted, atol=1e-4)
    assert "layer 1" in data["title"]


def test_without_queries_the_command_stands_there(run: Run, root: Path):
    app = open_page("microscope", a_step="10", overlay="queries")  # a step without a result
    assert "queries" not in maps(app)
    assert sent(app)["kind"] == "encoder"
    assert any("lcmae probe transfer" in one and "000010" in one for one in commands(app))


def test_a_result_of_before_reads_and_has_no_maps(run: Run, root: Path):
    [file] = run.results_folder(29).rglob("*.nc")
    old = load_result(file).drop_vars(["query_weight", "query_layer"])
    save_result(old, file)
    app = open_page("microscope")
    assert "queries" not in maps(app)
    assert any("lcmae probe transfer" in one for one in commands(app))
    assert "Where queries attend" in words(open_page("transfer", "a"))


def test_queries_of_other_weights_or_of_another_model_are_not_drawn(run: Run, root: Path):
    [file] = run.results_folder(29).rglob("*.nc")
    result = load_result(file)
    save_result(result.assign_attrs(checkpoint_sha256="0" * 64), file)
    assert queries.stored(seen(root)) is None
    save_result(result.isel(width=slice(0, 12)), file)
    assert queries.stored(seen(root)) is None
    save_result(result.assign_coords(query_layer=[1, 7]), file)
    assert queries.stored(seen(root)) is None
    save_result(result, file)
    assert queries.stored(seen(root)) is not None


def test_those_of_the_shown_data_come_first(run: Run, root: Path):
    [file] = run.results_folder(29).rglob("*.nc")
    other = load_result(file).assign_attrs(data="elsewhere")
    save_result(other, file.with_name("elsewhere.nc"))
    own = queries.stored(seen(root))
    assert own is not None
    assert own.result.attrs["data"] == "digits"


def test_the_nearest_layer_is_shown_where_one_has_none(run: Run, root: Path):
    [file] = run.results_folder(29).rglob("*.nc")
    save_result(load_result(file).isel(query_layer=[1]), file)
    app = open_page("microscope", encoder_layer="1")
    assert "Queries of the attentive probe, layer 2" in words(app)
    assert "Of layer 1 none were trained." in words(app)
