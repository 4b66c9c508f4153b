"""Images + Mask -> MaskedOutput: what models, objectives and probes agree on. The models themselves
are in `lcmae.models`.

A mask is an argument and never drawn within a model; one image may come with several masks (rows
ordered image by image), and then its patches are embedded once. Images are float32 in the network's
own input space: `model.prepare` brings uint8 pixels there.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from pydantic import Field, model_validator
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.mask import Mask
from lcmae.patches import Grid, grid_of, normalize_patches, patchify
from lcmae.settings import Settings
from lcmae.shapes import Float, Int, UInt8

if TYPE_CHECKING:
    from lcmae.provenance import Provenance

Feature = Literal["cls", "mean"]

MAX_PATCHES = 2**20
"""Of an image: 16,384 x 16,384 pixels in patches of 16. Positions of more take gigabytes, and no
attention is computed over them."""


@dataclass(frozen=True)
class MaskedOutput:
    """What a model predicts for masked images; everything float32, whatever precision it computed
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
    """Mean subtracted from pixels in [0, 1]; one number, or one per channel."""

    pixel_std: tuple[float, ...] = (0.5,)
    """Standard deviation by which pixels in [0, 1] are divided; one number, or one per channel."""

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
        rows, columns = grid_of(self.image_size, self.patch_size)
        if rows * columns > MAX_PATCHES:
            raise ValueError(
                f"expected an image_size of at most {MAX_PATCHES} patches of {self.patch_size} pixels, got "
                f"{rows * columns} ({self.image_size[0]}x{self.image_size[1]} pixels); say a smaller image_size "
                "(--image-size HEIGHT WIDTH)"
            )
        for name, values in (("pixel_mean", self.pixel_mean), ("pixel_std", self.pixel_std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"expected 1 or {self.channels} values of {name}, got {len(values)}")
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"expected finite values of {name}, got {values}")
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
        check_width("width", self.width, "heads", self.heads)
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
        device. `InputError` for others; values are looked at where they still lie in the CPU's
        memory."""
        check_pixels(pixels, self.config.channels)
        return self.from_pixels(pixels)

    def from_pixels(self, pixels: UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """`prepare` without its checks: for what training has made of an image, or another model's
        input space."""
        pixels = pixels.to(self.device, non_blocking=True)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        return (pixels - self.pixel_mean) / self.pixel_std

    def to_pixels(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The inverse of `from_pixels`: input space to pixels, nominally in [0, 1], not clipped."""
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

        `only_hidden` predicts hidden patches alone, which is all that a masked loss needs and
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


def take(tokens: Float[Tensor, "b n d"], index: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
    """Rows `index` of each image's tokens."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[-1]))


def spread(tokens: Float[Tensor, "b m p"], index: Int[Tensor, "b m"], num_patches: int) -> Float[Tensor, "b n p"]:
    """The inverse of `take`: tokens at their positions, and 0 elsewhere."""
    empty = tokens.new_zeros(len(tokens), num_patches, tokens.shape[-1])
    return empty.scatter(1, index[:, :, None].expand(-1, -1, tokens.shape[-1]), tokens)


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


def check_width(width_name: str, width: int, heads_name: str, heads: int) -> None:
    if width % heads:
        raise ValueError(f"expected {width_name} ({width}) to be a multiple of {heads_name} ({heads})")
    if width % 4:
        raise ValueError(f"expected {width_name} to be a multiple of 4 (sine-cosine positions), got {width}")


def _per_channel(values: tuple[float, ...], channels: int) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).expand(channels).reshape(channels, 1, 1).clone()


LOWEST, HIGHEST = -1.0, 2.0
"""Of float pixels: 0 to 1, with room for what resampling and filters add; 0 to 255 is far off."""


def check_pixels(pixels: Any, channels: int) -> None:
    """`InputError` for what `prepare` would turn into other numbers than images: no [b c h w], or
    values of another range.

    A GPU is not asked for values: each batch would wait for the answer.
    """
    if not isinstance(pixels, Tensor):
        raise InputError(
            f"expected pixels as a tensor [b c h w], got {type(pixels).__name__}; torch.from_numpy(array) makes one of "
            "an array"
        )
    if pixels.ndim != 4 or pixels.shape[1] not in (1, channels):
        last = pixels.ndim == 4 and pixels.shape[3] == channels
        remedy = "pixels.permute(0, 3, 1, 2) puts the channels second" if last else "pixels[None] makes a batch of one"
        raise InputError(
            f"expected pixels [b c h w] of {channels} channels, got shape {[*pixels.shape]}"
            + (f"; {remedy}" if last or pixels.ndim == 3 else "")
        )
    if pixels.dtype == torch.uint8:
        return
    if not pixels.is_floating_point():
        raise InputError(
            f"expected pixels in uint8 (0 to 255) or floating point (0 to 1), got {pixels.dtype}; pixels.to(torch.uint8) "
            "if they are 0 to 255"
        )
    if pixels.device.type == "cpu" and pixels.numel() and not torch.compiler.is_compiling():
        low, high = (float(value) for value in torch.aminmax(pixels.detach()))
        if not math.isfinite(high - low):
            raise InputError("expected finite pixels, got NaN or infinity; torch.isfinite(pixels) says where")
        if low < LOWEST or high > HIGHEST:
            raise InputError(
                f"expected floating-point pixels from 0 to 1, got {low:g} to {high:g}; "
                + (
                    "pixels / 255 if they are 0 to 255"
                    if low >= 0
                    else "model.prepare wants them before any normalisation"
                )
            )
