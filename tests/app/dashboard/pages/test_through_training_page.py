"""Through training: numbers against steps, the scrubber in every state, one scale for all steps."""

import base64
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lcmae.app.dashboard.pages.through_training import Moment, at_step
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures import through_training as pictures
from lcmae.probes.results.store import save_result
from tests.app import synthetic
from tests.app.pages import checked, figures, open_page, traces, words

NAME = "through_training"


def probed(path: Path, steps: tuple[int, ...] = (20, 40), **settings) -> None:
    """A run with a result of local_contrast at each step, another one each time."""
    run = synthetic.run(path, steps=steps, results=False)
    for step in steps:
        save_result(synthetic.local_contrast(seed=step, **settings), run.result_path(step, "local_contrast"))


def decoded(figure: dict) -> list[dict]:
    """Traces with their steps as numbers."""
    return [{**trace, "x": np.frombuffer(base64.b64decode(trace["x"]["bdata"]), trace["x"]["dtype"]).tolist()}
            if isinstance(trace.get("x"), dict) else trace for trace in figure["data"]]  # fmt: skip


def frame(*, normalised: bool = False):
    results = {("a", step): synthetic.local_contrast(seed=step) for step in (20, 40)}
    return pictures.numbers({**results, ("b", 20): synthetic.local_contrast(seed=5, normalised=normalised)})


def test_numbers_have_a_row_a_run_step_and_part():
    numbers = frame()
    term = numbers[(numbers["quantity"] == "part of the masked loss") & (numbers["step"] == 40)]
    assert term["value"].tolist() == synthetic.local_contrast(seed=40)["term"].values.tolist()
    assert term["part"].tolist() == [part.replace("_", " ") for part in synthetic.PARTS]
    assert len(numbers) == 3 * len(numbers[numbers["step"] == 40])


def with_baselines(loss: float, pixels: float, *, seed: int, error: float = 0.1):
    """A result whose loss has both baselines."""
    result = synthetic.local_contrast(seed=seed)
    units = result["loss"].attrs["units"]
    networks = ["trained", "untrained", "pixels"]
    own, sem = float(result["loss"]), float(result["loss_sem"])
    result["loss"] = synthetic.var("network", [own, loss, pixels], "masked loss (squared error)", units)
    result["loss_sem"] = synthetic.var("network", [sem, error, error], "standard error: masked loss", units)
    return result.assign_coords(network=networks)


def test_baselines_are_dashed_lines_in_the_panel_of_their_number():
    quantity = "masked loss (squared error)"
    alike = {(run, step): with_baselines(2.0, 3.0, seed=step) for run, step in (("a", 20), ("a", 40), ("b", 30))}
    numbers = pictures.numbers(alike)
    assert set(numbers[numbers["beside"] != ""]["quantity"]) == {quantity}
    assert pictures.usual(numbers) == [quantity, "part of the masked loss"]  # no panels of their own
    shown = pictures.against_steps(numbers, [quantity], runs=["a", "b"])
    by_name = {trace.name: trace for trace in traces(shown)}
    assert list(by_name) == ["untrained network", "raw pixels", "a", "b"]
    # other steps, the same number: one grey line from edge to edge
    assert by_name["untrained network"].y.tolist() == [2, 2]
    assert by_name["untrained network"].x.tolist() == list(shown.layout.xaxis.range)
    assert by_name["untrained network"].line.color == pictures.style.GREY
    assert by_name["raw pixels"].y.tolist() == [3, 3]
    assert by_name["raw pixels"].text[0] == "3 ± 0.2"
    assert list(by_name["a"].y) == [float(alike["a", step]["loss"].sel(network="trained")) for step in (20, 40)]


def test_baselines_that_differ_between_runs_or_steps_are_drawn_apart():
    quantity = "masked loss (squared error)"
    results = {
        ("a", 20): with_baselines(2.0, 3.0, seed=1),
        ("a", 40): with_baselines(2.5, 3.0, seed=2),
        ("b", 20): with_baselines(1.0, 3.0, seed=3),
        ("c", 20): synthetic.local_contrast(seed=4),
    }
    shown = pictures.against_steps(pictures.numbers(results), [quantity], runs=["c", "a", "b"])
    one, other = (trace for trace in traces(shown) if trace.name == "untrained network")
    assert (one.x.tolist(), one.y.tolist()) == ([20, 40], [2, 2.5])
    assert other.y.tolist() == [1, 1]
    colours = pictures.style.colours(["c", "a", "b"])
    assert (one.line.color, other.line.color) == (colours["a"], colours["b"])
    assert other.x.tolist() == list(shown.layout.xaxis.range)
    assert [trace.showlegend for trace in (one, other)] == [True, False]
    (pixels,) = (trace for trace in traces(shown) if trace.name == "raw pixels")
    assert pixels.y.tolist() == [3, 3]


