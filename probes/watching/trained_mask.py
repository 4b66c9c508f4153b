"""The mask strategy that a loaded model was trained with, as far as its checkpoint says."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from lcmae.masking import AnyMask, CoarseRandom, MaskStrategy, Random
from lcmae.models import MaskedImageModel

_SIMMIM_UNIT = 32
"""Side of SimMIM's mask units, in pixels (Xie et al., 2111.09886, section 3.2)."""


def trained_mask(model: MaskedImageModel) -> MaskStrategy | None:
    """The strategy of the run's config; of a foreign checkpoint, random at the ratio that it
    states. None where nothing says how the model was masked."""
    source = model.source
    if source is None:
        return None
    if source.mask is not None:
        try:
            return TypeAdapter(AnyMask).validate_python(source.mask)
        except ValidationError:
            return None  # of a newer lcmae: unknown here
    ratio: Any = {**source.assumed, **source.read}.get("mask_ratio")
    if not isinstance(ratio, int | float) or not 0 < ratio < 1:
        return None
    unit = _SIMMIM_UNIT // model.config.patch_size if source.format == "simmim" else 1
    return CoarseRandom(ratio=ratio, unit=unit) if unit > 1 else Random(ratio=ratio)
