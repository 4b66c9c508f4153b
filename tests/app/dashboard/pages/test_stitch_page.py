"""The page Stitching: without a file, with one, with a file of another kind; its sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from lcmae.app.figures import stitch as stitched
from lcmae.probes.results.store import save_result
from lcmae.probes.statistics.variables import error_of, variable
from tests.app import synthetic
from tests.app.pages import figures, open_page, traces, words

NAMES = ["mae", "umae"]


def stitch_result(other: float = 0.3) -> xr.Dataset:
    """A matrix of two models."""
    values = {
        "loss": (("decoder",), [0.1, 0.2]),
        "increase": (("encoder", "decoder"), [[0.001, other], [0.5, 0.002]]),
        "identity_increase": (("encoder", "decoder"), [[0.0, 4.0], [np.nan, 0.0]]),
        "untrained_increase": (("decoder",), [0.9, 0.8]),
        "constant_increase": (("decoder",), [1.5, 1.6]),
    }
    result: dict[str, xr.Variable] = {}
    for name, (dims, found) in values.items():
        result[name] = variable(dims, np.array(found), "a number")
        result[f"{name}_sem"] = error_of(dims, np.full(np.shape(found), 0.02), "a number", degrees=7)
    attrs = {"num_images": 40, "fit_images": 50, "fitted_on": "digits, train", "data": "digits", "mask": "random 0.5"}
    return xr.Dataset(result, {"encoder": NAMES, "decoder": NAMES}, attrs)


def test_the_sentence_names_the_pairs_beside_their_baselines() -> None:
    found = stitched.answer(stitch_result())
    assert (
        "from the encoder of mae to the decoder of umae costs least, 30.0 ± 4.7 % of its loss, which is below an untrained "
        "encoder's" in found.sentence
    )
    assert found.sentence.endswith("; from umae to mae it costs most, 50.0 ± 4.7 %.")


def test_two_pairs_that_cannot_be_told_apart_are_not_ranked() -> None:
    sentence = stitched.answer(stitch_result(other=0.49)).sentence
    assert sentence.startswith(
        "The two pairs cannot be told apart: an affine map from the encoder of mae to the decoder"
    )
    assert "of umae costs 49.0 ± 4.7 % of its loss, which is below an untrained encoder's" in sentence
    assert sentence.endswith("; from umae to mae it costs 50.0 ± 4.7 %.")
    assert sentence.count("cannot be told apart") == 1
    one = stitched.answer(stitch_result(other=np.nan)).sentence
    assert one.startswith("An affine map from the encoder of umae to the decoder of mae costs least, 50.0 ± 4.7 %")
    assert "it costs" not in one


def test_every_cell_is_a_stored_number() -> None:
    result = stitch_result()
    shown = stitched.matrix(result)
    (heat,) = traces(shown)
    np.testing.assert_allclose(heat.z, result["increase"].values * 100)
    assert heat.text[0][1] == "30.0<br>± 4.7"
    assert not shown.layout.annotations, "a note stands at a name, which a page shortens"
    assert shown.layout.yaxis.scaleanchor == "x"  # square cells
    (passed,) = traces(stitched.matrix(result, "identity_increase"))
    assert [[bool(words) for words in row] for row in passed.text] == [[True, True], [False, True]]  # NaN has none
    rows = traces(stitched.beside_baselines(result))
    assert [row.name for row in rows] == [
        "encoder of mae", "encoder of umae", "untrained encoder", "mean token everywhere",
    ]  # fmt: skip


def test_colours_lie_around_0_and_noise_has_none() -> None:
    def reach(increase: float, error: float) -> float:
        result = stitch_result()
        result["increase"] = result["increase"] * 0 + increase
        result["increase_sem"] = result["increase_sem"] * 0 + error
        axis = stitched.matrix(result).layout.coloraxis
        assert axis.cmin == -axis.cmax
        return float(axis.cmax)

    assert reach(1e-8, 1e-9) == reach(-1e-8, np.nan) == 1, "percent: a millionth of the loss is nothing"
    assert reach(0.5, 0.02) == reach(-0.5, 0.02) == pytest.approx(50)
    assert reach(0.01, 0.1) == pytest.approx(10 * stats.t.ppf(0.975, 7)), "an increase within its interval stays pale"


def test_small_numbers_keep_two_digits_of_their_interval() -> None:
    result = stitch_result()
    result["increase"] = result["increase"] * 0 + 1.8e-4
    result["increase_sem"] = result["increase_sem"] / 1000
    (heat,) = traces(stitched.matrix(result))
    assert heat.text[0][1] == "0.0180<br>± 0.0047"
    result["increase_sem"] = result["increase_sem"] * 0
    assert traces(stitched.matrix(result))[0].text[0][1] == "0.018"


def test_without_a_file_the_page_says_how_to_get_one(root: Path) -> None:
    synthetic.run(root / "a")
    app = open_page("stitch")
    assert "There is no file of `lcmae stitch`" in words(app)
    assert f"--out {root}/stitch.nc" in words(app)
    assert f"lcmae stitch {root}/a RUN --out" in words(open_page("stitch", "a")), "of one run the other is to be named"
    assert figures(app) == []


def test_the_picked_runs_are_those_to_be_stitched(root: Path) -> None:
    for name in "abc":
        synthetic.run(root / name, results=False)
    assert f"lcmae stitch {root}/b {root}/c --out" in words(open_page("stitch", "b", "c"))
    assert f"lcmae stitch {root}/a {root}/b {root}/c --out" in words(open_page("stitch", "b")), "one is not enough"


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_a_file_is_shown_or_named(root: Path, kind: str) -> None:
    result = stitch_result() if kind == "own" else synthetic.RESULTS["reconstruction"](seed=0)
    root.mkdir(parents=True, exist_ok=True)
    save_result(result, root / "stitch-demo.nc")
    app = open_page("stitch")
    if kind == "own":
        assert len(figures(app)) == 2
        shown = [json.loads(element.proto.json) for element in app.get("bidi_component")]
        (sentence,) = [str(data["sentence"]) for data in shown if "sentence" in data]
        assert "costs least" in sentence
        assert "maps fitted on 50 (digits, train)" in words(app)
    else:
        assert "expected a file of lcmae stitch" in app.warning[0].value
        assert figures(app) == []
