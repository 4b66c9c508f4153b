"""The loop: a resumed run is the uninterrupted one bit for bit, signals publish, and a loss that is
no number stops."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.models import MAE, SimMIM
from lcmae.runs.run import Run
from lcmae.training import train as training
from lcmae.training.metrics import NonFiniteLossError
from lcmae.training.schedule import Schedule
from lcmae.training.step import Draw, Task
from lcmae.training.train import (
    Outcome,
    build_model,
    make_optimizer,
    make_step,
    open_training_data,
    prepared,
    train,
    update,
)
from tests.reference.tiny_runs import MODEL, STEPS, lines, tiny_config, tiny_run, weights

# two masks an image, other masks of other ratios, crops and flips, clipping: whatever could differ
# after a stop
RICH = {
    "objective": {"kind": "lcmae", "mask": {"kind": "block", "ratio": 0.5}},
    "ratio_schedule": {"kind": "uniform_per_batch", "low": 0.3, "high": 0.8},
    "augmentation": {},
    "clip": 1.0,
    "accumulate": 2,
    "log_every": 5,
    "monitor_every": 2,
}


class Killed(BaseException):
    """Stands for a death that no handler of the loop sees."""


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Do something in the middle of a step."""

    def acting(draw: Any, compute: Any, batches: Any, schedule: Schedule, at: int) -> dict[str, Tensor]:
        if at == step:
            act()
        return update(draw, compute, batches, schedule, at)

    monkeypatch.setattr(training, "update", acting)


def send(number: int) -> Callable[[], None]:
    # not os.kill: another thread may take that one, and two of them then be one
    return lambda: signal.raise_signal(number)


