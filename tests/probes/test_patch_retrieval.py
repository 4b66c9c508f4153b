"""Nearest patches and clusters beside their definitions, and known answers: planted groups are
found, random tokens tell nothing, and position is told from content."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from einops import repeat
from torch import Tensor

from lcmae.models import MAE
from lcmae.probes.base import ProbeError
from lcmae.probes.measures import thumbnails
from lcmae.probes.measures.clusters import adjusted_information, contingency, kmeans
from lcmae.probes.patch_retrieval import PatchRetrieval
from lcmae.probes.results import contracts
from lcmae.probes.results.store import load_result, save_result
from tests.conftest import tiny_mae
from tests.reference.probes import patch_retrieval as reference


def planted(count: int, num_groups: int, seed: int, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    groups = torch.randint(num_groups, (count,), generator=rng)
    return torch.eye(8)[groups] + noise * torch.randn(count, 8, generator=rng), groups


def test_planted_clusters_are_found_and_numbered_by_size() -> None:
    tokens, groups = planted(300, 5, seed=0)
    clusters = kmeans(tokens, 5, torch.Generator().manual_seed(0))
    sizes = clusters.bincount()
    assert sizes.tolist() == sorted(groups.bincount().tolist(), reverse=True)
    counts = contingency(clusters[None], groups[None], 5, 5)[0]
    assert float(adjusted_information(counts)) == pytest.approx(1)
    # lengths do not count
    again = kmeans(tokens * torch.rand(300, 1).clamp(min=0.1), 5, torch.Generator().manual_seed(0))
    assert float(adjusted_information(contingency(again[None], clusters[None], 5, 5)[0])) == pytest.approx(1)


def test_equal_tokens_are_one_cluster() -> None:
    assert kmeans(torch.ones(20, 3), 4, torch.Generator()).tolist() == [0] * 20
    two = torch.eye(3)[torch.arange(20) % 2]
    assert kmeans(two, 4, torch.Generator()).unique().tolist() == [0, 1]
    assert kmeans(torch.zeros(5, 3), 4, torch.Generator()).tolist() == [0] * 5


def test_information_is_adjusted_for_chance() -> None:
    rng = torch.Generator().manual_seed(0)
    found, clusters = [], torch.zeros(0)
    for _ in range(40):
        clusters, groups = (torch.randint(n, (1, 200), generator=rng) for n in (8, 50))
        counts = contingency(clusters, groups, 8, 50)[0]
        found.append(float(adjusted_information(counts)))
        assert reference.mutual_information(counts.numpy()) > 0.5  # which says nothing
    assert abs(np.mean(found)) < 4 * np.std(found) / 40**0.5
    one_group = contingency(clusters, torch.zeros(1, 200, dtype=torch.int64), 8, 3)[0]
    assert bool(adjusted_information(one_group).isnan())
    left_out = contingency(clusters, torch.full((1, 200), -1), 8, 3)
    assert float(left_out.sum()) == 0


def test_a_window_is_cut_around_its_patch() -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = thumbnails.of_windows(pixels, torch.tensor([1, 0]), torch.tensor([8, 0]), (4, 6), 2, 3)
    assert found.shape == (2, 6, 6, 3)
    # patch 8 stands at row 1, column 2
    np.testing.assert_array_equal(found[0], pixels[1, :, 0:6, 2:8].permute(1, 2, 0))
    np.testing.assert_array_equal(found[1, 2:, 2:], pixels[0, :, :4, :4].permute(1, 2, 0))
    np.testing.assert_array_equal(found[1, 0, 2:], pixels[0, :, 0, :4].T)


@dataclass(frozen=True)
class Coloured:
    """Images [b 3 8 12] of patches in three colours, known by pixel; of each image all patches, or
    each patch on its own, and noise."""

    count: int
    whole: bool = False
    noise: float = 0.05

    def __len__(self) -> int:
        return self.count

    def _colours(self, index: slice) -> Tensor:
        rng = torch.Generator().manual_seed(0)
        drawn = torch.randint(3, (self.count, 4, 6), generator=rng)
        return (drawn[:, :1, :1].expand_as(drawn) if self.whole else drawn)[index]

    def __getitem__(self, index: slice) -> Tensor:
        rng = torch.Generator().manual_seed(1)
        noise = self.noise * torch.randn(self.count, 3, 8, 12, generator=rng)[index]
        return repeat(torch.eye(3)[self._colours(index)], "b r c k -> b k (r 2) (c 2)") + noise

    def class_maps(self, index: slice) -> Tensor:
        return 10 * repeat(self._colours(index), "b r c -> b (r 2) (c 2)")

    @property
    def labels(self) -> Tensor:
        return self._colours(slice(None))[:, 0, 0]


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    return PatchRetrieval(num_sampled=20, clusters=3)(tiny_mae(), Coloured(30), torch.Generator().manual_seed(0))


def test_patches_of_a_colour_find_each_other(result: xr.Dataset) -> None:
    at = {"network": "pixels", "layer": 1, "removal": "nothing", "target": "pixel class"}
    assert float(result["purity"].sel(at)) == 1
    assert float(result["information"].sel(at)) == pytest.approx(1)
    assert float(result["chance"].sel(target="pixel class")) == pytest.approx(1 / 3, abs=0.03)
    assert float(result["chance"].sel(target="position")) == pytest.approx(1 / 24)
    # patches are drawn one by one: neither image nor position is known to pixels
    for target in ("image class", "position"):
        at["target"] = target
        gap = float(result["purity"].sel(at) - result["chance"].sel(target=target))
        assert abs(gap) < 5 * float(result["purity_sem"].sel(at))
        assert abs(float(result["information"].sel(at))) < 0.05


def test_position_is_what_untrained_tokens_match_by_until_it_is_taken_out(result: xr.Dataset) -> None:
    at = {"network": "untrained", "layer": 1, "target": "position"}
    before, after = (float(result["purity"].sel({**at, "removal": one})) for one in ("nothing", "position mean"))
    assert before > 2 * max(after, float(result["chance"].sel(target="position")))


def test_matches_are_the_nearest_patches_of_other_images(mae: MAE) -> None:
    images = Coloured(6, noise=0.5)
    found = PatchRetrieval(num_sampled=6)(mae, images, torch.Generator().manual_seed(0))
    pixels = images[:].numpy()
    view = found.sel(view="raw patches")
    for query in range(found.sizes["query"]):
        asked = int(view["query_image"][query]), int(view["query_position"][query])
        wanted = reference.nearest(pixels, *asked, 2, 5)
        got = zip(
            view["match_image"][query].values.tolist(), view["match_position"][query].values.tolist(), strict=True
        )
        assert list(got) == wanted


def test_the_result_says_what_was_measured(result: xr.Dataset, tmp_path: Path) -> None:
    assert contracts.problem(result, "patch_retrieval") == ""
    assert result.attrs["num_sampled"] == 20
    np.testing.assert_array_equal(result["last_purity"], result["purity"].sel(removal="nothing", layer=2))
    np.testing.assert_allclose(result["last_purity_groups"].mean("group"), result["last_purity"], atol=1e-6)
    assert list(result["view"].values) == ["layer 2", "layer 1", "layer 2, position mean removed", "raw patches"]
    assert result["cluster"].shape == (4, 2, 2, 4, 6)
    assert int(result["cluster"].max()) <= 2
    assert result["match_thumbnail"].shape == (5, 4, 5, 6, 6, 3)
    assert (result["match_image"] != result["query_image"]).all()
    assert int(result["match_image"].max()) < 30
    save_result(result, tmp_path / "patch_retrieval.nc")
    xr.testing.assert_equal(load_result(tmp_path / "patch_retrieval.nc"), result)


def test_errors_of_information_leave_groups_of_images_out(result: xr.Dataset) -> None:
    assert result["information_sem"].attrs["degrees_of_freedom"] == 7
    assert (result["information_sem"] >= 0).all()
    assert result["purity_sem"].attrs["degrees_of_freedom"] == 19


def test_batches_change_nothing(result: xr.Dataset) -> None:
    again = PatchRetrieval(num_sampled=20, clusters=3, batch_size=7)(
        tiny_mae(), Coloured(30), torch.Generator().manual_seed(0)
    )
    xr.testing.assert_allclose(result["purity"], again["purity"], atol=0.03)
    xr.testing.assert_equal(result["query_image"], again["query_image"])


def test_without_masks_and_classes_position_is_what_is_known(mae: MAE) -> None:
    found = PatchRetrieval(untrained=False, shown=0, num_pictures=0)(mae, torch.randn(4, 3, 8, 12), torch.Generator())
    assert found["chance"].isnull().values.tolist() == [True, True, False]
    assert "missing" in found["purity"].attrs
    assert not {"cluster", "match_thumbnail", "view"} & {*found.variables}
    with pytest.raises(ProbeError, match="at least 2 images, got 1"):
        PatchRetrieval()(mae, torch.rand(1, 3, 8, 12), torch.Generator())
