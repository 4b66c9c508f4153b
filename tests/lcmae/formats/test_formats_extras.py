"""What stands beside the weights: left aside whatever its class, named in the notes, never run."""

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import random
import types
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import torch_version

from lcmae.errors import CheckpointError
from lcmae.formats import inspect, load
from tests.reference import foreign
from tests.reference.checkpoint_files import HEADS, save


@dataclasses.dataclass
class Config:
    rate: float = 0.1
    inner: Any = None

    @dataclasses.dataclass
    class Inner:
        size: int = 3


class Mode(enum.Enum):
    FAST = 1


class Settings(dict[str, Any]):
    """As mmengine's ConfigDict and addict's Dict: a dict with attributes."""


class Buffer:
    """As mmengine's HistoryBuffer: arrays, and functions of its own."""

    def __init__(self) -> None:
        self.values, self.functions = np.ones(3), {"mean": Buffer.mean}

    def mean(self) -> float:
        return float(self.values.mean())


class Noisy:
    """Would say so if any code of it ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __setstate__(self, state: dict[str, str]) -> None:
        (Path(state["folder"]) / "ran").touch()


def attributed() -> Settings:
    settings = Settings(a=1)
    vars(settings)["hidden"] = 2
    return settings


EXTRAS: dict[str, Any] = {
    "array": np.arange(3.0),
    "array of text": np.array(["a"]),
    "scalar of text": np.str_("a"),
    "date of numpy": np.datetime64("2026-01-01"),
    "generator of numpy": np.random.default_rng(0),
    "state of numpy": np.random.RandomState(0).get_state(),
    "state of Python": random.getstate(),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1, 2], maxlen=3),
    "time": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "decimal": decimal.Decimal("1.5"),
    "uuid": uuid.UUID(int=3),
    "partial": functools.partial(int, 3),
    "namespace": types.SimpleNamespace(a=1),
    "dataclass": Config(inner=Config.Inner()),
    "enum": Mode.FAST,
    "enum as key": {Mode.FAST: 1},
    "class": Config,
    "function": save,
    "dict with attributes": attributed(),
    "buffer": Buffer(),
    "version of torch": torch_version.TorchVersion("2.1"),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_extras_are_left_aside(name: str, tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain, "extra": EXTRAS[name], "again": [EXTRAS[name]]})
    model, found = load(path, **HEADS), inspect(path, **HEADS)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in plain.items())
    assert model.source == found.source
    if name not in ("scalar of text", "date of numpy", "state of Python"):
        assert any("left aside, and no code of theirs was run" in note for note in found.source.notes)


def test_no_code_of_an_extra_runs(tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain, "extra": Noisy(tmp_path)})
    load(path, **HEADS)
    inspect(path, **HEADS)
    assert sorted(tmp_path.iterdir()) == [path]


class Call:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("function", [save, torch.hub.load, print, compile, __import__, random.seed, np.load])
def test_functions_are_not_called(function: Any, tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain, "extra": Call(function, "x")})
    with pytest.raises(CheckpointError, match=r"refused .*: it asks for code"):
        load(path, **HEADS)


def test_a_pickled_module_says_what_to_do(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"whole module was pickled .*: save model.state_dict\(\) instead"):
        load(save(tmp_path / "a.pth", torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("extra", [bytearray(b"x"), Call(zip, [1]), Call(sorted, [1])])
def test_an_object_that_is_refused_says_what_to_do(extra: Any, tmp_path: Path, plain: foreign.State):
    path = save(tmp_path / "a.pth", {"model": plain, "extra": extra})
    with pytest.raises(CheckpointError, match=r"if you trust the file, save the weights alone, .*model.state_dict\(\)"):
        load(path, **HEADS)
