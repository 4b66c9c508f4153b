"""Checkpoints of other libraries, written key by key from their documented layouts, and what those
libraries compute.

Sources: facebookresearch/mae efb2a80 (models_mae.py, util/misc.py), zhangq327/U-MAE 6a5b6dc,
vturrisi/solo-learn 14be766 (solo/methods/mae.py, solo/backbones/vit/vit_mae.py), lightly-ai/lightly
e8d317f (examples/pytorch_lightning/mae.py, lightly/models/modules), rbalestr-lab/stable-pretraining
9aa93f8 (methods/mae.py, backbone/vit.py), microsoft/SimMIM d3e29bc (models/simmim.py, utils.py).
Forward passes are in float64, and follow the papers' equations and those files.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from tests.reference import mae as reference

State = dict[str, Tensor]

PATCH, CHANNELS, SIDE = 4, 3, 4
IMAGE = PATCH * SIDE
VALUES = PATCH * PATCH * CHANNELS
WIDTH, DEPTH, HEADS = 16, 2, 2
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 12, 1, 3


def noise(*shape: int, rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng) * 0.3


def linear(name: str, outputs: int, inputs: int, rng: torch.Generator) -> State:
    return {f"{name}.weight": noise(outputs, inputs, rng=rng), f"{name}.bias": noise(outputs, rng=rng)}


def norm(name: str, width: int, rng: torch.Generator) -> State:
    return {f"{name}.weight": 1 + noise(width, rng=rng), f"{name}.bias": noise(width, rng=rng)}


def blocks(name: str, width: int, depth: int, rng: torch.Generator) -> State:
    state: State = {}
    for index in range(depth):
        here = f"{name}.{index}"
        state |= norm(f"{here}.norm1", width, rng) | linear(f"{here}.attn.qkv", 3 * width, width, rng)
        state |= linear(f"{here}.attn.proj", width, width, rng) | norm(f"{here}.norm2", width, rng)
        state |= linear(f"{here}.mlp.fc1", 4 * width, width, rng) | linear(f"{here}.mlp.fc2", width, 4 * width, rng)
    return state


def encoder(rng: torch.Generator) -> State:
    """The names that timm and MAE share."""
    state = {
        "cls_token": noise(1, 1, WIDTH, rng=rng),
        "pos_embed": noise(1, SIDE * SIDE + 1, WIDTH, rng=rng),
        "patch_embed.proj.weight": noise(WIDTH, CHANNELS, PATCH, PATCH, rng=rng),
        "patch_embed.proj.bias": noise(WIDTH, rng=rng),
    }
    return state | blocks("blocks", WIDTH, DEPTH, rng) | norm("norm", WIDTH, rng)


def decoder(rng: torch.Generator) -> State:
    """Official names."""
    state = {
        "mask_token": noise(1, 1, DECODER_WIDTH, rng=rng),
        "decoder_pos_embed": noise(1, SIDE * SIDE + 1, DECODER_WIDTH, rng=rng),
    }
    state |= linear("decoder_embed", DECODER_WIDTH, WIDTH, rng)
    state |= blocks("decoder_blocks", DECODER_WIDTH, DECODER_DEPTH, rng) | norm("decoder_norm", DECODER_WIDTH, rng)
    return state | linear("decoder_pred", VALUES, DECODER_WIDTH, rng)


def official(rng: torch.Generator) -> State:
    return encoder(rng) | decoder(rng)


def umae(plain: State, rng: torch.Generator) -> State:
    """With the online classifier."""
    return plain | norm("fc_norm", WIDTH, rng) | linear("fc", 10, WIDTH, rng)


def is_decoder(name: str) -> bool:
    return name.startswith(("decoder_", "mask_token"))


def solo_learn(plain: State, rng: torch.Generator) -> State:
    state = {f"{'decoder' if is_decoder(name) else 'backbone'}.{name}": value for name, value in plain.items()}
    return state | linear("classifier", 10, WIDTH, rng)


def lightly_old(plain: State, rng: torch.Generator) -> State:
    """MAEDecoderTIMM, until lightly 1.6; the backbone's mask token is not used."""
    state = {f"{'decoder' if is_decoder(name) else 'backbone.vit'}.{name}": value for name, value in plain.items()}
    return state | {"backbone.mask_token": noise(1, 1, WIDTH, rng=rng)} | linear("backbone.vit.head", 10, WIDTH, rng)


