"""The slow reference says what the probes say; work is counted, never timed; the benchmark runs
whole on a CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import probes as benchmark
from benchmarks.slow_probes import SLOW, comparable, mean_squared_cosine, mean_squared_cosine_by_distances, pair_spread
from benchmarks.work_done import Memory, cost_of
from lcmae.models import MaskedImageModel
from lcmae.objectives.base import uniformity
from lcmae.probes.base import Probe, run_probes
from lcmae.probes.encoder_attention import EncoderAttention
from lcmae.probes.invariance import Invariance
from lcmae.probes.local_contrast import LocalContrast
from lcmae.probes.receptive_field import ReceptiveField
from lcmae.probes.spectrum import Spectrum
from tests.conftest import tiny_mae, tiny_simmim

MODELS = {"mae": tiny_mae, "simmim": tiny_simmim}
PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        LocalContrast(num_masks=3, baseline_images=0, batch_size=2),
        EncoderAttention(baseline_images=0, batch_size=2),
        ReceptiveField(masks=("random",), ratios=(0.25, 0.75), baseline_images=0, num_images=4, batch_size=3),
        Invariance(num_masks=3, baseline_images=0, batch_size=2),
        Spectrum(num_masks=3, baseline_images=0, batch_size=2),
    )
}
SEED = 3


def lively(model: MaskedImageModel) -> MaskedImageModel:
    """Weights that make attention and features vary, in float64."""
    rng = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=rng)
    return model.double().eval()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", PROBES)
def test_the_slow_reference_says_what_the_probe_says(name: str, kind: str, images: Tensor) -> None:
    probe, model = PROBES[name], lively(MODELS[kind]())
    images = images.double()
    slow = SLOW[type(probe)](probe, model, images, SEED)
    results = run_probes([probe], model, images, SEED)
    assert not results.failures
    for variable, values in slow.items():
        fast = comparable(results.datasets[name], variable)
        np.testing.assert_allclose(values.cpu(), fast, rtol=1e-6, atol=1e-6, err_msg=variable)


def test_pairs_are_formed_and_agree_with_moments(rng: torch.Generator) -> None:
    vectors = torch.randn(50, 7, generator=rng, dtype=torch.float64)
    ones = torch.ones(50, dtype=torch.float64)
    # two points at distance 5: two ordered pairs of 25, over 2 * 2
    assert float(pair_spread(torch.tensor([[0.0, 0], [3, 4]]), torch.ones(2))) == pytest.approx(50 / 4)
    spread = (vectors - vectors.mean(0)).square().sum()
    assert float(pair_spread(vectors, ones)) == pytest.approx(float(spread), rel=1e-12)
    for slow in (mean_squared_cosine, mean_squared_cosine_by_distances):
        assert float(slow(vectors)) == pytest.approx(float(uniformity(vectors)), rel=1e-12)


def test_memory_follows_tensors_until_they_are_let_go_of() -> None:
    def work() -> None:
        first = torch.zeros(1000)
        second = first + 1
        view = second[10:]
        del first, second
        view += 1
        torch.ones(500)  # its 2,000 bytes come beside the 4,000 of the view's base

    with Memory() as memory:
        work()
    assert (memory.written, memory.peak, memory.held) == (4000 + 4000 + 2000, 8000, 0)


@pytest.mark.parametrize("kind", MODELS)
def test_the_work_of_a_probe_is_counted(kind: str, images: Tensor) -> None:
    model = MODELS[kind]().eval()
    cost = cost_of(lambda: run_probes([PROBES["local_contrast"]], model, images, SEED), model)
    # 5 images under 3 masks each
    assert (cost.encoder_rows, cost.decoder_rows) == (15, 15)
    gradients = cost_of(lambda: run_probes([PROBES["receptive_field"]], model, images, SEED), model)
    # 4 images: whole, under two masks that show the centre and, for predictions, two that hide it
    assert (gradients.encoder_rows, gradients.decoder_rows) == (4 + 8 + 8, 8)


def test_memory_is_flat_in_images_and_in_masks() -> None:
    model = tiny_mae().eval()
    images = torch.randn(16, 3, 8, 12, generator=torch.Generator().manual_seed(1))

    def peak(num_masks: int, part: Tensor) -> int:
        probe = LocalContrast(num_masks=num_masks, batch_size=16 // num_masks, baseline_images=0, num_pictures=0)
        return cost_of(lambda: run_probes([probe], model, part, SEED), model).peak_bytes

    assert peak(4, images) == pytest.approx(peak(4, images[:8]), rel=0.05)
    assert peak(4, images) == pytest.approx(peak(2, images), rel=0.2)


@pytest.mark.slow
def test_the_benchmark_runs_whole_and_keeps_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "--shape micro --data digits --probes local_contrast hierarchy --images 8 --slow-images 2 --pairs 32 --rows 16"
    )
    text = benchmark.main([*options.split(), "--rounds", "1", "--out", str(tmp_path / "new" / "probes.md")])
    assert (tmp_path / "new" / "probes.md").read_text() == text
    assert text in capsys.readouterr().out
    assert f"    python -m benchmarks.probes {options} --rounds 1 --out {tmp_path}/new/probes.md" in text
    # a probe that lacks what it needs is listed with its reason
    assert "| hierarchy | probe hierarchy: needs" in text
    assert text.count("\n| local_contrast |") == 2
    assert text.count("\n| battery |") == 1
    assert [line.split()[1] for line in text.splitlines()[-3:]] == ["4", "8", "16"]


def test_the_first_table_alone_in_time_of_the_processors(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--shape micro --data digits --probes local_contrast --images 4 --rounds 1 --cpu-seconds --first-table"
    text = benchmark.main([*options.split()])
    assert text in capsys.readouterr().out
    assert "| local_contrast | " in text
    assert text.count("\n## ") == 1


def test_stitching_stands_among_the_probes() -> None:
    options = "--shape micro --data digits --probes stitch --images 4 --rounds 1 --cpu-seconds --first-table"
    text = benchmark.main([*options.split()])
    [row] = [line for line in text.splitlines() if line.startswith("| stitch | ")]
    encoder_rows, decoder_rows = (float(cell) * 4 for cell in row.split(" | ")[2:4])
    # of 4 images: two encoders and two untrained ones; for each decoder its own tokens, the mean
    # one, two maps and an untrained encoder's, and both encoders' tokens as they are
    assert decoder_rows == 4 * 2 * 7
    assert encoder_rows >= 4 * 4


def test_a_ratio_is_the_median_of_ratios_within_a_round() -> None:
    row = benchmark.beside("x", {"fast x": [1.0, 2.0, 1.0], "slow x": [4.0, 4.0, 9.0]}, 0.0)
    assert (row.fast_s, row.slow_s, row.ratio) == (1.0, 4.0, 4.0)
