"""What can be laid over one image: whole attention matrices, attention rollout, likeness of tokens,
and tokens as colours.

Each function takes one pass of `lcmae.probes.watching.microscope` and returns a dataset. Queries
come in the dimension `query`: prefix tokens first, counted from -P to -1 (the class token is the
last of them, -1), then patches in raster order from 0. What the encoder has no token for is NaN.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from lcmae.errors import InputError
from lcmae.patches import patchify
from lcmae.probes.statistics.variables import variable
from lcmae.probes.watching.hooks import Attended
from lcmae.probes.watching.microscope import CachedForward
from lcmae.shapes import Float

_POSITION = ("row", "column")


def encoder_matrix(seen: CachedForward, layer: int) -> xr.Dataset:
    """`attention` [head query row column] of encoder block `layer`, from 1."""
    return _matrix(seen, _of_patches(seen, seen.encoder[layer - 1].maps()[0], seen.model.num_prefix))


def decoder_matrix(masked: CachedForward, layer: int) -> xr.Dataset:
    """`attention` [head query row column] of decoder block `layer`, from 1; it has a token for
    every patch."""
    maps, prefix = masked.decoder[layer - 1].maps()[0], masked.model.num_decoder_prefix
    return _matrix(masked, maps[..., prefix:])


def rollout(seen: CachedForward) -> xr.Dataset:
    """`attention` [head query row column] with one head: attention followed through all blocks,
    half of each token's mass staying with it (Abnar and Zuidema, arXiv 2005.00928)."""
    tokens = seen.encoder[0].x.shape[1]
    flow = torch.eye(tokens, device=seen.model.device)
    for one in seen.encoder:
        mean = one.maps()[0].mean(0)
        flow = 0.5 * (mean + torch.eye(tokens, device=mean.device)) @ flow
    return _matrix(seen, _of_patches(seen, flow[None], seen.model.num_prefix))


def all_heads(seen: CachedForward, blocks: Sequence[Attended], *, is_decoder: bool) -> xr.Dataset:
    """`attention` [layer head query row column] of all blocks, in half precision: every query of an
    image at once, where that fits into memory."""
    prefix = seen.model.num_decoder_prefix if is_decoder else seen.model.num_prefix
    maps: list[Tensor] = []
    for one in blocks:
        of_layer = one.maps()[0]
        maps.append((of_layer[..., prefix:] if is_decoder else _of_patches(seen, of_layer, prefix)).half())
    values = torch.stack(maps).unflatten(-1, seen.model.grid)
    queries = list(range(-prefix, seen.model.num_patches))
    words = "attention of all queries, head by head"
    return xr.Dataset(
        {"attention": variable(("layer", "head", "query", *_POSITION), values.cpu().numpy(), words)}, {"query": queries}
    )


def every_head(seen: CachedForward, blocks: Sequence[Attended], query: int, *, is_decoder: bool) -> xr.Dataset:
    """`attention` [layer head row column] from one query in all blocks; all NaN where the query has
    no token."""
    model = seen.model
    prefix = model.num_decoder_prefix if is_decoder else model.num_prefix
    rows: list[Tensor] = []
    for one in blocks:
        maps = one.maps()[0]
        whole = maps[..., prefix:] if is_decoder else _of_patches(seen, maps, prefix)
        rows.append(whole[:, query + prefix])
    words = "attention of the query, head by head"
    return xr.Dataset(
        {"attention": variable(("layer", "head", *_POSITION), torch.stack(rows).unflatten(-1, model.grid), words)}
    )


@torch.no_grad()
def likeness(seen: CachedForward, layer: int) -> xr.Dataset:
    """`likeness` [query row column]: cosine of two patches' tokens after encoder block `layer`,
    from 1, before the final norm."""
    model, tokens = seen.model, F.normalize(_patch_tokens(seen, layer), dim=-1)
    cosines = tokens @ tokens.T
    values = variable(("query", *_POSITION), cosines.unflatten(-1, model.grid), "cosine of two tokens")
    return xr.Dataset({"likeness": values}, {"query": list(range(model.num_patches))})


