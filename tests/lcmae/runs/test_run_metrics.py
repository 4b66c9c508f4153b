"""metrics.jsonl: lines come back as they were, and a torn tail costs nothing else."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from lcmae.errors import InputError
from lcmae.runs.run import Run

numbers = st.floats() | st.integers(-(2**60), 2**60) | st.booleans() | st.none() | st.text(st.characters(codec="utf-8"))
records = st.dictionaries(st.text(st.characters(codec="utf-8")), numbers | st.lists(numbers, max_size=3), max_size=4)


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # nan equals nan, 0.0 differs from -0.0, 1 from 1.0 and True


@given(lines=st.lists(records, max_size=4), cut=st.integers(0, 400))
def test_metrics_come_back_and_a_cut_file_is_a_prefix(lines: list[dict[str, Any]], cut: int) -> None:
    lines = [{key: value for key, value in line.items() if value not in ("nan", "inf", "-inf")} for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", {})
        for line in lines:
            run.log_metrics(line)
        assert same(run.metrics(), [restored(line) for line in lines])
        path = run.path / "metrics.jsonl"
        if path.exists():
            path.write_bytes(path.read_bytes()[:-cut] if cut else path.read_bytes())
            left = run.metrics()
            assert same(left, [restored(line) for line in lines][: len(left)])
            run.log_metrics({"after": 1})  # never glued to the torn line
            assert run.metrics()[-1] == {"after": 1}
            assert same(run.metrics()[:-1], left)


def restored(line: dict[str, Any]) -> dict[str, Any]:
    """The three words that stand for numbers are numbers when they come back, also inside lists."""
    words = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

    def word(value: Any) -> Any:
        return words[value] if isinstance(value, str) and value in words else value

    return {key: [word(v) for v in value] if isinstance(value, list) else word(value) for key, value in line.items()}


def test_numbers_of_torch_and_nested_terms_are_stored(run: Run) -> None:
    run.log_metrics({"step": 1, "loss": torch.tensor(0.5), "terms": {"offset": math.nan, "all": (1, math.inf)}})
    (line,) = run.metrics()
    assert line["loss"] == 0.5
    assert math.isnan(line["terms"]["offset"])
    assert line["terms"]["all"] == [1, math.inf]
    for text in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    with pytest.raises(InputError, match="got 3"):
        run.log_metrics({"terms": {3: 1}})
    with pytest.raises(InputError, match="got object"):
        run.log_metrics({"loss": object()})


def test_torn_tail_is_silent_and_broken_lines_are_counted(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.log_metrics({"step": 1})
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 2, "lo')
    assert run.metrics() == [{"step": 1}]
    assert not caplog.records
    path.write_bytes(b'\0\0\0\n{"step": 1}\n[1]\n\xff\n{"step": 2}')
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    assert "skipped 3 broken lines" in caplog.text


def test_truncated_metrics_forget_the_steps_to_come(run: Run) -> None:
    run.truncate_metrics(3)
    assert run.metrics() == []
    for step in range(1, 6):
        run.log_metrics({"step": step, "loss": 1 / 3})
    run.log_metrics({"note": "without a step"})
    path = run.path / "metrics.jsonl"
    first_lines = path.read_bytes().splitlines(keepends=True)[:3]
    path.write_bytes(path.read_bytes() + b'{"step": 3')
    run.truncate_metrics(3)
    assert path.read_bytes() == b"".join(first_lines) + b'{"note": "without a step"}\n'
    run.log_metrics({"step": 4})
    assert [line.get("step") for line in run.metrics()] == [1, 2, 3, None, 4]