def lightly_new(plain: State, rng: torch.Generator) -> State:
    """MaskedVisionTransformerDecoderTIMM with decoder_embed and prediction_head beside it."""
    theirs = {"decoder_embed": "decoder_embed", "decoder_pred": "prediction_head", "mask_token": "decoder.mask_token"}
    theirs |= {
        "decoder_pos_embed": "decoder.pos_embed",
        "decoder_blocks": "decoder.blocks",
        "decoder_norm": "decoder.norm",
    }
    state: State = {}
    for name, value in plain.items():
        top, dot, rest = name.partition(".")
        state[theirs[top] + dot + rest if is_decoder(name) else f"backbone.vit.{name}"] = value
    return state | {"backbone.mask_token": noise(1, 1, WIDTH, rng=rng)}


def stable_pretraining(rng: torch.Generator) -> State:
    """The patch embedding lies there twice; the decoder's mask token has the encoder's width."""
    inner = encoder(rng)
    state = {f"encoder.vit.{name}": value for name, value in inner.items()}
    state |= {f"encoder.patch_embed.proj.{part}": inner[f"patch_embed.proj.{part}"] for part in ("weight", "bias")}
    state["decoder.mask_token"] = noise(1, 1, WIDTH, rng=rng)
    state["decoder.transformer.pos_embed"] = noise(1, SIDE * SIDE, DECODER_WIDTH, rng=rng)
    state |= linear("decoder.transformer.context_proj", DECODER_WIDTH, WIDTH, rng)
    state |= linear("decoder.transformer.query_proj", DECODER_WIDTH, WIDTH, rng)
    state |= linear("decoder.transformer.output_proj", VALUES, DECODER_WIDTH, rng)
    state |= blocks("decoder.transformer.blocks", DECODER_WIDTH, DECODER_DEPTH, rng)
    return state | norm("decoder.transformer.final_norm", DECODER_WIDTH, rng)


def simmim(rng: torch.Generator, *, shared: bool = True, absolute: bool = False, scale: bool = True) -> State:
    """SimMIM's ViT; names of BEiT below `encoder.`, and the index that its code keeps in the
    file."""
    num_offsets = (2 * SIDE - 1) ** 2 + 3
    state = encoder(rng)
    del state["pos_embed"]
    state["mask_token"] = noise(1, 1, WIDTH, rng=rng)
    if absolute:
        state["pos_embed"] = noise(1, SIDE * SIDE + 1, WIDTH, rng=rng)
    tables = ["rel_pos_bias"] if shared else [f"blocks.{index}.attn" for index in range(DEPTH)]
    for table in tables:
        state[f"{table}.relative_position_bias_table"] = noise(num_offsets, HEADS, rng=rng)
        state[f"{table}.relative_position_index"] = relative_index()
    for index in range(DEPTH):
        here = f"blocks.{index}"
        del state[f"{here}.attn.qkv.bias"]
        state |= {f"{here}.attn.{part}_bias": noise(WIDTH, rng=rng) for part in "qv"}
        if scale:
            state |= {f"{here}.gamma_{part}": noise(WIDTH, rng=rng) for part in (1, 2)}
    state = {f"encoder.{name}": value for name, value in state.items()}
    state["decoder.0.weight"] = noise(VALUES, WIDTH, 1, 1, rng=rng)
    state["decoder.0.bias"] = noise(VALUES, rng=rng)
    return state


def relative_index() -> Tensor:
    """Row of the table for every pair of tokens, class token first."""
    num, across = SIDE * SIDE, 2 * SIDE - 1
    index = torch.zeros(num + 1, num + 1, dtype=torch.long)
    for one in range(num):
        for other in range(num):
            rows, columns = one // SIDE - other // SIDE, one % SIDE - other % SIDE
            index[one + 1, other + 1] = (rows + SIDE - 1) * across + columns + SIDE - 1
    index[0, :], index[:, 0], index[0, 0] = across**2, across**2 + 1, across**2 + 2
    return index


# --- what they compute: one image, predictions [n p] in our patch order ---


def encode(state: State, image: Tensor, visible: list[int], eps: float = 1e-6) -> Tensor:
    """Class token and visible patches after the last norm."""
    state = {name: value.double() for name, value in state.items()}
    kernel, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    patches = torch.nn.functional.conv2d(image.double()[None], kernel, bias, stride=PATCH)[0].flatten(1).T
    positions = state["pos_embed"][0]
    x = torch.stack([state["cls_token"][0, 0] + positions[0], *((patches + positions[1:])[i] for i in visible)])
    return reference._norm(reference._transformer(x, state, "blocks", HEADS, eps), state, "norm", eps)


