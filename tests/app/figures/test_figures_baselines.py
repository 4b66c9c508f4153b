"""Baselines beside runs: equal ones once and grey, others in the colours of their runs, none where
none is stored."""

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages import encoder_attention as encoder_attention_view
from lcmae.app.dashboard.pages import local_contrast as local_contrast_view
from lcmae.app.figures import (
    decoder_attention,
    embedding_consistency,
    encoder_attention,
    invariance,
    local_contrast,
    receptive_field,
    reconstruction,
    spectrum,
    style,
)
from lcmae.app.figures.baselines import LABELS, baselines_of, caption, lines, segments
from lcmae.probes.results.networks import trained
from tests.app import computed
from tests.app.pages import own, traces


def dataset(y: list[float], *, beside: list[float] | None = None, pixels: list[float] | None = None) -> xr.Dataset:
    networks = {"trained": y, "untrained": beside, "pixels": pixels}
    known = {network: some for network, some in networks.items() if some is not None}
    sems = [[0.1, np.nan] if network == "untrained" else [np.nan] * 2 for network in known]
    values = {"y": (("network", "k"), list(known.values())), "y_sem": (("network", "k"), sems)}
    attrs = {"untrained_images": 8, "pixels_images": 8}
    return xr.Dataset(values, {"network": list(known), "k": ["p", "q"]}, attrs)


RUN = dataset([1, 2], beside=[3, 4], pixels=[5, np.nan])


class TestBaselines:
    def test_equal_ones_are_one_and_grey(self) -> None:
        rounded = dataset([0, 0], beside=[3.000001, 4])
        found = baselines_of({"a": RUN, "b": rounded, "old": dataset([0, 0])}, "y")
        assert [(one.kind, one.run, one.is_shared, one.colour) for one in found] == [
            ("untrained", "a", True, style.GREY),
            ("pixels", "a", True, style.GREY),
        ]
        np.testing.assert_allclose(found[0].half, [0.196, np.nan])
        assert found[0].whose() == "untrained network"
        assert found[0].whose("same image") == "untrained network, same image"

    def test_others_have_the_colour_of_their_run(self) -> None:
        results = {"a": dataset([1, 2]), "b": RUN, "c": dataset([0, 0], beside=[3, 4.1]), "d": RUN}
        untrained, other = (one for one in baselines_of(results, "y") if one.kind == "untrained")
        colours = style.colours(results)
        assert [(one.run, one.colour, one.is_shared) for one in (untrained, other)] == [
            ("b", colours["b"], False),
            ("c", colours["c"], False),
        ]
        assert other.whose() == "c, untrained network"

    def test_other_labels_are_other_numbers(self) -> None:
        other = RUN.assign_coords(k=["p", "r"])
        assert not baselines_of({"a": RUN, "b": other}, "y")[0].is_shared

    def test_nothing_is_drawn_of_nothing(self) -> None:
        missing = {"a": dataset([1, 2]), "b": dataset([1, 2], beside=[np.nan, np.nan])}
        assert baselines_of(missing, "y") == []
        assert caption({"a": dataset([1, 2])}, "y") == ""

    def test_captions_say_what_the_lines_are(self) -> None:
        both = caption({"a": RUN, "b": dataset([1, 2])}, "y")
        assert both.startswith(" Dashed: an untrained network of the same shape; dash-dotted: raw pixels")
        assert both.endswith("; of the first 8 images.")
        alone = caption({"a": dataset([1, 2], beside=[1, 2])}, "y", "Fainter rows")
        assert alone == " Fainter rows: an untrained network of the same shape; of the first 8 images."

    def test_segments_span_their_category_or_stand_at_their_run(self) -> None:
        results = {"a": RUN, "b": dataset([1, 2], beside=[3, 9])}
        positions = {"first": {"k": "p"}, "unknown": {"k": "x"}, "last": {"k": "q"}}
        (shared,) = traces(segments(go.Figure(), baselines_of({"a": RUN}, "y")[:1], ["a"], positions))
        assert shared.x == pytest.approx((-0.4, 0, 0.4, None, 1.6, 2, 2.4, None))
        assert shared.y == (3, 3, 3, None, 4, 4, 4, None)
        assert shared.text[0] == "first: 3 ± 0.2"
        assert shared.text[4] == "last: 4"  # no error is stored
        one, other = traces(segments(go.Figure(), baselines_of(results, "y")[:2], ["a", "b"], positions, upright=True))
        assert one.y[:3] == pytest.approx((-0.3, -0.15, 0))
        assert other.y[:3] == pytest.approx((0, 0.15, 0.3))
        assert (one.showlegend, other.showlegend) == (True, False)
        assert "b, untrained network" in other.hovertemplate

    def test_lines_run_across_what_is_not_there(self) -> None:
        result = xr.Dataset({"y": (("network", "x"), [[1.0, np.nan, 3.0]])}, {"network": ["pixels"], "x": [0, 1, 2]})
        (line,) = traces(lines(go.Figure(), baselines_of({"a": result}, "y"), "x"))
        assert (line.x.tolist(), line.y.tolist()) == ([0, 2], [1, 3])
        assert line.name == LABELS["pixels"]


