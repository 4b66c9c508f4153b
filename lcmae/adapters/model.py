"""A module and two functions -> a `MaskedImageModel`.

What is asked of a person is what no module says by itself: which part encodes and which predicts,
given a mask. Everything else is measured on random images (`lcmae.adapters.contract`): widths,
heads, whether the encoder sees hidden patches, and whether the functions keep their promises.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.formats.encoder import IMAGENET_MEAN, IMAGENET_STD
from lcmae.mask import Mask
from lcmae.models import Feature, MaskedImageModel, ModelConfig
from lcmae.patches import patchify
from lcmae.provenance import Provenance
from lcmae.settings import parse
from lcmae.shapes import Float

Encode = Callable[[Tensor, Mask], Tensor]
"""(images [b c h w], mask of b rows) -> tokens [b s+t d]: s prefix tokens, then the t visible
patches in raster order (or all n, where the encoder sees mask tokens)."""

Predict = Callable[[Tensor, Mask], Tensor]
"""(what `encode` gave, mask) -> predictions [b n p] of every patch in raster order, values ordered
(row, column, channel); or pictures [b c h w]."""

AttentionMaps = Callable[[nn.Module, Tensor], Tensor]
"""(block, what enters it [b t d]) -> attention [b h t t], rows of queries sum to 1."""


class AdaptedConfig(ModelConfig):
    """What was said, and what was measured, of an adapted model."""

    kind: Literal["adapted"] = "adapted"

    decoder_width: int = Field(default=1, ge=1)
    """Width of the tokens between decoder blocks; 1 where there are none."""

    decoder_heads: int = Field(default=1, ge=1)
    """Attention heads of the decoder's blocks; 1 where nothing shows them."""

    @model_validator(mode="after")
    def _width_fits(self) -> "AdaptedConfig":
        return self  # widths and heads are what was measured


class AdaptedBlocks(nn.ModuleList):
    """Blocks of somebody else's, with the function that gives their attention maps, or None."""

    def __init__(self, blocks: Sequence[nn.Module], attention: AttentionMaps | None = None) -> None:
        super().__init__(blocks)
        self.attention = attention


class Adapted(MaskedImageModel):
    """A module seen through its owner's functions; `adapt` makes it."""

    can_be_copied = False

    def __init__(
        self,
        config: AdaptedConfig,
        module: nn.Module,
        encode: Encode,
        predict: Predict | None,
        blocks: AdaptedBlocks,
        decoder_blocks: AdaptedBlocks,
        num_prefix: int,
        fresh: "Callable[[], MaskedImageModel] | None" = None,
    ) -> None:
        super().__init__(config)
        self.config: AdaptedConfig = config
        self.module = module
        self.blocks, self.decoder_blocks = blocks, decoder_blocks
        self.num_prefix = num_prefix
        self.has_prediction = predict is not None
        self._encode, self._predict, self._fresh = encode, predict, fresh

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        # a row of images for every row of masks
        num_masks = len(mask) // len(images)
        x = self._encode(images if num_masks == 1 else images.repeat_interleave(num_masks, 0), mask)
        positions = mask.visible
        if self.encodes_hidden:
            positions = torch.arange(self.num_patches, device=x.device).expand(len(x), -1)
        return x[:, : self.num_prefix], x[:, self.num_prefix :], positions

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        if self._predict is None:
            # nothing is predicted, and nothing is made up: see `has_prediction`
            return tokens.new_zeros(len(tokens), self.num_patches, 0)
        pred = self._predict(torch.cat([prefix, tokens], dim=1), mask)
        return patchify(pred, self.patch_size) if pred.ndim == 4 else pred

    def fresh(self) -> MaskedImageModel | None:
        return None if self._fresh is None else self._fresh()

    def patch_positions(self) -> Float[Tensor, "n d"]:
        raise InputError(
            "expected a model whose positions are a table, got one of lcmae.adapt, whose module keeps its own"
        )


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
    registers, the others one a visible patch, in the order of `mask.visible`; or one a patch, where
    the encoder sees mask tokens. `predict(tokens, mask) -> [b n p]`: every patch in raster order,
    values ordered (row, column, channel), or pictures [b c h w]; None for an encoder alone. Images
    come normalised by `pixel_mean` and `pixel_std` (ImageNet's for three channels by default); a
    mask (`lcmae.masking.Mask`) has `visible` [b v], `hidden` [b m] and `is_hidden` [b n], and may
    hide nothing.

    `encoder_blocks` and `decoder_blocks` are the modules, first to last, that probes of layers,
    gradients and attention watch: each takes and gives tokens [b t d]. Attention maps come from
    timm's Attention in `block.attn`, or from `attention(block, x) -> [b h t t]`. `feature` is the
    vector of an image (the first prefix token where there is one). `fresh` makes the same with new
    random weights, for the baseline `untrained`.

    The promises are tried on random images. Raises `InputError`, one sentence, where one is broken;
    `strict=False` turns it into a note of `model.source`, but for shapes.
    """
    from lcmae.adapters import contract

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
