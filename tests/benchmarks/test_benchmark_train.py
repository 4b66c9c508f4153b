"""The benchmark's own arithmetic, and that it runs whole on a CPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import contenders, train
from benchmarks.contenders import config_of, noise, ours, theirs
from benchmarks.idle import gaps
from benchmarks.peers import PEERS
from benchmarks.roof import Operation, Rates, block, roof_seconds, step_operations, total_flops
from lcmae.errors import InputError
from lcmae.models import MAEConfig

CPU = torch.device("cpu")


def counted(work: contenders.Work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("objective", ["mae", "umae", "lcmae", "simmim", "usimmim"])
@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_the_formula_counts_what_torch_counts(objective: str, ratio: float) -> None:
    config = config_of("micro", objective, 4)
    mask = config.objective.mask.model_copy(update={"ratio": ratio})
    # written out, attention is matrix products, which the counter knows on every device
    config = config.model_copy(
        update={"objective": config.objective.model_copy(update={"mask": mask}), "attention": "written"}
    )
    assert counted(ours(config, noise(config, 8, CPU))) == 4 * total_flops(step_operations(config))


def test_a_block_moves_36_values_forward_and_69_backward_a_token_and_dimension() -> None:
    whole = block(10, 10, 8, 32)
    assert sum(each.values for each in whole) == (36 + 69) * 10 * 8
    # 24 d^2 + 4 t d a token forward (shared/notes/speed.md), twice that backward
    assert total_flops(whole) == 3 * 10 * (24 * 8**2 + 4 * 10 * 8)
    assert total_flops(block(10, 4, 8, 32)) < total_flops(whole)


def test_the_roof_is_the_slower_of_arithmetic_and_traffic_for_each_operation() -> None:
    operations = [Operation("arithmetic", 6e3, 1), Operation("traffic", 1, 50)]
    # 6000 / 1000 s, then 50 values of 2 bytes at 20 bytes/s
    assert roof_seconds(operations, Rates(flops=1e3, bytes=20), 2) == pytest.approx(6 + 5)


@pytest.mark.parametrize(
    ("spans", "idle"),
    [
        ([(0, 10)], 0.0),
        ([(5, 10), (0, 5)], 0.0),
        ([(0, 2), (8, 10)], 0.6),
        ([(0, 6), (1, 2), (4, 8), (9, 10)], 0.1),
    ],
    ids=["one", "touching", "gap", "nested"],
)
def test_gaps(spans: list[tuple[float, float]], idle: float) -> None:
    assert gaps(spans) == pytest.approx(idle)


@pytest.mark.parametrize("name", PEERS)
def test_peers_train_every_weight_and_do_the_work_of_a_whole_step(name: str) -> None:
    config = config_of("micro", "mae", 8)
    source = noise(config, 16, CPU)
    work = theirs(name, config, source, compiled=False)
    assert isinstance(config.model, MAEConfig)
    model = PEERS[name](config.model, 0.75)
    model(torch.randn(8, 3, 8, 8)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert not parameter.requires_grad or (parameter.grad is not None and parameter.grad.any()), parameter_name
    # all patches embedded, all predicted: more than ours, but not another model
    mine = counted(ours(config, source))
    assert mine < counted(work) < 1.3 * mine


def test_it_runs_whole_and_keeps_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--shapes micro --batch 8 --variants eager --rounds 3 --steps 1 --objectives mae lcmae --attention auto written"
    )
    rows = train.main([*options.split(), "--out", str(tmp_path)])
    names = [(row.objective, row.name) for row in rows]
    assert names == [
        ("mae", "eager"),
        ("mae", "eager, written"),
        ("lcmae", "eager"),
        ("lcmae", "eager, written"),
        ("mae", "timm loop"),
        ("mae", "Hugging Face"),
    ]
    (stored,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert stored["command"] == f"python -m benchmarks.train {options} --out {tmp_path}"
    assert [each["step_s"] for each in stored["rows"]] == [row.step_s for row in rows]
    for row in rows:
        assert row.step_s is not None
        assert row.fastest_step_s is not None
        assert row.images_per_s == pytest.approx(8 / row.step_s)
        assert row.step_s >= row.fastest_step_s > 0
        assert 0 < (row.share_of_roof or 0) < 1
        assert f"mae {row.name}" not in row.speedup or row.objective != "mae"
    (table,) = (path.read_text() for path in tmp_path.glob("*.md"))
    assert table in capsys.readouterr().out
    assert table.count("| micro | 8 |") == len(rows)


def test_what_does_not_fit_in_memory_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_large(*arguments: Any, **options: Any) -> contenders.Work:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(train, "theirs", too_large)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    options = "--shapes micro --batch 8 --variants eager --rounds 1 --objectives mae --peers"
    rows = train.main([*options.split(), "Hugging Face"])
    assert [row.step_s is None for row in rows] == [False, True]
    assert "| mae | Hugging Face | out of memory |" in capsys.readouterr().out


def test_a_batch_that_is_no_whole_number_of_micro_batches_is_refused() -> None:
    with pytest.raises(InputError, match="multiple of accumulate"):
        config_of("micro", "mae", 8, accumulate=3)
