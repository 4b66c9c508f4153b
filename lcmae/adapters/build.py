"""A module and two functions -> a `MaskedImageModel`.

You say only what no module states by itself: which part encodes and which predicts, given a mask.
Everything else is measured on random images (`lcmae.adapters.contract`): widths, heads, whether the
encoder sees hidden patches, and whether the functions meet the requirements.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from lcmae.adapters import contract
from lcmae.adapters.model import Adapted, AdaptedBlocks, AdaptedConfig, AttentionMaps, Encode, Predict
from lcmae.errors import InputError
from lcmae.formats.encoder import IMAGENET_MEAN, IMAGENET_STD
from lcmae.models import Feature, MaskedImageModel
from lcmae.provenance import Provenance
from lcmae.settings import parse


def adapt(
    module: nn.Module,
    *,
    image_size: int | tuple[int, int],
    patch_size: int,
    encode: Encode,
    predict: Predict | None = None,
    channels: int = 3,
    num_prefix: int = 0,
    encoder_blocks: Iterable[nn.Module] = (),
    decoder_blocks: Iterable[nn.Module] = (),
    attention: AttentionMaps | None = None,
    normalize_targets: bool = False,
    feature: Feature | None = None,
    pixel_mean: Sequence[float] | None = None,
    pixel_std: Sequence[float] | None = None,
    bands: Sequence[int] = (),
    fresh: Callable[[], MaskedImageModel] | None = None,
    strict: bool = True,
) -> Adapted:
    """Any PyTorch masked autoencoder as a model for every probe, picture and `lcmae.probe`.

    `encode(images, mask) -> tokens` [b s+t d]: the first `num_prefix` (s) are class token and
    registers, the others one per visible patch, in the order of `mask.visible`; or one per patch,
    if the encoder sees mask tokens. `predict(tokens, mask) -> [b n p]`: every patch in raster
    order, values ordered (row, column, channel), or pictures [b c h w]; None for an encoder alone.
    Images come normalised by `pixel_mean` and `pixel_std` (ImageNet's for three channels by
    default); a mask (`lcmae.masking.Mask`) has `visible` [b v], `hidden` [b m] and `is_hidden` [b
    n], and may hide nothing.

    `encoder_blocks` and `decoder_blocks` are the modules, first to last, that probes of layers,
    gradients and attention watch: each takes and gives tokens [b t d]. Attention maps come from
    timm's Attention in `block.attn`, or from `attention(block, x) -> [b h t t]`. `feature` is the
    vector of an image (the first prefix token where there is one). `fresh` makes the same with new
    random weights, for the baseline `untrained`.

    These requirements are tested on random images. Raises `InputError` (one sentence) if one fails;
    `strict=False` turns this into a note of `model.source`, except for shapes.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"expected a torch.nn.Module to adapt, got {type(module).__name__}")
    blocks, of_decoder, colour = [*encoder_blocks], [*decoder_blocks], channels == 3
    said: dict[str, Any] = {
        "image_size": image_size,
        "patch_size": patch_size,
        "channels": channels,
        "normalize_targets": normalize_targets,
        "bands": tuple(bands),
        "depth": max(1, len(blocks)),
        "feature": feature or ("cls" if num_prefix else "mean"),
    }
    assumed: dict[str, Any] = {}
    for name, values, usual in (("pixel_mean", pixel_mean, IMAGENET_MEAN), ("pixel_std", pixel_std, IMAGENET_STD)):
        known = said if values is not None else assumed
        known[name] = tuple(values) if values is not None else usual if colour else (0.5,)

    def build(measured: dict[str, Any]) -> Adapted:
        model = Adapted(
            parse(AdaptedConfig, {**said, **assumed, **measured}),
            module,
            encode,
            predict,
            AdaptedBlocks(blocks, attention),
            AdaptedBlocks(of_decoder, attention),
            num_prefix,
            fresh,
        )
        # its buffers go where the module is
        return model.to(next((weight.device for weight in module.parameters()), torch.device("cpu"))).eval()

    found = contract.check(build({}))
    if found.findings and strict:
        raise InputError(f"{type(module).__name__}: {found.findings[0]}")
    model = build(found.measured)
    model.encodes_hidden, model.num_decoder_prefix = found.encodes_hidden, found.num_decoder_prefix
    origins = {**dict.fromkeys(said, "you"), **dict.fromkeys(found.measured, "measured on random images")}
    model.source = Provenance(
        format="adapted",
        path=f"{type(module).__module__}.{type(module).__qualname__}",
        sha256=fingerprint(model, [function for function in (encode, predict) if function is not None]),
        read={**said, **found.measured},
        assumed=assumed,
        origins={**origins, **dict.fromkeys(assumed, "ImageNet" if colour else "no statistics known")},
        notes=[*found.findings, *found.notes],
    )
    return model


def fingerprint(model: Adapted, functions: Sequence[Callable[..., Any]]) -> str:
    """SHA-256 of weights, settings and the functions' source: equal ones give equal answers.

    A function whose source nobody has (typed in at a prompt) counts by its compiled code.
    """
    digest = hashlib.sha256(model.config.model_dump_json().encode())
    for name, tensor in model.module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for function in functions:
        try:
            text = inspect.getsource(function)
        except (OSError, TypeError):
            code = getattr(function, "__code__", None)
            text = code.co_code.hex() if code is not None else repr(type(function))
        digest.update(text.encode())
    return digest.hexdigest()
