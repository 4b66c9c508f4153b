"""Two conditions of one probe: pages and reports keep them apart, whichever was stored last."""

from pathlib import Path

import pytest

from lcmae.app.report import write_report
from lcmae.probes.registry import PROBES
from lcmae.probes.results import catalogue
from lcmae.runs.run import Run
from tests.app import synthetic
from tests.app.pages import checked, figures, open_page, words
from tests.few import few

MANY, FEW = {"num_images": 360, "data": "digits"}, {"num_images": 4, "data": "cifar10"}


def add(run: Run, probe: str, condition: dict[str, object]) -> Path:
    synthetic_result = synthetic.RESULTS[probe](seed=1, normalised=False)
    about = {**synthetic_result.attrs, "probe": probe, "split": "test", "checkpoint_sha256": run.name, **condition}
    return catalogue.add(synthetic_result.assign_attrs(about), run.results_folder(40))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCMAE_RUNS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("probe", few(PROBES))
def test_two_conditions_lie_side_by_side_in_any_order(tmp_path: Path, probe: str) -> None:
    for name, order in (("a", [MANY, FEW, MANY]), ("b", [FEW, MANY])):
        run = synthetic.run(tmp_path / name, results=False)
        files = [add(run, probe, condition) for condition in order]
        assert len(set(files)) == 2
        found = {one.condition.num_images for one in catalogue.stored(run.results_folder(40), probe)}
        assert found == {"360", "4"}


def test_a_page_shows_the_shared_condition_and_offers_the_other(root: Path) -> None:
    a, b = (synthetic.run(root / name, results=False) for name in "ab")
    for run, condition in ((a, MANY), (b, MANY), (a, FEW)):
        add(run, "local_contrast", condition)
    app = checked(open_page("local_contrast", "a", "b"))
    assert "digits, 360 test images" in words(app)
    assert not app.header
    alone = len(figures(app))

    (question,) = [box for box in app.selectbox if box.label == "Data"]
    assert len(question.options) == 2
    app = checked(question.select(question.options[1]).run())
    assert [header.value for header in app.header] == ["Measured under other conditions: b"]
    assert "cifar10, 4 test images" in words(app)
    assert len(figures(app)) > alone


def test_a_report_keeps_conditions_apart(tmp_path: Path) -> None:
    a, b = (synthetic.run(tmp_path / name, results=False) for name in "ab")
    add(a, "local_contrast", MANY)
    add(b, "local_contrast", FEW)
    write_report([a.path, b.path], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "Measured under other conditions: " in text
    assert "digits, 360 test images" in text
    assert "cifar10, 4 test images" in text
