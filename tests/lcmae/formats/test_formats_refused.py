"""Whatever is refused says in one line why, and what to do next."""

from pathlib import Path

import pytest

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import inspect, load
from tests.reference import refused

KINDS = [
    *refused.states(),
    "npz",
    "a TorchScript program",
    "torch.distributed.checkpoint",
    "a folder with one .pth",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_gives_the_reason_and_the_next_step(kind: str, tmp_path: Path):
    path, words = refused.files(tmp_path)[kind]
    for read in (load, inspect):
        with pytest.raises(InputError) as caught:
            read(path, heads=2)
        line = str(caught.value)
        assert isinstance(caught.value, CheckpointError)
        assert "\n" not in line
        assert [word for word in words if word not in line] == [], line


def test_the_list_of_kinds_is_whole(tmp_path: Path):
    assert sorted(refused.files(tmp_path)) == sorted(KINDS)
