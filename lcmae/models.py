"""MAE (He et al., 2111.06377) and SimMIM (Xie et al., 2111.09886), built of timm blocks.

What is unusual here: the state dict of `MAE` has the key names of the official release.
`lcmae.masked_model` has the contract that both keep; its names can be imported from here.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from einops import repeat
from pydantic import Field, model_validator
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from lcmae.blocks import Block
from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.masked_model import Feature, MaskedImageModel, MaskedOutput, ModelConfig, check_width, pool, spread, take
from lcmae.patches import Grid, patchify
from lcmae.settings import parse
from lcmae.shapes import Float

__all__ = [
    "MAE",
    "SIZES",
    "AnyModelConfig",
    "Feature",
    "MAEConfig",
    "MaskedImageModel",
    "MaskedOutput",
    "ModelConfig",
    "SimMIM",
    "SimMIMConfig",
    "pool",
    "sincos_positions",
    "spread",
    "take",
]

SIZES: Mapping[str, Mapping[str, int]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "huge": {"width": 1280, "depth": 32, "heads": 16},
}
"""Encoder shapes by the field's names (ViT-Ti/S of DeiT, ViT-B/L/H of Dosovitskiy et al.)."""


class MAEConfig(ModelConfig):
    """Settings of `MAE`; the defaults are ViT-Tiny with patches of 4 pixels on images of 32."""

    kind: Literal["mae"] = "mae"

    decoder_width: int = Field(default=192, ge=1)
    """Width of the decoder's tokens."""

    decoder_depth: int = Field(default=4, ge=1)
    """Number of decoder blocks."""

    decoder_heads: int = Field(default=3, ge=1)
    """Attention heads of each decoder block."""

    decoder_eps: float = Field(default=1e-6, gt=0)
    """Epsilon of the decoder's layer norms."""

    decoder_mlp_ratio: float | None = Field(default=None, gt=0)
    """Width of the decoder blocks' hidden layer, as a multiple of its tokens' width; the encoder's
    by default."""

    decoder_prefix: int = Field(default=1, ge=0, le=1)
    """1 where the class token goes on into the decoder, 0 where the decoder sees patches alone."""

    qkv_bias: bool = True
    """Biases on queries, keys and values, in encoder and decoder."""

    @model_validator(mode="after")
    def _decoder_fits(self) -> "MAEConfig":
        check_width("decoder_width", self.decoder_width, "decoder_heads", self.decoder_heads)
        return self

    def build(self) -> "MAE":
        return MAE(**self.model_dump())


class SimMIMConfig(ModelConfig):
    """Settings of `SimMIM`. Its class token is not trained by the loss, so `pooled` is the mean by
    default."""

    kind: Literal["simmim"] = "simmim"

    feature: Feature = "mean"
    """Which vector `pooled` is: the class token, or the mean of the visible patches' tokens."""

    def build(self) -> "SimMIM":
        return SimMIM(**self.model_dump())


AnyModelConfig = Annotated[MAEConfig | SimMIMConfig, Field(discriminator="kind")]