def test_a_panel_for_each_number_with_its_interval_and_unit():
    shown = pictures.against_steps(frame(), ["part of the masked loss", "masked loss (squared error)"], runs=["a", "b"])
    headings = [heading.text for heading in list(shown.layout.annotations)]
    assert [heading.split("<br>")[-1] for heading in headings[:4]] == [
        f"<i>{part.replace('_', ' ')}</i>" for part in synthetic.PARTS
    ]
    first = next(trace for trace in traces(shown) if trace.name == "a")
    assert list(first.x) == [20, 40]
    values = [float(synthetic.local_contrast(seed=step)["term"].sel(part="invariance")) for step in (20, 40)]
    np.testing.assert_allclose(first.y, values)
    np.testing.assert_allclose(first.error_y.array, 1.96 * np.array(values) / 10)
    assert shown.layout.yaxis.title.text == "squared input units"
    assert [trace.showlegend for trace in traces(shown)].count(True) == 2


def test_ticks_stand_at_whole_steps():
    numbers = frame()
    one = pictures.against_steps(numbers.query("step == 20"), pictures.usual(numbers), runs=["a", "b"])
    assert one.layout.xaxis.tickvals == one.layout.xaxis2.tickvals == (20,)
    assert pictures.against_steps(numbers, pictures.usual(numbers), runs=["a", "b"]).layout.xaxis.tickvals is None


def test_runs_of_other_units_get_panels_of_their_own():
    wanted = pictures.panels(frame(normalised=True), ["masked loss (squared error)"])
    assert [unit for _, _, unit in wanted] == ["squared input units", "variance of a patch"]
    shown = pictures.against_steps(frame(normalised=True), ["masked loss (squared error)"], runs=["a", "b"])
    assert [trace.xaxis for trace in traces(shown)] == ["x", "x2"]


def test_usual_numbers_have_an_error_and_are_few():
    assert pictures.usual(frame()) == ["masked loss (squared error)", "part of the masked loss"]
    bare = frame().assign(**dict.fromkeys(("standard error", "low (95 %)", "high (95 %)"), np.nan))
    assert pictures.usual(bare) == ["masked loss (squared error)"]
    with pytest.raises(ValueError, match="expected at least one quantity"):
        pictures.against_steps(frame(), [], runs=["a"])


def test_numbers_stand_at_the_step_of_half_their_change():
    def rows(quantity: str, values: list[float]) -> list[dict[str, object]]:
        return [
            {"run": "a", "quantity": quantity, "part": "", "unit": "1", "step": 10 * at, "value": value,
             "standard error": 0.01, "low (95 %)": value - 0.02, "high (95 %)": value + 0.02, "beside": ""}
            for at, value in enumerate(values)
        ]  # fmt: skip

    table = pd.DataFrame([*rows("late", [0.0, 0.0, 1.0]), *rows("early", [0.0, 1.0, 1.0]), *rows("flat", [0.5] * 3)])
    shown = pictures.half_changes(table, runs=["a"])
    assert shown is not None
    (trace,) = traces(shown)
    np.testing.assert_allclose(trace.x, [5, 15])
    assert shown.to_dict()["layout"]["yaxis"]["ticktext"] == ["early", "late"]
    assert (trace.error_x.array > 0).all()
    assert pictures.half_changes(pd.DataFrame(rows("flat", [0.5] * 3)), runs=["a"]) is None


def test_each_run_is_shown_at_the_step_before_or_at_its_first():
    def moment(run: str, step: int) -> Moment:
        return Moment(run, Path(run), step, "x", ("", 0, 0))

    moments = [moment("a", 20), moment("a", 40), moment("b", 30)]
    assert [[one.step for one in at_step(moments, step)] for step in (20, 30, 40)] == [[20, 30], [20, 30], [40, 30]]


@pytest.mark.parametrize(("runs", "expected"), [([], "no run below"), (["a"], "Pick one or more runs")])
def test_without_a_run_or_a_pick(root: Path, runs: list[str], expected: str):
    for run in runs:
        probed(root / run)
    app = open_page(NAME)
    assert expected in words(app)
    assert figures(app) == []


def test_nothing_stored_comes_with_the_command(root: Path):
    synthetic.run(root / "a", results=False)
    app = open_page(NAME, "a")
    assert f"lcmae probe all --checkpoint {root}/a --every-step" in words(app)
    assert figures(app) == []


def test_the_slider_changes_the_figures_and_no_axis(root: Path):
    probed(root / "a", (20, 40, 60))
    app = open_page(NAME, "a")
    assert app.select_slider(key="at").value == 60
    late = figures(app)
    assert len(late) == 7
    checked(app.select_slider(key="at").set_value(20).run())
    early = figures(app)
    assert early[1]["data"] != late[1]["data"]
    for one, other in zip(early[1:], late[1:], strict=True):
        # the legend of bars aside, nothing of the layout moves: every axis and colour scale is
        # fixed
        assert one["layout"].get("xaxis") == other["layout"].get("xaxis")
        assert one["layout"].get("yaxis") == other["layout"].get("yaxis")
        assert one["layout"].get("coloraxis") == other["layout"].get("coloraxis")
    marks = [shape["x0"] for figure in (early, late) for shape in figure[0]["layout"]["shapes"][:1]]
    assert marks == [20, 60]


