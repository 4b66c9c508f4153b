"""The frequency probe: amplitudes of known waves, CKA against its definition, and what it costs."""

import cmath
import math

import numpy as np
import pytest
import torch
import xarray as xr
from einops import rearrange
from torch import Tensor

from lcmae.errors import InputError
from lcmae.models import MAE
from lcmae.patches import patchify
from lcmae.probes.frequency import (
    Frequency,
    Sets,
    centred_gram,
    compare_layers,
    diagonal_frequencies,
    hsic,
    log_amplitude,
    relative_diagonal,
)
from lcmae.probes.jobs.batch import scalars
from lcmae.probes.registry import probe_class
from lcmae.probes.results.store import load_result, save_result
from lcmae.probes.watching.batch import Batch
from tests.conftest import tiny_mae, tiny_simmim
from tests.reference.work import counted_rows, numbers_held

SMALL = Frequency(set_size=5, batch_size=4)


def slow_hsic(one: Tensor, two: Tensor) -> float:
    """The U-statistic of Song et al. (2012) by its meaning: the mean over four different images of
    a product of contrasts."""
    count, total, number = len(one), 0.0, 0
    for i in range(count):
        for j in range(count):
            for q in range(count):
                for r in range(count):
                    if len({i, j, q, r}) == 4:
                        total += float(one[i, j] * (two[i, j] + two[q, r] - 2 * two[i, q]))
                        number += 1
    return total / number


def test_hsic_equals_its_definition(rng: torch.Generator) -> None:
    grams = torch.stack([centred_gram(torch.randn(6, width, generator=rng)) for width in (3, 8)])
    found = hsic(grams)
    for one in range(2):
        for two in range(2):
            assert float(found[one, two]) == pytest.approx(slow_hsic(grams[one], grams[two]), rel=1e-9)


def test_cka_of_rotated_copies_is_one_and_of_strangers_near_zero(rng: torch.Generator) -> None:
    points = torch.randn(60, 8, generator=rng)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=rng)).Q
    sets = Sets(60, 20)
    for first in range(0, 60, 7):
        part = points[first : first + 7]
        sets.add([part, 3 * part @ turn + 5, torch.randn(len(part), 500, generator=rng), torch.ones(len(part), 4)])
    value, sem = sets.cka()
    assert sets.count == 3
    assert float(value[0, 1]) == pytest.approx(1, abs=1e-5)
    # without the debiasing this would be near sqrt(8 / 60)
    assert abs(float(value[0, 2])) < 0.1
    assert value[3].isnan().all()  # constant features have no similarity
    assert float(sem[0, 1]) == pytest.approx(0, abs=1e-5)
    assert float(sem[0, 2]) > 0


def test_minibatches_do_not_depend_on_batches(rng: torch.Generator) -> None:
    points = torch.randn(23, 6, generator=rng)
    once, often = Sets(23, 8), Sets(23, 8)
    once.add([points, points.square()])
    for part in points.split(3):
        often.add([part, part.square()])
    torch.testing.assert_close(once.cka(), often.cka())
    by_hand = [
        hsic(torch.stack([centred_gram(part), centred_gram(part.square())]))
        for part in (points[:7], points[7:15], points[15:])
    ]
    both = sum(by_hand)
    assert isinstance(both, Tensor)
    assert float(once.cka()[0][0, 1]) == pytest.approx(float(both[0, 1] / (both[0, 0] * both[1, 1]).sqrt()), rel=1e-9)


def test_amplitude_equals_its_definition(rng: torch.Generator) -> None:
    tokens = torch.randn(2, 6, 3, generator=rng)
    found = log_amplitude(tokens, (2, 3))
    for row in range(2):
        for column in range(3):
            logs = []
            for channel in range(3):
                total = 0j
                for y in range(2):
                    for x in range(3):
                        wave = cmath.exp(-2j * math.pi * (row * y / 2 + column * x / 3))
                        total += float(tokens[1, y * 3 + x, channel]) * wave
                logs.append(math.log(abs(total) + 1e-6))
            assert float(found[1, row, column]) == pytest.approx(np.mean(logs), rel=1e-6)


def test_a_wave_has_one_frequency() -> None:
    # 2 + cos along the diagonal, 3 cycles in 8 patches each way: amplitude 128 at 0, 32 at the wave
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    wave = 2 + torch.cos(2 * math.pi * 3 / 8 * (y + x))
    curve = relative_diagonal(log_amplitude(rearrange(wave, "r c -> 1 (r c) 1"), (8, 8)))[0]
    assert diagonal_frequencies((8, 8)).tolist() == [0, 0.125, 0.25, 0.375, 0.5]
    assert float(curve[3]) == pytest.approx(math.log(32 / 128), abs=1e-5)
    assert (curve[[1, 2, 4]] < -15).all()


def test_diagonal_of_a_rectangle_has_equal_frequencies() -> None:
    amplitude = torch.fft.fftfreq(4)[:, None].abs() * 10 + torch.fft.fftfreq(6).abs()
    found = relative_diagonal(amplitude)
    assert diagonal_frequencies((4, 6)).tolist() == [0, 0.5]
    torch.testing.assert_close(found, torch.tensor([0, 5.5]))


