"""Masks that follow content: scores against slow definitions, and what is made of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from einops import rearrange
from timm.layers.attention import Attention
from torch import Tensor

import lcmae.masking.scores
from lcmae.config import RunConfig
from lcmae.data import open_source
from lcmae.errors import CheckpointError, InputError
from lcmae.masking import AttentionGuided, LossGuided, Mask, MaskStrategy, Random
from lcmae.masking.scores import attention_scores, frozen, loss_scores
from lcmae.models import MAE, MaskedImageModel
from lcmae.objectives import LCMAE
from lcmae.objectives import MAE as MAEObjective
from lcmae.settings import parse
from lcmae.training.train import train
from tests.conftest import tiny_mae, tiny_simmim
from tests.reference.tiny_runs import STEPS, tiny_run

GRID = (4, 6)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[MAE]:
    """A frozen MAE of 4 x 6 patches that `lcmae.load` finds under the name "teacher"."""
    model = tiny_mae()
    loaded: list[str] = []

    def load(checkpoint: str) -> MaskedImageModel:
        if checkpoint != "teacher":
            raise CheckpointError(f"expected a checkpoint, got {checkpoint}")
        assert not loaded, "a checkpoint is read once"
        loaded.append(checkpoint)
        return model

    monkeypatch.setattr(lcmae.masking.scores, "load", load)
    frozen.cache_clear()
    yield model
    frozen.cache_clear()


@pytest.fixture
def pixels() -> Tensor:
    """Five images of 3 x 8 x 12 in [0, 1]."""
    return torch.rand(5, 3, 8, 12, generator=generator(7))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("build", [tiny_mae, tiny_simmim])
def test_attention_is_that_of_the_unfused_block(build: Callable[..., MaskedImageModel], pixels: Tensor) -> None:
    model = build()
    found = attention_scores(model, pixels, GRID)

    attention = model.blocks[-1].attn
    assert isinstance(attention, Attention)
    attention.fused_attn = False  # pyright: ignore[reportAttributeAccessIssue]
    maps: list[Tensor] = []
    attention.attn_drop.register_forward_hook(lambda module, inputs, output: maps.append(output.detach()))
    model(model.prepare(pixels))
    # two float32 ways to the same softmax
    torch.testing.assert_close(found, maps[0].mean(1)[:, 0, 1:], rtol=1e-5, atol=1e-6)
    assert not attention.qkv._forward_hooks


@pytest.mark.parametrize("build", [tiny_mae, tiny_simmim])
def test_loss_is_the_mean_error_of_each_patch_where_it_is_hidden(
    build: Callable[..., MaskedImageModel], pixels: Tensor
) -> None:
    model = build(normalize_targets=True)
    found = loss_scores(model, pixels, GRID, num_parts=4)

    images = model.prepare(pixels)
    target = model.targets(images)
    part = torch.randperm(24, generator=generator(0)) % 4
    for image in range(2):
        for patch in (0, 11, 23):
            errors = []
            for visible in set(range(4)) - {int(part[patch])}:
                mask = Mask.from_hidden((part != visible)[None])
                with torch.no_grad():
                    pred = model(images[image : image + 1], mask).pred
                errors.append(float((pred[0, patch] - target[image, patch]).square().mean()))
            assert len(errors) == 3
            assert float(found[image, patch]) == pytest.approx(sum(errors) / 3, rel=1e-4)


def test_another_size_and_grid_are_bridged(pixels: Tensor) -> None:
    model = tiny_mae()
    larger = pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    scores = attention_scores(model, larger, (8, 12))
    assert scores.shape == (5, 96)
    # twice as fine a grid: each 2 x 2 of it averages to about the coarse patch
    coarse = rearrange(scores, "b (r two c deux) -> b (r c) (two deux)", r=4, two=2, c=6, deux=2).mean(-1)
    exact = attention_scores(model, pixels, GRID)
    assert torch.corrcoef(torch.stack([coarse.flatten(), exact.flatten()]))[0, 1] > 0.8


def test_high_hides_what_is_attended_and_low_the_rest(teacher: MAE, pixels: Tensor) -> None:
    scores = attention_scores(teacher, pixels, GRID)
    high = AttentionGuided(checkpoint="teacher", ratio=0.5)(5, GRID, generator(), images=pixels)
    low = AttentionGuided(checkpoint="teacher", ratio=0.5, mode="low")(5, GRID, generator(), images=pixels)
    assert torch.equal(high.is_hidden, ~low.is_hidden)
    lowest_hidden = scores.masked_fill(~high.is_hidden, torch.inf).amin(1)
    highest_visible = scores.masked_fill(high.is_hidden, -torch.inf).amax(1)
    assert (lowest_hidden >= highest_visible).all()


def test_hints_are_shown_from_the_most_attended(teacher: MAE, pixels: Tensor) -> None:
    strategy = AttentionGuided(checkpoint="teacher", ratio=0.5, mode="hint", hint_pool=0.25, hint=0.5)
    mask = strategy(10, GRID, generator(), images=pixels)
    scores = attention_scores(teacher, pixels, GRID).repeat_interleave(2, 0)
    rank = scores.argsort(1, descending=True).argsort(1)
    # of the 6 most attended, 3 are shown; the 12 hidden are the rest of the 15 most attended
    assert (~mask.is_hidden & (rank < 6)).sum(1).tolist() == [3] * 10
    assert (mask.is_hidden & (rank < 15)).sum(1).tolist() == [12] * 10
    # two masks of one image: chance chooses the hints
    assert not torch.equal(mask.is_hidden[0::2], mask.is_hidden[1::2])


def test_hints_never_cost_the_count(teacher: MAE, pixels: Tensor) -> None:
    strategy = AttentionGuided(checkpoint="teacher", ratio=23 / 24, mode="hint", hint_pool=0.9, hint=1.0)
    mask = strategy(5, GRID, generator(), images=pixels)
    assert mask.is_hidden.sum(1).tolist() == [23] * 5


def test_hard_patches_are_hidden_and_the_rest_is_chance(teacher: MAE, pixels: Tensor) -> None:
    strategy = LossGuided(checkpoint="teacher", ratio=0.5)
    mask = strategy(2000, GRID, generator(), images=pixels)
    hardest = loss_scores(teacher, pixels, GRID, 4).topk(6, dim=1).indices
    share = mask.is_hidden.view(5, 400, 24).double().mean(1)
    assert (share.gather(1, hardest) == 1).all()
    # 6 of the other 18 by chance: a third, to five deviations
    others = share.scatter(1, hardest, 1 / 3)
    assert (others - 1 / 3).abs().max() < 5 * (2 / 9 / 400) ** 0.5


@pytest.mark.parametrize("strategy", [AttentionGuided, LossGuided])
def test_without_guidance_it_is_random(strategy: type[MaskStrategy], teacher: MAE, pixels: Tensor) -> None:
    mask = strategy(checkpoint="teacher", guided=0.0)(5, GRID, generator(), images=pixels)  # pyright: ignore[reportCallIssue]
    assert torch.equal(mask.is_hidden, Random()(5, GRID, generator()).is_hidden)


def test_objectives_bring_their_images(teacher: MAE, images: Tensor) -> None:
    student = tiny_mae(pixel_mean=(0.4,), pixel_std=(0.2,))
    strategy = AttentionGuided(checkpoint="teacher", ratio=0.5)
    mask = MAEObjective(mask=strategy).draw(student, images, generator())
    expected = strategy(5, GRID, generator(), images=student.to_pixels(images))
    assert torch.equal(mask.is_hidden, expected.is_hidden)
    loss = LCMAE(mask=LossGuided(checkpoint="teacher"))(student, images, generator()).total
    loss.backward()
    assert student.decoder_pred.weight.grad is not None
    assert teacher.decoder_pred.weight.grad is None


def test_a_share_of_a_batch_is_guided_by_its_own_images(teacher: MAE, pixels: Tensor) -> None:
    strategy = LossGuided(checkpoint="teacher", ratio=0.5)
    whole = strategy(5, GRID, generator(), images=pixels)
    share = strategy(5, GRID, generator(), images=pixels[3:], share=slice(3, 5))
    assert torch.equal(share.is_hidden, whole.is_hidden[3:])


@pytest.mark.parametrize("strategy", [AttentionGuided(checkpoint="teacher"), LossGuided(checkpoint="teacher")])
def test_missing_images_and_checkpoints_are_refused(strategy: MaskStrategy, teacher: MAE, pixels: Tensor) -> None:
    with pytest.raises(InputError, match=r"Guided uses images: expected images that 4 masks .* got none$"):
        strategy(4, GRID, generator())
    with pytest.raises(InputError, match=r"4 masks are a whole number for each of, got 5$"):
        strategy(4, GRID, generator(), images=pixels)
    with pytest.raises(InputError, match=r"^expected a checkpoint, got nowhere$"):
        strategy.model_copy(update={"checkpoint": "nowhere"}).open()


def test_a_config_is_checked_without_its_checkpoint() -> None:
    AttentionGuided(checkpoint="nowhere").check(GRID)
    with pytest.raises(InputError, match=r"^masking ratio 0.99 leaves 0 of the 24 patches"):
        LossGuided(checkpoint="nowhere", ratio=0.99).check(GRID)


def test_checkpoints_that_cannot_guide_are_refused(teacher: MAE) -> None:
    teacher.has_prediction = False
    with pytest.raises(InputError, match=r"^expected a checkpoint with a decoder to guide masks by loss"):
        LossGuided(checkpoint="teacher").open()
    teacher.num_prefix = 0
    with pytest.raises(
        InputError, match=r"^expected a checkpoint with a class token and timm attention .* got 0 prefix"
    ):
        AttentionGuided(checkpoint="teacher").open()


@pytest.mark.parametrize("kind", ["attention", "loss"])
def test_a_run_is_trained_under_the_masks_of_another_run(kind: str, tmp_path: Path) -> None:
    """Nothing replaced: a published run guides, resuming reads it again, and the masks are those of
    its scores."""
    guide = tiny_run(tmp_path / "guide")
    train(guide)
    mask = {"kind": kind, "ratio": 0.5, "checkpoint": str(guide.path)}
    run = tiny_run(tmp_path / "run", objective={"kind": "mae", "mask": mask})
    frozen.cache_clear()
    assert train(run).step == STEPS

    strategy = parse(RunConfig, run.config).objective.mask
    assert isinstance(strategy, AttentionGuided | LossGuided)
    pixels = open_source("digits", split="train", image_size=(8, 8), channels=1, limit=48)[slice(None)].float() / 255
    count = round(strategy.guided * 8)
    highest = strategy.scores(pixels, (4, 4)).topk(count, dim=1).indices
    assert strategy(48, (4, 4), generator(), images=pixels).is_hidden.gather(1, highest).all()


def test_a_guide_that_is_gone_is_said_before_training(tmp_path: Path) -> None:
    mask = {"kind": "attention", "ratio": 0.5, "checkpoint": str(tmp_path / "gone")}
    frozen.cache_clear()
    with pytest.raises(CheckpointError, match="gone"):
        train(tiny_run(tmp_path / "run", objective={"kind": "mae", "mask": mask}))
