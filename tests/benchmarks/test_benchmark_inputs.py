"""docs/inputs.md has the tables that the command writes now: thirty kinds of input and more."""

from pathlib import Path

import pytest

from benchmarks import inputs as benchmark
from tests.lcmae.data.test_images_table import RIGHT

PAGE = Path(__file__).parents[2] / "docs" / "inputs.md"


def test_the_page_is_what_the_command_writes() -> None:
    """Every pixel was compared on the way."""
    for package in ("tifffile", "zarr", "pydicom", "datasets"):
        pytest.importorskip(package)
    assert len(RIGHT) >= 30
    page = PAGE.read_text().partition(benchmark.BEGIN)[2].partition(benchmark.END)[0]
    assert benchmark.table().splitlines() == page.strip().splitlines()


def test_wrong_pixels_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given, options, expected = RIGHT["numpy uint8 [b h w c]"](Path())
    monkeypatch.setitem(RIGHT, "wrong", lambda _: (given, options, expected ^ 1))
    with pytest.raises(RuntimeError, match="wrong: expected other pixels"):
        benchmark.taken("wrong")
