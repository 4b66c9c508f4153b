"""Latents that are read off features: by the definition, against scikit-learn, and where there is
nothing to read."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.linear_model import Ridge as SklearnRidge

from lcmae.data.hierarchy import Hierarchy as Source
from lcmae.data.hierarchy import HierarchySettings
from lcmae.masking import AttentionGuided, CoarseRandom, Random
from lcmae.models import MAE
from lcmae.probes.base import ProbeError
from lcmae.probes.hierarchy import Hierarchy, owners, share_of_room
from lcmae.probes.latents.decoding import CONSTANT, Decoder, Level
from lcmae.probes.measures.ridge import HELD_OUT, STRENGTHS, fit
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.watching.views import open_view

DATA = "hierarchy:images=60,classes=3,layouts=4"


def model(patch_size: int = 4) -> MAE:
    torch.manual_seed(0)
    return MAE(
        image_size=16, patch_size=patch_size, channels=1, width=16, depth=2, heads=2, decoder_width=8, decoder_depth=1,
        decoder_heads=2,
    ).eval()  # fmt: skip


def probed(probe: Hierarchy, data: str = DATA, images: int = 12, **settings: int) -> xr.Dataset:
    network = model(**settings)
    return probe(network, open_view(network, data, limit=images), torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return probed(Hierarchy(num_masks=4, ratios=(0.25, 0.5), units=(1, 2), mask=CoarseRandom(unit=2, ratio=0.5)))


def test_its_shape(result: xr.Dataset) -> None:
    assert result["level"].values.tolist() == ["class", "layout", "part", "texture"]
    assert result["height"].values.tolist() == [4, 3, 2, 1]
    assert result["network"].values.tolist() == ["trained", "untrained", "pixels"]
    assert result["feature"].values.tolist() == ["cls", "mean", "patch"]
    assert result["skill"].dims == ("network", "feature", "level")
    assert result["layer_skill"].dims == ("network", "layer", "level")
    assert result["layer_skill"].shape == (3, 2, 4)
    assert result["layer_skill"].sel(network="pixels").isnull().all()
    assert result["chance"].dims == ("feature", "level")
    assert result["predicted_level"].shape == (2, 2, 2)
    assert result["predicted_share"].shape == (2, 2, 2, 4)
    assert result.attrs["mask_unit"] == 2
    assert result.attrs["mask_ratio"] == 0.5
    assert result.attrs["num_train_images"] == 60


def test_a_patch_of_four_textures_knows_no_single_one(result: xr.Dataset) -> None:
    of_patches = result["score"].sel(feature="patch")
    assert np.isnan(of_patches.sel(level="texture")).all()
    assert np.isfinite(of_patches.drop_sel(level="texture")).all()
    assert np.isfinite(result["score"].sel(feature=["cls", "mean"])).all()
    tree = Source(HierarchySettings(), "train", 16, 16, 1).tree
    own = owners(tree, 16, 16, (4, 4))
    assert list(own) == ["class", "layout", "part"]
    assert own["layout"].tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
    assert list(owners(tree, 16, 16, (8, 8))) == ["class", "layout", "part", "texture"]
    # patches that straddle: two rows of five pixels do not fill a block of eight
    assert list(owners(tree, 16, 16, (3, 3))) == ["class"]


def test_gain_and_skill_are_what_they_say(result: xr.Dataset) -> None:
    feature = result["feature"].values.tolist()
    skill = result["skill"].sel(network="trained", feature=feature).values
    fresh = result["skill"].sel(network="untrained", feature=feature).values
    np.testing.assert_allclose(result["gain"].values, skill - fresh, atol=1e-6)
    expected = (result["score"] - result["chance"]) / (1 - result["chance"])
    np.testing.assert_allclose(result["skill"].values, expected.values, atol=1e-6)
    # 12 images of 3 classes that take turns, a constant is right for a third of them
    assert result["chance"].sel(level="class", feature="mean") == pytest.approx(1 / 3)
    # the mean of the training images scores about 0
    assert abs(float(result["chance"].sel(level="part", feature="mean"))) < 0.3


def test_the_last_block_reads_like_the_network(result: xr.Dataset) -> None:
    untrained = probed(Hierarchy(num_masks=4, ratios=(0.5,), each_layer=False, untrained=False))
    assert "layer_skill" not in untrained
    assert "gain" not in untrained
    one = untrained["score"]
    assert one["network"].values.tolist() == ["trained", "pixels"]
    # neither other representations nor the map change what a representation scores
    xr.testing.assert_allclose(
        one.reset_coords(drop=True), result["score"].sel(network=["trained", "pixels"]).reset_coords(drop=True)
    )


def test_the_batch_has_no_influence(result: xr.Dataset) -> None:
    settings = {"num_masks": 4, "ratios": (0.25, 0.5), "units": (1, 2), "mask": CoarseRandom(unit=2, ratio=0.5)}
    other = probed(Hierarchy.model_validate({**settings, "batch_size": 5}))
    for name in ("score", "gain", "layer_skill", "own_share", "predicted_level"):
        np.testing.assert_allclose(other[name].values, result[name].values, atol=2e-5, equal_nan=True)


def test_pixels_are_read_as_scikit_learn_reads_them(result: xr.Dataset) -> None:
    """The score by its definition: R2 with the variance of the training images, a strength out of
    the list."""
    network = model()
    test = open_view(network, DATA, limit=12)
    train = test.other_split(2000)
    assert test.known_latents is not None
    assert train.known_latents is not None
    x, z = (network.to_pixels(view[:60]).flatten(1).double() for view in (train, test))
    y, truth = (
        view.known_latents.latents()["part"].flatten(1) for view in (train, test) if view.known_latents is not None
    )
    mean, scale = x.mean(0), x.std(0, correction=0)
    found = []
    for strength in STRENGTHS:
        ridge = SklearnRidge(alpha=strength * len(x)).fit((x - mean) / scale, y)
        error = np.square(ridge.predict((z - mean) / scale) - truth.numpy())
        found.append(float((1 - error / y.var(0, correction=0).numpy()).mean()))
    score = float(result["score"].sel(network="pixels", feature="mean", level="part"))
    assert min(abs(score - one) for one in found) < 1e-5


def test_the_strength_is_the_best_on_held_out_rows() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(50, 30, generator=rng, dtype=torch.float64)
    y = torch.cat(
        [x @ torch.randn(30, 2, generator=rng, dtype=torch.float64), torch.randn(50, 1, generator=rng)], dim=1
    )
    ridge = fit(x, y, torch.tensor([0, 0, 1]), seed=3)
    # what is linear wants no penalty, noise wants all of it
    assert ridge.strength.tolist() == pytest.approx([STRENGTHS[0], STRENGTHS[0], STRENGTHS[-1]])
    assert (ridge(x)[:, :2] - y[:, :2]).abs().max() < 1e-2
    direct = SklearnRidge(alpha=50 * STRENGTHS[-1]).fit((x - x.mean(0)) / x.std(0, correction=0), y[:, 2])
    np.testing.assert_allclose(ridge.weight[:, 2], direct.coef_, atol=1e-10)
    assert HELD_OUT == 5


def test_true_latents_as_features_decode_perfectly_and_noise_does_not() -> None:
    source = Source(HierarchySettings(classes=4, layouts=5), "train", 16, 16, 1)
    levels = [Level(*pair) for pair in zip(source.tree.levels, source.num_kinds, strict=True)]
    train, test = (source.latents(torch.arange(first, first + 600)) for first in (0, 600))
    rng = torch.Generator().manual_seed(0)

    def features(latents: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        true = torch.cat([level.targets(latents[level.name]) for level in levels], dim=1)
        return {"true": true, "noise": torch.randn(600, 8, generator=rng)}

    decoder = Decoder.fit(levels, train, features(train), seed=0)
    assert decoder.names == ["true", "noise", CONSTANT]
    scores = decoder.scores(features(test), test)
    mean, sem = scores.mean(0), scores.std(0) / 600**0.5
    assert (mean[0] > 0.999).all()
    # noise is worth no more than the constant: within four standard errors
    assert ((mean[1] - mean[2]).abs() < 4 * (sem[1] + sem[2]) + 1e-3).all()


def test_other_images_and_masks_are_refused_in_one_line() -> None:
    with pytest.raises(
        ProbeError, match=r"^probe hierarchy: needs images whose latents are known \(--data hierarchy\), got"
    ):
        probed(Hierarchy(), data="digits")
    with pytest.raises(ProbeError, match="needs a mask that does not follow the image"):
        probed(Hierarchy(mask=AttentionGuided(checkpoint="somewhere")))
    with pytest.raises(ProbeError, match="needs at least 20 training images, got 19"):
        probed(Hierarchy(num_masks=2), data="hierarchy:images=19", images=4)
    with pytest.raises(ProbeError, match="units and ratios that its grid can have, got none"):
        probed(Hierarchy(num_masks=2, units=(4, 9)))


@pytest.mark.parametrize("settings", [{"ratios": (0.0, 0.5)}, {"ratios": ()}, {"ratios": (0.5, 0.1)}, {"units": (0,)}])
def test_bad_settings(settings: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="expected one or more rising"):
        Hierarchy.model_validate(settings)


def test_a_ratio_that_the_grid_cannot_have_is_blank() -> None:
    found = probed(Hierarchy(num_masks=2, ratios=(0.5, 0.97), units=(1, 2), mask=Random(ratio=0.5)))
    assert np.isnan(found["predicted_level"].sel(ratio=0.97)).all()
    assert np.isfinite(found["predicted_level"].sel(ratio=0.5)).all()


def test_the_error_of_skill_holds_that_of_chance() -> None:
    """Right wherever the constant is, and for 30 % of what is left: in draws of images skill
    spreads as far as its error says, and less far than the score alone over what is left."""
    rng, shares, errors, of_scores = torch.Generator().manual_seed(1), [], [], []
    for _ in range(400):
        constant = (torch.rand(96, 1, generator=rng) < 0.5).double()
        score = torch.maximum(constant, (torch.rand(96, 1, generator=rng) < 0.3).double())
        means = [RunningMean() for _ in range(3)]
        for mean, values in zip(means, (score - constant, constant, score), strict=True):
            mean.add(values)
        pairs = [(mean.mean, mean.sem) for mean in means if mean.mean is not None]
        found = share_of_room("skill", ("level",), "skill", pairs[0], pairs[1], means[2].sem, 95)
        shares.append(float(found["skill"].values[0]))
        errors.append(float(found["skill_sem"].values[0]))
        of_scores.append(float(means[2].sem / (1 - pairs[1][0])))
    spread = np.std(shares, ddof=1)
    # 400 draws know a spread to 3.5 %
    assert spread / np.sqrt(np.square(errors).mean()) == pytest.approx(1, abs=0.12)
    assert spread / np.sqrt(np.square(of_scores).mean()) < 0.85