def probed(name: str, *, seed: int = 0) -> xr.Dataset:
    return computed.with_baselines(name, seed)


def without_distances(result: xr.Dataset) -> xr.Dataset:
    """A result whose baselines have no distances."""
    return result.assign(distance=result["distance"].where(result["network"] == "trained"))


def numbers(trace) -> list[float]:
    """The heights of a trace of segments, once each."""
    return [y for y in trace.y[::4] if y is not None]


def beside(figure: go.Figure) -> dict[str, list]:
    """Traces of baselines by name."""
    found: dict[str, list] = {}
    for trace in traces(figure):
        if str(trace.name).startswith(tuple(LABELS.values())):
            found.setdefault(trace.name, []).append(trace)
    return found


class TestFigures:
    """What is drawn beside the runs is what is stored, and nothing where nothing is stored."""

    def test_spectrum(self) -> None:
        result = probed("spectrum")
        drawn = beside(spectrum.numbers({"a": result, "b": result}, "rankme"))
        assert list(drawn) == ["untrained network", "raw pixels"]
        np.testing.assert_allclose(
            numbers(drawn["untrained network"][0]), result["rankme"].sel(network="untrained").values.ravel()
        )
        # no class token in pixels: its category is NaN, and others are there
        np.testing.assert_allclose(
            numbers(drawn["raw pixels"][0])[2:], result["rankme"].sel(network="pixels").values.ravel()[2:]
        )
        (lidar,) = beside(spectrum.lidar({"a": result}))["untrained network"]
        np.testing.assert_allclose(numbers(lidar), result["lidar"].sel(network="untrained").values[:2])
        (curve,) = beside(spectrum.spectra({"a": result}, "variance_share", "mean", "full"))["untrained network"]
        wanted = result["variance_share"].sel(network="untrained").sel(feature="mean", view="full")
        np.testing.assert_allclose(curve.y, wanted)

    def test_invariance(self) -> None:
        result = probed("invariance")
        drawn = beside(invariance.alignment({"a": result}, "raw"))
        for pair, words in invariance.PAIRS.items():
            (trace,) = drawn[f"untrained network, {words}"]
            here = (
                result["alignment"]
                .sel(network="untrained")
                .sel(centring="raw", pair=pair, quantity=["token", "cls", "mean"])
            )
            np.testing.assert_allclose(numbers(trace), here)
        (line,) = beside(invariance.by_overlap({"a": result}, "token", "raw"))["untrained network, same image"]
        here = (
            result["alignment_by_overlap"]
            .sel(network="untrained")
            .sel(quantity="token", centring="raw", pair="same_image")
        )
        np.testing.assert_allclose(line.y, here[np.isfinite(here)])
        drawn = beside(invariance.retrieval({"a": result}, "info_nce", "image"))
        for kind in ("untrained", "pixels"):
            here = result["info_nce"].sel(network=kind, scope="image")
            np.testing.assert_allclose(numbers(drawn[LABELS[kind]][0]), here)

    def test_embedding_consistency(self) -> None:
        result = probed("embedding_consistency")
        (line,) = beside(embedding_consistency.consistency({"a": result}, "within", "rsa"))["untrained network"]
        np.testing.assert_allclose(
            line.y, result["consistency"].sel(network="untrained").sel(scope="within", measure="rsa")
        )
        (marks,) = beside(embedding_consistency.distances({"a": result}, "gram_gap"))["untrained network"]
        np.testing.assert_allclose(numbers(marks), result["gram_gap"].sel(network="untrained").sel(reference="model"))

    def test_receptive_field(self) -> None:
        result = probed("receptive_field")
        (line,) = beside(receptive_field.radius_by_ratio({"a": result}, "token", 0.5))["untrained network, random"]
        assert line.x.tolist() == [0, 0.5]
        np.testing.assert_allclose(
            line.y, result["image_radius"].sel(network="untrained").sel(target="token", mass=0.5)
        )
        (line,) = beside(receptive_field.radius_by_depth({"a": result}, 0.5))["untrained network"]
        np.testing.assert_allclose(line.y, result["depth_image_radius"].sel(network="untrained").sel(mass=0.5))

    def test_attention(self) -> None:
        result = probed("encoder_attention")
        (line,) = beside(encoder_attention.measure({"a": result}, "entropy", "masked"))["untrained network"]
        np.testing.assert_allclose(line.y, result["entropy"].sel(network="untrained").sel(view="masked").mean("head"))
        result = probed("decoder_attention")
        drawn = beside(decoder_attention.positional_share({"a": result}))
        for variable, words in decoder_attention.READINGS.items():
            (line,) = drawn[f"untrained network, {words}"]
            np.testing.assert_allclose(line.y, result[f"{variable}_pooled"].sel(network="untrained"))
        bars = traces(decoder_attention.masses(result))
        assert bars[0].y == ("layer 1", "uniform attention", "untrained network, layer 1")
        wanted = result["mass"].sel(network="untrained").sel(key="self").mean("head")
        np.testing.assert_allclose([bar.x[-1] for bar in bars if bar.name == "self"], wanted)
        assert sum(bar.x[-1] for bar in bars) == pytest.approx(1)

    def test_reconstruction(self) -> None:
        results = {"a": probed("reconstruction"), "b": probed("reconstruction", seed=1)}
        drawn = beside(reconstruction.errors(results))["untrained network"]
        for position, (trace, result) in enumerate(zip(drawn, results.values(), strict=True)):
            assert trace.x[:3] == pytest.approx([float(result["error"].sel(network="untrained"))] * 3)
            assert trace.y[1] == position
            assert trace.line.color == style.GREY
        assert [trace.showlegend for trace in drawn] == [True, False]

    def test_local_contrast(self) -> None:
        result = probed("local_contrast")
        bars = [trace for trace in traces(local_contrast.terms({"a": result})) if trace.offsetgroup == "term"]
        assert bars[0].y == ("a", "untrained network", "raw pixels")
        totals = [float(result["loss"].sel(network=name)) for name in ("trained", "untrained", "pixels")]
        np.testing.assert_allclose(np.sum([bar.x for bar in bars], axis=0), totals, rtol=1e-5)
        assert bars[0].marker.opacity == (1, 0.55, 0.55)
        drawn = beside(local_contrast.terms_with_errors({"a": result}))
        for kind in ("untrained", "pixels"):
            values = list(drawn[LABELS[kind]][0].x[::4])
            np.testing.assert_allclose(
                values, result["term_unbiased"].sel(network=kind, part=list(local_contrast.PARTS))
            )
        shares = traces(local_contrast.token_share({"a": result}))
        np.testing.assert_allclose(np.sum([bar.x for bar in shares], axis=0), 1, rtol=1e-5)
        assert shares[0].x[1] == pytest.approx(
            float(result["token_share_unbiased"].sel(network="untrained").sel(source="mask"))
        )
        (line,) = beside(local_contrast.position_share({"a": result}))["untrained network"]
        np.testing.assert_allclose(numbers(line), result["position_share"].sel(network="untrained"))

    @pytest.mark.parametrize("factor", [1.0, 100.0])
    def test_a_baseline_far_away_is_told_in_numbers(self, factor: float) -> None:
        result = probed("local_contrast")
        result = result.assign(
            term_unbiased=result["term_unbiased"] * xr.where(result["network"] == "pixels", factor, 1.0)
        )
        for figure in (local_contrast.terms({"a": result}), local_contrast.terms_with_errors({"a": result})):
            assert bool(figure.layout.annotations) == (factor > 1)
            level = figure.layout.xaxis.autorangeoptions.maxallowed
            assert (level is not None) == (factor > 1)
            # all of what the runs themselves have is seen
            assert level is None or level >= 2 * float(trained(result)["term_unbiased"].max())
        total = float(result["term_unbiased"].sel(network="pixels").sum())
        (note,) = local_contrast.terms({"a": result}).layout.annotations or [go.layout.Annotation(text="")]
        assert note.text == (f"→ {total:.3g}" if factor > 1 else "")

    def test_results_without_baselines_are_drawn_as_ever(self) -> None:
        draw = {
            "spectrum": lambda one: spectrum.numbers(one, "rankme"),
            "invariance": lambda one: invariance.retrieval(one, "retrieval", "image"),
            "embedding_consistency": lambda one: embedding_consistency.consistency(one, "across", "cka"),
            "receptive_field": lambda one: receptive_field.area_by_ratio(one, "token", 0.5, "raw"),
            "encoder_attention": lambda one: encoder_attention.measure(one, "distance", "full"),
            "decoder_attention": decoder_attention.positional_share,
            "reconstruction": reconstruction.errors,
            "local_contrast": local_contrast.terms_with_errors,
        }
        for name, figure in draw.items():
            result = probed(name)
            bare = trained(result)
            with_them, without = figure({"a": result}), figure({"a": bare})
            assert beside(with_them), name
            assert not beside(without), name
            assert [trace.name for trace in own(with_them)] == [trace.name for trace in traces(without)], name


def test_pages_say_what_is_drawn() -> None:
    result = probed("local_contrast")
    captions = [one.caption for one in local_contrast_view.PAGE.panels({"a": result}, take_first)]
    assert "Fainter: an untrained network of the same shape; raw pixels" in captions[0]
    assert "Dashed: an untrained network of the same shape; dash-dotted: raw pixels" in captions[1]
    bare = {"a": without_distances(probed("encoder_attention"))}
    first, second, *_ = (one.caption for one in encoder_attention_view.PAGE.panels(bare, take_first))
    assert "untrained" not in first
    assert second.endswith("Dashed: an untrained network of the same shape; of the first 4 images.")
