"""Encoders without a decoder: any timm VisionTransformer, and what is left of an MAE once its
decoder is dropped."""

from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lcmae.mask import Mask
from lcmae.models import MaskedImageModel, ModelConfig
from lcmae.settings import parse
from lcmae.shapes import Float


class ViTConfig(ModelConfig):
    """Settings of `ViT`."""

    kind: Literal["vit"] = "vit"

    class_token: bool = True
    """Whether a class token goes before the patches."""

    registers: int = Field(default=0, ge=0)
    """Register tokens between the class token and the patches."""

    prefix_positions: bool = True
    """Whether the position table has rows for class and register tokens (timm: not
    no_embed_class)."""

    norm_pre: bool = False
    """A layer norm before the first block, as in CLIP; the patch embedding then has no bias."""

    final_norm: Literal["tokens", "pooled", "none"] = "tokens"
    """Where the last layer norm stands: on all tokens, on the pooled vector alone (timm's fc_norm),
    or nowhere."""

    qkv_bias: bool = True
    """Biases on queries, keys and values."""

    qk_norm: bool = False
    """Layer norms on queries and keys."""

    layer_scale: bool = False
    """A learned scale on every branch (ls1, ls2)."""

    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] = "gelu"
    """Activation inside the blocks."""

    @model_validator(mode="after")
    def _feature_exists(self) -> "ViTConfig":
        if self.feature == "cls" and not self.class_token:
            raise ValueError("expected feature 'mean' for a model without a class token, got 'cls'")
        return self

    def build(self) -> "ViT":
        return ViT(**self.model_dump())


class ViT(MaskedImageModel):
    """A timm VisionTransformer that sees visible patches only; it predicts nothing. State dict as
    in timm."""

    has_prediction = False

    def __init__(self, **settings: Any) -> None:
        config = parse(ViTConfig, settings)
        super().__init__(config)
        self.config: ViTConfig = config
        self.num_prefix = int(config.class_token) + config.registers

        vit = VisionTransformer(
            img_size=config.image_size,
            patch_size=config.patch_size,
            in_chans=config.channels,
            num_classes=0,
            global_pool="token" if config.class_token else "avg",
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=config.qkv_bias,
            qk_norm=config.qk_norm,
            init_values=1.0 if config.layer_scale else None,
            class_token=config.class_token,
            no_embed_class=not config.prefix_positions,
            reg_tokens=config.registers,
            pre_norm=config.norm_pre,
            final_norm=config.final_norm != "none",
            fc_norm=config.final_norm == "pooled",
            norm_layer=partial(nn.LayerNorm, eps=config.eps),  # pyright: ignore[reportArgumentType]
            act_layer=config.activation,
        )
        self.patch_embed = vit.patch_embed
        self.cls_token = vit.cls_token
        self.reg_token = vit.reg_token
        assert vit.pos_embed is not None
        self.pos_embed = vit.pos_embed
        self.norm_pre = vit.norm_pre
        self.blocks = nn.ModuleList(vit.blocks)
        self.norm = vit.norm
        self.fc_norm = vit.fc_norm
        self.decoder_blocks = nn.ModuleList()

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        # only the visible patches enter
        x = self._embed_visible(images, mask)
        prefix = self._prefix(x)
        x = self.norm_pre(torch.cat([prefix, x], dim=1))

        for block in self.blocks:
            x = block(x)

        x = self.norm(x)
        return x[:, : self.num_prefix], x[:, self.num_prefix :], mask.visible

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        # nothing is predicted, and nothing is made up: see `has_prediction`
        return tokens.new_zeros(len(tokens), self.num_patches, 0)

    def summarize(self, prefix: Tensor, tokens: Tensor, visible: Tensor) -> Tensor:
        return self.fc_norm(super().summarize(prefix, tokens, visible))

    def patch_positions(self) -> Float[Tensor, "n d"]:
        return self.pos_embed[0, self.num_prefix if self.config.prefix_positions else 0 :]

    def _prefix(self, x: Tensor) -> Tensor:
        """Class token and registers with their positions, one row an image."""
        learned: list[Tensor] = [token for token in (self.cls_token, self.reg_token) if token is not None]
        if not learned:
            return x[:, :0]
        prefix = torch.cat(learned, dim=1)
        if self.config.prefix_positions:
            prefix = prefix + self.pos_embed[:, : self.num_prefix]
        return prefix.to(x.dtype).expand(len(x), -1, -1)
