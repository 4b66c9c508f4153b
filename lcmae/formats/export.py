"""Our models as files that other libraries load: the official MAE layout, timm, Hugging Face
ViTMAE.

Each file also carries the settings that its layout leaves out (heads, eps, statistics of pixels),
so that reading it back gives the same model; other libraries ignore them.
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lcmae.errors import InputError
from lcmae.formats.beit import SimMIMBeit
from lcmae.formats.build import build
from lcmae.formats.recognise import read_any
from lcmae.formats.vit import ViT, ViTConfig
from lcmae.models import MAE, MAEConfig, MaskedImageModel, SimMIM
from lcmae.runs.durable import flush, make_folder, plain, sweep_strays, temporary_name, write_atomically
from lcmae.safety.text import is_full, reason, show

Layout = Literal["official", "timm", "huggingface"]


def export(path: Path | str, to: Layout, out: Path | str, **overrides: Any) -> Path:
    """Write the model at `path` (a run, a step, or anything `load` takes, with its overrides) in
    another library's layout; returns `out`.

    official: a .pth for facebookresearch/mae, with decoder. timm: a .safetensors of the encoder,
    for timm.create_model(checkpoint_path=). huggingface: a folder for
    ViTMAEForPreTraining.from_pretrained. Raises `InputError` where a layout cannot hold the model,
    or where `out` exists.
    """
    writers: dict[str, Callable[[MaskedImageModel, Path], None]] = {
        "official": _official,
        "timm": _timm,
        "huggingface": _huggingface,
    }
    if to not in writers:
        raise InputError(f"expected a layout among {', '.join(get_args(Layout))}, got {to!r}")
    out = plain(out)
    if os.path.lexists(out):
        raise InputError(f"expected a new path for the export, got one that exists: {show(out)}")
    writers[to](build(read_any(path, overrides)), out)
    return out


def _official(model: MaskedImageModel, out: Path) -> None:
    config = _mae(model, "official")
    _check_official(model, config)
    height, width = config.image_size
    args = argparse.Namespace(
        model="lcmae",
        input_size=height if height == width else None,
        norm_pix_loss=config.normalize_targets,
        mask_ratio=_mask_ratio(model),
    )
    # class token and patch order are the official ones, so the names are all there is to it
    content = {"model": with_biases(_state(model)), "args": args, "epoch": 0, "lcmae": config.model_dump(mode="json")}

    def write(file: Path) -> None:
        # through a Python file, so that a full disk is an OSError behind torch's "unexpected pos"
        with file.open("wb") as opened:
            torch.save(content, opened)

    write_atomically(out, write)


def _check_official(model: MaskedImageModel, config: MAEConfig) -> None:
    """Refuse what the one class of facebookresearch/mae cannot hold."""
    hidden, decoder_hidden = (int(blocks[0].mlp.fc1.out_features) for blocks in (model.blocks, model.decoder_blocks))  # pyright: ignore
    ratio = hidden / config.width
    problems = (
        (
            config.decoder_prefix != 1,
            "a decoder with a class token, which its class always adds,",
            "one without",
        ),
        (config.eps != config.decoder_eps, "one eps", f"eps={config.eps} and decoder_eps={config.decoder_eps}"),
        (
            int(config.decoder_width * ratio) != decoder_hidden,
            "one mlp_ratio for encoder and decoder",
            f"hidden layers of {hidden} for a width of {config.width} and {decoder_hidden} for {config.decoder_width}",
        ),
    )
    for is_wrong, expected, got in problems:
        if is_wrong:
            raise InputError(f"expected {expected} to export for facebookresearch/mae, got {got}")


def with_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with biases of zero on queries, keys and values where there are none: the same
    function, under names that every reader wants."""
    added = {
        name.removesuffix("weight") + "bias": tensor.new_zeros(len(tensor))
        for name, tensor in state.items()
        if name.endswith("attn.qkv.weight") and name.removesuffix("weight") + "bias" not in state
    }
    return {**state, **added}


def _timm(model: MaskedImageModel, out: Path) -> None:
    if not isinstance(model, MAE | ViT | SimMIM | SimMIMBeit):
        raise InputError(f"expected an MAE, a SimMIM or a ViT to export for timm, got {type(model).__name__}")
    left_out = ("decoder_", "mask_token", "head.")
    state = {name: tensor for name, tensor in _state(model).items() if not name.startswith(left_out)}
    beside: dict[str, Any] = {}
    if isinstance(model, SimMIMBeit):
        state = _to_beit(state, len(model.blocks))
        beside["mask_token"] = model.mask_token.detach().flatten().tolist()
    elif not isinstance(model, ViT):
        # timm's models that an encoder is loaded into have biases; a ViT says itself whether it has
        state = with_biases(state)
    config = model.config
    stored = ("heads", "eps", "feature", "pixel_mean", "pixel_std", "image_size")
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name in stored}
    settings["activation"] = config.activation if isinstance(config, ViTConfig) else "gelu"
    settings |= beside
    write_atomically(
        _with_suffix(out, ".safetensors"), lambda file: _save(state, file, {"lcmae": json.dumps(settings)})
    )


