"""What a person may say about a checkpoint whose file does not say it: the same options in inspect,
import, probe and export, and the same words in `lcmae.load`."""

from typing import Any, Literal

from lcmae.settings import Settings


class Overrides(Settings):
    """Settings of the model; each replaces what was assumed, and is shown as given by you."""

    weights: str | None = None
    """Which model to take of a file that holds several: the key it lies under, or the prefix of its
    names."""

    heads: int | None = None
    """Attention heads of each encoder block."""

    decoder_heads: int | None = None
    """Attention heads of each decoder block."""

    eps: float | None = None
    """Epsilon of the encoder's layer norms."""

    decoder_eps: float | None = None
    """Epsilon of the decoder's layer norms."""

    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] | None = None
    """Activation in the blocks of an encoder."""

    prefix_positions: bool | None = None
    """Whether an encoder's table of positions has rows for class and register tokens."""

    normalize_targets: bool | None = None
    """Whether it was trained on patches normalised each (norm_pix_loss)."""

    image_size: tuple[int, int] | None = None
    """Height and width in pixels; another grid than the file's resamples the positions."""

    feature: Literal["cls", "mean"] | None = None
    """Which vector `pooled` is."""

    pixel_mean: tuple[float, ...] | None = None
    """Mean subtracted from pixels in [0, 1]."""

    pixel_std: tuple[float, ...] | None = None
    """Standard deviation by which pixels in [0, 1] are divided."""

    mask_ratio: float | None = None
    """Masking ratio it was trained with."""

    def given(self) -> dict[str, Any]:
        """The options that were used."""
        return {name: getattr(self, name) for name in Overrides.model_fields if getattr(self, name) is not None}