def test_result_is_that_of_the_model_s_own_tokens(mae: MAE, rng: torch.Generator) -> None:
    images = torch.randn(9, 3, 8, 12, generator=rng)
    found = SMALL(mae, images, rng)
    assert found.layer.values.tolist() == ["input", "encoder 1", "encoder 2", "decoder 1"]
    patches = patchify(images, 2)
    own = log_amplitude(patches, (4, 6))
    np.testing.assert_allclose(found.amplitude_map.sel(network="trained", layer="input"), own.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        found.amplitude_map_sem.sel(network="untrained", layer="input"), own.std(0) / 3, rtol=1e-5
    )
    # the last block, by running the encoder by hand
    mae.eval()
    with torch.no_grad():
        tokens = patches @ rearrange(mae.patch_embed.proj.weight, "d c p q -> (p q c) d")
        tokens = tokens + mae.state_dict()["patch_embed.proj.bias"]
        tokens = torch.cat([(mae.cls_token + mae.pos_embed[:, :1]).expand(9, -1, -1), tokens + mae.pos_embed[:, 1:]], 1)
        for block in mae.blocks:
            tokens = block(tokens)
    last = log_amplitude(tokens[:, 1:], (4, 6)).mean(0)
    np.testing.assert_allclose(
        found.amplitude_map.sel(network="trained", layer="encoder 2"), last, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(np.diagonal(found.cka.values, axis1=1, axis2=2), 1, rtol=1e-5)
    np.testing.assert_allclose(found.cka, found.cka.transpose("network", "other_layer", "layer"), rtol=1e-6)
    # two networks that learned nothing, of different weights
    assert float(abs(found.cka[0, 1, 2] - found.cka[1, 1, 2])) > 0


def test_two_checkpoints_are_compared(rng: torch.Generator) -> None:
    images = torch.randn(9, 3, 8, 12, generator=rng)
    one, other = tiny_mae(), tiny_simmim(pixel_mean=(0.1,), pixel_std=(0.3,), patch_size=4)
    itself = compare_layers(one, one, images, set_size=5)
    np.testing.assert_allclose(np.diagonal(itself.cka.values), 1, rtol=1e-5)
    found = compare_layers(one, other, images, set_size=5, batch_size=4)
    assert found.other_layer.values.tolist() == ["input", "encoder 1", "encoder 2"]
    # patches of any size hold the same pixels, and linear CKA does not see the other model's scale
    # and shift
    assert float(found.cka.sel(layer="input", other_layer="input")) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match=r"two models of the same images .* got \(3, 8, 12\) and \(1, 8, 12\)"):
        compare_layers(one, tiny_mae(channels=1), images)
    with pytest.raises(InputError, match="at least 4 images to compare layers on, got 3"):
        compare_layers(one, other, images[:3])


def test_memory_is_flat_work_linear_and_passes_shared(mae: MAE, rng: torch.Generator) -> None:
    held, rows = {}, {}
    for count in (40, 160):
        images = torch.randn(count, 3, 8, 12, generator=rng)
        accumulator = SMALL.start(mae, count, 0)
        with counted_rows(mae.blocks[0]) as seen:
            for first in range(0, count, 5):
                accumulator.update(Batch(mae, images[first : first + 5], first, 0))
        held[count], rows[count] = numbers_held([accumulator.maps, accumulator.curves, accumulator.sets]), sum(seen)
    assert rows[160] == 4 * rows[40] == 160
    assert held[160] == held[40]


def test_of_large_networks_minibatches_are_smaller(
    mae: MAE, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, probe = torch.randn(40, 3, 8, 12, generator=rng), Frequency(set_size=20)
    widths = [12, *(mae.config.width for _ in mae.blocks), *(mae.config.decoder_width for _ in mae.decoder_blocks)]
    numbers = mae.num_patches * sum(widths)  # of an image and network
    found = {}
    for most in (20, 13, 3):
        monkeypatch.setattr("lcmae.probes.frequency.MOST_BYTES", 2 * 4 * numbers * most)
        found[most] = probe(mae, images, torch.Generator().manual_seed(0))
    # 40 images: two minibatches of 20, four of 10 where 13 are held at most, five of 8 in any case
    assert [found[most].attrs["num_sets"] for most in (20, 13, 3)] == [2, 4, 5]
    monkeypatch.undo()
    wanted = Frequency(set_size=10)(mae, images, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(found[13].cka, wanted.cka)
    assert found[3].cka.notnull().all()


def test_few_images_and_constant_features(mae: MAE, images: Tensor, tmp_path) -> None:
    assert probe_class("frequency") is Frequency
    found = Frequency(untrained=False)(mae, images[:3], torch.Generator().manual_seed(0))
    assert found.network.values.tolist() == ["trained"]
    assert found.cka.isnull().all()
    assert not found.log_amplitude.isnull().any()
    flat = Frequency()(mae, torch.zeros(5, 3, 8, 12), torch.Generator().manual_seed(0))
    assert flat.cka.isnull().all()
    save_result(found, tmp_path / "frequency.nc")
    xr.testing.assert_equal(load_result(tmp_path / "frequency.nc"), found)


def test_the_table_s_numbers_are_of_the_last_encoder_block(mae: MAE, images: Tensor) -> None:
    found = SMALL(mae, images, torch.Generator().manual_seed(1))
    last = f"encoder {len(mae.blocks)}"
    for suffix in ("", "_sem"):
        curve = found[f"log_amplitude{suffix}"].sel(layer=last).isel(frequency=-1)
        np.testing.assert_array_equal(found[f"last_high_frequency{suffix}"], curve)
        alike = found[f"cka{suffix}"].sel(layer=last, other_layer="input")
        np.testing.assert_array_equal(found[f"last_cka_to_input{suffix}"], alike)
    table = scalars(found)
    assert {"last_high_frequency", "last_cka_to_input", "last_high_frequency_untrained"} <= table.keys()
