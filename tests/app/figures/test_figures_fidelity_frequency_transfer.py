"""Pictures of fidelity, frequency and transfer: what the probes make, runs that differ, and values
that are not there."""

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from plotly.colors import unlabel_rgb

from lcmae.app.dashboard.glossary import GLOSSARY
from lcmae.app.dashboard.page import ProbePage, take_first
from lcmae.app.dashboard.pages import fidelity as fidelity_view
from lcmae.app.dashboard.pages import frequency as frequency_view
from lcmae.app.dashboard.pages import transfer as transfer_view
from lcmae.app.figures import fidelity, frequency, style, transfer
from lcmae.probes.base import Probe
from lcmae.probes.fidelity import Fidelity
from lcmae.probes.frequency import Frequency
from lcmae.probes.statistics import intervals
from lcmae.probes.transfer import Transfer
from tests.app.computed import some_images
from tests.app.pages import traces
from tests.conftest import tiny_mae

PAGES = {"fidelity": fidelity_view.PAGE, "frequency": frequency_view.PAGE, "transfer": transfer_view.PAGE}


def computed(probe: Probe, count: int = 6, **settings: object) -> xr.Dataset:
    torch.manual_seed(0)
    return probe(tiny_mae(**settings), some_images(count), torch.Generator().manual_seed(0))


SMALL_TRANSFER = Transfer(
    neighbours=3, epochs=2, seeds=1, corruptions=("brightness", "contrast"), severities=(1, 4), num_corrupted=4
)


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, xr.Dataset]]:
    """Of each probe: two runs that differ in what they have, one of them of a single image."""
    return {
        "fidelity": {
            "a": computed(Fidelity(ratios=(0.5, 0.75))),
            "b": computed(Fidelity(ratios=(0.5,), untrained=False), 1, normalize_targets=True),
        },
        "frequency": {"a": computed(Frequency()), "b": computed(Frequency(untrained=False), 1)},
        "transfer": {
            "a": computed(SMALL_TRANSFER),
            "b": computed(
                SMALL_TRANSFER.model_copy(update={"untrained": False, "corruptions": (), "each_layer": False}), 1
            ),
        },
    }


@pytest.mark.parametrize("name", PAGES)
def test_pages_show_runs_that_differ(name: str, results: dict[str, dict[str, xr.Dataset]]) -> None:
    page: ProbePage = PAGES[name]
    for some in (results[name], {"a": results[name]["a"]}, {"b": results[name]["b"]}):
        shown = list(page.panels(some, take_first))
        assert shown
        assert all(part.caption and traces(part.figure) for part in shown)
    assert page.probe == name
    assert set(page.terms) <= set(GLOSSARY)


@pytest.mark.parametrize("name", PAGES)
def test_every_choice_can_be_made(name: str, results: dict[str, dict[str, xr.Dataset]]) -> None:
    def take_last(question: str, options: Any) -> Any:
        return options[-1]

    assert list(PAGES[name].panels(results[name], take_last))


def test_fidelity_draws_each_predictor_with_its_interval(results: dict[str, dict[str, xr.Dataset]]) -> None:
    both = results["fidelity"]
    shown = fidelity.unmasked(both, "mse")
    first, second = traces(shown)
    order = ["trained", "trained, leaky", "untrained", "pixels", "mean colour", "position mean"]
    assert list(shown.layout.xaxis.ticktext) == order
    assert list(first.customdata) == both["a"]["network"].values.tolist()
    np.testing.assert_allclose(first.error_y.array, intervals.half_width(both["a"], "mse_unmasked"), rtol=1e-4)
    assert np.isnan(second.error_y.array).all()  # one image
    assert "squared pixel value" in shown.layout.yaxis.title.text
    names = [trace.name for trace in traces(fidelity.by_ratio({"a": both["a"]}, "psnr"))]
    assert names == ["a", "pixels", "mean colour", "a, untrained"]
    same = fidelity.by_ratio({"a": both["a"], "again": both["a"]}, "psnr")
    assert [trace.name for trace in traces(same)].count("pixels") == 1
    assert same.layout.xaxis.title.text == "masking ratio"
    assert same.layout.yaxis.title.text.endswith("[dB]")


def test_fidelity_opens_with_the_measure_of_its_answer(results: dict[str, dict[str, xr.Dataset]]) -> None:
    both = results["fidelity"]
    assert next(iter(fidelity.MEASURES.values())) == fidelity.HEADLINE.variable
    whole, masked = fidelity_view.PAGE.panels(both, take_first)
    np.testing.assert_allclose(traces(masked.figure)[0].y, both["a"]["mse_hidden"].sel(network="trained"))
    # nothing is hidden, so the error is that of all pixels
    np.testing.assert_allclose(traces(whole.figure)[0].y, both["a"]["mse_unmasked"])


def test_frequency_draws_layers_from_the_input_on(results: dict[str, dict[str, xr.Dataset]]) -> None:
    result = results["frequency"]["a"]
    shown = frequency.by_frequency(result, "trained")
    assert [trace.name for trace in traces(shown)] == ["input", "encoder 1", "encoder 2", "decoder 1"]
    assert shown.layout.xaxis.title.text == "frequency along the diagonal [cycles per patch]"
    trained, untrained = traces(frequency.by_layer({"a": result}))
    np.testing.assert_allclose(trained.y, result["log_amplitude"].sel(network="trained").values[:, -1])
    assert untrained.line.dash == style.REFERENCES["untrained"]
    (map_,) = traces(frequency.likeness(result, "trained"))
    np.testing.assert_allclose(map_.z, result["cka"].sel(network="trained"))
    assert list(map_.x) == result["layer"].values.tolist()


