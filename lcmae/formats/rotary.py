"""Encoders with rotary positions: timm's Eva classes, of which DINOv3 (2508.10104) and EVA-02
(2303.11331) are two, built by timm itself from the name of the architecture."""

from functools import lru_cache
from typing import Any, Literal

import timm
import torch
from pydantic import Field
from timm.models.eva import Eva
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.masked_model import MaskedImageModel, ModelConfig, take
from lcmae.patches import patchify
from lcmae.settings import parse
from lcmae.shapes import Float


class RotaryConfig(ModelConfig):
    """Settings of `RotaryEncoder`."""

    kind: Literal["rotary"] = "rotary"

    architecture: str = Field(pattern=r"^[a-z0-9_]+$", max_length=100)
    """Name in timm's registry, such as vit_small_patch16_dinov3: it decides blocks and rotation."""

    def build(self) -> "RotaryEncoder":
        return RotaryEncoder(**self.model_dump())


@lru_cache(maxsize=64)
def skeleton(architecture: str) -> Eva | None:
    """timm's model of this name without memory; None where it has no axial rotary positions."""
    if not timm.is_model(architecture):
        return None
    with torch.device("meta"):
        model = timm.create_model(architecture, pretrained=False, num_classes=0)
    return model if isinstance(model, Eva) and model.rope is not None and not model.rope_mixed else None


def facts_of(model: Eva) -> dict[str, Any]:
    """What the architecture decides."""
    block: Any = model.blocks[0]
    return {
        "width": model.embed_dim,
        "depth": len(model.blocks),
        "heads": block.attn.num_heads,
        "patch_size": model.patch_embed.patch_size[0],
        "eps": block.norm1.eps,
    }


class RotaryEncoder(MaskedImageModel):
    """timm's Eva that sees visible patches only, each rotated by its own position; it predicts
    nothing. State dict as in timm, without the classifier."""

    has_prediction = False

    def __init__(self, **settings: Any) -> None:
        config = parse(RotaryConfig, settings)
        super().__init__(config)
        self.config: RotaryConfig = config
        known = skeleton(config.architecture)
        if known is None:
            raise InputError(f"expected a timm model with rotary positions, got {config.architecture!a}")
        for name, value in facts_of(known).items():
            if getattr(config, name) != value:
                raise InputError(f"expected {name} {value} for {config.architecture}, got {getattr(config, name)}")
        eva = timm.create_model(
            config.architecture,
            pretrained=False,
            img_size=config.image_size,
            in_chans=config.channels,
            num_classes=0,
        )
        assert isinstance(eva, Eva)
        self.num_prefix = eva.num_prefix_tokens
        self.has_prefix_positions = not eva.no_embed_class
        self.patch_embed = eva.patch_embed
        self.cls_token, self.reg_token, self.positions = eva.cls_token, eva.reg_token, eva.pos_embed
        self.rope: Any = eva.rope
        self.norm_pre, self.blocks, self.norm, self.fc_norm = eva.norm_pre, eva.blocks, eva.norm, eva.fc_norm
        self.decoder_blocks = nn.ModuleList()

    def encode(self, images: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
        # only the visible patches enter
        patches = patchify(images, self.patch_size).repeat_interleave(len(mask) // len(images), 0)
        x = self._embed(take(patches, mask.visible))
        prefix = torch.cat([token.to(x.dtype).expand(len(x), -1, -1) for token in self._learned()] or [x[:, :0]], dim=1)
        if self.positions is not None:
            first = self.num_prefix if self.has_prefix_positions else 0
            x = x + self.positions[0, first:].to(x.dtype)[mask.visible]
            prefix = prefix + self.positions[:, :first].to(x.dtype) if first else prefix
        x = self.norm_pre(torch.cat([prefix, x], dim=1))

        # each visible patch keeps the rotation of its place, the same for all heads
        rotation = self.rope.get_embed(shape=self.grid)[mask.visible][:, None]
        for block in self.blocks:
            x = block(x, rope=rotation)

        x = self.norm(x)
        return x[:, : self.num_prefix], x[:, self.num_prefix :], mask.visible

    def predict(self, prefix: Tensor, tokens: Tensor, mask: Mask) -> Tensor:
        # nothing is predicted, and nothing is made up: see `has_prediction`
        return tokens.new_zeros(len(tokens), self.num_patches, 0)

    def summarize(self, prefix: Tensor, tokens: Tensor, visible: Tensor) -> Tensor:
        return self.fc_norm(super().summarize(prefix, tokens, visible))

    def patch_positions(self) -> Float[Tensor, "n d"]:
        if self.positions is None:
            raise InputError(
                f"expected a model whose positions are a table, got rotary ones ({self.config.architecture})"
            )
        return self.positions[0, self.num_prefix if self.has_prefix_positions else 0 :]

    def fill_buffers(self) -> None:
        super().fill_buffers()
        # timm's frequencies of rotation, and its zero biases of keys, are in no state dict
        for module in self.modules():
            if module is not self and hasattr(module, "init_non_persistent_buffers"):
                module.init_non_persistent_buffers()  # pyright: ignore[reportCallIssue]

    def _learned(self) -> list[Tensor]:
        return [token for token in (self.cls_token, self.reg_token) if token is not None]