def die() -> None:
    raise Killed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run."""
    run = tiny_run(tmp_path_factory.mktemp("whole") / "run", **RICH)
    assert train(run) == Outcome(STEPS)
    assert {run.checkpoint(step).num_steps for step in run.steps()} == {STEPS}
    return run


def assert_same(run: Run, other: Run) -> None:
    mine, theirs = weights(run), weights(other)
    assert mine.keys() == theirs.keys()
    for name, weight in mine.items():
        assert torch.equal(weight, theirs[name]), name
    assert lines(run) == lines(other)
    state, other_state = (one.newest().resume_state() for one in (run, other))
    torch.testing.assert_close(state["optimizer"], other_state["optimizer"], rtol=0, atol=0)
    mine, theirs = ((one.newest().path / "resume.pt").read_bytes() for one in (run, other))
    assert mine == theirs


class TestResume:
    @pytest.mark.parametrize(
        ("steps", "number"),
        # in the first step, in the middle of an epoch and of a line of metrics, at an epoch's end,
        # twice, in the last step
        [((1,), signal.SIGTERM), ((4, 7), signal.SIGINT), ((6,), signal.SIGTERM), ((12,), signal.SIGTERM)],
        ids=["first", "twice", "epoch-end", "last"],
    )
    def test_after_a_signal_it_is_the_uninterrupted_run(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        whole: Run,
        steps: tuple[int, ...],
        number: signal.Signals,
    ) -> None:
        run = tiny_run(tmp_path / "run", **RICH)
        for step in steps:
            at_step(monkeypatch, step, send(number))
            assert train(Run.open(run.path)) == Outcome(step, number)
            assert run.newest().step == step
        monkeypatch.setattr(training, "update", update)
        assert train(Run.open(run.path)) == Outcome(STEPS)
        assert_same(run, whole)

    @pytest.mark.parametrize("step", [2, 8], ids=["before-any-checkpoint", "between-two"])
    def test_after_a_death_between_checkpoints(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Run, step: int
    ) -> None:
        run = tiny_run(tmp_path / "run", **RICH, checkpoint_every=2)
        at_step(monkeypatch, step, die)
        with pytest.raises(Killed):
            train(run)
        assert run.steps() == ([] if step == 2 else [6])
        monkeypatch.setattr(training, "update", update)
        train(Run.open(run.path))
        assert run.steps() == [6, 12]
        assert_same(run, whole)

    def test_a_finished_run_stays_as_it_is(self, whole: Run) -> None:
        before = {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()}
        assert train(Run.open(whole.path)) == Outcome(STEPS)
        assert {path: path.read_bytes() for path in whole.path.rglob("*") if path.is_file()} == before

    def test_a_damaged_newest_step_costs_only_itself(
        self, tmp_path: Path, whole: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = tiny_run(tmp_path / "run", **RICH, checkpoint_every=2)
        train(run)
        file = run.path / "checkpoints" / "000012" / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        assert train(Run.open(run.path)) == Outcome(STEPS)
        assert "skipped step 12" in caplog.text
        assert_same(run, whole)


class TestSignals:
    @pytest.fixture(autouse=True)
    def _handlers_come_back(self) -> Iterator[None]:
        # a shell's background job begins with Ctrl-C ignored
        inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        yield
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
        signal.signal(signal.SIGINT, inherited)

    def test_a_second_ctrl_c_is_not_held_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = tiny_run(tmp_path / "run")

        def twice() -> None:
            send(signal.SIGINT)()
            send(signal.SIGINT)()

        at_step(monkeypatch, 2, twice)
        with pytest.raises(KeyboardInterrupt):
            train(run)
        assert run.steps() == []
        monkeypatch.setattr(training, "update", update)
        assert train(run) == Outcome(STEPS)  # neither lock nor half a file is in the way

    def test_one_writer_at_a_time(self, tmp_path: Path) -> None:
        run = tiny_run(tmp_path / "run")
        with run.lock(), pytest.raises(InputError, match=r"^[^\n]+$"):
            train(Run.open(run.path))


class TestNonFinite:
    def test_it_stops_names_the_step_and_keeps_the_last_good_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = tiny_run(tmp_path / "run", checkpoint_every=1, log_every=100)

        def poison(draw: Any, *rest: Any) -> dict[str, Tensor]:
            if rest[-1] == 8:
                with torch.no_grad():
                    draw.model.decoder_pred.weight[0, 0] = torch.nan
            return update(draw, *rest)

        monkeypatch.setattr(training, "update", poison)
        with pytest.raises(NonFiniteLossError, match=r"^loss is nan at step 8; expected finite numbers"):
            train(run)
        # step 8 is seen at step 9, the end of the epoch, where it would have been published
        assert run.steps() == [3, 6]
        assert all(weight.isfinite().all() for weight in weights(run).values())
        assert max(line["step"] for line in run.metrics()) == 6

    def test_an_absurd_rate(self, tmp_path: Path) -> None:
        run = tiny_run(tmp_path / "run", base_lr=1e30, warmup_epochs=0, log_every=1)
        with pytest.raises(NonFiniteLossError, match=r"^loss is (nan|inf) at step \d+; .*--base-lr"):
            train(run)
        assert run.steps() == []

    def test_weights_are_not_published_where_the_loss_was_still_finite(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # the loss is that of the weights before the step: the last step of an epoch can ruin them
        # unseen
        run = tiny_run(tmp_path / "run", checkpoint_every=1)

        def ruin(draw: Any, *rest: Any) -> dict[str, Tensor]:
            values = update(draw, *rest)
            if rest[-1] == 6:
                with torch.no_grad():
                    draw.model.decoder_pred.weight[0, 0] = torch.inf
            return values

        monkeypatch.setattr(training, "update", ruin)
        with pytest.raises(NonFiniteLossError, match=r"^decoder_pred.weight is not finite after step 6; "):
            train(run)
        assert run.steps() == [3]
        monkeypatch.setattr(training, "update", update)
        assert train(Run.open(run.path)) == Outcome(STEPS)  # a run that can be continued


class TestOneStep:
    def step(self, config: RunConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gradients and logged values of the first step."""
        source = open_training_data(config)
        schedule = Schedule(config, len(source))
        model = prepared(build_model(config), config)
        compute = make_step(Task(model), make_optimizer(model, config), config)
        step, batches = next(iter(schedule.steps(source, after=0)))
        values = update(Draw(model, config), compute, batches, schedule, step)
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return gradients, values

    def test_micro_batches_have_the_gradient_of_the_batch(self) -> None:
        whole, values = self.step(tiny_config())
        for accumulate in (2, 4):
            parts, part_values = self.step(tiny_config(accumulate=accumulate))
            assert parts.keys() == whole.keys()
            for name, gradient in whole.items():
                # float32 sums of 16 images in another order
                torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
            for name in ("loss", "reconstruction", "grad_norm", "lr"):
                assert float(part_values[name]) == pytest.approx(float(values[name]), rel=1e-5)

    def test_clipping_bounds_the_gradient_and_logs_its_norm_before(self) -> None:
        free, values = self.step(tiny_config())
        clipped, clipped_values = self.step(tiny_config(clip=1e-3))
        norm = torch.stack([gradient.square().sum() for gradient in clipped.values()]).sum().sqrt()
        assert float(norm) == pytest.approx(1e-3, rel=1e-2)
        assert float(clipped_values["grad_norm"]) == float(values["grad_norm"]) > 1e-2
        for name, gradient in free.items():
            torch.testing.assert_close(clipped[name], gradient * 1e-3 / values["grad_norm"], rtol=1e-2, atol=1e-9)


