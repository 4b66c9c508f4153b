"""Dense beside its definitions, and known answers: planted classes give mIoU 1, random ones
chance."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from einops import repeat
from PIL import Image
from torch import Tensor

from lcmae.data import open_source
from lcmae.errors import InputError
from lcmae.models import MAE
from lcmae.probes.base import ProbeError
from lcmae.probes.dense import Dense
from lcmae.probes.measures.segmentation import (
    class_iou,
    class_votes,
    fit,
    majority,
    mean_iou,
    nearest_classes,
    pixel_accuracy,
    pixel_counts,
)
from lcmae.probes.results import contracts
from lcmae.probes.results.store import load_result, save_result
from lcmae.probes.watching.views import open_view
from tests.conftest import tiny_mae
from tests.reference.probes import dense as reference

GRID = (3, 4)
QUICK = {"rates": (0.1, 1.0), "epochs": 5}


def masks(count: int, seed: int = 0, num_classes: int = 4) -> Tensor:
    """Classes of pixels [b 6 8] with ignored ones; the first patch of the first image has none."""
    found = torch.randint(-1, num_classes, (count, 6, 8), generator=torch.Generator().manual_seed(seed))
    found[0, :2, :2] = -1
    return found


def patches_of(pixels: Tensor) -> Tensor:
    """[b n y x] by slices."""
    rows = [pixels[:, 2 * row : 2 * row + 2, 2 * c : 2 * c + 2] for row in range(3) for c in range(4)]
    return torch.stack(rows, dim=1)


def test_a_patch_is_of_the_commonest_class_of_its_pixels() -> None:
    pixels = masks(5)
    votes = class_votes(pixels, GRID, 4)
    assert votes.shape == (5, 12, 4)
    wanted = [[reference.patch_class(patch.numpy()) for patch in image] for image in patches_of(pixels)]
    assert majority(votes).tolist() == wanted
    assert wanted[0][0] == -1
    # two and two: the smaller number; three ignored pixels are outvoted by one
    odd = torch.tensor([[[3, 1], [1, 3]], [[-1, -1], [-1, 2]]])
    assert majority(class_votes(odd, (1, 1), 4)).flatten().tolist() == [1, 2]


def test_scores_are_over_pixels_and_leave_ignored_ones_out() -> None:
    pixels, named = masks(5), torch.randint(4, (2, 5, 12), generator=torch.Generator().manual_seed(1))
    counts = pixel_counts(named, class_votes(pixels, GRID, 4)).sum(0)
    spread = repeat(named, "q b (r c) -> q b (r 2) (c 2)", r=3).numpy()
    for one in range(2):
        assert float(mean_iou(counts)[one]) == pytest.approx(reference.mean_iou(spread[one], pixels.numpy()))
        right = (spread[one] == pixels.numpy())[pixels.numpy() >= 0].mean()
        assert float(pixel_accuracy(counts)[one]) == pytest.approx(right)


def test_classes_that_no_pixel_is_of_count_for_nothing() -> None:
    votes = class_votes(torch.zeros(1, 6, 8, dtype=torch.int64), GRID, 3)
    counts = pixel_counts(torch.tensor([[[0] * 6 + [1] * 6]]), votes)[0]
    assert float(mean_iou(counts)) == 0.5
    assert class_iou(counts)[0].isnan().tolist() == [False, True, True]
    nothing = pixel_counts(torch.zeros(1, 1, 12, dtype=torch.int64), 0 * votes)[0]
    assert bool(mean_iou(nothing).isnan())
    assert bool(pixel_accuracy(nothing).isnan())


def test_neighbours_vote_and_ties_go_to_the_nearer() -> None:
    rng = torch.Generator().manual_seed(0)
    bank, classes = torch.randn(40, 5, generator=rng), torch.randint(3, (40,), generator=rng)
    tokens = torch.randn(30, 5, generator=rng)
    found = nearest_classes(bank, classes, tokens, (4, 1, 100), 3)  # in any order, and more than there are
    for row, number in enumerate((4, 1, 40)):
        wanted = [
            reference.knn(bank.double().numpy(), classes.numpy(), token.double().numpy(), number) for token in tokens
        ]
        assert found[row].tolist() == wanted


def planted(count: int, seed: int, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Tokens [b 12 6] of three directions, one for each class, and votes."""
    rng = torch.Generator().manual_seed(seed)
    classes = torch.randint(3, (count, 12), generator=rng)
    tokens = torch.eye(6)[classes] + noise * torch.randn(count, 12, 6, generator=rng)
    return tokens, 4 * torch.nn.functional.one_hot(classes, 3).float()


