"""Parameters of which a few are tried by default and all in CI."""

from collections.abc import Collection
from typing import Any

import pytest


def few(values: Collection[Any], count: int = 4) -> list[Any]:
    """The same values; all but `count`, spread evenly over them, are marked slow."""
    step = max(1, len(values) // count)
    by_default = range(0, step * count, step)
    return [
        value if position in by_default else pytest.param(value, marks=pytest.mark.slow)
        for position, value in enumerate(values)
    ]
