"""Images + Mask -> MaskedOutput: MAE (He et al., 2111.06377) and SimMIM (Xie et al., 2111.09886),
built of timm blocks.

What is unusual here: the state dict of `MAE` has the key names of the official release; a mask is
an argument and never drawn inside; one image may come with several masks (rows ordered image by
image), and then its patches are embedded once. Images are float32 in the network's own input space:
`model.prepare` brings uint8 pixels there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from pydantic import Field, model_validator
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from lcmae.blocks import Block
from lcmae.errors import InputError
from lcmae.masking.base import Mask
from lcmae.patches import Grid, grid_of, normalize_patches, patchify
from lcmae.settings import Settings, parse
from lcmae.shapes import Float, Int, UInt8

if TYPE_CHECKING:
    from lcmae.formats.provenance import Provenance

Feature = Literal["cls", "mean"]

SIZES: Mapping[str, Mapping[str, int]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "huge": {"width": 1280, "depth": 32, "heads": 16},
}
"""Encoder shapes by the field's names (ViT-Ti/S of DeiT, ViT-B/L/H of Dosovitskiy et al.)."""


@dataclass(frozen=True)
class MaskedOutput:
    """What a model says about masked images; everything float32, whatever precision the inside ran
    in."""

    pred: Float[Tensor, "b n p"]
    """A prediction for every patch, visible ones too, in raster order; with `only_hidden`, 0 at
    visible patches."""

    tokens: Float[Tensor, "b t d"]
    """Encoder tokens of patches after the final norm, prefix tokens left out. MAE: the visible
    ones, t = v."""

    positions: Int[Tensor, "b t"]
    """The patch that each token stands for."""

    prefix: Float[Tensor, "b s d"]
    """Prefix tokens (class token, registers), s of them; s may be 0."""

    pooled: Float[Tensor, "b d"]
    """One vector an image: the model's own choice of `feature`."""

    visible: Int[Tensor, "b v"]
    """The visible patches of the mask that was used."""

    def feature(self, name: Feature) -> Float[Tensor, "b d"]:
        """The class token, or the mean of the tokens of visible patches."""
        return pool(name, self.prefix, self.tokens, self.visible)


