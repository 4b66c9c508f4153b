"""A masked autoencoder with the interface of the published code (He et al., 2111.06377), written
from the paper: the same attribute names, `forward_encoder` and `forward_decoder`, and a random mask
of its own.
"""

from functools import partial
from typing import Any

import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lcmae.models import sincos_positions


class OfficialStyleMAE(nn.Module):
    """Square images; a class token in encoder and decoder."""

    def __init__(self, image: int, patch: int, width: int, depth: int, heads: int, decoder: tuple[int, int, int]):
        super().__init__()
        decoder_width, decoder_depth, decoder_heads = decoder
        side = image // patch
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.patch_embed = PatchEmbed(image, patch, 3, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(sincos_positions(width, (side, side), prefix=1)[None], requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        self.norm = norm(width)

        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder_width) * 0.02)
        positions = sincos_positions(decoder_width, (side, side), prefix=1)
        self.decoder_pos_embed = nn.Parameter(positions[None], requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_width, decoder_heads, qkv_bias=True, norm_layer=norm) for _ in range(decoder_depth)
        )
        self.decoder_norm = norm(decoder_width)
        self.decoder_pred = nn.Linear(decoder_width, patch**2 * 3)

    def forward_encoder(self, images: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
        """Latent tokens [b 1+v d], class token first; the mask [b n], 1 where hidden; and the order
        that puts visible-then-hidden patches back in raster order."""
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        num_images, num_patches, width = x.shape
        num_visible = int(num_patches * (1 - mask_ratio))
        order = torch.rand(num_images, num_patches, device=x.device).argsort(dim=1)
        restore = order.argsort(dim=1)
        visible = order[:, :num_visible, None].expand(-1, -1, width)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(num_images, -1, -1)
        x = torch.cat([cls, x.gather(1, visible)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x), (restore >= num_visible).float(), restore

    def forward_decoder(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Predictions [b n p] in raster order."""
        x = self.decoder_embed(latent)
        num_hidden = restore.shape[1] + 1 - x.shape[1]
        patches = torch.cat([x[:, 1:], self.mask_token.expand(len(x), num_hidden, -1)], dim=1)
        patches = patches.gather(1, restore[..., None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]