@pytest.mark.parametrize("kind", [MAE, SimMIM])
def test_no_decay_on_norms_biases_tokens_and_positions(kind: type) -> None:
    decoder = {
        name: value for name, value in MODEL.items() if name != "kind" and (kind is MAE or "decoder" not in name)
    }
    model = kind(**decoder)
    decayed, free = make_optimizer(model, tiny_config(weight_decay=0.3)).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == sum(p.requires_grad for p in model.parameters())
    for parameter in decayed["params"]:
        assert names[parameter].endswith(".weight")
        assert "norm" not in names[parameter]
    for parameter in free["params"]:
        assert names[parameter].endswith((".bias", "_token")) or "norm" in names[parameter]
    assert {"cls_token", "mask_token"} <= {names[parameter] for parameter in free["params"]}
    assert not any("pos_embed" in names[parameter] for parameter in (*decayed["params"], *free["params"]))


def test_global_random_state_is_left_alone_and_has_no_say(tmp_path: Path) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        run = tiny_run(tmp_path / f"{seed}", epochs=1)
        train(run)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(run)
    assert_same(*results)


def test_seeds_differ(tmp_path: Path) -> None:
    runs = [tiny_run(tmp_path / f"{seed}", epochs=1, seed=seed) for seed in (1, 2)]
    for run in runs:
        train(run)
    first, second = map(weights, runs)
    assert not torch.equal(first["decoder_pred.weight"], second["decoder_pred.weight"])


def test_lines_are_means_over_the_steps_between_them(tmp_path: Path) -> None:
    every, third = (tiny_run(tmp_path / f"{n}", epochs=2, log_every=n) for n in (1, 3))
    for run in (every, third):
        train(run)
    single = {line["step"]: line for line in every.metrics() if "loss" in line}
    assert list(single) == [1, 2, 3, 4, 5, 6]
    averaged = {line["step"]: line for line in third.metrics() if "loss" in line}
    assert list(averaged) == [3, 6]
    for name in ("loss", "reconstruction", "collapse", "grad_norm", "lr"):
        for last in (3, 6):
            mean = sum(single[step][name] for step in range(last - 2, last + 1)) / 3
            assert averaged[last][name] == pytest.approx(mean, rel=1e-12)
        assert all(line["seconds_per_step"] > 0 for line in averaged.values())
    # the monitor looked at the end, in a line of its own
    (measured,) = [line for line in every.metrics() if "loss" not in line]
    assert measured["step"] == 6
    assert 0 <= measured["cls_knn"] <= 1
    assert 0 <= measured["mean_linear"] <= 1
    assert 1 <= measured["mean_effective_rank"] <= 16