class ModelConfig(Settings):
    """What every model needs to be built again from its run folder."""

    image_size: tuple[int, int] = (32, 32)
    """Height and width of the images, in pixels; one number stands for a square."""

    patch_size: int = Field(default=4, ge=1)
    """Side of a patch, in pixels."""

    channels: int = Field(default=3, ge=1)
    """Channels of the images: 1 grey, 3 colour, or any other number (satellites, microscopes)."""

    width: int = Field(default=192, ge=1)
    """Width d of the encoder's tokens."""

    depth: int = Field(default=12, ge=1)
    """Number of encoder blocks."""

    heads: int = Field(default=3, ge=1)
    """Attention heads of each encoder block."""

    mlp_ratio: float = Field(default=4.0, gt=0)
    """Width of each block's hidden layer, as a multiple of its tokens' width."""

    eps: float = Field(default=1e-6, gt=0)
    """Epsilon of the encoder's layer norms."""

    normalize_targets: bool = False
    """Predict patches normalised to mean 0 and variance 1 each (MAE's norm_pix_loss) instead of
    pixels."""

    feature: Feature = "cls"
    """Which vector `pooled` is: the class token, or the mean of the visible patches' tokens."""

    pixel_mean: tuple[float, ...] = (0.5,)
    """Mean subtracted from pixels in [0, 1]; one number, or one a channel."""

    pixel_std: tuple[float, ...] = (0.5,)
    """Standard deviation by which pixels in [0, 1] are divided; one number, or one a channel."""

    bands: tuple[int, ...] = ()
    """Channels that pictures show, counted from 1: three for red, green and blue (3,2,1), or one
    for grey; by default all of 1, 3 or 4 channels, the first of 2, the first three of more."""

    @model_validator(mode="before")
    @classmethod
    def _square_by_one_number(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("image_size"), int):
            values = {**values, "image_size": (values["image_size"], values["image_size"])}
        return values

    @model_validator(mode="after")
    def _shapes_fit(self) -> "ModelConfig":
        grid_of(self.image_size, self.patch_size)
        for name, values in (("pixel_mean", self.pixel_mean), ("pixel_std", self.pixel_std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"expected 1 or {self.channels} values of {name}, got {len(values)}")
        if min(self.pixel_std) <= 0:
            raise ValueError(f"expected pixel_std above 0, got {self.pixel_std}")
        if self.normalize_targets and self.patch_values < 2:
            raise ValueError("expected patches of at least 2 values for normalised targets, got 1")
        return self

    @model_validator(mode="after")
    def _bands_exist(self) -> "ModelConfig":
        if len(self.bands) not in (0, 1, 3) or not all(1 <= band <= self.channels for band in self.bands):
            shown = ",".join(map(str, self.bands))
            raise ValueError(f"expected 1 or 3 bands from 1 to {self.channels} (the channels), got {shown}")
        return self

    @model_validator(mode="after")
    def _width_fits(self) -> "ModelConfig":
        _check_width("width", self.width, "heads", self.heads)
        return self

    @property
    def grid(self) -> Grid:
        return grid_of(self.image_size, self.patch_size)

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def patch_values(self) -> int:
        """p: values in a patch."""
        return self.patch_size**2 * self.channels

    def build(self) -> "MaskedImageModel":
        """A model of these settings with fresh weights."""
        raise TypeError(f"{type(self).__name__} does not say which model it is of")


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
        _check_width("decoder_width", self.decoder_width, "decoder_heads", self.decoder_heads)
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


class MaskedImageModel(nn.Module):
    """The contract between models, objectives and probes. Sub-classes are final: `encode` and
    `predict` are theirs."""

    blocks: nn.ModuleList
    """Encoder blocks, first to last."""

    decoder_blocks: nn.ModuleList
    """Decoder blocks, first to last; empty where there is no decoder."""

    num_prefix: int = 1
    """Prefix tokens that go before the patches in the encoder."""

    num_decoder_prefix: int = 0
    """Prefix tokens that go before the patches in the decoder."""

    encodes_hidden: bool = False
    """Whether the encoder sees mask tokens in place of hidden patches."""

    has_prediction: bool = True
    """Whether there is a prediction; encoder-only checkpoints have none, and their `pred` is [b, n,
    0]."""

    source: "Provenance | None" = None
    """Where the weights came from, on every model that `lcmae.load` returns."""

    can_be_copied: bool = True
    """Whether a deep copy computes with modules of its own; functions that a person gives
    (`lcmae.adapt`) hold the original's."""

    def fresh(self) -> "MaskedImageModel | None":
        """A model of the same settings with new random weights; None where nothing can build it."""
        return None if type(self.config).build is ModelConfig.build else self.config.build()

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.precision: Literal["float32", "bfloat16"] = "float32"
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        for name in ("pixel_mean", "pixel_std"):
            self.register_buffer(name, torch.empty(config.channels, 1, 1), persistent=False)
        MaskedImageModel.fill_buffers(self)

    def fill_buffers(self) -> None:
        """What no state dict brings: needed once more for a model that was built on the meta
        device."""
        for buffer, values in ((self.pixel_mean, self.config.pixel_mean), (self.pixel_std, self.config.pixel_std)):
            buffer.copy_(_per_channel(values, self.config.channels))

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches."""
        return self.config.grid

    @property
    def num_patches(self) -> int:
        return self.config.num_patches

    @property
    def patch_size(self) -> int:
        return self.config.patch_size

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def prepare(self, pixels: UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Pixels (uint8, or float in [0, 1]) to the network's input space, on the model's
        device."""
        pixels = pixels.to(self.device, non_blocking=True)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        return (pixels - self.pixel_mean) / self.pixel_std

    def to_pixels(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The inverse of `prepare`: input space to pixels, nominally in [0, 1], not clipped."""
        return images * self.pixel_std + self.pixel_mean

    def to_picture(self, images: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b h w k"]:
        """Input space to a picture of k = 1, 3 or 4 channels.

        Grey, RGB and RGBA images show their pixels. Of other images three channels are shown
        (`config.bands`), each from 2 standard deviations below its mean to 2 above it: their
        numbers are no colours.
        """
        bands = self.config.bands
        if bands or self.config.channels not in (1, 3, 4):
            first = range(1, 4 if self.config.channels > 2 else 2)
            chosen = images[:, [band - 1 for band in bands or first]]
            shown = chosen / 4 + 0.5
        else:
            shown = self.to_pixels(images)
        return rearrange((shown.clamp(0, 1) * 255).round().to(torch.uint8), "b c h w -> b h w c")

    def targets(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n p"]:
        """What this model is trained to predict: patches of the input, normalised each where the
        config says so."""
        patches = patchify(self._checked(images), self.patch_size)
        return normalize_patches(patches) if self.config.normalize_targets else patches

    def forward(
        self, images: Float[Tensor, "b c h w"], mask: Mask | None = None, *, only_hidden: bool = False
    ) -> MaskedOutput:
        """Encode and predict. `mask` has one row an image, or k rows an image ordered image by
        image; None hides nothing.

        `only_hidden` predicts hidden patches alone, which is all that a masked loss looks at and
        costs less.
        """
        images = self._checked(images)
        mask = Mask.none(len(images), self.num_patches) if mask is None else mask
        if mask.num_patches != self.num_patches or not len(images) or len(mask) % len(images):
            raise InputError(
                f"expected masks of {self.num_patches} patches, a whole number for each of {len(images)} images, "
                f"got {len(mask)} masks of {mask.num_patches} patches"
            )
        mask = mask.to(images.device)
        low_precision = self.precision == "bfloat16"
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=low_precision):
            prefix, tokens, positions = self.encode(images, mask)
            if only_hidden:
                pred = spread(self.predict_hidden(prefix, tokens, mask), mask.hidden, self.num_patches)
            else:
                pred = self.predict(prefix, tokens, mask)
        tokens, prefix = tokens.float(), prefix.float()
        pooled = self.summarize(prefix, tokens, mask.visible)
        return MaskedOutput(pred.float(), tokens, positions, prefix, pooled, mask.visible)

    def encode(
        self, images: Float[Tensor, "b c h w"], mask: Mask
    ) -> tuple[Float[Tensor, "r s d"], Float[Tensor, "r t d"], Int[Tensor, "r t"]]:
        """Prefix tokens, patch tokens after the final norm, and the patch of each token; r mask
        rows."""
        raise TypeError(f"{type(self).__name__} does not encode")

    def predict(
        self, prefix: Float[Tensor, "r s d"], tokens: Float[Tensor, "r t d"], mask: Mask
    ) -> Float[Tensor, "r n p"]:
        """A prediction for every patch from the encoder's tokens."""
        raise TypeError(f"{type(self).__name__} does not predict")

    def predict_hidden(
        self, prefix: Float[Tensor, "r s d"], tokens: Float[Tensor, "r t d"], mask: Mask
    ) -> Float[Tensor, "r m p"]:
        """The predictions for hidden patches: what `predict` says there, to rounding."""
        return take(self.predict(prefix, tokens, mask), mask.hidden)

    def summarize(
        self, prefix: Float[Tensor, "b s d"], tokens: Float[Tensor, "b t d"], visible: Int[Tensor, "b v"]
    ) -> Float[Tensor, "b d"]:
        """One vector an image: what `pooled` is."""
        return pool(self.config.feature, prefix, tokens, visible)

    def patch_positions(self) -> Float[Tensor, "n d"]:
        """What the encoder adds to each patch."""
        return self.pos_embed[0, self.num_prefix :]

    def _checked(self, images: Tensor) -> Tensor:
        expected = (self.config.channels, *self.config.image_size)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise InputError(f"expected images of {expected} (channels, height, width), got {tuple(images.shape[1:])}")
        return images

    def _embed(self, patches: Tensor) -> Tensor:
        # the convolution of a patch embedding is one matrix product, and only the patches at hand
        # are paid for
        proj = self.patch_embed.proj
        assert isinstance(proj, nn.Conv2d)
        return F.linear(patches, rearrange(proj.weight, "d c ph pw -> d (ph pw c)"), proj.bias)

    def _embed_visible(self, images: Tensor, mask: Mask) -> Tensor:
        """Embedded visible patches with their positions added."""
        patches = patchify(images, self.patch_size)
        num_masks = len(mask) // len(images)
        if num_masks == 1:
            tokens = self._embed(take(patches, mask.visible))
        else:
            # one embedding serves all masks of an image
            tokens = take(repeat(self._embed(patches), "b n d -> (b k) n d", k=num_masks), mask.visible)
        return tokens + self.patch_positions().to(tokens.dtype)[mask.visible]

    patch_embed: PatchEmbed
    pos_embed: nn.Parameter


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

        # back in raster order, in which probes look at decoder blocks
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
        # hidden patches never enter: their places hold the mask token
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


def take(tokens: Float[Tensor, "b n d"], index: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
    """Rows `index` of each image's tokens."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[-1]))


def spread(tokens: Float[Tensor, "b m p"], index: Int[Tensor, "b m"], num_patches: int) -> Float[Tensor, "b n p"]:
    """The inverse of `take`: tokens at their places, and 0 elsewhere."""
    places = tokens.new_zeros(len(tokens), num_patches, tokens.shape[-1])
    return places.scatter(1, index[:, :, None].expand(-1, -1, tokens.shape[-1]), tokens)


def pool(
    feature: Feature, prefix: Float[Tensor, "b s d"], tokens: Float[Tensor, "b t d"], visible: Int[Tensor, "b v"]
) -> Float[Tensor, "b d"]:
    """The class token, or the mean of the tokens of visible patches. `InputError` where there is no
    class token."""
    if feature == "mean":
        # tokens stand for all patches (SimMIM) or for the visible ones alone (MAE)
        return (tokens if tokens.shape[1] == visible.shape[1] else take(tokens, visible)).mean(1)
    if prefix.shape[1] == 0:
        raise InputError("expected a model with a class token for feature 'cls', got one without prefix tokens")
    return prefix[:, 0]


def sincos_positions(width: int, grid: Grid, prefix: int = 0) -> Float[Tensor, "n d"]:
    """Fixed 2-d sine-cosine positions, half of the width for the column and half for the row, as in
    MAE's release.

    Prefix tokens get zeros. Raises `InputError` where the width is not a multiple of 4.
    """
    if width % 4:
        raise InputError(f"expected a width that is a multiple of 4 for 2-d sine-cosine positions, got {width}")
    rate = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    row, column = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    angles = [place.reshape(-1, 1).double() * rate for place in (column, row)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()
    return torch.cat([torch.zeros(prefix, width), table])


def _check_width(width_name: str, width: int, heads_name: str, heads: int) -> None:
    if width % heads:
        raise ValueError(f"expected {width_name} ({width}) to be a multiple of {heads_name} ({heads})")
    if width % 4:
        raise ValueError(f"expected {width_name} to be a multiple of 4 (sine-cosine positions), got {width}")


def _per_channel(values: tuple[float, ...], channels: int) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).expand(channels).reshape(channels, 1, 1).clone()


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