@torch.no_grad()
def pixel_likeness(seen: CachedForward) -> xr.Dataset:
    """`likeness` [query row column] of the patches' own pixels, as the model gets them: what tokens
    are held against."""
    model = seen.model
    patches = F.normalize(patchify(seen.batch.images[:1], model.patch_size)[0].float(), dim=-1)
    values = variable(("query", *_POSITION), (patches @ patches.T).unflatten(-1, model.grid), "cosine of two patches")
    return xr.Dataset({"likeness": values}, {"query": list(range(model.num_patches))})


@torch.no_grad()
def query_maps(seen: CachedForward, layer: int, queries: np.ndarray) -> xr.Dataset:
    """`attention` [query row column]: how queries [q d] of an attentive probe share themselves out
    over the patch tokens after encoder block `layer`, from 1, before the final norm: the softmax of
    their products (`query_weight` of the probe `transfer`). `InputError` for another width."""
    tokens = _patch_tokens(seen, layer)
    if queries.shape[-1] != tokens.shape[-1]:
        raise InputError(f"expected queries of width {tokens.shape[-1]}, as tokens have, got {queries.shape[-1]}")
    shared = (torch.from_numpy(np.ascontiguousarray(queries)).to(tokens) @ tokens.T).softmax(-1)
    values = variable(("query", *_POSITION), shared.unflatten(-1, seen.model.grid), "attention of a query")
    return xr.Dataset({"attention": values}, {"query": list(range(1, len(queries) + 1))})


@torch.no_grad()
def as_colours(seen: CachedForward, layer: int) -> xr.Dataset:
    """`colour` [row column channel] from 0 to 1: the first three principal components of the
    image's own patch tokens after encoder block `layer`, each stretched to its range, and the
    `share` [channel] of the variance that each has. Signs are fixed by the largest entry."""
    tokens = _patch_tokens(seen, layer)
    is_there = tokens.isfinite().all(-1)
    here = tokens[is_there].double()
    _, sizes, axes = torch.linalg.svd(here - here.mean(0), full_matrices=False)
    count = min(3, len(sizes))
    axes = axes[:count]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    scores = (here - here.mean(0)) @ axes.T
    low, high = scores.amin(0), scores.amax(0)
    colours = torch.full((len(tokens), 3), math.nan, dtype=torch.float64, device=tokens.device)
    colours[is_there] = 0.5
    colours[is_there, :count] = (scores - low) / (high - low).clamp_min(1e-12)
    share = torch.zeros(3, dtype=torch.float64)
    share[:count] = (sizes.square() / sizes.square().sum().clamp_min(1e-12))[:count].cpu()
    words = "principal components of tokens as red, green and blue"
    return xr.Dataset(
        {
            "colour": variable((*_POSITION, "channel"), colours.reshape(*seen.model.grid, 3), words),
            "share": variable("channel", share, "share of the variance of tokens"),
        }
    )


def _patch_tokens(seen: CachedForward, layer: int) -> Float[Tensor, "n d"]:
    """After a block, in float32; NaN for patches without a token."""
    model, tokens = seen.model, seen.trace.tokens[layer - 1].detach()[0, seen.model.num_prefix :].float()
    if model.encodes_hidden:
        return tokens
    found = torch.full((model.num_patches, tokens.shape[-1]), math.nan, device=tokens.device)
    found[seen.mask.visible[0]] = tokens
    return found


def _of_patches(seen: CachedForward, maps: Float[Tensor, "h t t"], prefix: int) -> Float[Tensor, "h q n"]:
    """Maps of the encoder by patches, prefix tokens first among the queries."""
    if seen.model.encodes_hidden:
        return maps[..., prefix:]
    visible, patches = seen.mask.visible[0], seen.model.num_patches
    found = torch.full((len(maps), prefix + patches, patches), math.nan, device=maps.device)
    queries = torch.cat([torch.arange(prefix, device=visible.device), prefix + visible])
    found[:, queries[:, None], visible] = maps[..., prefix:]
    return found


def _matrix(seen: CachedForward, maps: Float[Tensor, "h q n"]) -> xr.Dataset:
    num_prefix = maps.shape[1] - seen.model.num_patches
    values = variable(("head", "query", *_POSITION), maps.unflatten(-1, seen.model.grid), "attention")
    return xr.Dataset({"attention": values}, {"query": list(range(-num_prefix, seen.model.num_patches))})