def _to_beit(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """SimMIM's encoder under the names of timm's `beit_*` models: each block gets a copy of a
    shared table of relative positions."""
    shared = "rel_pos_bias.relative_position_bias_table"
    renamed = {"pos_embed" if name == "positions" else name: tensor for name, tensor in state.items()}
    if (table := renamed.pop(shared, None)) is not None:
        renamed |= {f"blocks.{index}.attn.relative_position_bias_table": table for index in range(depth)}
    return renamed


def _huggingface(model: MaskedImageModel, out: Path) -> None:
    config = _mae(model, "huggingface")
    if config.eps != config.decoder_eps or config.decoder_prefix != 1 or config.image_size[0] != config.image_size[1]:
        raise InputError(
            "expected square images, one eps and a class token in the decoder for Hugging Face's ViTMAE, got "
            f"image_size={config.image_size}, eps={config.eps}, decoder_eps={config.decoder_eps}, "
            f"decoder_prefix={config.decoder_prefix}"
        )
    block: Any = model.blocks[0]
    decoder_block: Any = model.decoder_blocks[0]
    settings = {
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": block.mlp.fc1.out_features,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.eps,
        "image_size": config.image_size[0],
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "qkv_bias": config.qkv_bias,
        "decoder_num_attention_heads": config.decoder_heads,
        "decoder_hidden_size": config.decoder_width,
        "decoder_num_hidden_layers": config.decoder_depth,
        "decoder_intermediate_size": decoder_block.mlp.fc1.out_features,
        "mask_ratio": _mask_ratio(model),
        "norm_pix_loss": config.normalize_targets,
        # what the layout leaves out; transformers keeps it and makes nothing of it
        "lcmae": {"feature": config.feature},
    }
    pixels = {
        "image_processor_type": "ViTImageProcessor",
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "rescale_factor": 1 / 255,
        "size": {"height": config.image_size[0], "width": config.image_size[1]},
        "image_mean": list(config.pixel_mean) * (config.channels if len(config.pixel_mean) == 1 else 1),
        "image_std": list(config.pixel_std) * (config.channels if len(config.pixel_std) == 1 else 1),
    }
    state = to_huggingface(_state(model))
    _publish_folder(
        out,
        {
            "config.json": json.dumps(settings, indent=2).encode(),
            "preprocessor_config.json": json.dumps(pixels, indent=2).encode(),
        },
        lambda folder: _save(state, folder / "model.safetensors", {"format": "pt"}),
    )


HUGGINGFACE_BLOCK = (
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("attn.proj.", "attention.output.dense."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
)
HUGGINGFACE_TOP = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj.weight": "vit.embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "vit.embeddings.patch_embeddings.projection.bias",
    "norm.weight": "vit.layernorm.weight",
    "norm.bias": "vit.layernorm.bias",
}


def to_huggingface(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official names to those of files on the hub, which every version of transformers reads."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        top, _, rest = name.partition(".")
        if top in ("blocks", "decoder_blocks"):
            index, _, inner = rest.partition(".")
            prefix = f"vit.encoder.layer.{index}." if top == "blocks" else f"decoder.decoder_layers.{index}."
            if inner.startswith("attn.qkv."):
                for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    renamed[f"{prefix}attention.attention.{part}.{inner.removeprefix('attn.qkv.')}"] = piece
                continue
            for ours, theirs in HUGGINGFACE_BLOCK:
                inner = inner.replace(ours, theirs) if inner.startswith(ours) else inner
            renamed[prefix + inner] = tensor
        else:
            renamed[HUGGINGFACE_TOP.get(name, f"decoder.{name}")] = tensor
    return renamed


def _mae(model: MaskedImageModel, to: str) -> MAEConfig:
    if not isinstance(model, MAE):
        raise InputError(f"expected an MAE with its decoder to export as {to}, got {type(model).__name__}")
    return model.config


def _mask_ratio(model: MaskedImageModel) -> float:
    source = model.source
    said = {} if source is None else {**source.assumed, **source.read}
    return float(said.get("mask_ratio", 0.75))


def _state(model: MaskedImageModel) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def _save(state: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """One entry of metadata at most: safetensors writes two in any order, and the file's hash would
    change."""
    from safetensors.torch import save_file

    assert len(metadata) <= 1
    # safetensors writes under a name of its own beside the file: in a folder of ours, the next
    # writer finds what a kill leaves there
    folder = file.parent / temporary_name()
    folder.mkdir()
    try:
        save_file({name: tensor.clone() for name, tensor in state.items()}, folder / file.name, metadata=metadata)
        # it makes its files private (0600)
        (folder / file.name).chmod(folder.stat().st_mode & 0o666)
        os.replace(folder / file.name, file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_suffix(out: Path, suffix: str) -> Path:
    if out.suffix != suffix:
        raise InputError(f"expected a file that ends in {suffix}, got {show(out)}")
    return out


def _publish_folder(out: Path, files: dict[str, bytes], write: Callable[[Path], None]) -> None:
    """A folder that appears with everything in it, or not at all."""
    temporary = out.parent / temporary_name()
    try:
        make_folder(out.parent)
        sweep_strays(out.parent)
        make_folder(temporary)
        try:
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            write(temporary)
            for file in temporary.iterdir():
                flush(file)
            os.rename(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        flush(out.parent)
    except Exception as error:
        if isinstance(error, OSError) or is_full(error):
            raise InputError(f"cannot write {show(out)}: {reason(error)}") from error
        raise
