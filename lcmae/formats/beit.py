"""SimMIM's own ViT (Xie et al., 2111.09886): BEiT blocks with relative positions, as timm's Beit
builds them."""

from functools import partial
from typing import Any, Literal

import torch
from einops import repeat
from timm.models.beit import Beit
from torch import Tensor, nn

from lcmae.mask import Mask
from lcmae.models import Feature, MaskedImageModel, ModelConfig
from lcmae.patches import patchify
from lcmae.settings import parse


class SimMIMBeitConfig(ModelConfig):
    """Settings of `SimMIMBeit`."""

    kind: Literal["simmim-beit"] = "simmim-beit"

    feature: Feature = "mean"
    """Which vector `pooled` is: the class token, or the mean of the visible patches' tokens."""

    qkv_bias: bool = True
    """Biases on queries and values (BEiT has none on keys)."""

    layer_scale: bool = True
    """A learned scale on every branch (gamma_1, gamma_2)."""

    relative_positions: Literal["shared", "each", "none"] = "shared"
    """A table of relative positions for all blocks, one for each, or none."""

    absolute_positions: bool = False
    """A learned vector added to every token."""

    head: bool = True
    """Whether there is a head that predicts patches."""

    def build(self) -> "SimMIMBeit":
        return SimMIMBeit(**self.model_dump())


class SimMIMBeit(MaskedImageModel):
    """The encoder sees mask tokens in place of hidden patches; one linear layer predicts every
    patch.

    State dict: timm's Beit, with `mask_token` and `head`, whose outputs are in our patch order.
    """

    encodes_hidden = True

    def __init__(self, **settings: Any) -> None:
        config = parse(SimMIMBeitConfig, settings)
        super().__init__(config)
        self.config: SimMIMBeitConfig = config
        self.has_prediction = config.head

        beit = Beit(
            img_size=config.image_size,
            patch_size=config.patch_size,
            in_chans=config.channels,
            num_classes=0,
            global_pool="token",
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            qkv_bias=config.qkv_bias,
            mlp_ratio=config.mlp_ratio,
            norm_layer=partial(nn.LayerNorm, eps=config.eps),  # pyright: ignore[reportArgumentType]
            init_values=0.1 if config.layer_scale else None,
            use_abs_pos_emb=config.absolute_positions,
            use_rel_pos_bias=config.relative_positions == "each",
            use_shared_rel_pos_bias=config.relative_positions == "shared",
        )
        self.patch_embed = beit.patch_embed
        self.cls_token = beit.cls_token
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = beit.pos_embed
        self.rel_pos_bias = beit.rel_pos_bias
        self.blocks = beit.blocks
        self.norm = beit.norm
        self.decoder_blocks = nn.ModuleList()
        self.head = nn.Linear(config.width, config.patch_values) if config.head else nn.Identity()

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        # hidden patches never enter: their places hold the mask token
        patches = self._embed(patchify(images, self.patch_size))
        patches = repeat(patches, "b n d -> (b k) n d", k=len(mask) // len(images))
        x = torch.where(mask.is_hidden[:, :, None], self.mask_token.to(patches.dtype), patches)
        x = torch.cat([self.cls_token.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        if self.positions is not None:
            x = x + self.positions

        shared = None if self.rel_pos_bias is None else self.rel_pos_bias()
        for block in self.blocks:
            x = block(x, shared_rel_pos_bias=shared)

        x = self.norm(x)
        every_patch = torch.arange(self.num_patches, device=x.device).expand(len(x), -1)
        return x[:, :1], x[:, 1:], every_patch

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        if not self.has_prediction:
            return tokens.new_zeros(len(tokens), self.num_patches, 0)
        return self.head(tokens)

    def fill_buffers(self) -> None:
        super().fill_buffers()
        # timm's indices into tables of relative positions, and its zero biases of keys, are in no
        # state dict
        for module in self.modules():
            if module is not self and hasattr(module, "init_non_persistent_buffers"):
                module.init_non_persistent_buffers()  # pyright: ignore[reportCallIssue]