def test_fewer_images_than_neighbours_do_not_end_a_run(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", epochs=1, limit=16, monitor_images=10)
    assert train(run) == Outcome(1)
    assert 0 <= run.metrics()[-1]["mean_knn"] <= 1


@pytest.mark.parametrize("kind", ["umae", "simmim", "usimmim", "lcmae"])
def test_every_objective_trains(tmp_path: Path, kind: str) -> None:
    is_simmim = "simmim" in kind
    model = {**{name: value for name, value in MODEL.items() if not (is_simmim and "decoder" in name)}}
    model["kind"] = "simmim" if is_simmim else "mae"
    run = tiny_run(tmp_path / "run", model=model, objective={"kind": kind}, epochs=10, log_every=3, base_lr=3e-2)
    train(run)
    curve = [line["loss"] for line in run.metrics() if "loss" in line]
    assert curve[-1] < 0.9 * curve[0]


def test_bfloat16_keeps_weights_and_losses_float32(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", epochs=1, precision="bfloat16")
    train(run)
    assert {weight.dtype for weight in weights(run).values()} == {torch.float32}
    exact = tiny_run(tmp_path / "exact", epochs=1)
    train(exact)
    # three digits of eight bits, but not the same ones
    low, high = ([line["loss"] for line in one.metrics() if "loss" in line] for one in (run, exact))
    assert low == pytest.approx(high, rel=0.05)
    assert low != high


def test_a_scheduled_ratio_hides_the_scheduled_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = []
    forward = MAE.encode

    def watched(self: MAE, images: Tensor, mask: Any) -> Any:
        if self.training:
            hidden.append(mask.hidden.shape[1])
        return forward(self, images, mask)

    monkeypatch.setattr(MAE, "encode", watched)
    run = tiny_run(tmp_path / "run", ratio_schedule={"kind": "linear", "start": 0.25, "end": 0.75}, ratio_multiple=2)
    train(run)
    # 12 steps from 4 to 12 of 16 patches, by twos
    assert len(hidden) == STEPS
    assert hidden == sorted(hidden)
    assert set(hidden) == {4, 6, 8, 10, 12}


def test_masks_of_a_step_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    forward = MAE.encode

    def watched(self: MAE, images: Tensor, mask: Any) -> Any:
        if self.training:
            drawn.append(mask.is_hidden)
        return forward(self, images, mask)

    monkeypatch.setattr(MAE, "encode", watched)
    train(tiny_run(tmp_path / "run", accumulate=2, epochs=2))
    assert len(drawn) == 12
    # no two micro-batches, of one step or of two, hide the same
    assert all(not torch.equal(drawn[a], drawn[b]) for a in range(12) for b in range(a))


class TestTrackers:
    def test_tensorboard_gets_every_number(self, tmp_path: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = tiny_run(tmp_path / "run", epochs=1, loggers=["tensorboard"], log_every=1)
        train(run)
        events = EventAccumulator(str(run.path / "tensorboard")).Reload()
        for name in ("loss", "lr", "grad_norm"):
            points = [(event.step, event.value) for event in events.Scalars(name)]
            expected = [(line["step"], line[name]) for line in run.metrics() if name in line]
            assert [step for step, _ in points] == [step for step, _ in expected] == [1, 2, 3]
            assert [value for _, value in points] == pytest.approx([value for _, value in expected], rel=1e-6)
        assert [event.step for event in events.Scalars("mean_knn")] == [3]

    @pytest.mark.parametrize(("logger", "module"), [("wandb", "wandb"), ("mlflow", "mlflow"), ("tensorboard", None)])
    def test_a_missing_package_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: str, module: str | None
    ) -> None:
        import sys

        monkeypatch.setitem(sys.modules, module or "torch.utils.tensorboard", None)
        run = tiny_run(tmp_path / "run", loggers=[logger])
        with pytest.raises(InputError) as caught:
            train(run)
        assert str(caught.value) == (
            f"expected the package for {logger}, got none: install it with `uv sync --extra {logger}`"
        )
        assert run.metrics() == []


def test_sharding_without_torchrun_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^expected a torchrun launch for sharding \(FSDP2\), got a single process$"):
        train(tiny_run(tmp_path / "run", shard=True))
