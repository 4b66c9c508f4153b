"""Images from known latents: the same whatever the batch, dependent on their parents alone, and
invertible by an oracle."""

import math
import pickle

import numpy as np
import pytest
import torch

from lcmae.data import open_source
from lcmae.data.hierarchy import (
    _AMPLITUDE,
    _ANGLES,
    _BRIGHTNESS_STEP,
    Hierarchy,
    HierarchySettings,
    KnownLatents,
    read_settings,
)
from lcmae.errors import InputError


def hierarchy(part: str = "train", size: int = 32, **settings: float) -> Hierarchy:
    return Hierarchy(HierarchySettings.model_validate(settings), part, size, size, 1)


def test_an_image_is_a_function_of_its_row_alone() -> None:
    synthetic = hierarchy()
    rows = torch.tensor([7, 100_000_000, 3])
    together = synthetic.pixels(rows)
    for position, row in enumerate(rows):
        assert torch.equal(synthetic.pixels(row[None])[0], together[position])
    assert torch.equal(pickle.loads(pickle.dumps(synthetic)).pixels(rows), together)
    # another seed, another split, another row: other pixels
    for other in (hierarchy(seed=1).pixels(rows), hierarchy("test").pixels(rows), synthetic.pixels(rows + 1)):
        assert (other != together).float().mean() > 0.9


