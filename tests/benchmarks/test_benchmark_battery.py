"""The battery's memory and time are counted for the probe at work, and its result is that of
`run_probes`."""

import time
from pathlib import Path

import pytest
import torch
import xarray as xr
from torch import Tensor

from benchmarks import battery
from lcmae.probes.base import run_probes
from lcmae.probes.encoder_attention import EncoderAttention
from lcmae.probes.local_contrast import LocalContrast
from tests.conftest import tiny_mae


def test_memory_counts_for_whoever_is_at_work() -> None:
    clock = battery.Clock()
    with clock.running(), clock.during(("a", "update")):
        with clock.during(("b", "update")):
            held = torch.ones(16 * 2**20)  # 64 MiB
            time.sleep(4 * battery.EVERY)
        del held
    large, before = clock.peak["b", "update"], clock.peak[battery.BEFORE, ""]
    assert large - before > 40 * 2**20
    assert clock.seconds["b", "update"] > clock.seconds["a", "update"]


def test_results_are_those_of_the_probes(images: Tensor) -> None:
    probes, model = [LocalContrast(num_masks=2, batch_size=2), EncoderAttention(batch_size=3)], tiny_mae()
    clock = battery.Clock()
    found = battery.measure(probes, model, images, clock)
    assert {name for name, _ in clock.peak} - {*battery.BETWEEN} == {
        battery.BEFORE,
        "local_contrast",
        "encoder_attention",
    }
    wanted = run_probes(probes, model, images, battery.SEED)
    assert found.datasets.keys() == wanted.datasets.keys()
    for name, result in found.datasets.items():
        xr.testing.assert_allclose(result, wanted.datasets[name].drop_attrs())


def test_it_runs_whole_and_names_what_could_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--shape micro --data digits --probes spectrum hierarchy --images 6"
    text = battery.main([*options.split(), "--out", str(tmp_path / "battery.md")])
    assert (tmp_path / "battery.md").read_text() == text
    assert text in capsys.readouterr().out
    assert f"    python -m benchmarks.battery {options} --out" in text
    assert "GiB stood before the first image" in text
    assert text.count("\n| spectrum |") == 1
    assert "needs" in text.partition("\n| hierarchy |")[2]
