"""A module seen through its owner's functions, as a `MaskedImageModel`."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.models import MaskedImageModel, ModelConfig
from lcmae.patches import patchify
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
    """A module seen through its owner's functions; `lcmae.adapt` makes it."""

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
