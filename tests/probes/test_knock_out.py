"""Entries of attention taken out: beside a decoder written out, and known answers: a decoder
without attention loses nothing, and attention that is made by hand."""

from collections import deque
from typing import Any, cast

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import lcmae
from lcmae.masking import Mask, Random
from lcmae.models import MAE, MaskedImageModel
from lcmae.patches import patchify
from lcmae.probes import knock_out
from lcmae.probes.base import ProbeError
from lcmae.probes.knock_out import BLOCK, HEAD, Case, KnockOut, _Part
from lcmae.probes.measures.knock_out import KEYS, random_entries, removed_entries, spread_over_heads
from lcmae.probes.results.networks import trained
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.hooks import Attended
from lcmae.probes.watching.knock_outs import TokenMeans, changed_answers, with_mean_values, without_entries
from tests.conftest import tiny_mae, tiny_simmim
from tests.reference.probes import knock_out as reference

ALONE: dict[str, Any] = {"baseline_images": 0}


def measured(model: MaskedImageModel, images: Tensor, **settings: object) -> xr.Dataset:
    return trained(KnockOut(**{**ALONE, **settings})(model, images, torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def found() -> tuple[MAE, Tensor, xr.Dataset]:
    """A network of two decoder blocks with large weights, so that attention is far from uniform."""
    torch.manual_seed(1)
    model = tiny_mae(decoder_depth=2)
    for block in model.decoder_blocks:
        nn.init.normal_(block.attn.qkv.weight, std=0.6)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    images = torch.randn(5, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    return model, images, measured(model, images)


def test_losses_are_those_of_a_decoder_written_out(found: tuple[MAE, Tensor, xr.Dataset]) -> None:
    model, images, _ = found
    one = Random()(1, model.grid, torch.Generator().manual_seed(3))
    mask = one[torch.zeros(2, dtype=torch.long)]
    images, hidden = images[:2], one.is_hidden[0].tolist()

    def removed(what: str, query: int, key: int) -> bool:
        if what == "class token":
            return query > 0 and key == 0
        if not query or not hidden[query - 1]:
            return False
        is_hidden = key > 0 and hidden[key - 1]
        return {
            "other hidden": is_hidden and key != query,
            "itself": key == query,
            "all hidden": is_hidden,
            "visible": key > 0 and not is_hidden,
        }[what]

    @torch.no_grad()
    def loss_without(what: str, layers: list[int]) -> Tensor:
        entries = removed_entries(what, mask.is_hidden, 1)[:, None]
        with changed_answers(model.decoder_blocks, lambda _, at, own: without_entries(at, own, entries), layers):
            pred = model(images, mask).pred
        error = (pred - model.targets(images)).square().mean(-1)
        return error.gather(1, mask.hidden).mean(1)

    for what, layers in (("other hidden", [0, 1]), ("visible", [1]), ("class token", [0]), ("itself", [0])):
        wanted = reference.losses(
            model,
            images,
            mask,
            lambda layer, _, q, k, what=what, layers=layers: layer in layers and removed(what, q, k),
        )
        np.testing.assert_allclose(loss_without(what, layers).numpy(), wanted, rtol=2e-5)  # of float32


def test_a_decoder_without_attention_loses_nothing(images: Tensor) -> None:
    model = tiny_mae(decoder_depth=2)
    for block in model.decoder_blocks:
        nn.init.zeros_(block.attn.proj.weight)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        nn.init.zeros_(block.attn.proj.bias)  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    result = measured(model, images)
    for name in ("increase", "block_increase", "head_increase"):
        assert (result[name] == 0).all(), name
        assert (result[f"{name}_sem"] == 0).all(), name
    assert (result["skip_increase"] != 0).any()  # its feed-forward layers still do something


def test_attention_made_by_hand() -> None:
    """Uniform attention: what is left is the mean of the values that are left."""
    model = tiny_mae()
    attention = model.decoder_blocks[0].attn
    nn.init.zeros_(attention.qkv.weight[: 2 * attention.qkv.in_features])  # pyright: ignore
    x = torch.randn(1, 5, 12)
    is_hidden = torch.tensor([[False, True, False, True]])
    attended, own = Attended(cast(nn.Module, attention), x, (), {}), torch.randn(1, 3, 5, 4)
    values = attended.values()
    left = {"other hidden": [0, 1, 2, 3], "all hidden": [0, 1, 3], "visible": [0, 2, 4], "itself": [0, 1, 3, 4]}
    for what, keys in left.items():
        entries = removed_entries(what, is_hidden, 1)[:, None]
        answer = without_entries(attended, own, entries)
        torch.testing.assert_close(answer[0, :, 2], values[0][:, keys].mean(1))
        torch.testing.assert_close(answer[0][:, [0, 1, 3]], own[0][:, [0, 1, 3]], rtol=0, atol=0)
    # keys that keep their attention and bring the mean
    entries, means = removed_entries("visible", is_hidden, 1)[:, None], torch.randn(1, 5, 12)
    uniform = values.mean(2, keepdim=True).expand_as(values)
    answer = with_mean_values(attended, uniform, entries, means)
    other = means.unflatten(-1, (3, 4)).transpose(1, 2)
    wanted = (values[0][:, [0, 2, 4]].sum(1) + other[0][:, [1, 3]].sum(1)) / 5
    torch.testing.assert_close(answer[0, :, 2], wanted)


def test_what_carries_nothing_of_the_image_costs_nothing_to_replace(found: tuple[MAE, Tensor, xr.Dataset]) -> None:
    """Mask tokens before the first block are the same for all images: their values are their
    means."""
    _, _, result = found
    first = result["block_increase"].sel(layer=1)
    for what in ("other hidden", "itself", "all hidden"):
        assert abs(float(first.sel(what=what, how="mean"))) < 1e-6
        assert abs(float(first.sel(what=what, how="removed"))) > 1e-4
    assert abs(float(first.sel(what="visible", how="mean"))) > 1e-4


def test_as_many_random_entries_are_removed(rng: torch.Generator) -> None:
    is_hidden = torch.rand(2, 6, generator=rng) < 0.5
    scores = torch.rand(2, 7, 7, generator=rng)
    for what in KEYS:
        removed = removed_entries(what, is_hidden, 1)
        found = random_entries(removed, scores)
        assert (found.sum(-1) == removed.sum(-1)).all()
    one_head = spread_over_heads(scores, 3)
    assert (one_head.sum(1) == 1).all()  # each key is lost by one head: as many entries as a head has
    assert (one_head.sum(-1) >= 2).all()


def test_means_are_of_position_and_state(rng: torch.Generator) -> None:
    values, is_hidden = torch.randn(4, 3, 2, generator=rng), torch.rand(4, 3, generator=rng) < 0.5
    is_hidden[:, 1] = False
    is_hidden[0, 0] = True
    means = TokenMeans()
    means.add(values[:1], is_hidden[:1])
    means.add(values[1:], is_hidden[1:])
    asked = torch.tensor([[True, True, False]])
    at = means.at(asked)[0]
    torch.testing.assert_close(at[0], values[is_hidden[:, 0], 0].mean(0))
    torch.testing.assert_close(at[1], values[is_hidden].mean(0))  # never hidden there: of all positions
    if (~is_hidden[:, 2]).any():
        torch.testing.assert_close(at[2], values[~is_hidden[:, 2], 2].mean(0))


def test_pulls_are_what_an_image_weighs_in_the_means(rng: torch.Generator) -> None:
    values, is_hidden = torch.randn(5, 3, 4, generator=rng), torch.rand(5, 3, generator=rng) < 0.5
    gradient = torch.randn(2, 3, 2, generator=rng)
    means = TokenMeans()
    means.add(values, is_hidden)
    found = means.pulls(values, is_hidden, gradient, slice(1, 3))
    assert abs(float(found.sum())) < 1e-5

    def number(weight: Tensor) -> float:
        total = 0.0
        for state, chosen in enumerate((~is_hidden, is_hidden)):
            weights = weight[:, None] * chosen
            mean = torch.einsum("bt,btd->td", weights, values) / weights.sum(0).clamp(min=1e-9)[:, None]
            total += float((gradient[state] * mean[:, 1:3]).sum())
        return total

    for image in range(5):
        more = torch.ones(5)
        more[image] += 1e-2
        # a finite difference of float32, of a share that is not quite linear
        assert float(found[image]) == pytest.approx((number(more) - number(torch.ones(5))) / 1e-2, rel=0.03, abs=2e-3)


@pytest.mark.parametrize("what", [BLOCK, HEAD, "visible"])
def test_gradients_are_with_respect_to_what_replaces(found: tuple[MAE, Tensor, xr.Dataset], what: str) -> None:
    model, images, _ = found
    batch, case = Batch(model, images, 0, 1), Case(what, "mean", 0, 1 if what == HEAD else 0)
    accumulator = KnockOut(**ALONE).start(model, len(images), 1)
    accumulator.update(batch)
    deque(accumulator.conclude(), maxlen=0)
    part = knock_out._Part(accumulator, images, batch.masks(Random(), 1), 0)  # pyright: ignore[reportPrivateUsage]
    means, columns = accumulator.means[case.part][0], accumulator.columns(case)
    direction = torch.randn(means.sums.shape, generator=torch.Generator().manual_seed(2))
    ends = []
    for size in (-1e-2, 1e-2):
        means.shift = size * direction
        ends.append(float(part.loss(case).double().sum()))
    wanted = (ends[1] - ends[0]) / 2e-2
    slope = float((accumulator.gradients[case] * direction[..., columns]).sum())
    assert slope == pytest.approx(wanted, rel=0.02, abs=2e-3)
    assert abs(slope) > 1e-3
    assert abs(float(torch.cat(accumulator.pulls[case]).sum())) < 1e-4


def test_the_intact_loss_is_that_of_the_model_and_pairs_by_image(found: tuple[MAE, Tensor, xr.Dataset]) -> None:
    model, images, result = found
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0)))
    mask, out = Batch(model, images, 0, seed).masked(Random(), 1)
    errors = (out.pred - model.targets(images)).square().mean(-1).gather(1, mask.hidden).mean(1)
    assert float(result["loss"]) == pytest.approx(float(errors.mean()), rel=1e-5)
    assert result.attrs["stage"] == "decoder"
    assert result["increase_without"].sizes == {"left_out_of_5": 5, "what": 5, "how": 3}
    # one block of two: what is taken out of all is not what is taken out of one
    assert result["block_increase"].sizes == {"what": 5, "how": 3, "layer": 2}
    assert result["head_increase"].notnull().all()


