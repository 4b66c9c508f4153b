"""Figures of knock_out: every number drawn is a stored one, on an axis that squeezes large ones."""

import numpy as np
import pytest
import xarray as xr

from lcmae.app.dashboard.pages.knock_out import PAGE
from lcmae.app.figures import knock_out
from lcmae.probes.results.networks import trained
from tests.app import computed
from tests.app.pages import traces


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return computed.with_baselines("knock_out")


def undrawn(values: list[float]) -> np.ndarray:
    return np.sinh(np.asarray(values)) * knock_out.LINEAR_TO


def test_kinds_beside_their_controls_and_the_untrained_network(result: xr.Dataset) -> None:
    shown = knock_out.by_kind({"a": result}, list(knock_out.HOWS))
    drawn = {trace.name: trace for trace in traces(shown)}
    assert list(drawn) == [*knock_out.HOWS.values(), "untrained network, removed"]
    own = trained(result)["increase"]
    for how, words in knock_out.HOWS.items():
        np.testing.assert_allclose(undrawn(drawn[words].y), own.sel(how=how), rtol=1e-5, atol=1e-9)
    untrained = result["increase"].sel(network="untrained", how="removed")
    np.testing.assert_allclose(undrawn(drawn["untrained network, removed"].y), untrained, rtol=1e-5, atol=1e-9)
    assert drawn["removed"].text[0] == f"{float(own[0, 0]):+.2%}"
    assert "+10%" in shown.layout.yaxis.ticktext
    # of several runs one way at a time, each run by its name
    both = traces(knock_out.by_kind({"a": result, "b": result}, ["mean"]))
    assert [trace.name for trace in both] == ["a", "b", "untrained network, replaced by the mean"]


def test_the_way_that_the_answer_is_about_stands_first(result: xr.Dataset) -> None:
    several, one = (dict.fromkeys(names, result) for names in ("ab", "a"))
    assert "each other's mean" in knock_out.answer(several).sentence
    assert knock_out.choices(several) == ["replaced by the mean", "removed", "as many random entries"]
    assert knock_out.answer(one).sentence.startswith("Removing")
    assert knock_out.choices(one) == list(knock_out.HOWS.values())
    asked: dict[str, list[str]] = {}
    list(PAGE.panels(several, lambda question, options: asked.setdefault(question, list(options))[0]))
    assert asked["taken out"] == knock_out.choices(several)


def test_blocks_and_heads(result: xr.Dataset) -> None:
    (removed, random, mean) = traces(knock_out.by_block({"a": result}, "visible", list(knock_out.HOWS)))
    stored = result["block_increase"].sel(what="visible")
    for trace, how in ((removed, "removed"), (random, "random"), (mean, "mean")):
        np.testing.assert_allclose(undrawn(trace.y), stored.sel(how=how), rtol=1e-5, atol=1e-9)
    skipped, replaced = traces(knock_out.skipped({"a": result}))
    np.testing.assert_allclose(undrawn(skipped.y), result["skip_increase"], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(undrawn(replaced.y), result["skip_mean_increase"], rtol=1e-5, atol=1e-9)
    shown = knock_out.heads(result, "mean")
    np.testing.assert_allclose(traces(shown)[0].z, result["head_increase"].sel(how="mean") * 100, rtol=1e-5)
    assert shown.layout.coloraxis.cmin == -shown.layout.coloraxis.cmax


def test_the_sentence_says_what_attention_costs_beside_its_controls(result: xr.Dataset) -> None:
    found = knock_out.answer({"a": result})
    assert found.sentence.startswith("Removing attention between hidden patches from the decoder costs ")
    assert "as many random entries" in found.sentence
    assert "an untrained network's" in found.sentence
    assert found.sentence.count("; replaced by its mean over images it costs ") == 2
    assert [tile.label for tile in found.tiles][:3] == ["hidden to hidden", "hidden to visible", "to class token"]