def test_a_link_opens_at_its_step_and_a_stale_one_says_so(root: Path):
    probed(root / "a")
    assert open_page(NAME, "a", at="20").select_slider(key="at").value == 20
    app = open_page(NAME, "a", at="30")
    assert "No longer here: step 30" in words(app)
    assert app.select_slider(key="at").value == 40


def test_one_step_needs_no_slider(root: Path):
    probed(root / "a", (40,))
    app = open_page(NAME, "a")
    assert not app.get("select_slider")
    assert "one stored step, 40" in words(app)
    assert len(figures(app)) == 7


def test_many_runs_of_different_steps(root: Path):
    probed(root / "a")
    probed(root / "b", (30,))
    probed(root / "n", normalised=True)
    app = open_page(NAME, "a", "b", "n")
    assert app.select_slider(key="at").options == ["20", "30", "40"]
    assert "b at 30" in words(app)
    text = json.dumps(figures(app))
    assert all(f'"{run}"' in text for run in "abn")


def test_a_torn_result_is_named_and_the_others_shown(root: Path):
    probed(root / "a", (20, 40, 60))
    file = root / "a" / "probes" / "000040" / "local_contrast.nc"
    file.write_bytes(file.read_bytes()[:1000])
    app = open_page(NAME, "a")
    assert "a, step 40: expected a probe result" in words(app)
    assert f"lcmae probe local_contrast --checkpoint {root}/a/checkpoints/000040" in words(app)
    assert app.select_slider(key="at").options == ["20", "60"]


def test_a_run_that_is_deleted_is_named(root: Path):
    probed(root / "a")
    probed(root / "b")
    app = open_page(NAME, "a", "b")
    shutil.rmtree(root / "b")
    assert "run b" in checked(app.run()).warning[0].value


def test_missing_steps_come_with_the_command_of_what_is_stored(root: Path):
    run = synthetic.run(root / "a", steps=(20, 40), results=False)
    result = synthetic.local_contrast()
    result.attrs["command"] = (
        f"lcmae probe local_contrast --checkpoint {run.path} --images 7 --local-contrast.num-masks 4"
    )
    save_result(result, run.result_path(40, "local_contrast"))
    text = words(open_page(NAME, "a"))
    wanted = f"lcmae probe local_contrast --checkpoint {root}/a --images 7 --local-contrast.num-masks 4 --every-step"
    assert wanted in text
    assert "a has no result of Local contrast at step 20" in text


def test_a_command_without_its_checkpoint_is_put_together(tmp_path: Path):
    like = synthetic.local_contrast()
    plain = f"lcmae probe all --checkpoint {shlex.quote(str(tmp_path))} --every-step"
    assert reading.every_step_command(tmp_path) == reading.every_step_command(tmp_path, like) == plain


def test_steps_that_were_measured_otherwise_stand_apart(root: Path):
    run = synthetic.run(root / "a", steps=(20, 40, 60), results=False)
    for step, images in ((20, 7), (40, 500), (60, 500)):
        result = synthetic.local_contrast(seed=step)
        result.attrs["num_images"] = images
        save_result(result, run.result_path(step, "local_contrast"))
    app = open_page(NAME, "a")
    assert [header.value for header in app.header] == ["Measured under other conditions: a at 20"]
    assert "digits, 500 images" in words(app)
    assert "digits, 7 images" in words(app)
    shown = figures(app)
    assert len(shown) == 2 * 7
    # no curve holds numbers of both
    assert next(trace["x"] for trace in decoded(shown[0]) if trace["name"] == "a") == [40, 60]
    assert next(trace["x"] for trace in decoded(shown[7]) if trace["name"] == "a") == [20]
    (question,) = [box for box in app.selectbox if box.label == "Measured on"]
    app = checked(question.select(question.options[1]).run())
    assert [header.value for header in app.header] == ["Measured under other conditions: a at 40, 60"]
    probed(root / "b")
    assert not open_page(NAME, "b").header


def test_runs_that_were_measured_otherwise_stand_apart(root: Path):
    for name, images in (("a", 7), ("b", 500), ("c", 500)):
        run = synthetic.run(root / name, results=False)
        for step in (20, 40):
            result = synthetic.local_contrast(seed=step)
            result.attrs["num_images"] = images
            save_result(result, run.result_path(step, "local_contrast"))
    app = open_page(NAME, "a", "b", "c")
    assert [header.value for header in app.header] == ["Measured under other conditions: a at 20, 40"]
    shown = figures(app)
    assert {trace["name"] for trace in shown[0]["data"]} == {"b", "c"}
    assert {trace["name"] for trace in shown[7]["data"]} == {"a"}


def test_quantities_of_a_link_are_drawn(root: Path):
    probed(root / "a")
    quantity = "share of the encoder tokens' variance"
    app = open_page(NAME, "a", numbers_local_contrast=quantity)
    assert app.multiselect(key="numbers_local_contrast").value == [quantity]
    assert [note["text"].split("<br>")[-1] for note in figures(app)[0]["layout"]["annotations"]] == [
        "<i>mask</i>", "<i>patch</i>", "<i>image</i>",
    ]  # fmt: skip