def test_batches_have_no_influence(found: tuple[MAE, Tensor, xr.Dataset]) -> None:
    model, images, result = found
    again = measured(model, images, batch_size=2)
    for name in result.data_vars:
        xr.testing.assert_allclose(result[name], again[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("most", "size"), [(2**28, 5), (1, 1)], ids=["all images", "never none"])
def test_a_gradient_takes_few_images_at_once_and_its_pieces_have_no_influence(
    found: tuple[MAE, Tensor, xr.Dataset], monkeypatch: pytest.MonkeyPatch, most: int, size: int
) -> None:
    model, images, result = found
    sizes, of_piece = set(), _Part._piece_with_gradient

    def counted(piece: _Part, case: Case) -> Tensor:
        sizes.add(len(piece.images))
        return of_piece(piece, case)

    monkeypatch.setattr(_Part, "_piece_with_gradient", counted)
    monkeypatch.setattr("lcmae.probes.knock_out.MOST_GRAPH", most)
    again = measured(model, images)
    assert sizes == {size}
    for name in result.data_vars:
        xr.testing.assert_allclose(result[name], again[name], rtol=1e-3, atol=1e-5)


def test_without_a_decoder_the_encoder_is_taken_apart(images: Tensor) -> None:
    result = measured(tiny_simmim(), images, single_images=2)
    assert result.attrs["stage"] == "encoder"
    assert result["increase"].notnull().all()
    assert result.attrs["num_single_images"] == 2


def test_without_a_class_token_there_is_none_to_take_out(images: Tensor) -> None:
    result = measured(tiny_mae(decoder_prefix=0), images, single_images=0)
    assert result["increase"].sel(what="class token").isnull().all()
    assert result["increase"].attrs["missing"] == "class token: there is none"
    assert result["increase"].drop_sel(what="class token").notnull().all()
    assert "head_increase" not in result


class ForeignBlock(nn.Module):
    """Attention of torch's own, which nobody can look into."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x, x, x, need_weights=False)[0]


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.decoder, self.head = nn.Linear(12, 16), nn.ModuleList([ForeignBlock()]), nn.Linear(16, 12)
        self.position, self.empty = nn.Parameter(torch.randn(24, 16)), nn.Parameter(torch.randn(16))


def adapted() -> MaskedImageModel:
    module = Foreign()

    def encode(images: Tensor, mask: Mask) -> Tensor:
        patches = patchify(images, 2)
        chosen = patches.gather(1, mask.visible[..., None].expand(-1, -1, 12))
        return module.embed(chosen) + module.position[mask.visible]

    def predict(tokens: Tensor, mask: Mask) -> Tensor:
        whole = (module.empty + module.position).expand(len(tokens), -1, -1)
        x = whole.scatter(1, mask.visible[..., None].expand(-1, -1, 16), tokens)
        return module.head(module.decoder[0](x))

    return lcmae.adapt(
        module, image_size=(8, 12), patch_size=2, encode=encode, predict=predict, decoder_blocks=module.decoder
    )


def test_of_foreign_attention_only_blocks_are_skipped(images: Tensor) -> None:
    result = measured(adapted(), images)
    assert result["increase"].isnull().all()
    assert "needs timm's Attention or Beit's" in result["increase"].attrs["missing"]
    assert result["skip_increase"].notnull().all()


def test_what_has_no_blocks_says_so(images: Tensor) -> None:
    model = adapted()
    model.decoder_blocks = nn.ModuleList()
    with pytest.raises(ProbeError, match="knock_out: needs a decoder of blocks, or an encoder"):
        measured(model, images)
