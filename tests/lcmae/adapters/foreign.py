"""Four masked autoencoders of four houses, and the lines that adapt each of them."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

import lcmae
from lcmae.adapters import Adapted, paired_attention, paired_layers
from lcmae.masking import Mask
from lcmae.models import spread, take
from tests.reference.official_style import OfficialStyleMAE

IMAGE, PATCH = 16, 4


def official_style() -> OfficialStyleMAE:
    return OfficialStyleMAE(IMAGE, PATCH, 32, 2, 4, decoder=(24, 2, 3))


def adapt_official(mae: OfficialStyleMAE, **settings: Any) -> Adapted:
    def encode(images: Tensor, mask: Mask) -> Tensor:
        x = take(mae.patch_embed(images) + mae.pos_embed[:, 1:], mask.visible)
        x = torch.cat([(mae.cls_token + mae.pos_embed[:, :1]).expand(len(x), -1, -1), x], dim=1)
        for block in mae.blocks:
            x = block(x)
        return mae.norm(x)

    def predict(tokens: Tensor, mask: Mask) -> Tensor:
        return mae.forward_decoder(tokens, torch.cat([mask.visible, mask.hidden], dim=1).argsort(dim=1))

    said = {"encoder_blocks": mae.blocks, "decoder_blocks": mae.decoder_blocks, "num_prefix": 1, **settings}
    return lcmae.adapt(mae, image_size=IMAGE, patch_size=PATCH, encode=encode, predict=predict, **said)


def huggingface() -> Any:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    settings: Any = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    decoder: Any = {"decoder_hidden_size": 24, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 3}
    config = ViTMAEConfig(**settings, **decoder, decoder_intermediate_size=48, image_size=IMAGE, patch_size=PATCH)
    mae = ViTMAEForPreTraining(config).eval()
    mae.set_attn_implementation("eager")  # which keeps its maps, to compare
    return mae


def adapt_huggingface(mae: Any) -> Adapted:
    def encode(images: Tensor, mask: Mask) -> Tensor:
        mae.config.mask_ratio = (mask.hidden.shape[1] - 0.5) / mask.num_patches  # it rounds down
        order = torch.cat([mask.visible, mask.hidden], dim=1).argsort(dim=1)
        return mae.vit(images, noise=order.float()).last_hidden_state

    def predict(tokens: Tensor, mask: Mask) -> Tensor:
        return mae.decoder(tokens, torch.cat([mask.visible, mask.hidden], dim=1).argsort(dim=1)).logits

    def attention(layer: Any, x: Tensor) -> Tensor:
        inner, x = layer.attention, layer.layernorm_before(x)
        q, k = (rearrange(f(x), "b t (h d) -> b h t d", d=inner.head_dim) for f in (inner.q_proj, inner.k_proj))
        return (q @ k.mT * inner.scaling).softmax(-1)

    return lcmae.adapt(
        mae, image_size=IMAGE, patch_size=PATCH, num_prefix=1, encode=encode, predict=predict, attention=attention,
        encoder_blocks=mae.vit.layers, decoder_blocks=mae.decoder.decoder_layers,
    )  # fmt: skip


def vit_pytorch() -> Any:
    from vit_pytorch import MAE, ViT

    size = {"dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64, "dim_head": 16}
    vit = ViT(image_size=IMAGE, patch_size=PATCH, num_classes=10, pool="mean", **size)
    return MAE(encoder=vit, decoder_dim=24, decoder_depth=2, decoder_heads=2, decoder_dim_head=12)


def adapt_vit_pytorch(mae: Any) -> Adapted:
    blocks, decoder_blocks = paired_layers(mae.encoder.transformer.layers), paired_layers(mae.decoder.layers)

    def encode(images: Tensor, mask: Mask) -> Tensor:
        x = take(mae.patch_to_emb(mae.to_patch(images)) + mae.encoder.pos_embedding, mask.visible)
        return mae.encoder.transformer.norm(blocks(x))

    def predict(tokens: Tensor, mask: Mask) -> Tensor:
        x = mae.mask_token * mask.is_hidden[..., None] + spread(mae.enc_to_dec(tokens), mask.visible, mask.num_patches)
        return mae.to_pixels(mae.decoder.norm(decoder_blocks(x + mae.decoder_pos_emb.weight)))

    return lcmae.adapt(
        mae, image_size=IMAGE, patch_size=PATCH, encode=encode, predict=predict, attention=paired_attention,
        encoder_blocks=blocks, decoder_blocks=decoder_blocks,
    )  # fmt: skip


class ConvStemMAE(nn.Module):
    """Patches through two small convolutions, a transformer over the visible ones, and a transposed
    convolution that paints pictures. With `overlap` the first one looks beyond its patch."""

    def __init__(self, overlap: bool = False) -> None:
        super().__init__()
        first = nn.Conv2d(3, 16, 6, stride=2, padding=2) if overlap else nn.Conv2d(3, 16, 2, stride=2)
        self.stem = nn.Sequential(first, nn.GELU(), nn.Conv2d(16, 32, 2, stride=2))
        self.positions = nn.Parameter(torch.randn(1, (IMAGE // PATCH) ** 2, 32) * 0.1)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True) for _ in range(2))
        self.mask_token = nn.Parameter(torch.randn(1, 1, 32) * 0.02)
        self.mixer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.paint = nn.ConvTranspose2d(32, 3, PATCH, stride=PATCH)


def adapt_conv_stem(mae: ConvStemMAE, **settings: Any) -> Adapted:
    def encode(images: Tensor, mask: Mask) -> Tensor:
        x = take(mae.stem(images).flatten(2).mT + mae.positions, mask.visible)
        for layer in mae.layers:
            x = layer(x)
        return x

    def predict(tokens: Tensor, mask: Mask) -> Tensor:
        x = spread(tokens, mask.visible, mask.num_patches) + mae.mask_token * mask.is_hidden[..., None]
        x = mae.mixer(x + mae.positions)
        return mae.paint(x.mT.unflatten(2, (IMAGE // PATCH, IMAGE // PATCH)))

    said = {"encode": encode, "predict": predict, "encoder_blocks": mae.layers, "decoder_blocks": [mae.mixer]}
    return lcmae.adapt(mae, image_size=IMAGE, patch_size=PATCH, **{**said, **settings})


CASES: dict[str, tuple[Any, Any]] = {
    "official": (official_style, adapt_official),
    "huggingface": (huggingface, adapt_huggingface),
    "vit-pytorch": (vit_pytorch, adapt_vit_pytorch),
    "conv-stem": (ConvStemMAE, adapt_conv_stem),
}
