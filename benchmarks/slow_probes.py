"""Probes by their definitions, slowly: the fixed reference that `benchmarks.probes` measures
against.

One image under one mask goes through the model at a time, one gradient is taken at a time, all maps
and vectors are kept, and means over pairs are formed from the pairs. Each function takes a probe's
settings and returns some of its result's numbers, in the result's own order of axes; equal to 1e-6
(tests/benchmarks/test_benchmark_probes.py). Masks are the probe's own, drawn for all images at
once. Nothing here is to be made faster: ratios over it are compared through time.
"""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import scipy.linalg
import torch
import xarray as xr
from torch import Tensor

from lcmae.contrast import TERMS
from lcmae.masking import STRATEGIES, Mask, MaskStrategy
from lcmae.models import MaskedImageModel
from lcmae.objectives.lcmae import visible_tokens
from lcmae.probes.base import Probe
from lcmae.probes.encoder_attention import MEASURES, EncoderAttention
from lcmae.probes.invariance import Invariance
from lcmae.probes.local_contrast import LocalContrast
from lcmae.probes.measures.attention import patch_distances
from lcmae.probes.receptive_field import ReceptiveField, spaced_layers, with_patch
from lcmae.probes.results.networks import trained
from lcmae.probes.spectrum import Spectrum
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.gradients import random_signs, token_index
from lcmae.probes.watching.hooks import block_outputs, watch_attention
from lcmae.randomness import generator
from lcmae.shapes import Bool, Float

Numbers = dict[str, Tensor]


# --- pairs ---


