"""Small models of random weights under the names of every library whose files are read: state
dicts, and what has to be said beside them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
import transformers
from torch import Tensor

from lcmae.formats.export import to_huggingface
from tests.reference import foreign
from tests.reference.checkpoint_files import HEADS

ENCODER_HEADS: dict[str, Any] = {"heads": foreign.HEADS}
SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16}

FAMILIES = {
    "Dinov2": {"patch_size": 4, "mlp_ratio": 2},
    "Dinov2WithRegisters": {"patch_size": 4, "mlp_ratio": 2, "num_register_tokens": 3},
    "IJepa": {"patch_size": 4, "intermediate_size": 64},
    "DeiT": {"patch_size": 4, "intermediate_size": 64},
    "ViT": {"patch_size": 4, "intermediate_size": 64},
}


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Zeros of an initialisation hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    return module.eval()


def dinov2(chunks: bool) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """timm's DINOv2 with registers, and its weights under the names of the authors' files."""
    vit = timm.create_model(
        "vit_small_patch14_reg4_dinov2", img_size=28, embed_dim=32, depth=2, num_heads=4, num_classes=0
    )
    vit = shaken(vit)
    state = dict(vit.state_dict())
    # timm adds the class token's position to the token when it reads such a file
    row = torch.randn(1, 1, 32)
    state["pos_embed"] = torch.cat([row, state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - row
    state["register_tokens"] = state.pop("reg_token")
    state["mask_token"] = torch.zeros(1, 32)
    if chunks:
        state = {re.sub(r"^blocks\.(\d+)\.", r"blocks.\1.\1.", name): value for name, value in state.items()}
    return vit, state


def mmpretrain(plain: dict[str, Tensor], with_neck: bool) -> dict[str, Tensor]:
    rules = [
        (r"^decoder_norm\.", "neck.ln1."),
        (r"^(decoder_|mask_token)", r"neck.\1"),
        (r"^norm\.", "ln1."),
        (r"^blocks\.", "layers."),
        (r"(layers|decoder_blocks)\.(\d+)\.norm", r"\1.\2.ln"),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".ffn.layers.1."),
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"^(?!neck\.)", "backbone."),
    ]
    state = {}
    for name, value in plain.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        state[name] = value
    if with_neck:
        return state | {"data_preprocessor.mean": torch.zeros(3)}
    return {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}


def prithvi(plain: foreign.State) -> foreign.State:
    """One frame; halves below `encoder.` and `decoder.`."""
    state = {**plain, "patch_embed.proj.weight": plain["patch_embed.proj.weight"][:, :, None]}
    return {f"{'decoder' if foreign.is_decoder(name) else 'encoder'}.{name}": value for name, value in state.items()}


def halves(plain: foreign.State, encoder: str, decoder: str) -> foreign.State:
    """Official names below two prefixes, and a classifier of the trainer's own."""
    state = {(decoder if foreign.is_decoder(name) else encoder) + name: value for name, value in plain.items()}
    return state | foreign.linear("classifier", 10, foreign.WIDTH, _rng())


def crossmae(plain: foreign.State) -> foreign.State:
    old, new = "decoder_blocks.0.attn.qkv", "decoder_blocks.0.cross_attn.q"
    return {name.replace(old, new): value for name, value in plain.items()}


@dataclass(frozen=True)
class Layout:
    """A state dict, and the settings that no layout of that kind holds."""

    make: Callable[[], foreign.State]
    said: dict[str, Any]


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _full(change: Callable[[foreign.State], foreign.State]) -> Layout:
    return Layout(lambda: change(foreign.official(_rng())), HEADS)


def _encoder(change: Callable[[foreign.State], foreign.State]) -> Layout:
    return Layout(lambda: change(foreign.encoder(_rng())), ENCODER_HEADS)


def _module(make: Callable[[], Any], **said: Any) -> Layout:
    """The weights of a module of timm or transformers, in memory."""

    def state() -> foreign.State:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return dict(make().state_dict())

    return Layout(state, said)


