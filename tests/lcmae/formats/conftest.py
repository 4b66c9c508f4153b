import pytest
import torch

from tests.reference import foreign


@pytest.fixture
def plain(rng: torch.Generator) -> foreign.State:
    """A full MAE under official names."""
    return foreign.official(rng)
