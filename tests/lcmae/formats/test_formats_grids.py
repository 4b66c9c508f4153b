"""Grids and heads: known, read from tables, guessed, resampled."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.pos_embed_rel import gen_relative_position_index

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import inspect, load
from lcmae.formats.positions import bicubic, index_grid, sincos_grid
from lcmae.masking import Random
from lcmae.models import MAE, sincos_positions
from tests.reference import foreign
from tests.reference.checkpoint_files import HEADS, save, source


def test_positions_are_resampled_and_it_is_said(tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain})
    model = load(path, image_size=(24, 32), **HEADS)
    assert model.grid == (6, 8)
    assert model(torch.zeros(1, 3, 24, 32)).pred.shape == (1, 48, foreign.VALUES)
    assert torch.equal(model.pos_embed[:, :1], plain["pos_embed"][:, :1])
    assert model.source is not None
    assert "positions resampled bicubically from a grid of 4x4 to 6x8" in model.source.notes
    assert inspect(path, image_size=(24, 32), **HEADS).config["image_size"] == [24, 32]


def test_resampling_keeps_what_it_can():
    table = sincos_positions(16, (8, 8))
    assert torch.allclose(bicubic(table, (8, 8), (8, 8)), table, atol=1e-6)
    assert torch.allclose(bicubic(torch.ones(64, 3), (8, 8), (5, 11)), torch.ones(55, 3), atol=1e-5)
    transposed = bicubic(table.reshape(8, 8, 16).transpose(0, 1).reshape(64, 16), (8, 8), (6, 4))
    straight = bicubic(table, (8, 8), (4, 6)).reshape(4, 6, 16).transpose(0, 1).reshape(24, 16)
    assert torch.allclose(transposed, straight, atol=1e-5)


def test_a_grid_that_is_not_square_has_to_be_said(tmp_path: Path, plain: foreign.State, rng: torch.Generator):
    state = plain | {
        name: foreign.noise(1, 13, plain[name].shape[2], rng=rng) for name in ("pos_embed", "decoder_pos_embed")
    }
    path = save(tmp_path / "a.pth", {"model": state})
    with pytest.raises(CheckpointError, match=r"square grid.*say image_size"):
        load(path, **HEADS)
    model = load(path, image_size=(8, 24), **HEADS)
    assert model.grid == (2, 6)
    assert torch.equal(model.pos_embed, state["pos_embed"])


@pytest.mark.parametrize("shared", [True, False])
def test_relative_positions_are_resampled_too(shared: bool, tmp_path: Path, rng: torch.Generator):
    state = foreign.simmim(rng, shared=shared, absolute=True)
    model = load(save(tmp_path / "a.pth", {"model": state}), image_size=24)
    out = model(torch.randn(2, 3, 24, 24, generator=rng), Random(ratio=0.5)(2, (6, 6), rng))
    assert out.pred.isfinite().all()
    assert out.pred.shape == (2, 36, foreign.VALUES)


# rectangles for which height x width + 1, or height x width, is a square
TRAPS = [(4, 6), (10, 12), (2, 12), (8, 2), (4, 9), (3, 12)]


def rectangle(grid: tuple[int, int], rng: torch.Generator, *, fixed: bool = False) -> foreign.State:
    """An encoder with a class token on a grid; its positions are random, or the fixed ones."""
    count = grid[0] * grid[1]
    table = sincos_positions(foreign.WIDTH, grid, prefix=1)[None]
    return foreign.encoder(rng) | {"pos_embed": table if fixed else foreign.noise(1, count + 1, foreign.WIDTH, rng=rng)}


@pytest.mark.parametrize("grid", TRAPS)
@pytest.mark.parametrize("how", ["you", "args", "hyper_parameters", "lcmae", "fixed positions"])
def test_a_known_size_is_used(how: str, grid: tuple[int, int], tmp_path: Path, rng: torch.Generator):
    size = (grid[0] * foreign.PATCH, grid[1] * foreign.PATCH)
    state = rectangle(grid, rng, fixed=how == "fixed positions")
    beside: dict[str, Any] = {
        "args": {"args": argparse.Namespace(input_size=list(size))},
        "hyper_parameters": {"hyper_parameters": {"model": {"img_size": size}}},
        "lcmae": {"lcmae": {"image_size": list(size)}},
    }.get(how, {})
    path = save(tmp_path / "a.pth", {"model": state, **beside})
    said: dict[str, Any] = {"image_size": size} if how == "you" else {}
    for found in (load(path, heads=2, **said).source, inspect(path, heads=2, **said).source):
        assert found is not None
        assert found.read["image_size"] == size
        assert found.read["prefix_positions"] is True
        assert "image_size" not in found.assumed
        assert not any("resampled" in note for note in found.notes)
    model = load(path, heads=2, **said)
    assert torch.equal(model.state_dict()["pos_embed"], state["pos_embed"])


@pytest.mark.parametrize("grid", [(4, 6), (10, 12)])
def test_a_guess_is_assumed_and_names_what_else_it_may_be(grid: tuple[int, int], tmp_path: Path, rng: torch.Generator):
    path = save(tmp_path / "a.pth", {"model": rectangle(grid, rng)})
    found = load(path, heads=2).source
    assert found is not None
    assert "image_size" in found.assumed
    assert "prefix_positions" in found.assumed
    assert any("ASSUMED" in note and "say image_size=(height, width)" in note for note in found.notes)


def test_fixed_positions_are_known_after_training_on_them(tmp_path: Path, rng: torch.Generator):
    state = rectangle((4, 9), rng, fixed=True)
    state["pos_embed"] = state["pos_embed"] + 0.1 * torch.randn(state["pos_embed"].shape, generator=rng)
    assert load(save(tmp_path / "a.pth", {"model": state}), heads=2).config.image_size == (16, 36)


@pytest.mark.parametrize("grid", [*TRAPS, (1, 16), (16, 1), (4, 4), (14, 14), (7, 28)])
@pytest.mark.parametrize("width", [16, 100])
def test_fixed_positions_have_one_grid(grid: tuple[int, int], width: int):
    table = sincos_positions(width, grid)
    assert sincos_grid(table) == grid
    assert sincos_grid(table.bfloat16().float()) == grid
    # MoCo v3 has rows first; a single row is a single column then
    assert 1 in grid or sincos_grid(torch.cat(table.chunk(2, dim=1)[::-1], dim=1)) == grid


def test_random_positions_have_none(rng: torch.Generator):
    assert sincos_grid(torch.randn(36, 32, generator=rng)) is None
    assert sincos_grid(0.02 * torch.randn(36, 32, generator=rng)) is None


@pytest.mark.parametrize("grid", [(4, 6), (6, 4), (3, 5), (2, 8)])
def test_grid_of_relative_positions_is_in_their_index(grid: tuple[int, int]):
    rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
    assert index_grid(gen_relative_position_index(grid, class_token=True), rows) == grid


def test_heads_that_have_two_answers_are_named(tmp_path: Path):
    state = MAE(image_size=32, patch_size=8, depth=1, decoder_width=192, decoder_heads=3, decoder_depth=1).state_dict()
    notes = source(save(tmp_path / "a.pth", {"model": state})).notes
    assert any("say heads=12 (--heads 12)" in note for note in notes)
    assert any("say decoder_heads=6 (--decoder-heads 6)" in note for note in notes)


def test_heads_are_read_from_norms_of_queries(tmp_path: Path, rng: torch.Generator):
    state = foreign.encoder(rng)
    for index in range(foreign.DEPTH):
        for name in ("q_norm", "k_norm"):
            state |= foreign.norm(f"blocks.{index}.attn.{name}", foreign.WIDTH // 4, rng)
    assert source(save(tmp_path / "a.pth", {"model": state})).read["heads"] == 4


@pytest.mark.parametrize("reader", [load, inspect])
def test_a_grid_beyond_memory_is_refused_before_it_is_made(reader: Any, tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain})
    with pytest.raises(InputError, match=r"at most 1048576 patches of 4 pixels, got 1600000000"):
        reader(path, image_size=(160000, 160000), **HEADS)
