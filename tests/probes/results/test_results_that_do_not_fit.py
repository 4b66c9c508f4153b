"""Every reader of stored results holds them against the contract of their probe: what does not fit
costs its own run one sentence."""

from pathlib import Path

import pytest
import xarray as xr

import lcmae
from lcmae.app.report import write_report
from lcmae.errors import InputError
from lcmae.probes.grids.row import add_scalars
from lcmae.probes.results.collection import ResultsWarning
from lcmae.probes.results.store import save_result
from lcmae.runs.run import Run
from tests.app import synthetic


def test_a_result_of_another_form_costs_its_own_run_one_sentence(tmp_path: Path) -> None:
    """Its table, figures and answer are those of the others; the report says the sentence."""
    for name in "ab":
        run = synthetic.run(tmp_path / name, results=False)
        save_result(synthetic.local_contrast(), run.result_path(40, "local_contrast"))
    bad = synthetic.local_contrast().drop_vars("loss")
    file = Run.open(tmp_path / "b").result_path(40, "local_contrast")
    save_result(bad, file)
    found = lcmae.results(tmp_path)
    assert found.runs == ["a", "b"]
    said = r"b is left out: expected a result as local_contrast writes it at .*, got none of the name loss"
    with pytest.warns(ResultsWarning, match=said) as heard:
        frame = found.to_frame()
    assert len(heard) == 1
    assert set(frame["run"]) == {"a"}
    assert found.answer("local_contrast")
    assert found.figures("local_contrast")
    assert isinstance(found["local_contrast"], xr.Dataset)
    with pytest.raises(InputError, match="a probe that a and b both have"):
        found.compare("a", "b")
    with pytest.warns(ResultsWarning), pytest.raises(InputError, match="got none of the name loss"):
        lcmae.results(tmp_path / "b").answer("local_contrast")
    with pytest.raises(InputError, match="got none of the name loss"):
        add_scalars({}, {}, "local_contrast", file)
    write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "report.html")
    assert "expected a result" in (tmp_path / "report.html").read_text()