def pair_spread(points: Float[Tensor, "n d"], weight: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """sum_ij w_i w_j |x_i - x_j|^2 / (2 sum w), from all n x n distances."""
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return (weight[:, None] * weight * distance.square()).sum() / (2 * weight.sum())


def mean_squared_cosine_by_distances(vectors: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Over all pairs, the pair with itself included: cos = 1 - |u - v|^2 / 2 of unit vectors, from
    all n x n distances."""
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    distance = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    return (1 - distance.square() / 2).square().mean()


def mean_squared_cosine(vectors: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Over all pairs, the pair with itself included: one vector against all, one after the
    other."""
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    return torch.stack([(unit @ one).square().mean() for one in unit]).mean()


# --- passes ---


def masks_of(model: MaskedImageModel, images: Tensor, strategy: MaskStrategy, num_masks: int, seed: int) -> Mask:
    return Batch(model, images, 0, seed).masks(strategy, num_masks).to(images.device)


def whole(model: MaskedImageModel) -> Mask:
    return Mask.none(1, model.num_patches, model.device)


@torch.no_grad()
def local_contrast(probe: LocalContrast, model: MaskedImageModel, images: Tensor, seed: int) -> Numbers:
    """`loss` and `term`: each term from pairs of masks, of patches, of images
    (tests/reference/contrast.py)."""
    masks = masks_of(model, images, probe.mask, probe.num_masks, seed)
    residuals: list[list[Tensor]] = []
    for index in range(len(images)):
        image = images[index : index + 1]
        first, target = index * probe.num_masks, model.targets(image)
        rows = range(first, first + probe.num_masks)
        residuals.append([(model(image, masks[row : row + 1]).pred - target)[0].double() for row in rows])
    residual = torch.stack([torch.stack(row) for row in residuals])
    hidden = masks.is_hidden.reshape(residual.shape[:3])

    invariance, local = residual.new_zeros(()), residual.new_zeros(())
    for errors, by_mask in zip(residual, hidden, strict=True):
        weight = by_mask.sum(0).double()
        places = weight.nonzero()[:, 0].tolist()
        for place in places:
            same = errors[by_mask[:, place], place]
            invariance += pair_spread(same, same.new_ones(len(same)))
        means = torch.stack([errors[by_mask[:, place], place].mean(0) for place in places])
        local += pair_spread(means, weight[places])
    of_image = torch.stack([errors[by_mask].mean(0) for errors, by_mask in zip(residual, hidden, strict=True)])
    total, num_values = hidden.sum(), residual.shape[-1]
    terms = {
        "invariance": invariance / total / num_values,
        "local_consistency": local / total / num_values,
        "global_consistency": pair_spread(of_image, hidden.sum((1, 2)).double()) / total / num_values,
        "offset": residual[hidden].mean(0).square().mean(),
    }
    return {"loss": residual[hidden].square().mean(), "term": torch.stack([terms[name] for name in TERMS])}


# --- attention ---


@torch.no_grad()
def encoder_attention(probe: EncoderAttention, model: MaskedImageModel, images: Tensor, seed: int) -> Numbers:
    """The five measures [view layer head], heads, queries and pairs of heads one at a time, after
    all maps were kept."""
    masks = masks_of(model, images, probe.mask, 1, seed)
    kept: list[list[tuple[Tensor, list[Tensor]]]] = [[], []]
    for index in range(len(images)):
        for view, mask in enumerate((whole(model), masks[index : index + 1])):
            shown = whole(model).visible if model.encodes_hidden else mask.visible
            layers: dict[int, Tensor] = {}
            with watch_attention(model.blocks, layers.__setitem__):
                model(images[index : index + 1], mask)
            kept[view].append((shown[0], [layers[layer][0].double() for layer in sorted(layers)]))

    table = patch_distances(model.grid).double().to(model.device)
    values = torch.stack(
        [
            torch.stack(
                [torch.stack([_heads(maps, table[shown][:, shown]) for maps in layers]) for shown, layers in view]
            )
            for view in kept
        ]
    ).mean(1)
    return {name: values[..., index] for index, name in enumerate(MEASURES)}


def _heads(maps: Float[Tensor, "h t t"], distance: Float[Tensor, "n n"]) -> Float[Tensor, "h 5"]:
    num_prefix = maps.shape[-1] - distance.shape[-1]
    rows = maps[:, num_prefix:]
    found = []
    for index, head in enumerate(rows):
        to_patches = head[:, num_prefix:]
        inner = to_patches / to_patches.sum(1, keepdim=True)
        of_keys, of_queries = _entropy(inner.mean(0)), math.log(len(inner))
        information = of_keys - _entropy(inner).mean()
        others = [_divergence(head, other) for number, other in enumerate(rows) if number != index]
        found += [
            (inner * distance).sum(1).mean(),
            _entropy(head).mean(),
            information / (of_keys * of_queries).sqrt(),
            torch.stack(others).mean() if others else head.new_tensor(math.nan),
            head[:, :num_prefix].sum(1).mean(),
        ]
    return torch.stack(found).reshape(len(rows), -1)


def _entropy(rows: Tensor) -> Tensor:
    return -torch.xlogy(rows, rows).sum(-1)


def _divergence(head: Float[Tensor, "q k"], other: Float[Tensor, "q k"]) -> Float[Tensor, ""]:
    return (torch.xlogy(head, head) - torch.xlogy(head, other)).sum(1).mean()


# --- receptive fields ---


def receptive_field(probe: ReceptiveField, model: MaskedImageModel, images: Tensor, seed: int) -> Numbers:
    """`depth_field` and `field` in raw form, a forward and a backward pass for every image, block,
    view and target; `field` [target view y x] without the full view."""
    images = images[: probe.num_images]
    rows, columns = model.grid
    centre = (rows // 2) * columns + columns // 2
    signs = {name: sign.to(images) for name, sign in random_signs(model, seed, range(len(images))).items()}
    views = {
        f"{name} {ratio:g}": masks_of(model, images, strategy, 1, seed) for name, ratio, strategy in strategies(probe)
    }

    def token(layer: int) -> Callable[[Tensor, Mask, int], Tensor]:
        def scalar(leaf: Tensor, mask: Mask, index: int) -> Tensor:
            with block_outputs(model.blocks) as outputs:
                model.encode(leaf, mask)
            return outputs[layer][0, int(token_index(model, mask, centre))] @ signs["token"][index]

        return scalar

    def prediction(leaf: Tensor, mask: Mask, index: int) -> Tensor:
        prefix, tokens, _ = model.encode(leaf, mask)
        return model.predict(prefix, tokens, mask)[0, centre] @ signs["prediction"][index]

    def field(scalar: Callable[[Tensor, Mask, int], Tensor], view: str | None, hidden: bool) -> Tensor:
        total = images.new_zeros(images.shape[-2:], dtype=torch.float64)
        for index in range(len(images)):
            mask = whole(model)
            if view is not None:
                rngs = [generator("centre", seed, view, index)]
                mask = with_patch(views[view][index : index + 1], centre, hidden=hidden, rngs=rngs)
            leaf = images[index : index + 1].detach().clone().requires_grad_()
            with torch.enable_grad():
                total += torch.autograd.grad(scalar(leaf, mask, index), leaf)[0][0].double().abs().sum(0)
        return total / len(images)

    layers = spaced_layers(len(model.blocks), probe.num_layers)
    of_token = torch.stack([field(token(layers[-1]), view, False) for view in views])
    of_prediction = torch.stack([field(prediction, view, True) for view in views])
    by_layer = torch.stack([field(token(layer), None, False) for layer in layers])
    return {"depth_field": by_layer, "field": torch.stack([of_token, of_prediction])}


def strategies(probe: ReceptiveField) -> list[tuple[str, float, MaskStrategy]]:
    return [(name, ratio, STRATEGIES[name](ratio=ratio)) for name in probe.masks for ratio in probe.ratios]


# --- invariance ---


@torch.no_grad()
def invariance(probe: Invariance, model: MaskedImageModel, images: Tensor, seed: int) -> Numbers:
    """`alignment` [quantity pair centring]: cosine, and correlation, of every pair of vectors, one
    at a time."""
    masks = masks_of(model, images, probe.mask, probe.num_masks, seed)
    pooled = ("cls", "mean") if model.num_prefix else ("mean",)
    kept: dict[str, list[list[tuple[Tensor, Tensor]]]] = {name: [] for name in ("token", *pooled)}
    for index in range(len(images)):
        rows = range(index * probe.num_masks, (index + 1) * probe.num_masks)
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in kept}
        for row in rows:
            mask = masks[row : row + 1]
            out = model(images[index : index + 1], mask)
            tokens, shown = visible_tokens(out, mask)
            seen["token"].append((tokens[0].double(), shown[0]))
            for name in pooled:
                seen[name].append((out.feature(name).double(), shown.new_ones(1)))
        for name, found in seen.items():
            kept[name].append(found)
    return {"alignment": torch.stack([_alignment(found) for found in kept.values()])}


def _alignment(found: list[list[tuple[Tensor, Tensor]]]) -> Float[Tensor, "pair centring"]:
    centre = torch.cat([vectors[shown] for image in found for vectors, shown in image]).mean(0)
    within = [pair for image in found for pair in combinations(image, 2)]
    across = [pair for image, before in zip(found[1:], found, strict=False) for pair in zip(image, before, strict=True)]
    return torch.stack([_cosine_and_correlation(pairs, centre) for pairs in (within, across)])


def _cosine_and_correlation(
    pairs: list[tuple[tuple[Tensor, Tensor], ...]], centre: Float[Tensor, " d"]
) -> Float[Tensor, "2"]:
    cosines, products, squares = [], [], []
    for (first, in_first), (second, in_second) in pairs:
        both: Bool[Tensor, " n"] = in_first & in_second
        for a, b in zip(first[both], second[both], strict=True):
            cosines.append(a @ b / (a.norm() * b.norm()))
            a, b = a - centre, b - centre
            products.append(a @ b)
            squares.append((a @ a + b @ b) / 2)
    return torch.stack([torch.stack(cosines).mean(), torch.stack(products).sum() / torch.stack(squares).sum()])


# --- spectrum ---


@torch.no_grad()
def spectrum(probe: Spectrum, model: MaskedImageModel, images: Tensor, seed: int) -> Numbers:
    """`effective_rank`, `rankme` and `uniformity` [feature view] from all vectors at once; `lidar`
    of the pooled ones."""
    masks = masks_of(model, images, probe.mask, probe.num_masks, seed)
    pooled = ("cls", "mean") if model.num_prefix else ("mean",)
    vectors: dict[tuple[str, str], list[Tensor]] = {
        (name, view): [] for name in (*pooled, "token") for view in ("full", "masked")
    }
    views: dict[str, list[Tensor]] = {name: [] for name in pooled}
    for index in range(len(images)):
        image = images[index : index + 1]
        rows = range(index * probe.num_masks, (index + 1) * probe.num_masks)
        seen = [whole(model), *(masks[row : row + 1] for row in rows)]
        outs = [model(image, mask) for mask in seen]
        for view, mask, out in zip(("full", "masked"), seen, outs, strict=False):
            tokens, shown = visible_tokens(out, mask)
            vectors["token", view].append(tokens[shown].double())
            for name in pooled:
                vectors[name, view].append(out.feature(name).double())
        for name in pooled:
            views[name].append(torch.cat([out.feature(name) for out in outs[1:]]).double())

    found: dict[str, list[Tensor]] = {"effective_rank": [], "rankme": [], "uniformity": []}
    for parts in vectors.values():
        every = torch.cat(parts)
        found["effective_rank"].append(_entropy_rank(torch.linalg.svdvals(every - every.mean(0)).square()))
        found["rankme"].append(_entropy_rank(torch.linalg.svdvals(every)))
        found["uniformity"].append(mean_squared_cosine(every))
    shape = len(pooled) + 1, 2
    lidar = torch.stack([_lidar(torch.stack(views[name]), probe.lidar_ridge) for name in pooled])
    return {name: torch.stack(values).reshape(shape) for name, values in found.items()} | {"lidar": lidar}


def _entropy_rank(values: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    return _entropy(values / values.sum()).exp()


def _lidar(views: Float[Tensor, "b k d"], ridge: float) -> Float[Tensor, ""]:
    """Generalised eigenvalues of the scatter between images against that within them."""
    means, width = views.mean(1), views.shape[2]
    between = torch.cov(means.T, correction=0)
    off = (views - means[:, None]).flatten(0, 1)
    within = off.T @ off / len(off) + ridge * torch.eye(width, dtype=off.dtype, device=off.device)
    values = scipy.linalg.eigh(between.cpu().numpy(), within.cpu().numpy(), eigvals_only=True)
    return _entropy_rank(torch.from_numpy(values).clamp(min=0)).to(views.device)


SLOW: dict[type[Probe], Callable[..., Numbers]] = {
    LocalContrast: local_contrast,
    EncoderAttention: encoder_attention,
    ReceptiveField: receptive_field,
    Invariance: invariance,
    Spectrum: spectrum,
}
"""slow(probe, model, images, seed) of the probes that have a natural slow form."""


def comparable(result: xr.Dataset, name: str) -> np.ndarray:
    """What of a probe's variable its slow form tells: of fields the raw form, and of views those
    with a mask."""
    result = trained(result)
    found = result[name]
    if "form" in found.dims:
        found = found.sel(form="raw")
    if name == "field":
        found = found.isel(view=slice(1, None))
    if name == "lidar":
        found = found.sel(feature=[feature for feature in result.feature.values if feature != "token"])
    return found.values
