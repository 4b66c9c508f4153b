"""Which images, at which rate: every image once an epoch, whoever shares the batch and wherever
training begins."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lcmae.config import RunConfig
from lcmae.data import ImageSource, open_source
from lcmae.data.collection import Collection
from lcmae.data.decode import Decoder
from lcmae.errors import InputError
from lcmae.settings import parse
from lcmae.training import distributed
from lcmae.training.schedule import Schedule
from tests.reference.tiny_runs import CONFIG, tiny_config


def numbers(num_images: int) -> ImageSource:
    """A source of so many images of one pixel."""
    rows = torch.arange(num_images)
    images = Collection([f"{row}" for row in rows], None, None, rows, lambda row: None)
    pixels = torch.zeros(num_images, 1, 1, 1, dtype=torch.uint8)
    return ImageSource("numbers", "train", images, Decoder(1, 1, 1), [], pixels, torch.device("cpu"))


def seen(schedule: Schedule, after: int = 0) -> dict[int, list[list[int]]]:
    """Step -> micro-batches of image numbers."""
    source = numbers(schedule.num_images)
    return {step: [indices.tolist() for indices, _ in batches] for step, batches in schedule.steps(source, after=after)}


sizes = st.tuples(
    st.integers(1, 4),  # images of a share
    st.integers(1, 3),  # micro-batches
    st.integers(1, 3),  # processes
    st.integers(1, 4),  # steps an epoch
    st.integers(0, 11),  # images left over
    st.integers(1, 3),  # epochs
)


def settings_of(share: int, accumulate: int, world: int, steps: int, left: int, epochs: int) -> tuple[RunConfig, int]:
    batch = share * accumulate * world
    num_images = steps * batch + min(left, batch - 1)
    config = tiny_config(batch_size=batch, accumulate=accumulate, epochs=epochs, warmup_epochs=0)
    return config, num_images


@given(sizes)
def test_shares_partition_batches(shape: tuple[int, int, int, int, int, int]) -> None:
    _, accumulate, world, *_ = shape
    config, num_images = settings_of(*shape)
    whole = seen(Schedule(config.model_copy(update={"accumulate": 1}), num_images))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "world_size", lambda: world)
        shares = []
        for rank in range(world):
            patch.setattr(distributed, "rank", lambda rank=rank: rank)
            shares.append(seen(Schedule(config, num_images)))

    assert list(whole) == list(range(1, Schedule(config, num_images).num_steps + 1))
    for step, (batch,) in whole.items():
        assert all(len(share[step]) == accumulate for share in shares)
        # micro-batch by micro-batch, process by process: the batch in its own order
        together = [
            image for micro in zip(*(share[step] for share in shares), strict=True) for part in micro for image in part
        ]
        assert together == batch


@given(sizes)
def test_an_epoch_shows_no_image_twice(shape: tuple[int, int, int, int, int, int]) -> None:
    config, num_images = settings_of(*shape)
    schedule = Schedule(config, num_images)
    epochs: dict[int, list[int]] = {}
    for step, batches in seen(schedule).items():
        epochs.setdefault(schedule.epoch_of(step), []).extend(image for batch in batches for image in batch)
    assert list(epochs) == list(range(config.epochs))
    for images in epochs.values():
        # all images but those that do not fill a batch
        assert len(images) == len(set(images)) == num_images - num_images % config.batch_size
    if num_images > 4 and config.epochs > 1:
        assert epochs[0] != epochs[1]


@given(sizes, st.data())
def test_a_resumed_run_sees_what_was_left(shape: tuple[int, int, int, int, int, int], data: st.DataObject) -> None:
    config, num_images = settings_of(*shape)
    schedule = Schedule(config, num_images)
    after = data.draw(st.integers(0, schedule.num_steps))
    everything = seen(schedule)
    assert seen(schedule, after) == {step: batches for step, batches in everything.items() if step > after}


@given(
    epochs=st.integers(1, 20),
    warmup=st.floats(0, 1),
    steps_per_epoch=st.integers(1, 30),
    base_lr=st.floats(1e-6, 1.0),
)
def test_the_rate_warms_up_and_falls_without_a_jump(
    epochs: int, warmup: float, steps_per_epoch: int, base_lr: float
) -> None:
    config = tiny_config(epochs=epochs, warmup_epochs=warmup * epochs, base_lr=base_lr, batch_size=16)
    schedule = Schedule(config, steps_per_epoch * 16)
    peak, warm = base_lr * 16 / 256, config.warmup_epochs * steps_per_epoch
    rates = [schedule.learning_rate(step) for step in range(1, schedule.num_steps + 1)]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)

    up, down = rates[: math.ceil(warm)], rates[math.ceil(warm) :]
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    # no step changes the rate by more than a step of the warm-up, or the steepest of the cosine
    steepest = peak * max(1 / (warm + 1), math.pi / 2 / max(schedule.num_steps - warm, 1))
    assert all(abs(after - before) <= steepest * (1 + 1e-9) for before, after in pairwise(rates))


def test_the_rate_by_hand() -> None:
    schedule = Schedule(tiny_config(epochs=4, warmup_epochs=1, base_lr=0.16), 48)  # 3 steps an epoch, peak 0.01
    assert [schedule.learning_rate(step) for step in (1, 2, 3, 4)] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    # the cosine has 9 steps: a third of the way is 3/4 of the peak, and the step after the last one
    # would have rate 0
    assert schedule.learning_rate(7) == pytest.approx(0.0075)
    assert schedule.learning_rate(13) == pytest.approx(0, abs=1e-12)


def test_the_peak_grows_with_the_batch_whatever_it_is_cut_into() -> None:
    for batch, accumulate in ((16, 1), (32, 1), (32, 4)):
        config = tiny_config(batch_size=batch, accumulate=accumulate, warmup_epochs=0, base_lr=0.256)
        assert Schedule(config, 64).learning_rate(1) == pytest.approx(0.001 * batch)


def test_what_is_due() -> None:
    schedule = Schedule(tiny_config(epochs=5, warmup_epochs=0), 48)  # 3 steps an epoch
    due = {every: [s for s in range(1, 16) if schedule.is_due(s, every)] for every in (0, 1, 2, 5, 9)}
    assert due == {0: [15], 1: [3, 6, 9, 12, 15], 2: [6, 12, 15], 5: [15], 9: [15]}


@pytest.mark.parametrize(
    ("schedule", "hidden"),
    [
        ({"kind": "linear", "start": 0.25, "end": 0.75}, (4, 12)),
        ({"kind": "constant", "ratio": 0.25}, (4, 4)),
        (None, (8, 8)),
    ],
)
def test_a_step_has_the_ratio_of_its_schedule(schedule: dict[str, Any] | None, hidden: tuple[int, int]) -> None:
    config = tiny_config(ratio_schedule=schedule)
    plan = Schedule(config, 48)
    found = [plan.objective(step).mask.num_hidden(config.model.grid) for step in (1, plan.num_steps)]
    assert tuple(found) == hidden


def test_a_random_ratio_is_a_function_of_seed_and_step() -> None:
    plans = [
        Schedule(tiny_config(ratio_schedule={"kind": "uniform_per_batch", "low": 0.1, "high": 0.9}, seed=seed), 48)
        for seed in (0, 0, 1)
    ]
    first, again, other = ([plan.objective(step).mask.ratio for step in range(1, 13)] for plan in plans)
    assert first == again
    assert first != other
    assert len(set(first)) > 3


@pytest.mark.parametrize(
    ("changes", "num_images", "message"),
    [
        ({"batch_size": 64}, 48, "got 64; say batch_size=48 (--batch-size 48) or less"),
        ({"batch_size": 16}, 0, "expected batch_size of at most 0 (the number of images), got 16"),
    ],
)
def test_too_few_images_are_one_line(changes: dict[str, Any], num_images: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Schedule(tiny_config(**changes), num_images)
    assert str(caught.value).startswith(f"expected batch_size of at most {num_images} (the number of images), got ")
    assert str(caught.value).endswith(message)


def test_processes_that_cannot_share_a_batch_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(
        InputError, match=r"^expected batch_size to be a multiple of 6 \(micro-batches x processes\), got 16$"
    ):
        Schedule(tiny_config(accumulate=2), 48)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 3}, "expected batch_size (16) to be a multiple of accumulate (3)"),
        ({"warmup_epochs": 9}, "expected warmup_epochs of at most 4 (epochs), got 9"),
        ({"epoch": 9}, "epoch: extra inputs are not permitted, got 9"),
        ({"base_lr": float("nan")}, "base_lr: "),
        ({"betas": (0.9, 1.0)}, "betas.1: "),
        ({"betas": (-0.1, 0.9)}, "betas.0: "),
        ({"seed": 2**64}, "seed: "),
        ({"objective": {"kind": "mae", "mask": {"kind": "random", "ratio": 0.99}}}, "masking ratio 0.99 leaves 0 of"),
        # a schedule is tried before the first step, not found wanting after the ninetieth epoch
        (
            {"ratio_schedule": {"kind": "constant", "ratio": 0.5}, "ratio_multiple": 16},
            "expected a multiple of 1 to 15",
        ),
        ({"ratio_schedule": {"kind": "linear", "start": 0.5, "end": 0.99}}, "masking ratio 0.99 leaves 0 of"),
        ({"ratio_schedule": {"kind": "uniform_per_batch", "low": 0.5, "high": 0.99}}, "masking ratio 0.99 leaves 0 of"),
        ({"ratio_schedule": {"kind": "cyclic", "mean": 0.8, "amplitude": 0.19}}, "masking ratio 0.99 leaves 0 of"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(RunConfig, {**CONFIG, **changes})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_real_source_gives_the_images_of_the_order() -> None:
    source: ImageSource = open_source("digits", image_size=8, channels=1, limit=48)
    for _, batches in Schedule(tiny_config(accumulate=2), 48).steps(source, after=0):
        for indices, pixels in batches:
            assert pixels.shape == (8, 1, 8, 8)
            assert torch.equal(pixels, source[indices])


# Python 3.12 warns of every fork beside threads; what is decoded after it holds no lock of theirs
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_stream_with_workers_runs_through_epochs_as_memory_does(tmp_path: Path) -> None:
    for number in range(7):
        for label in ("a", "b"):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("RGB", (4, 4), (30 * number, 100 if label == "a" else 200, 0)).save(
                tmp_path / label / f"{number}.png"
            )
    name = f"folder:{tmp_path}"
    resident, streaming = (open_source(name, image_size=(4, 4), resident_limit=limit) for limit in (1 << 20, 0))
    assert not streaming.resident
    schedule = Schedule(tiny_config(batch_size=4, accumulate=2, epochs=3, workers=2), len(resident))
    for after in (0, 3):  # from the beginning, and from the middle of an epoch
        pairs = list(zip(schedule.steps(resident, after), schedule.steps(streaming, after), strict=True))
        assert len(pairs) == schedule.num_steps - after
        for (step, batches), (same_step, same_batches) in pairs:
            assert step == same_step
            for batch, same in zip(batches, same_batches, strict=True):
                assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch, same, strict=True))
