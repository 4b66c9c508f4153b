"""The vocabulary of shapes: jaxtyping where it is installed, plain annotations where it is not (GPU
images).

b images, k masks, n patches, v visible, m hidden, t tokens, d width, p values per patch, c
channels, h w pixels.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, UInt8
    except ImportError:

        class _Unchecked:
            def __class_getitem__(cls, item: Any) -> Any:
                return item[0]

        Bool = Float = Int = UInt8 = _Unchecked

__all__ = ["Bool", "Float", "Int", "UInt8"]