def test_planted_tokens_are_told_apart_and_random_ones_are_not() -> None:
    (tokens, votes), (asked, truth) = planted(30, 0), planted(20, 1)
    settings = {"neighbours": (1, 3), "rates": (0.1, 1.0), "epochs": 10, "seed": 0}
    learned = fit(tokens, votes, **settings)
    named = learned.predict(asked.flatten(0, 1)).unflatten(1, (20, 12))
    assert mean_iou(pixel_counts(named, truth).sum(0)).tolist() == [1, 1]
    assert learned.held_out.tolist() == [1, 1]
    # tokens that know nothing of the classes name one in three rightly
    shuffled = fit(torch.randn(60, 12, 6, generator=torch.Generator().manual_seed(2)), planted(60, 3)[1], **settings)
    named = shuffled.predict(torch.randn(60 * 12, 6, generator=torch.Generator().manual_seed(4)))
    share = pixel_accuracy(pixel_counts(named.unflatten(1, (60, 12)), planted(60, 5)[1]).sum(0))
    np.testing.assert_allclose(share, 1 / 3, atol=4 * (2 / 9 / 720) ** 0.5)


def test_what_chooses_never_taught() -> None:
    """Every patch has a copy in its own image: a split of patches would let one neighbour win."""
    rng = torch.Generator().manual_seed(0)
    own = torch.randn(60, 1, 6, generator=rng).expand(-1, 12, -1)
    tokens = own + 1e-3 * torch.randn(60, 12, 6, generator=rng)
    classes = torch.randint(2, (60, 1), generator=rng).expand(-1, 12)
    votes = torch.nn.functional.one_hot(classes, 2).float()
    learned = fit(tokens, votes, neighbours=(1,), rates=(0.1,), epochs=2, seed=0)
    assert float(learned.held_out[0]) < 0.7


@dataclass(frozen=True)
class Painted:
    """Images whose patches are of two colours (and their classes), or whose classes are drawn."""

    count: int
    seed: int = 0
    is_planted: bool = True

    def __len__(self) -> int:
        return self.count

    def _classes(self, index: slice) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(self.seed)
        drawn = torch.randint(2, (self.count, 2, 4, 6), generator=rng)[index]
        return drawn[:, 0], drawn[:, 0 if self.is_planted else 1]

    def __getitem__(self, index: slice) -> Tensor:
        colours = 2.0 * self._classes(index)[0] - 1
        return repeat(colours, "b r c -> b 3 (r 2) (c 2)") * torch.tensor([1.0, 0.5, -1.0])[:, None, None]

    def class_maps(self, index: slice) -> Tensor:
        # the last is a number that is ignored, in a corner
        found = repeat(7 * self._classes(index)[1], "b r c -> b (r 2) (c 2)").clone()
        found[:, 0, 0] = 255
        return found

    def other_split(self, limit: int | None) -> "Painted":
        return replace(self, count=30, seed=self.seed + 1)


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return Dense(**QUICK)(tiny_mae(), Painted(24), torch.Generator().manual_seed(0))


def test_planted_classes_of_patches_give_1_and_random_ones_chance(result: xr.Dataset) -> None:
    assert (result["miou"].sel(network="pixels") == 1).all()
    assert (result["ceiling"] == 1).all()
    assert float(result["constant"].sel(measure="accuracy")) == pytest.approx(0.5, abs=0.1)
    # the two classes are 0 and 7; those between are of no pixel
    assert result.attrs["num_classes"] == 8
    assert result["class_iou"].sel(network="trained").notnull().sum("class").values.tolist() == [2, 2]
    drawn = Dense(**QUICK)(tiny_mae(), Painted(24, is_planted=False), torch.Generator().manual_seed(0))
    chance = drawn["accuracy"]
    assert np.abs(chance - 0.5).max() < 5 * (0.25 / (24 * 24)) ** 0.5
    assert (drawn["miou"] < 0.45).all()