@pytest.mark.parametrize(("depth", "split"), [(3, 2), (4, 2), (5, 2), (3, 3)])
def test_the_tree_says_who_depends_on_whom(depth: int, split: int) -> None:
    synthetic = hierarchy(size=4 * split ** (depth - 1), depth=depth, split=split)
    tree, latents = synthetic.tree, synthetic.latents(torch.arange(2))
    assert len(tree.levels) == depth
    assert [latents[name].shape[1] for name in tree.levels] == [split ** (2 * level) for level in range(depth)]
    assert [latents[name][0, 0].numel() for name in tree.levels] == list(tree.dims)
    assert tree.parent.shape == tree.level.shape == (tree.first[-1],)
    # a parent is one level up, and its block holds its children's blocks
    for node in range(1, tree.first[-1]):
        level, parent = int(tree.level[node]), int(tree.parent[node])
        assert tree.level[parent] == level - 1
        within = tree.block(level, synthetic.height, synthetic.width) == node - tree.first[level]
        around = tree.block(level - 1, synthetic.height, synthetic.width) == parent - tree.first[level - 1]
        assert (within & around).sum() == within.sum() == (synthetic.height // split**level) ** 2


def test_a_texture_reaches_its_own_pixels_and_no_others() -> None:
    synthetic = hierarchy()
    texture = synthetic.latents(torch.arange(3))["texture"]
    before = synthetic.clean(texture)
    texture[:, 11] += 0.5
    changed = (synthetic.clean(texture) - before).abs() > 1e-9
    own = synthetic.tree.block(3, 32, 32) == 11
    assert not changed[:, ~own].any()
    assert changed[:, own].all(dim=0).float().mean() > 0.9


def test_kinds_are_those_that_the_tables_allow_and_attributes_have_their_spread() -> None:
    synthetic = hierarchy(classes=5, variants=2, jitter=0.3)
    latents = synthetic.latents(torch.arange(4000))
    assert latents["class"][:, 0].bincount().tolist() == [800] * 5
    for number in range(5):
        of_class = latents["layout"][latents["class"][:, 0] == number]
        # one of two variants at each place (or the same one twice, by chance of the table)
        assert all(len(of_class[:, position].unique()) <= 2 for position in range(4))
    part, texture = latents["part"], latents["texture"]
    above = part[:, synthetic.tree.ancestor(3, 2)]
    # texture = sqrt(1 - 0.3^2) part + 0.3 normal: 4000 x 64 x 3 residuals, of deviation 0.3 to 4 /
    # sqrt(2 x 768,000)
    residual = texture - (1 - 0.3**2) ** 0.5 * above
    assert residual.std().item() == pytest.approx(0.3, rel=4 / (2 * residual.numel()) ** 0.5)
    # and independent of the parent
    assert np.corrcoef(residual.flatten(), above.flatten())[0, 1] == pytest.approx(0, abs=4 / residual.numel() ** 0.5)


def read_textures(synthetic: Hierarchy, pixels: torch.Tensor) -> torch.Tensor:
    """Brightness, orientation and phase [b nodes 3] of clean pixels [b h w]: at each of 800
    orientations brightness and phase are linear least squares, and the orientation with the least
    error wins."""
    down, across, wavelength = synthetic._coordinates()
    position = [grid.expand(synthetic.height, synthetic.width) for grid in (down, across)]
    angles = torch.linspace(_ANGLES[0], _ANGLES[1], 800, dtype=torch.float64) * math.pi
    turns = (
        2
        * math.pi
        / wavelength
        * (position[1] * angles.cos()[:, None, None] + position[0] * angles.sin()[:, None, None])
    )
    block, found = synthetic.tree.block(synthetic.settings.depth - 1, synthetic.height, synthetic.width), []
    for node in range(64):
        own = block == node
        wave = turns[:, own]
        design = torch.stack([torch.ones_like(wave), wave.sin(), wave.cos()], dim=-1)
        values = pixels[:, own].T
        brightness, *quadrature = (torch.linalg.pinv(design) @ values).unbind(1)
        phase = torch.atan2(quadrature[1], quadrature[0])
        guess = brightness[:, None] + _AMPLITUDE * (wave[..., None] + phase[:, None]).sin()
        best = (guess - values).square().sum(1).argmin(0)
        images = torch.arange(len(pixels))
        found.append(torch.stack([brightness[best, images], angles[best], phase[best, images]], dim=-1))
    return torch.stack(found, dim=1)


def test_an_oracle_recovers_every_latent() -> None:
    """It knows the generator and sees pixels: textures by least squares, parts by means, kinds by
    what the tables allow."""
    synthetic = hierarchy(noise=0.0, jitter=0.05)
    rows = torch.arange(20)
    pixels, latents = synthetic.pixels(rows)[:, 0].double() / 255, synthetic.latents(rows)
    found, true = read_textures(synthetic, pixels), synthetic._appearance(latents["texture"])
    # 8-bit pixels leave 1e-3 of brightness and some hundredths of a radian
    assert ((found - true).square().mean((0, 1)).sqrt() < torch.tensor([2e-3, 0.04, 0.1])).all()

    # a part is the mean of its four textures, up to the known factor and what jitter leaves: 0.05 /
    # sqrt(4)
    keep = (1 - 0.05**2) ** 0.5
    brightness = (found[..., 0] - 0.5) / _BRIGHTNESS_STEP
    orientation = torch.special.ndtri(
        ((found[..., 1] / math.pi - _ANGLES[0]) / (_ANGLES[1] - _ANGLES[0])).clamp(1e-3, 1 - 1e-3)
    )
    texture, above = torch.stack([brightness, orientation], dim=-1), synthetic.tree.ancestor(3, 2)
    part = torch.stack([texture[:, above == node].mean(1) for node in range(16)], dim=1) / keep
    error = (part - latents["part"][..., :2]).square().mean((0, 1)) / latents["part"][..., :2].var((0, 1))
    assert (error < 0.02).all()
    # a layout is the nearest of those that the table has, the class one that allows all four
    wanted, up = keep * synthetic._attribute_table()[:, synthetic._position(2), :2], synthetic._up(2)
    distance = (wanted - part[:, None]).square().sum(-1)
    layout = torch.stack([distance[:, :, up == node].sum(-1) for node in range(4)], dim=1).argmin(-1)
    assert torch.equal(layout, latents["layout"])
    allowed = (synthetic._table(1)[:, None] == layout[None, :, :, None]).any(-1).all(-1)
    assert allowed[latents["class"][:, 0], torch.arange(20)].all()
    assert allowed.sum() <= 22  # hardly ever two classes


def test_as_a_source_by_name() -> None:
    source = open_source("hierarchy:images=50,classes=4", image_size=16, channels=3, limit=12)
    assert source.pixels.shape == (12, 3, 16, 16)
    assert torch.equal(source.pixels[:, 0], source.pixels[:, 2])
    assert source.labels is not None
    assert source.labels.bincount().tolist() == [3] * 4
    assert source.label_names == ("class 0", "class 1", "class 2", "class 3")
    synthetic = source.images.hierarchy
    assert synthetic is not None
    assert torch.equal(synthetic.pixels(source.images.rows), source.pixels)
    assert torch.equal(KnownLatents(synthetic, source.images.rows)[2:5].latents()["class"][:, 0], source.labels[2:5])
    assert len(open_source("hierarchy:images=50", split="test", image_size=16)) == 13


def test_streaming_gives_the_same_pixels() -> None:
    resident = open_source("hierarchy:images=70", image_size=16, channels=1)
    streaming = open_source("hierarchy:images=70", image_size=16, channels=1, resident_limit=0)
    assert not streaming.resident
    assert torch.equal(streaming[torch.tensor([69, 0, 5])], resident.pixels[[69, 0, 5]])
    assert torch.equal(streaming[slice(3, 9)], resident.pixels[3:9])
    with pytest.raises(IndexError, match="expected positions from 0 to 69, got 70"):
        streaming[torch.tensor([70])]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hierarchy:depth=0", "hierarchy: depth: input should be greater than or equal to 3, got '0'"),
        ("hierarchy:classes=1", "hierarchy: classes: input should be greater than or equal to 2, got '1'"),
        ("hierarchy:depth=6", "32 textures of the same whole number of pixels (2 or more) fit into, got 32x32 pixels"),
        ("hierarchy:split=3", "expected sides that 27 textures of the same whole number of pixels"),
        ("hierarchy:depht=4", "expected settings out of depth, split, classes"),
        ("hierarchy:depth", "expected NAME=VALUE,... with each name once, got 'depth'"),
        ("hierarchy:depth=4,depth=5", "with each name once"),
        ("hierarchies", "expected data to be digits"),
    ],
)
def test_bad_settings_are_one_line(name: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        open_source(name, image_size=32)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_no_alpha() -> None:
    with pytest.raises(InputError, match="expected 1 or 3 channels"):
        open_source("hierarchy", channels=4)


def test_an_empty_text_is_the_defaults() -> None:
    assert read_settings("") == HierarchySettings()
    assert read_settings("jitter=0.5, noise=0") == HierarchySettings(jitter=0.5, noise=0.0)
