"""Parameters of which a few are tried by default and all in CI."""

from collections.abc import Sequence
from typing import Any

import pytest


def few(values: Sequence[Any], kept: int = 4) -> list[Any]:
    """The same values; all but `kept`, spread evenly over them, are marked slow."""
    step = max(1, len(values) // kept)
    by_default = range(0, step * kept, step)
    return [
        value if place in by_default else pytest.param(value, marks=pytest.mark.slow)
        for place, value in enumerate(values)
    ]