def test_the_result_says_what_was_measured(result: xr.Dataset, tmp_path: Path) -> None:
    assert contracts.problem(result, "dense") == ""
    assert result["network"].values.tolist() == ["trained", "untrained", "pixels", "position"]
    best = result["chosen_layer"].sel(network="trained")
    for classifier in ("knn", "logistic"):
        at = {"classifier": classifier, "network": "trained", "layer": int(best.sel(classifier=classifier))}
        assert float(result["miou"].sel(classifier=classifier, network="trained")) == float(
            result["layer_miou"].sel(at)
        )
    gain = result["miou"].sel(network="trained") - result["miou"].sel(network="position")
    np.testing.assert_allclose(result["gain"].sel(baseline="position"), gain, atol=1e-6)
    assert result["chosen_layer"].sel(network="pixels").isnull().all()
    assert result["picture_named"].shape == (4, 2, 4, 6)
    assert set(np.unique(result["picture_class"])) == {0, 7}
    assert result["original"].shape == (4, 8, 12, 3)
    save_result(result, tmp_path / "dense.nc")
    xr.testing.assert_equal(load_result(tmp_path / "dense.nc"), result)


def test_errors_are_those_of_leaving_out_groups_of_images(result: xr.Dataset) -> None:
    at = {"classifier": "knn", "network": "untrained"}
    without = result["miou_without"].sel(at).values.tolist()
    assert len(without) == 8
    wanted = reference.jackknife(without, float(result["miou"].sel(at)))
    assert float(result["miou_sem"].sel(at)) == pytest.approx(wanted, rel=1e-4)
    assert result["miou_sem"].attrs["degrees_of_freedom"] == 7


def test_batches_change_nothing(result: xr.Dataset) -> None:
    again = Dense(**QUICK, batch_size=7)(tiny_mae(), Painted(24), torch.Generator().manual_seed(0))
    xr.testing.assert_allclose(result["layer_miou"], again["layer_miou"], atol=0.02)
    xr.testing.assert_equal(result["picture_class"], again["picture_class"])


def test_classes_that_training_lacks_are_never_named() -> None:
    @dataclass(frozen=True)
    class New(Painted):
        def class_maps(self, index: slice) -> Tensor:
            found = super().class_maps(index)
            return torch.where(found == 7, 9, found) if self.seed == 0 else found

    found = Dense(**QUICK)(tiny_mae(), New(12), torch.Generator().manual_seed(0))
    # half of the pixels are of a class that is unknown
    assert float(found["accuracy"].sel(network="pixels", classifier="knn")) == pytest.approx(0.5, abs=0.1)
    assert float(found["miou"].sel(network="pixels", classifier="knn")) == pytest.approx(0.5, abs=0.01)


def test_the_layout_of_made_images_is_known_by_pixel() -> None:
    source = open_source("hierarchy:images=40,layouts=5", split="test", image_size=16, channels=1)
    found = source.masks(slice(2, 5))
    assert found.shape == (3, 16, 16)
    hierarchy = source.images.hierarchy
    assert hierarchy is not None
    layout = hierarchy.latents(source.images.rows[2:5])["layout"]
    assert found[:, ::8, ::8].flatten(1).tolist() == layout.tolist()
    assert (found[:, :8, :8] == found[:, :1, :1]).all()
    shallow = open_source("hierarchy:images=40,depth=3", split="test", image_size=16, channels=1)
    assert not shallow.has_masks
    with pytest.raises(InputError, match="expected segmentation masks"):
        shallow.masks(slice(0, 1))


def test_masks_of_a_folder_reach_the_probe(tmp_path: Path, mae: MAE) -> None:
    for number in range(60):
        image = np.random.default_rng(number).integers(0, 256, (8, 12, 3)).astype(np.uint8)
        for folder, pixels in (("images", image), ("masks", (image[..., 0] > 127).astype(np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    view = open_view(mae, f"folder:{tmp_path / 'images'}?masks={tmp_path / 'masks'}")
    assert len(view) == 12
    found = Dense(**QUICK)(mae, view, torch.Generator().manual_seed(0))
    assert found.attrs["num_train_images"] == 48
    assert found.sizes["class"] == 2
    # one class for four pixels cannot be right for all
    assert 0.5 < float(found["ceiling"].sel(measure="accuracy")) < 1


def test_what_it_needs_is_said(mae: MAE) -> None:
    @dataclass(frozen=True)
    class Odd(Painted):
        def class_maps(self, index: slice) -> Tensor:
            return super().class_maps(index) * 1000

    need = "needs images with segmentation masks"
    with pytest.raises(ProbeError, match=need):
        Dense()(mae, torch.rand(12, 3, 8, 12), torch.Generator())
    with pytest.raises(ProbeError, match="class numbers from 0 to 999, got 255000"):
        Dense()(mae, Odd(12), torch.Generator())
    with pytest.raises(ProbeError, match="two classes or more, got 1"):
        Dense(ignored=(255, 7))(mae, Painted(12), torch.Generator())
    with pytest.raises(ValueError, match="rising"):
        Dense(neighbours=(3, 1))
