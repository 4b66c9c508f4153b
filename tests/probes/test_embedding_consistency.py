"""The embedding_consistency probe: slow definitions, geometries that are the same, and what it
costs."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from einops import repeat
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.work_done import Memory
from lcmae.masking import Mask, Random
from lcmae.models import MAE, MaskedImageModel, ModelConfig, take
from lcmae.patches import patchify
from lcmae.probes.base import ProbeError, run_probes
from lcmae.probes.embedding_consistency import EmbeddingConsistency, tokens_by_layer
from lcmae.probes.local_contrast import LocalContrast
from lcmae.probes.measures import similarity, thumbnails
from lcmae.probes.measures.points import pca_plane, umap_plane
from lcmae.probes.registry import probe_class
from lcmae.probes.results.networks import trained
from lcmae.probes.results.store import load_result, save_result
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.layers import layers
from tests.reference import similarity as slow
from tests.reference.work import counted_rows, numbers_held

SMALL = EmbeddingConsistency(
    mask=Random(ratio=0.5),
    num_places=12,
    num_sets=4,
    num_neighbours=3,
    num_directions=8,
    num_points=20,
    num_masks=2,
    batch_size=4,
)


class Turned(MaskedImageModel):
    """Tokens are the patches, turned by a rotation and scaled; the prediction is the patch
    itself."""

    encodes_hidden = True
    num_prefix = 0

    def __init__(self, *, has_prediction: bool = True) -> None:
        super().__init__(ModelConfig(image_size=(8, 12), patch_size=2, width=12, feature="mean"))
        self.has_prediction = has_prediction
        turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
        block = nn.Linear(12, 12)
        block.weight, block.bias = nn.Parameter(3 * turn), nn.Parameter(torch.ones(12))
        self.blocks, self.decoder_blocks = nn.ModuleList([block]), nn.ModuleList()

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        patches = repeat(patchify(images, self.patch_size), "b n p -> (b k) n p", k=len(mask) // len(images))
        self.patches = patches
        tokens = self.blocks[0](patches)
        return tokens[:, :0], tokens, torch.arange(self.num_patches).expand(len(tokens), -1)

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        return self.patches if self.has_prediction else self.patches[..., :0]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def compared(first: Tensor, second: Tensor, num_neighbours: int = 2) -> Tensor:
    return similarity.compare(
        *(similarity.Traits.of(similarity.Geometry.of(p), num_neighbours) for p in (first, second))
    )


def test_similarities_equal_their_definitions(rng: torch.Generator) -> None:
    first = torch.randn(3, 7, 4, generator=rng) + 1
    second = first[..., :3] + torch.randn(3, 7, 3, generator=rng)
    found = compared(first, second)
    assert float(similarity.cka(found[:, :3])) == pytest.approx(slow.cka(first, second), rel=1e-9)
    for index in range(3):
        one, two = first[index], second[index]
        expected = [slow.hsic(one, two), slow.hsic(one, one), slow.hsic(two, two), slow.rsa(one, two)]
        assert found[index].tolist() == pytest.approx([*expected, slow.mutual_neighbours(one, two, 2)], rel=1e-9)


def test_the_gap_of_many_sets_holds_no_more_than_that_of_one(rng: torch.Generator) -> None:
    peaks = []
    for count in (2, 16):
        first, second = torch.randn(2, count, 4, 64, generator=rng)
        with Memory() as memory:
            similarity.gram_gap(first, second)
        peaks.append(memory.peak)
    assert peaks[1] < 1.2 * peaks[0]


def test_distances_of_distributions_equal_their_definitions(rng: torch.Generator) -> None:
    first, second = torch.randn(2, 2, 9, 5, generator=rng)
    directions = similarity.unit_directions(5, 6, rng)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(6).double())
    for index in range(2):
        pair = first[index], second[index]
        found = similarity.sliced_wasserstein(first, second, directions)[index]
        assert float(found) == pytest.approx(slow.sliced_wasserstein(*pair, directions), rel=1e-9)
        assert float(similarity.gram_gap(first, second)[index]) == pytest.approx(slow.gram_gap(*pair), rel=1e-9)
    # a shift by v moves every projection by v . direction
    shift = torch.tensor([1.0, 0, 0, 2, 0]).double()
    expected = (shift @ directions).square().mean().sqrt()
    torch.testing.assert_close(
        similarity.sliced_wasserstein(first.double() + shift, first, directions), expected.expand(2)
    )


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10))
def test_turned_and_scaled_copies_have_the_same_geometry(seed: int, scale: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(3, 9, 5, generator=rng).double()
    turn = torch.linalg.qr(torch.randn(5, 5, generator=rng).double())[0]
    found = compared(points, scale * points @ turn + 4)
    assert float(similarity.cka(found[:, :3])) == pytest.approx(1, abs=1e-9)
    assert found[:, 3:].numpy() == pytest.approx(np.ones((3, 2)), abs=1e-9)


def test_debiased_cka_of_unrelated_points_is_0_in_the_mean(rng: torch.Generator) -> None:
    # few points of high dimension: plain CKA would be near 1
    first, second = torch.randn(2, 300, 8, 50, generator=rng)
    found = compared(first, second)
    both = found[:, 0] / (found[:, 1].mean() * found[:, 2].mean()).sqrt()
    assert abs(float(both.mean())) < 4 * float(both.std() / math.sqrt(300))
    # chance of a neighbour in common is k / (s - 1)
    overlap = found[:, 4]
    assert abs(float(overlap.mean()) - 2 / 7) < 4 * float(overlap.std() / math.sqrt(300))


def test_equal_distances_share_a_rank() -> None:
    ranks = similarity.average_ranks(torch.tensor([[3.0, 1.0, 3.0, 0.0, 3.0]]).double())
    assert ranks.tolist() == [[3.0, 1.0, 3.0, 0.0, 3.0]]


def test_tokens_by_layer_are_what_the_blocks_say(mae: MAE, images: Tensor) -> None:
    mae.eval()
    found = tokens_by_layer(mae, layers(mae, images))
    x = torch.cat([mae.cls_token.expand(5, -1, -1), mae.patch_embed(images)], dim=1) + mae.pos_embed
    for layer in range(3):
        torch.testing.assert_close(found[:, layer], x[:, 1:], rtol=1e-4, atol=1e-5)
        x = mae.blocks[layer](x) if layer < 2 else x
    # every hook is gone
    modules = [mae.blocks[0], mae.blocks[1]]
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in modules)


def test_tokens_that_are_turned_patches_are_consistent_in_full(rng: torch.Generator) -> None:
    found = trained(SMALL(Turned(), torch.randn(8, 3, 8, 12, generator=rng), seeded()))
    assert found.consistency.values == pytest.approx(np.ones((2, 2, 3)), abs=1e-5)
    assert found.ceiling.values == pytest.approx(np.ones((2, 2, 3)), abs=1e-6)
    assert (abs(found.chance.sel(measure=["cka", "rsa"])) < 0.35).all()
    # a perfect reconstruction has no distance, a constant one has
    for name in ("sliced_wasserstein", "gram_gap"):
        assert found[name].sel(reference="model").values == pytest.approx([0, 0], abs=1e-5)
        assert found[name].sel(reference="itself").values == pytest.approx([0, 0], abs=1e-5)
        assert (found[name].sel(reference="constant") > 0.3).all()
    # no shuffle changes the distribution of all patches together, but it changes their inner
    # products
    assert found.sliced_wasserstein.sel(reference="shuffled").isnull().values.tolist() == [False, True]
    assert (found.gram_gap.sel(reference="shuffled") > 0.3).all()


def test_result_equals_definitions_on_the_model_s_own_tokens(mae: MAE, rng: torch.Generator) -> None:
    images = torch.randn(7, 3, 8, 12, generator=rng)
    probe = SMALL.model_copy(update={"num_places": 24, "num_sets": 24})
    found = trained(run_probes([probe], mae, images, 3).datasets["embedding_consistency"])
    tokens, patches = tokens_by_layer(mae, layers(mae.eval(), images)), patchify(images, 2)
    for layer in (0, 2):
        here = tokens[:, layer]
        within = [slow.rsa(here[i], patches[i]) for i in range(7)]
        across = [slow.mutual_neighbours(here[:, i], patches[:, i], 3) for i in range(24)]
        at = found.consistency.sel(layer=layer)
        assert float(at.sel(scope="within", measure="rsa")) == pytest.approx(np.mean(within), abs=1e-4)
        assert float(at.sel(scope="across", measure="neighbours")) == pytest.approx(np.mean(across), abs=1e-6)
        expected = slow.cka(here.transpose(0, 1)[:4], patches.transpose(0, 1)[:4])
        assert float(_cka_of_positions(here, patches, 4)) == pytest.approx(expected, rel=1e-6)
    whole = _cka_of_positions(tokens[:, 2], patches, 24)
    assert float(found.consistency.sel(layer=2, scope="across", measure="cka")) == pytest.approx(float(whole), abs=1e-5)
    masks, out = Batch(mae, images, 0, 3).masked(probe.mask, 1)
    gap = [
        slow.gram_gap(*pair)
        for pair in zip(take(out.pred, masks.hidden), take(mae.targets(images), masks.hidden), strict=True)
    ]
    assert float(found.gram_gap.sel(scope="within", reference="model")) == pytest.approx(np.mean(gap), rel=1e-4)
    assert (found.consistency_sem > 0).all()


def _cka_of_positions(tokens: Tensor, patches: Tensor, num_places: int) -> Tensor:
    return similarity.cka(compared(tokens.transpose(0, 1)[:num_places], patches.transpose(0, 1)[:num_places])[:, :3])


def test_batches_change_nothing_but_rounding(mae: MAE, rng: torch.Generator) -> None:
    images = torch.randn(9, 3, 8, 12, generator=rng)
    few, many = (
        run_probes([SMALL.model_copy(update={"batch_size": size})], mae, images, 1).datasets["embedding_consistency"]
        for size in (2, 9)
    )
    for name in ("consistency", "chance", "sliced_wasserstein", "gram_gap", "pca_x", "pca_y"):
        assert few[name].values == pytest.approx(many[name].values, abs=1e-4, nan_ok=True), name
    for name in ("image", "position", "kind"):
        assert few[name].equals(many[name])


def test_memory_and_work_stop_growing_with_the_sample(mae: MAE, rng: torch.Generator) -> None:
    probe = SMALL.model_copy(update={"num_sampled": 8})
    held, rows = {}, {}
    for count in (16, 64):
        images = torch.randn(count, 3, 8, 12, generator=rng)
        accumulator = probe.start(mae, count, 0)
        with counted_rows(mae.blocks[0]) as seen:
            for first in range(0, count, 4):
                accumulator.update(Batch(mae, images[first : first + 4], first, 0))
        held[count], rows[count] = numbers_held(accumulator), sum(seen)
    # the sample, once whole and once masked, and what shares a batch with at least as many of it
    assert all(32 <= number <= 64 for number in rows.values())
    assert held[64] == held[16]


def test_one_image_has_a_geometry_within_only(mae: MAE, images: Tensor) -> None:
    found = trained(SMALL(mae, images[:1], seeded()))
    assert not found.consistency.sel(scope="within").isnull().any()
    assert bool(found.consistency.sel(scope="across").isnull().all())
    assert bool(found.consistency_sem.isnull().all())


def test_too_few_points_for_the_neighbours_are_undefined(mae: MAE, images: Tensor) -> None:
    found = SMALL.model_copy(update={"num_neighbours": 4})(mae, images, seeded())
    neighbours = found.consistency.sel(measure="neighbours")
    assert bool(neighbours.sel(scope="across").isnull().all())  # 5 images
    assert not neighbours.sel(scope="within").isnull().any()


def test_constant_patches_have_no_geometry(mae: MAE) -> None:
    found = trained(SMALL(mae, torch.full((5, 3, 8, 12), 0.3), seeded()))
    assert bool(found.consistency.isnull().all())
    assert bool(found.ceiling.isnull().all())
    # one constant image among others is left out
    mixed = torch.randn(5, 3, 8, 12, generator=seeded())
    mixed[2] = 0.3
    assert not trained(SMALL(mae, mixed, seeded())).consistency.sel(scope="within").isnull().any()


def test_without_prediction_the_tokens_are_measured(images: Tensor) -> None:
    found = trained(SMALL(Turned(has_prediction=False), images, seeded()))
    assert not found.consistency.sel(measure="cka").isnull().any()
    assert bool(found.sliced_wasserstein.isnull().all())
    assert bool(found.gram_gap.isnull().all())


def test_without_blocks_the_probe_says_what_it_needs(images: Tensor) -> None:
    model = Turned()
    model.layer = model.blocks
    del model.blocks
    with pytest.raises(ProbeError, match="probe embedding_consistency: needs an encoder with a list of `blocks`"):
        SMALL(model, images, seeded())


def test_points_are_labelled_and_in_pairs(mae: MAE, rng: torch.Generator) -> None:
    class Labelled:
        pixels = torch.randn(6, 3, 8, 12, generator=rng)
        labels = torch.arange(6) + 10

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: slice) -> Tensor:
            return self.pixels[index]

    found = trained(SMALL(mae, Labelled(), seeded()))
    assert found.sizes["point"] == 2 * 20 + 2 * 6
    pooled, whole = (found.where(found.kind == kind, drop=True) for kind in ("pooled", "image"))
    assert (pooled.image.values == np.arange(6)).all()
    assert (pooled.position.values == -1).all()
    assert (pooled.label.values == whole.label.values).all()
    tokens, patches = (found.where(found.kind == kind, drop=True) for kind in ("token", "patch"))
    for name in ("image", "position", "label"):
        assert (tokens[name].values == patches[name].values).all()
    assert (found.label == found.image + 10).all()
    assert "umap_x" not in found
    assert SMALL(mae, Labelled.pixels, seeded()).label.values.tolist() == [-1] * 52


def test_points_have_the_terms_of_local_contrast_and_their_pictures(mae: MAE, rng: torch.Generator) -> None:
    images = torch.randn(6, 3, 8, 12, generator=rng)
    probes = [SMALL, LocalContrast(mask=SMALL.mask, num_masks=2, num_pictures=6)]
    found, wanted = map(trained, run_probes(probes, mae, images, 3).datasets.values())
    grid = [wanted[f"picture_{name}"].values for name in ("loss", "invariance", "local_consistency")]
    points = found.isel(point=found["kind"].isin(["token", "patch"]).values)
    at = (points["image"].values, points["row"].values, points["column"].values)
    for name, maps in zip(("loss", "invariance", "local_consistency"), grid, strict=True):
        here = points[name].values
        np.testing.assert_allclose(here[np.isfinite(here)], maps[at][np.isfinite(here)], rtol=1e-4, atol=1e-6)
    # some patch was hidden by no mask, so it has no error, which is not 0
    assert points["loss"].isnull().any()
    assert (wanted["picture_loss"].values[at][points["loss"].isnull().values] == 0).all()
    pooled = found.isel(point=(found["kind"] == "pooled").values)
    assert float(pooled["loss"].mean()) == pytest.approx(float(wanted["loss"]), rel=1e-5)

    # the model's own pictures: a patch's is cut out of its image's
    pictures, patches = found["image_thumbnail"].values, found["patch_thumbnail"].values
    assert pictures.shape == (6, 8, 12, 3)
    for image, row, column, number in zip(
        *(points[name].values for name in ("image", "row", "column", "thumbnail")), strict=True
    ):
        cut = pictures[image, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(patches[number], cut)


def test_pictures_are_small_and_never_enlarged() -> None:
    pixels = torch.linspace(0, 1, 3 * 96 * 192).reshape(1, 3, 96, 192)
    assert thumbnails.of_images(pixels).shape == (1, 24, 48, 3)
    assert thumbnails.of_patches(pixels, torch.tensor([1, 5]), 32).shape == (1, 2, 16, 16, 3)
    tiny = thumbnails.of_patches(pixels, torch.tensor([0]), 4)
    assert tiny.shape == (1, 1, 4, 4, 3)
    assert tiny[0, 0, 0, 0].tolist() == (pixels[0, :, 0, 0] * 255).round().int().tolist()


def test_baselines_have_no_table_of_points(mae: MAE) -> None:
    baseline = EmbeddingConsistency(umap=True).for_baselines()
    assert (baseline.umap, baseline.num_masks) == (False, 0)


def test_pca_plane_is_that_of_the_covariance(rng: torch.Generator) -> None:
    points = torch.randn(30, 5, generator=rng).double() * torch.tensor([3.0, 2, 1, 1, 1]).double()
    plane = pca_plane(points)
    values = torch.linalg.eigvalsh(torch.cov(points.T)).flip(0)
    torch.testing.assert_close(torch.cov(plane.T), torch.diag(values[:2]))
    torch.testing.assert_close(pca_plane(points.flip(0)).flip(0), plane)
    assert pca_plane(points[:, :1])[:, 1].tolist() == [0.0] * 30


def test_umap_wants_more_points_than_neighbours(mae: MAE, images: Tensor) -> None:
    probe = SMALL.model_copy(update={"umap": True, "num_points": 16})
    with pytest.raises(ProbeError, match="more than 16 points for UMAP with 15 neighbours, got 16"):
        probe(mae, images, seeded())


@pytest.mark.slow
def test_umap_keeps_clusters_apart_and_its_warnings_to_itself(mae: MAE, images: Tensor) -> None:
    # numba compiles for most of a minute
    centres = torch.tensor([[0.0] * 6, [40.0] * 6]).repeat_interleave(30, 0).double()
    points = centres + torch.randn(60, 6, generator=seeded())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plane, said = umap_plane(points, 15, seed=3)
        again, _ = umap_plane(points, 15, seed=3)
    assert torch.equal(plane, again)
    assert isinstance(said, list)
    first, second = plane[:30], plane[30:]
    spread = max(float((part - part.mean(0)).norm(dim=1).max()) for part in (first, second))
    assert float((first.mean(0) - second.mean(0)).norm()) > spread
    found = SMALL.model_copy(update={"umap": True})(mae, images, seeded())
    # five images are too few for a UMAP of images
    of_patches = np.isin(found.kind.values, ("token", "patch"))
    assert (np.isnan(found.umap_x.values) == ~of_patches).all()
    assert of_patches.any()
    assert "umap_warnings" in found.attrs


def test_a_result_is_stored_whole(mae: MAE, images: Tensor, tmp_path: Path) -> None:
    assert probe_class("embedding_consistency") is EmbeddingConsistency
    found = SMALL(mae, images, seeded())
    save_result(found, tmp_path / "embedding_consistency.nc")
    xr.testing.assert_equal(load_result(tmp_path / "embedding_consistency.nc"), found)


def test_flat_targets_have_no_gram_gap() -> None:
    rng = torch.Generator().manual_seed(0)
    pred = torch.rand(2, 9, 5, generator=rng)
    target = torch.stack([torch.randn(9, 5, generator=rng) * 1e-8, torch.randn(9, 5, generator=rng)])
    gap = similarity.gram_gap(pred, target)
    assert gap[0].isnan()
    assert 0 < float(gap[1]) < 100
