"""The law of finding: any layout below any prefix, in any wrapper, beside any extra, is the same
model; or a refusal that names the choice."""

import collections
import datetime
import random
import string
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lcmae.errors import CheckpointError, InputError
from lcmae.formats import inspect, load
from lcmae.models import MaskedImageModel
from tests.reference import foreign
from tests.reference.checkpoint_files import HEADS, save, source
from tests.reference.layouts import LAYOUTS


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


WORDS = ("model", "mae", "net", "encoder", "decoder", "vit_mae", "vit", "backbone", "student", "student_teacher")
attribute = st.one_of(st.sampled_from(WORDS), st.text(string.ascii_lowercase + "_", min_size=1, max_size=8))
key = st.one_of(
    st.sampled_from(("state_dict", "model", "model_state_dict", "weights", "params", "generator", "target_encoder")),
    st.text(string.ascii_letters + "_ -", min_size=1, max_size=8),
)
wrapping = st.sampled_from(
    ("", "module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
)
EXTRAS: dict[str, Callable[[], Any]] = {
    "epoch": lambda: 3,
    "optimizer": lambda: {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "losses": lambda: np.arange(3.0),
    "best": lambda: np.float32(0.5),
    "numpy_rng": np.random.get_state,
    "python_rng": random.getstate,
    "torch_rng": torch.get_rng_state,
    "meters": lambda: collections.defaultdict(list, a=[1.0]),
    "last": lambda: collections.deque([1, 2], maxlen=5),
    "when": lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "words": lambda: {"classifier.weight": torch.zeros(2, 2), "classifier.bias": torch.zeros(2)},
    "names": lambda: ["cat", "dog"],
}


def same(model: MaskedImageModel, other: MaskedImageModel) -> bool:
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def wrap(state: foreign.State, keys: list[str], extras: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = dict(state)
    for name in reversed(keys):
        content = {name: content}
    # only where there is a wrapper: a bare state dict is weights alone
    return content | {name: value for name, value in extras.items() if name not in content} if keys else content


@cache
def weights(layout: str) -> foreign.State:
    return LAYOUTS[layout].make()


@cache
def plain_model(layout: str) -> MaskedImageModel:
    """The layout's weights, alone in a file."""
    with tempfile.TemporaryDirectory() as folder:
        return load(save(Path(folder) / "a.pth", {"model": weights(layout)}), **LAYOUTS[layout].said)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    prefix=st.lists(attribute, max_size=3),
    outside=wrapping,
    within=wrapping,
    keys=st.lists(key, max_size=3, unique=True),
    extras=st.lists(st.sampled_from(sorted(EXTRAS)), max_size=4, unique=True),
)
@example(
    layout="official",
    prefix=["encoder"],
    outside="",
    within="_checkpoint_wrapped_module.",
    keys=["state_dict"],
    extras=[],
)
@example(
    layout="huggingface",
    prefix=["vit_mae"],
    outside="module.",
    within="",
    keys=["model_state_dict"],
    extras=["losses", "meters", "when"],
)
@example(
    layout="timm",
    prefix=["encoder", "vit"],
    outside="_orig_mod.",
    within="_fsdp_wrapped_module.",
    keys=["target_encoder"],
    extras=["words"],
)
@example(
    layout="official names, decoder within its encoder",
    prefix=["vit"],
    outside="",
    within="",
    keys=["model"],
    extras=["epoch"],
)
@pytest.mark.slow
@example(layout="transformers DeiT", prefix=["vit"], outside="", within="", keys=[], extras=[])
@example(layout="EVA-02", prefix=["model"], outside="_orig_mod.", within="", keys=["state_dict"], extras=["epoch"])
def test_any_file(
    layout: str,
    prefix: list[str],
    outside: str,
    within: str,
    keys: list[str],
    extras: list[str],
    tmp_path: Path,
):
    root = outside + "".join(f"{name}." for name in prefix)
    state = {root + _within(name, within): value for name, value in weights(layout).items()}
    path = save(tmp_path / "a.pth", wrap(state, keys, {name: EXTRAS[name]() for name in extras}))
    model = load(path, **LAYOUTS[layout].said)
    assert same(model, plain_model(layout))
    assert model.source is not None
    assert model.source.format == (plain_model(layout).source or model.source).format
    assert inspect(path, **LAYOUTS[layout].said).source == model.source


def _within(name: str, word: str) -> str:
    """A word of a wrapper put before what a block holds."""
    parts = name.split(".")
    number = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    return name if number is None else ".".join(parts[: number + 1]) + "." + word + ".".join(parts[number + 1 :])


@pytest.mark.parametrize(
    ("first", "second"), [("model", "model_ema"), ("student", "teacher"), ("weights", "state_dict.ema")]
)
@pytest.mark.parametrize("layout", ["official", "timm", "simmim"])
def test_two_models_are_named_and_one_is_chosen(first: str, second: str, layout: str, tmp_path: Path):
    state = weights(layout)
    content: dict[str, Any] = {first: {name: value + 1 for name, value in state.items() if value.is_floating_point()}}
    outer, _, inner = second.partition(".")
    content[outer] = {inner: state} if inner else state
    path = save(tmp_path / "a.pth", {**content, "epoch": 1})
    with pytest.raises(CheckpointError, match="weights=KEY") as answer:
        load(path, **LAYOUTS[layout].said)
    assert f"'{first}'" in str(answer.value)
    assert f"'{second}'" in str(answer.value)
    assert same(load(path, weights=second, **LAYOUTS[layout].said), plain_model(layout))
    assert not same(load(path, weights=first, **LAYOUTS[layout].said), plain_model(layout))
    with pytest.raises(InputError, match="expected weights among"):
        load(path, weights="another", **LAYOUTS[layout].said)


@pytest.mark.parametrize("names", [("student.", "teacher."), ("", "ema.module."), ("model.", "model_ema.module.")])
def test_two_models_in_one_state_dict(names: tuple[str, str], tmp_path: Path, plain: foreign.State):
    other = {name: value + 1 for name, value in plain.items()}
    state = {names[0] + name: value for name, value in plain.items()}
    state |= {names[1] + name: value for name, value in other.items()}
    path = save(tmp_path / "a.pth", state)
    with pytest.raises(CheckpointError, match=r"got 2: .*weights=KEY"):
        load(path, **HEADS)
    chosen = names[1].removesuffix("module.").rstrip(".")
    assert torch.equal(load(path, weights=chosen, **HEADS).state_dict()["norm.weight"], other["norm.weight"])


def test_a_model_with_its_decoder_goes_before_encoders(tmp_path: Path, plain: foreign.State):
    state = {f"mae.{name}": value for name, value in plain.items()}
    state |= {f"frozen.{name}": value + 1 for name, value in foreign.encoder(rng()).items()}
    path = save(tmp_path / "a.ckpt", {"state_dict": state})
    model = load(path, **HEADS)
    assert torch.equal(model.state_dict()["norm.weight"], plain["norm.weight"])
    assert model.has_prediction
    assert model.source is not None
    assert "also in the file: 'state_dict.frozen' (an encoder); weights=KEY (--weights KEY) takes another" in (
        model.source.notes
    )
    assert not load(path, weights="frozen", heads=foreign.HEADS).has_prediction


def test_a_module_that_two_attributes_hold_is_one_model(tmp_path: Path, plain: foreign.State):
    state = {f"{name}.{inner}": value for name in ("mae", "online") for inner, value in plain.items()}
    path = save(tmp_path / "a.ckpt", {"state_dict": state})
    assert torch.equal(load(path, **HEADS).state_dict()["norm.weight"], plain["norm.weight"])
    assert inspect(path, **HEADS).has_prediction


@pytest.mark.parametrize("encoder", ["student.encoder.", "student.", "teacher.encoder."])
def test_a_decoder_goes_with_the_encoder_beside_it(encoder: str, tmp_path: Path, plain: foreign.State):
    """And with none where two encoders are as near."""
    decoder = {f"student.{name}": value for name, value in plain.items() if foreign.is_decoder(name)}
    parts = foreign.encoder(rng())
    state = {encoder + name: value for name, value in parts.items()} | decoder
    state |= {f"teacher.{name}": value + 1 for name, value in parts.items()}
    path = save(tmp_path / "a.ckpt", {"state_dict": state})
    if encoder == "teacher.encoder.":
        with pytest.raises(CheckpointError, match=r"got 2: .*\(an encoder\).*weights=KEY"):
            load(path, heads=foreign.HEADS)
        return
    model = load(path, **HEADS)
    assert model.has_prediction
    assert torch.equal(model.state_dict()["norm.weight"], state[f"{encoder}norm.weight"])
    assert torch.equal(model.state_dict()["decoder_norm.weight"], plain["decoder_norm.weight"])


@pytest.mark.parametrize("other", ["LayerScale", "positions of the decoder"])
def test_parts_that_make_no_mae_leave_the_encoder_alone(other: str, tmp_path: Path, plain: foreign.State):
    state = LAYOUTS["official names, two attributes"].make()
    if other == "LayerScale":
        names = [f"encoder.blocks.{block}.{part}.gamma" for block in range(foreign.DEPTH) for part in ("ls1", "ls2")]
        state |= {name: torch.ones(foreign.WIDTH) for name in names}
    else:
        state["decoder.decoder_pos_embed"] = state["decoder.decoder_pos_embed"][:, 1:]
    path = save(tmp_path / "a.ckpt", {"state_dict": state})
    assert not load(path, heads=foreign.HEADS, image_size=foreign.IMAGE).has_prediction


def test_averaged_model_of_torch(tmp_path: Path, plain: foreign.State):
    state = {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in plain.items()}}
    assert torch.equal(load(save(tmp_path / "a.pth", state), **HEADS).state_dict()["norm.weight"], plain["norm.weight"])


def test_ijepa_evaluates_its_target_encoder(tmp_path: Path):
    encoder = foreign.encoder(rng())
    other = {name: value + 1 for name, value in encoder.items()}
    predictor = {"predictor_blocks.0.norm1.weight": torch.zeros(3)}
    path = save(tmp_path / "a.pth.tar", {"encoder": other, "predictor": predictor, "target_encoder": encoder})
    assert torch.equal(load(path, heads=2).state_dict()["norm.weight"], encoder["norm.weight"])
    assert any("also in the file: 'encoder'" in note for note in source(path, heads=2).notes)
