"""The answer card of one run: its numbers are the stored ones, beside their baselines."""

import numpy as np
import pytest
import xarray as xr

from lcmae.app.figures import card
from tests.app.computed import with_baselines
from tests.app.pages import traces


@pytest.fixture(scope="module")
def results() -> dict[str, xr.Dataset]:
    """Real results of a tiny model."""
    return {probe: with_baselines(probe) for probe in card.ANSWERS}


def test_six_headlines_with_what_stands_beside_them(results: dict[str, xr.Dataset]) -> None:
    tiles = card.headlines(results)
    assert len(tiles) == 6
    error = results["reconstruction"]["error"].sel(network="trained").item()
    assert float(tiles[0].value.split()[0]) == pytest.approx(error, rel=0.05)
    assert "untrained" in tiles[0].baseline
    explained = next(tile for tile in tiles if tile.label == "explained by the network")
    assert "linear" in explained.baseline
    assert sum(bool(tile.interval) for tile in tiles) >= 5


def test_three_findings_are_the_pages_own_sentences(results: dict[str, xr.Dataset]) -> None:
    found = card.findings(results)
    assert [one.probe for one in found] == ["second_order", "spectrum", "encoder_attention"]
    assert all(one.sentence == card.ANSWERS[one.probe]({"x": results[one.probe]}).sentence for one in found)


def test_an_encoder_alone_has_a_card(results: dict[str, xr.Dataset]) -> None:
    some = {probe: results[probe] for probe in ("spectrum", "encoder_attention")}
    labels = [tile.label for tile in card.headlines(some)]
    assert len(labels) == len(set(labels)) == 6, "further numbers stand in for those of a decoder"
    assert len(card.findings(some)) == 2
    assert card.headlines({}) == []
    assert card.findings({}) == []


def test_attention_lies_over_the_photograph(results: dict[str, xr.Dataset]) -> None:
    shown = card.attention(results["encoder_attention"])
    assert len(traces(shown)) == 4 * (1 + 2), "four photographs; the first and the last of two layers"
    photograph, values = np.full((64, 64, 3), 128, np.uint8), np.zeros((4, 4))
    values[0, 0] = 1
    over = card.laid_over(photograph, values)
    assert over.shape == (128, 128, 3)
    assert over[5, 5].astype(int).sum() > over[120, 120].astype(int).sum(), "brighter is more"
    assert np.ptp(over[120, 120].astype(int)) < 60, "and grey where nothing is"
