"""What a config's weights take is known before any is made."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.models import MAEConfig, ModelConfig, SimMIMConfig
from lcmae.training import memory
from lcmae.training.memory import check_memory, count
from tests.reference.tiny_runs import tiny_config

CPU = torch.device("cpu")


@given(st.integers(1, 4), st.integers(1, 3), st.sampled_from([8, 16]), st.booleans())
@settings(max_examples=12, deadline=None)
def test_the_count_is_that_of_the_model(depth: int, decoder_depth: int, width: int, has_decoder: bool) -> None:
    own = {"image_size": (8, 8), "patch_size": 4, "width": width, "depth": depth, "heads": 2}
    decoder = {"decoder_width": 8, "decoder_depth": decoder_depth, "decoder_heads": 1, "decoder_mlp_ratio": 2.0}
    config: ModelConfig = MAEConfig(**own, **decoder) if has_decoder else SimMIMConfig(**own)
    before = torch.get_rng_state()
    assert count(config) == (
        sum(weight.numel() for weight in config.build().parameters()),
        depth + (decoder_depth if has_decoder else 0),
    )
    torch.set_rng_state(before)
    count(config)
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn


def larger(**changes: object) -> RunConfig:
    config = tiny_config()
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


@pytest.mark.parametrize(
    "changes",
    [{"depth": 100_000_000}, {"width": 10_000_000}, {"decoder_width": 4_000_000}, {"width": 4 * 10**12}],
    ids=["depth", "width", "decoder", "more than 64 bits"],
)
def test_a_model_that_cannot_fit_is_refused_before_it_is_made(changes: dict[str, int]) -> None:
    with pytest.raises(
        InputError, match=r"^expected a model (that can be trained in|whose sizes can be counted)[^\n]+$"
    ):
        check_memory(larger(**changes), CPU)


def test_the_bound_is_the_machine_s_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    weights, blocks = count(config.model)
    monkeypatch.setattr(memory, "memory_of_machine", lambda: 16 * weights + blocks * memory.BYTES_A_BLOCK)
    check_memory(config, CPU)
    monkeypatch.setattr(memory, "memory_of_machine", lambda: 16 * weights + blocks * memory.BYTES_A_BLOCK - 1)
    with pytest.raises(InputError, match=rf"got {weights:,} weights in {blocks} blocks"):
        check_memory(config, CPU)


def test_this_machine_has_memory() -> None:
    assert 2**28 < memory.memory_of_machine() < 2**50