def decode(state: State, tokens: Tensor, visible: list[int], eps: float) -> Tensor:
    """Official decoder: class token goes along."""
    state = {name: value.double() for name, value in state.items()}
    y = reference._linear(tokens, state, "decoder_embed")
    full = [state["mask_token"][0, 0]] * (SIDE * SIDE)
    for slot, position in enumerate(visible):
        full[position] = y[1 + slot]
    y = torch.stack([y[0], *full]) + state["decoder_pos_embed"][0]
    y = reference._transformer(y, state, "decoder_blocks", DECODER_HEADS, eps)
    return reference._linear(reference._norm(y, state, "decoder_norm", eps), state, "decoder_pred")[1:]


def decode_stable_pretraining(state: State, tokens: Tensor, visible: list[int]) -> Tensor:
    """Patches alone; mask tokens are projected; outputs are ordered (channel, row, column)."""
    inner = {name.removeprefix("decoder.transformer."): value.double() for name, value in state.items()}
    context = reference._linear(tokens[1:], inner, "context_proj")
    query = reference._linear(state["decoder.mask_token"].double()[0, 0], inner, "query_proj")
    full = [query] * (SIDE * SIDE)
    for slot, position in enumerate(visible):
        full[position] = context[slot]
    inner = {name: value for name, value in inner.items() if not name.startswith(("encoder.", "decoder."))}
    y = torch.stack(full) + inner["pos_embed"][0]
    y = reference._norm(reference._transformer(y, inner, "blocks", DECODER_HEADS, 1e-5), inner, "final_norm", 1e-5)
    out = reference._linear(y, inner, "output_proj")
    return rearrange(out, "n (c ph pw) -> n (ph pw c)", c=CHANNELS, ph=PATCH)


def simmim_forward(state: State, image: Tensor, hidden: list[int]) -> Tensor:
    """BEiT with relative positions and mask tokens; the head is a 1x1 convolution and a pixel
    shuffle."""
    inner = {name.removeprefix("encoder."): value.double() for name, value in state.items()}
    kernel, bias = inner["patch_embed.proj.weight"], inner["patch_embed.proj.bias"]
    x = torch.nn.functional.conv2d(image.double()[None], kernel, bias, stride=PATCH)[0].flatten(1).T.clone()
    x[hidden] = inner["mask_token"][0, 0]
    x = torch.cat([inner["cls_token"][0], x])
    if "pos_embed" in inner:
        x = x + inner["pos_embed"][0]
    for index in range(DEPTH):
        here = f"blocks.{index}"
        table = inner.get("rel_pos_bias.relative_position_bias_table")
        table = inner[f"{here}.attn.relative_position_bias_table"] if table is None else table
        added = rearrange(table[relative_index()], "i j heads -> heads i j")
        scales = [inner.get(f"{here}.gamma_{part}", torch.ones(WIDTH, dtype=torch.float64)) for part in (1, 2)]
        y = reference._norm(x, inner, f"{here}.norm1", 1e-6)
        biases = torch.cat([inner[f"{here}.attn.q_bias"], torch.zeros(WIDTH), inner[f"{here}.attn.v_bias"]])
        q, k, v = rearrange(y @ inner[f"{here}.attn.qkv.weight"].T + biases, "t (p h d) -> p h t d", p=3, h=HEADS)
        weights = (q @ k.transpose(1, 2) / (WIDTH // HEADS) ** 0.5 + added).softmax(-1)
        mixed = rearrange(weights @ v, "h t d -> t (h d)")
        x = x + scales[0] * reference._linear(mixed, inner, f"{here}.attn.proj")
        y = reference._linear(reference._norm(x, inner, f"{here}.norm2", 1e-6), inner, f"{here}.mlp.fc1")
        x = x + scales[1] * reference._linear(torch.nn.functional.gelu(y), inner, f"{here}.mlp.fc2")
    tokens = reference._norm(x, inner, "norm", 1e-6)[1:]
    maps = rearrange(tokens, "(h w) d -> 1 d h w", h=SIDE)
    maps = torch.nn.functional.conv2d(maps, inner["decoder.0.weight"], inner["decoder.0.bias"])
    image = pixel_shuffle(maps, PATCH)[0]
    return rearrange(image, "c (gh ph) (gw pw) -> (gh gw) (ph pw c)", ph=PATCH, pw=PATCH)
