"""What others run: Hugging Face's ViTMAE, and timm's blocks in the plain loop that most public MAE
code is."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lcmae.models import MAEConfig


class PlainMAE(nn.Module):
    """MAE as it is usually written: every patch embedded by a convolution and then dropped, tokens
    put back in order by a gather, every patch predicted, the loss weighted by the mask."""

    def __init__(self, config: MAEConfig, ratio: float) -> None:
        super().__init__()
        self.patch_size, self.keep = config.patch_size, int(config.num_patches * (1 - ratio) + 1e-9)
        norm: Any = partial(nn.LayerNorm, eps=config.eps)
        width, inner = config.width, config.decoder_width
        self.patch_embed = PatchEmbed(config.image_size, config.patch_size, config.channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, config.num_patches + 1, width), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(config.depth)
        )
        self.norm = norm(width)
        self.decoder_embed = nn.Linear(width, inner)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        self.decoder_pos_embed = nn.Parameter(0.02 * torch.randn(1, config.num_patches + 1, inner), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(inner, config.decoder_heads, config.mlp_ratio, qkv_bias=True, norm_layer=norm)
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = norm(inner)
        self.decoder_pred = nn.Linear(inner, config.patch_values)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        num_images, num_patches, width = x.shape
        order = torch.rand(num_images, num_patches, device=x.device).argsort(dim=1)
        restore = order.argsort(dim=1)
        x = x.gather(1, order[:, : self.keep, None].expand(-1, -1, width))
        mask = torch.ones(num_images, num_patches, device=x.device)
        mask[:, : self.keep] = 0
        mask = mask.gather(1, restore)
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(num_images, -1, -1).to(x.dtype), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))

        mask_tokens = self.mask_token.to(x.dtype).expand(num_images, num_patches - self.keep, -1)
        patches = torch.cat([x[:, 1:], mask_tokens], dim=1)
        patches = patches.gather(1, restore[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        pred = self.decoder_pred(self.decoder_norm(x))[:, 1:]

        target = F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)
        return ((pred.float() - target).square().mean(-1) * mask).sum() / mask.sum()


class HuggingFaceMAE(nn.Module):
    """`transformers.ViTMAEForPreTraining` with torch's attention (sdpa)."""

    def __init__(self, config: MAEConfig, ratio: float) -> None:
        super().__init__()
        from transformers import ViTMAEConfig, ViTMAEForPreTraining

        assert config.image_size[0] == config.image_size[1]
        settings = ViTMAEConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=int(config.width * config.mlp_ratio),
            image_size=config.image_size[0],
            patch_size=config.patch_size,
            num_channels=config.channels,
            decoder_hidden_size=config.decoder_width,
            decoder_num_hidden_layers=config.decoder_depth,
            decoder_num_attention_heads=config.decoder_heads,
            decoder_intermediate_size=int(config.decoder_width * config.mlp_ratio),
            mask_ratio=ratio,
        )
        settings._attn_implementation = "sdpa"
        self.model = ViTMAEForPreTraining(settings)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).loss


PEERS: dict[str, type[PlainMAE | HuggingFaceMAE]] = {"timm loop": PlainMAE, "Hugging Face": HuggingFaceMAE}