def test_lines_by_frequency_are_seen_in_both_themes(results: dict[str, dict[str, xr.Dataset]]) -> None:
    def luminance(colour: str) -> float:
        """As WCAG 2 defines it."""
        parts = np.array(unlabel_rgb(colour)) / 255
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
        )

    white, dark = luminance("rgb(255, 255, 255)"), luminance("rgb(14, 17, 23)")
    _, *layers = traces(frequency.by_frequency(results["frequency"]["a"], "trained"))
    assert len({line.marker.symbol for line in layers}) == len(layers), "neighbouring shades are alike"
    for line in layers:
        own = luminance(line.line.color)
        assert (white + 0.05) / (own + 0.05) > 1.95
        assert (own + 0.05) / (dark + 0.05) > 1.95


def test_transfer_draws_wilson_s_intervals_and_shares(results: dict[str, dict[str, xr.Dataset]]) -> None:
    result = results["transfer"]["a"]
    shown = transfer.accuracies({"a": result}, "knn")
    (trace,) = traces(shown)
    here = result.sel(classifier="knn").stack(one=("network", "feature")).isel(one=slice(0, 5))  # pixels once
    assert list(trace.customdata) == [
        "class token", "mean token", "untrained class token", "untrained mean token", "pixels",
    ]  # fmt: skip
    np.testing.assert_allclose(trace.y + trace.error_y.array, here["accuracy_interval"].sel(bound=0.975), rtol=1e-6)
    np.testing.assert_allclose(trace.y, here["accuracy"])
    assert shown.layout.shapes[0].y0 == float(result["majority_accuracy"])
    (matrix,) = traces(transfer.confusion(result, "knn", "mean token"))
    np.testing.assert_allclose(matrix.z.sum(1), 1)
    (corrupted,) = traces(transfer.robustness({"a": result}, "linear", "pixels", 4))
    assert list(corrupted.customdata) == ["clean", "brightness", "contrast"]
    wanted = result["corruption_accuracy"].sel(classifier="linear", network="pixels", feature="cls", severity=4).values
    np.testing.assert_allclose(corrupted.y[1:], wanted)
    assert transfer.severities([result]) == [4, 1]


def test_poolings_are_drawn_by_layer_with_controls_and_maps(results: dict[str, dict[str, xr.Dataset]]) -> None:
    result = results["transfer"]["a"]
    drawn = {trace.name: trace for trace in traces(transfer.pooled(result))}
    assert list(drawn)[:5] == list(transfer.POOLINGS.values())
    np.testing.assert_allclose(
        drawn["efficient probing"].y, result["pooled_accuracy"].sel(network="trained", pooling="efficient")
    )
    fits = {trace.name: trace.y for trace in traces(transfer.controls(result))}
    np.testing.assert_allclose(fits["training, shuffled"], result["shuffled_fit"])
    maps = traces(transfer.query_maps(result))
    assert len(maps) == min(6, result.sizes["query"])
    assert result.attrs["num_pooled_images"] == 20
    np.testing.assert_allclose(result["query_map"].sum(("row", "column")), 1, rtol=1e-5)
    assert "Efficient probing of the last layer, on 20 training images" in transfer.pooled_words(result)


def test_a_learning_rate_at_the_edge_is_told_in_words(results: dict[str, dict[str, xr.Dataset]]) -> None:
    result = results["transfer"]["b"].copy()
    axes = ("network", "feature")
    result["learning_rate"] = axes, [[10.0, 0.1], [0.01, 0.01]]
    result["rate_at_edge"] = axes, [[1, 0], [1, 1]]
    not_at_edge = result.assign(rate_at_edge=(axes, [[0, 0], [0, 0]]))
    words = "for a: class token (10), pixels (0.01)."
    shown = {"a": result, "b": not_at_edge, "old": result.drop_vars("rate_at_edge")}
    assert transfer.at_edge(shown).endswith(words)
    assert transfer.at_edge({"b": not_at_edge}) == ""

    def caption_of(classifier: str) -> str:
        answers = {"classifier": classifier}
        page = transfer_view.PAGE.panels(shown, lambda question, options: answers.get(question, options[0]))
        return next(page).caption

    assert words in caption_of("linear")
    assert words not in caption_of("kNN")  # neighbours have no learning rate


def test_a_class_without_images_is_blank(results: dict[str, dict[str, xr.Dataset]]) -> None:
    (matrix,) = traces(transfer.confusion(results["transfer"]["b"], "knn", "mean token"))
    assert np.isfinite(matrix.z[0]).all()
    assert np.isnan(matrix.z[1]).all()


def test_bounds_come_from_what_is_stored() -> None:
    plain = xr.Dataset({"x": ("k", [1.0, 2.0]), "x_sem": ("k", [0.1, np.nan])}, {"k": ["a", "b"]})
    low, high = intervals.ends(plain, "x", k="a")
    assert (float(low), float(high)) == pytest.approx((1 - 0.196, 1 + 0.196))
    assert np.isnan(intervals.ends(plain, "x")[0][1])