def _dinov2(chunks: bool) -> foreign.State:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dinov2(chunks)[1]


def _vit(**more: Any) -> Any:
    small: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0, "patch_size": 4}
    return shaken(timm.create_model("vit_small_patch16_224", img_size=16, **small, **more))


def _on_their_grid() -> foreign.State:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = dict(_vit(class_token=False, global_pool="avg", fc_norm=False).state_dict())
    return {**state, "pos_embed": state["pos_embed"].unflatten(1, (4, 4))}


def _family(name: str) -> Layout:
    def make() -> Any:
        config = getattr(transformers, f"{name}Config")(**SHAPE, **FAMILIES[name])
        return shaken(getattr(transformers, f"{name}Model")(config))

    return _module(make, heads=4)


def _vit_mae() -> Any:
    decoder = {"decoder_hidden_size": 24, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 3}
    settings = {**SHAPE, **decoder, "decoder_intermediate_size": 48, "intermediate_size": 64, "patch_size": 4}
    return shaken(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**settings)))


def _masked_vit() -> Any:
    config = transformers.ViTConfig(**SHAPE, patch_size=4, intermediate_size=64, encoder_stride=4)
    return shaken(transformers.ViTForMaskedImageModeling(config))


def _without_vit(state: foreign.State) -> foreign.State:
    return {name.removeprefix("vit."): value for name, value in to_huggingface(state).items()}


LAYOUTS: dict[str, Layout] = {
    "official": _full(lambda plain: plain),
    "umae": _full(lambda plain: foreign.umae(plain, _rng())),
    "timm": _encoder(lambda plain: plain),
    "huggingface": _full(to_huggingface),
    "huggingface encoder": _encoder(_without_vit),
    "simmim": Layout(lambda: foreign.simmim(_rng()), {}),
    "solo-learn": _full(lambda plain: foreign.solo_learn(plain, _rng())),
    "lightly, old decoder": _full(lambda plain: foreign.lightly_old(plain, _rng())),
    "lightly, new decoder": _full(lambda plain: foreign.lightly_new(plain, _rng())),
    "stable-pretraining": Layout(lambda: foreign.stable_pretraining(_rng()), HEADS),
    "mmpretrain with its neck": _full(lambda plain: mmpretrain(plain, True)),
    "mmpretrain encoder": _encoder(lambda plain: mmpretrain(plain, False)),
    "Prithvi": _full(prithvi),
    "official names, decoder beside its encoder": _full(lambda plain: halves(plain, "encoder.", "")),
    "official names, decoder within its encoder": _full(lambda plain: halves(plain, "", "decoder.")),
    "official names, two attributes": _full(lambda plain: halves(plain, "encoder.", "decoder.")),
    "CrossMAE": Layout(lambda: crossmae(foreign.official(_rng())), ENCODER_HEADS),
    "DINOv2, registers": Layout(lambda: _dinov2(False), {"heads": 4}),
    "DINOv2, chunks": Layout(lambda: _dinov2(True), {"heads": 4}),
    "timm, registers": _module(lambda: _vit(reg_tokens=3, init_values=0.1, pre_norm=True), heads=4),
    "timm, fine-tuned": _module(lambda: _vit(global_pool="avg"), heads=4),
    "positions [1 h w d]": Layout(_on_their_grid, {"heads": 4}),
    "DINOv3": _module(lambda: timm.create_model("vit_small_patch16_dinov3", img_size=64, num_classes=0), image_size=64),
    "EVA-02": _module(lambda: timm.create_model("eva02_tiny_patch14_224", img_size=56, num_classes=0), image_size=56),
    **{f"transformers {name}": _family(name) for name in FAMILIES},
    "transformers ViTMAE": _module(_vit_mae, heads=4, decoder_heads=3),
    "transformers ViTForMaskedImageModeling": _module(_masked_vit, heads=4),
}
"""Every layout of docs/formats.md that is a state dict; each call makes the same weights."""
