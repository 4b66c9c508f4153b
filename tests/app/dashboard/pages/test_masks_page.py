"""The page of mask strategies: its links into the microscope."""

from pathlib import Path

from tests.app import synthetic
from tests.app.pages import open_page, words


def test_a_link_into_the_microscope_holds_the_picked_runs(root: Path) -> None:
    for name in "abc":
        synthetic.run(root / name, results=False)
    assert "(microscope?runs=b&mask=block&ratio=0.75)" in words(open_page("masks", "b"))
    assert "(microscope?mask=block&ratio=0.75)" in words(open_page("masks"))