class MAE(MaskedImageModel):
    """The encoder sees visible patches only; a light decoder with mask tokens predicts every patch.

    `MAE(image_size=32, patch_size=4, width=192, depth=12, heads=3, decoder_width=192,
    decoder_depth=4, decoder_heads=3)`; see `MAEConfig` for all settings. `image_size` is a side or
    (height, width).
    """

    def __init__(self, **settings: Any) -> None:
        config = parse(MAEConfig, settings)
        super().__init__(config)
        self.config: MAEConfig = config
        self.num_decoder_prefix = config.decoder_prefix
        width, decoder_width = config.width, config.decoder_width
        decoder_ratio = config.mlp_ratio if config.decoder_mlp_ratio is None else config.decoder_mlp_ratio

        self.patch_embed = _patch_embed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = _frozen(sincos_positions(width, config.grid, prefix=1))
        self.blocks = _blocks(config.depth, width, config.heads, config.mlp_ratio, config.eps, config.qkv_bias)
        self.norm = nn.LayerNorm(width, eps=config.eps)

        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder_pos_embed = _frozen(sincos_positions(decoder_width, config.grid, config.decoder_prefix))
        self.decoder_blocks = _blocks(
            config.decoder_depth,
            decoder_width,
            config.decoder_heads,
            decoder_ratio,
            config.decoder_eps,
            config.qkv_bias,
        )
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=config.decoder_eps)
        self.decoder_pred = nn.Linear(decoder_width, config.patch_values)

        _initialize(self)

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        # only the visible patches enter
        tokens = self._embed_visible(images, mask)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        x = torch.cat([cls.to(tokens.dtype), tokens], dim=1)

        for block in self.blocks:
            x = block(x)

        x = self.norm(x)
        return x[:, :1], x[:, 1:], mask.visible

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        num_prefix = self.num_decoder_prefix
        x = self._decoder_tokens(prefix, tokens, mask)

        # back in raster order, in which probes read decoder blocks
        raster = torch.cat([mask.visible, mask.hidden], dim=1).argsort(dim=1)
        x = torch.cat([x[:, :num_prefix], take(x[:, num_prefix:], raster)], dim=1)

        for block in self.decoder_blocks:
            x = block(x)

        return self.decoder_pred(self.decoder_norm(x)[:, num_prefix:])

    def predict_hidden(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        x = self._decoder_tokens(prefix, tokens, mask)

        # blocks do not see the order of tokens; of the last one, only what becomes a prediction is
        # wanted
        *blocks, last = self.decoder_blocks
        for block in blocks:
            x = block(x)
        x = last(x, mask.hidden.shape[1])

        return self.decoder_pred(self.decoder_norm(x))

    def _decoder_tokens(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        """Prefix, visible patches and mask tokens for the hidden ones, in this order, each with its
        position."""
        num_prefix = self.num_decoder_prefix
        x = self.decoder_embed(torch.cat([prefix[:, :num_prefix], tokens], dim=1))
        positions = self.decoder_pos_embed.to(x.dtype)[0]
        of_prefix, of_patches = positions[:num_prefix], positions[num_prefix:]
        x = x + torch.cat([of_prefix.expand(len(x), -1, -1), of_patches[mask.visible]], dim=1)
        return torch.cat([x, self.mask_token.to(x.dtype) + of_patches[mask.hidden]], dim=1)


class SimMIM(MaskedImageModel):
    """The encoder sees mask tokens in place of hidden patches; one linear layer predicts every
    patch.

    `SimMIM(image_size=32, patch_size=4, width=192, depth=12, heads=3)`; see `SimMIMConfig` for all
    settings. Positions are added as in MAE (absolute sin-cos); the paper's ViT has relative ones,
    which `lcmae.formats` reads.
    """

    encodes_hidden = True

    def __init__(self, **settings: Any) -> None:
        config = parse(SimMIMConfig, settings)
        super().__init__(config)
        self.config: SimMIMConfig = config

        self.patch_embed = _patch_embed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = _frozen(sincos_positions(config.width, config.grid, prefix=1))
        self.blocks = _blocks(config.depth, config.width, config.heads, config.mlp_ratio, config.eps)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.decoder_blocks = nn.ModuleList()
        self.head = nn.Linear(config.width, config.patch_values)

        _initialize(self)

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        # hidden patches never enter: their positions hold the mask token
        patches = self._embed(patchify(images, self.patch_size))
        patches = repeat(patches, "b n d -> (b k) n d", k=len(mask) // len(images))
        x = torch.where(mask.is_hidden[:, :, None], self.mask_token.to(patches.dtype), patches)
        cls = self.cls_token.to(x.dtype).expand(len(x), -1, -1)
        x = torch.cat([cls, x], dim=1) + self.pos_embed.to(x.dtype)

        for block in self.blocks:
            x = block(x)

        x = self.norm(x)
        every_patch = torch.arange(self.num_patches, device=x.device).expand(len(x), -1)
        return x[:, :1], x[:, 1:], every_patch

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        return self.head(tokens)

    def predict_hidden(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        return self.head(take(tokens, mask.hidden))


def sincos_positions(width: int, grid: Grid, prefix: int = 0) -> Float[Tensor, "n d"]:
    """Fixed 2-d sine-cosine positions, half of the width for the column and half for the row, as in
    MAE's release.

    Prefix tokens get zeros. Raises `InputError` where the width is not a multiple of 4.
    """
    if width % 4:
        raise InputError(f"expected a width that is a multiple of 4 for 2-d sine-cosine positions, got {width}")
    rate = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    row, column = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    angles = [position.reshape(-1, 1).double() * rate for position in (column, row)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()
    return torch.cat([torch.zeros(prefix, width), table])


def _frozen(table: Tensor) -> nn.Parameter:
    # a parameter rather than a buffer, as in the official state dict
    return nn.Parameter(table[None], requires_grad=False)


def _patch_embed(config: ModelConfig) -> PatchEmbed:
    return PatchEmbed(
        img_size=config.image_size, patch_size=config.patch_size, in_chans=config.channels, embed_dim=config.width
    )


def _blocks(depth: int, width: int, heads: int, mlp_ratio: float, eps: float, qkv_bias: bool = True) -> nn.ModuleList:
    norm: Any = partial(nn.LayerNorm, eps=eps)
    return nn.ModuleList(
        Block(width, heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, norm_layer=norm) for _ in range(depth)
    )


def _initialize(model: nn.Module) -> None:
    """MAE's initialisation: Xavier-uniform linear layers with zero bias, tokens from a normal of
    deviation 0.02."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, PatchEmbed):
            nn.init.xavier_uniform_(module.proj.weight.view(module.proj.weight.shape[0], -1))
            assert module.proj.bias is not None
            nn.init.zeros_(module.proj.bias)
    for name, parameter in model.named_parameters():
        if name in ("cls_token", "mask_token"):
            nn.init.normal_(parameter, std=0.02)
