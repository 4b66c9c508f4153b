"""docs/formats.md has the tables that the command writes now; only rounding may differ."""

import re
from pathlib import Path

import pytest

from benchmarks import formats as benchmark

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
NUMBER = re.compile(r"\d\.\de[+-]\d\d")


@pytest.mark.slow
def test_the_page_is_what_the_command_writes(tmp_path: Path) -> None:
    """Each row was written, loaded and compared on the way; the command stops above 1e-5."""
    text = benchmark.table(tmp_path)
    page = PAGE.read_text().partition(benchmark.BEGIN)[2].partition(benchmark.END)[0]

    def lines(of: str) -> list[str]:
        return [NUMBER.sub("?", line) for line in of.strip().splitlines() if not line.startswith("Versions")]

    assert lines(text) == lines(page)


def test_transformers_resamples_positions_otherwise(tmp_path: Path) -> None:
    by_timm, by_transformers = map(float, NUMBER.findall(benchmark.resampled(tmp_path)))
    assert by_timm < benchmark.LIMIT < 1e-3 < by_transformers
