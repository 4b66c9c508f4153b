"""`lcmae.stitch`: maps beside least squares, and known answers: a rotated copy costs nothing, equal
models hand over as they are, a constant is what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import lcmae
from lcmae.adapters import Adapted
from lcmae.app import cli
from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.masking import Random
from lcmae.models import MAE
from lcmae.probes.results.store import load_result
from lcmae.probes.statistics.seeds import probe_seed
from lcmae.probes.stitching.affine import Moments, chosen_map
from lcmae.probes.watching.batch import Batch
from lcmae.training.train import publish_untrained
from tests.conftest import tiny_mae, tiny_simmim
from tests.reference.probes import stitch as reference
from tests.reference.tiny_runs import tiny_run


def pixels(count: int, seed: int = 0) -> np.ndarray:
    """Smooth images: neighbouring patches are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((count, 2, 3, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (255 * (0.8 * coarse + 0.2 * rng.random((count, 8, 12, 3)))).astype(np.uint8)


def model(seed: int, **settings: object) -> MAE:
    torch.manual_seed(seed)
    network = tiny_mae(**settings).eval()
    for name, parameter in network.named_parameters():
        if "pos_embed" not in name and parameter.ndim > 1:  # tokens that differ from each other
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def rotated(inner: MAE) -> Adapted:
    """A copy whose encoder hands its tokens on rotated, and whose decoder turns them back."""
    turn, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(5)))

    def encode(images: torch.Tensor, mask: Mask) -> torch.Tensor:
        prefix, tokens, _ = inner.encode(images, mask)
        return torch.cat([prefix, tokens], 1) @ turn

    def predict(tokens: torch.Tensor, mask: Mask) -> torch.Tensor:
        tokens = tokens @ turn.T
        return inner.predict(tokens[:, :1], tokens[:, 1:], mask)

    return lcmae.adapt(
        inner, image_size=(8, 12), patch_size=2, encode=encode, predict=predict, num_prefix=1,
        pixel_mean=(0.5,), pixel_std=(0.5,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    """A model, its rotated copy and another model of the same grid, of another width."""
    own = model(1)
    models = {"a": own, "turned": rotated(own), "other": model(2, width=20)}
    return lcmae.stitch(models, pixels(24), fit=pixels(80, seed=1), mask=Random(ratio=0.5))


def test_a_rotated_copy_costs_nothing(found: xr.Dataset) -> None:
    same = found["increase"].sel(encoder=["a", "turned"], decoder=["a", "turned"])
    assert (abs(same) < 1e-4).all()
    # handed over as they are, turned tokens are noise; and another network's cost something
    assert abs(float(found["identity_increase"].sel(encoder="turned", decoder="a"))) > 0.01
    assert abs(float(found["increase"].sel(encoder="other", decoder="a"))) > 1e-3
    assert found["identity_increase"].sel(encoder="other", decoder="a").isnull()
    np.testing.assert_array_equal([float(found["identity_increase"].sel(encoder=n, decoder=n)) for n in "a"], 0)


def test_increases_are_those_of_the_definition() -> None:
    """One image and one row at a time, with maps from least squares on rows."""
    models, strategy = {"a": model(1), "b": model(2, width=20)}, Random(ratio=0.5)
    fitted, measured = pixels(25, seed=1), pixels(6)
    found = lcmae.stitch(models, measured, fit=fitted, mask=strategy, seed=3)

    def codes(name: str, images: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], list[Mask]]:
        """Class tokens, tokens and masks, image by image."""
        network, prefixes, tokens, masks = models[name], [], [], []
        for position, image in enumerate(images):
            shown = network.prepare(torch.from_numpy(image).permute(2, 0, 1)[None])
            mask = Batch(network, shown, position, probe_seed(3)).masks(strategy, 1)
            prefix, own, _ = network.encode(shown, mask)
            prefixes.append(prefix[0].detach().double().numpy())
            tokens.append(own[0].detach().double().numpy())
            masks.append(mask)
        return prefixes, tokens, masks

    def loss(name: str, image: np.ndarray, prefix: np.ndarray, tokens: np.ndarray, mask: Mask) -> float:
        network = models[name]
        target = network.targets(network.prepare(torch.from_numpy(image).permute(2, 0, 1)[None]))[0]
        with torch.no_grad():
            pred = network.predict(torch.tensor(prefix).float()[None], torch.tensor(tokens).float()[None], mask)[0]
        return float((pred - target)[mask.is_hidden[0]].square().mean())

    for encoder in models:
        for decoder in models:
            mine, theirs = codes(encoder, fitted), codes(decoder, fitted)
            of_prefix = reference.chosen_map(mine[0], theirs[0])
            of_tokens = reference.chosen_map(mine[1], theirs[1])
            handed, intact = [], []
            own, code = codes(decoder, measured), codes(encoder, measured)
            for index, image in enumerate(measured):
                mask = own[2][index]
                intact.append(loss(decoder, image, own[0][index], own[1][index], mask))
                carried = of_prefix(code[0][index]), of_tokens(code[1][index])
                handed.append(loss(decoder, image, *carried, mask))
            number = float(found["increase"].sel(encoder=encoder, decoder=decoder))
            # tokens are float32, and so are decoders
            assert number == pytest.approx(reference.increase(handed, intact), rel=1e-3, abs=1e-4), (encoder, decoder)
            assert float(found["loss"].sel(decoder=decoder)) == pytest.approx(np.mean(intact), rel=1e-5)


def test_the_constant_is_the_mean_token_everywhere() -> None:
    own = model(1)
    fitted, measured = pixels(20, seed=1), pixels(6)
    found = lcmae.stitch({"a": own, "b": model(2)}, measured, fit=fitted, mask=Random(ratio=0.5), seed=3)
    again = lcmae.stitch({"a": own, "b": model(2)}, measured, fit=fitted, mask=Random(ratio=0.5), seed=3, batch_size=5)
    for name in found.data_vars:
        xr.testing.assert_allclose(found[name], again[name], rtol=1e-3, atol=1e-5)
    assert found.attrs["fit_images"] == 20
    # every decoder reads its own code best
    assert float(found["constant_increase"].sel(decoder="a")) != 0
    assert {"loss_sem", "increase_sem", "untrained_increase_sem"} <= set(found)
    assert found["increase_sem"].attrs["error_sources"] == "images"


def test_the_map_is_ridge_regression(rng: torch.Generator) -> None:
    x = torch.randn(50, 4, generator=rng).double() @ torch.randn(4, 6, generator=rng).double() + 3
    y = torch.randn(50, 3, generator=rng).double()
    moments = Moments()
    moments.add(x[:20], y[:20])
    moments.add(x[20:], y[20:])
    found = moments.fit(0.1)
    # the same as least squares with the ridge as further rows
    centred = x - x.mean(0)
    level = centred.square().mean()
    rows = torch.cat([centred, (0.1 * level * 50).sqrt() * torch.eye(6)])
    wanted = torch.linalg.lstsq(rows, torch.cat([y - y.mean(0), torch.zeros(6, 3)]), driver="gelsd").solution
    torch.testing.assert_close(found.weight, wanted, rtol=1e-6, atol=1e-8)
    assert moments.error(found) == pytest.approx(float((found(x) - y).square().sum(1).mean()), rel=1e-6)
    torch.testing.assert_close(moments.constant()(x), y.mean(0).expand(50, -1))
    # noise is best predicted by a strong ridge, a law by a weak one
    law = Moments()
    law.add(x, x @ torch.randn(6, 2, generator=rng).double())
    assert chosen_map(law, law)[1] == 1e-8
    held = Moments()
    held.add(torch.randn(50, 6, generator=rng).double(), torch.randn(50, 3, generator=rng).double())
    assert chosen_map(moments, held)[1] == 1.0


def test_models_that_do_not_fit_are_one_line() -> None:
    some = pixels(12)
    with pytest.raises(InputError, match="at least two models to stitch, got 1"):
        lcmae.stitch({"a": model(1)}, some)
    with pytest.raises(
        InputError, match="the same grid to stitch, got 4x6 patches of 2 pixels in a and 2x3 patches of 4 pixels in b"
    ):
        lcmae.stitch({"a": model(1), "b": model(1, patch_size=4)}, some)
    with pytest.raises(
        InputError, match="the same tokens to stitch, got tokens of visible patches alone in a and a token for every"
    ):
        lcmae.stitch({"a": model(1), "b": tiny_simmim()}, some)
    with pytest.raises(InputError, match="at least 10 images to fit maps on"):
        lcmae.stitch({"a": model(1), "b": model(2)}, some)


def test_data_without_splits_are_divided() -> None:
    found = lcmae.stitch({"a": tiny_simmim(), "b": tiny_simmim()}, pixels(23))
    assert (found.attrs["fit_images"], found.attrs["num_images"]) == (12, 11)
    assert found.attrs["fitted_on"] == "every second image"
    assert np.isfinite(found["increase"]).all()


def test_the_command_prints_a_matrix_and_writes_a_file(
    tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del data_root
    names = []
    for seed in (0, 1):
        run = tiny_run(tmp_path / f"run{seed}", seed=seed)
        publish_untrained(run)
        names.append(str(run.path))
    out = tmp_path / "stitch.nc"
    options = ["--images", "20", "--fit-images", "20", "--out", str(out)]
    assert cli.main(["stitch", *names, *options]) == 0
    printed = capsys.readouterr().out
    assert "untrained encoder" in printed
    assert "run1, as it is" in printed
    found = load_result(out)
    assert found["increase"].sizes == {"encoder": 2, "decoder": 2}
    assert found.attrs["mask"] == "random 0.5"  # that of the runs' training
    assert cli.main(["stitch", *names, *options]) == 2
    assert "expected a new file (--overwrite replaces one)" in capsys.readouterr().err
    assert cli.main(["stitch", names[0]]) == 2
    assert "expected at least two checkpoints to stitch, got 1" in capsys.readouterr().err
