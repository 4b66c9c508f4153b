"""The contract of probes: the model comes back as it was, masks belong to images, passes are
shared, nothing is kept."""

import math
import weakref
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.masking import AnyMask, Block, Random
from lcmae.models import MAE
from lcmae.probes.base import Accumulator, Probe, ProbeError, batches, checked, images_a_pass, run_probes, unchanged
from lcmae.probes.local_contrast import LocalContrast
from lcmae.probes.reconstruction import Reconstruction
from lcmae.probes.registry import probe_class
from lcmae.probes.results.networks import trained
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import variable, with_sem
from lcmae.probes.watching.batch import Batch
from tests.conftest import tiny_mae
from tests.reference.work import counted_rows, numbers_held


class Probing(Probe):
    """Mean pooled vector; fails on the batch that begins at `fails_at`."""

    name: ClassVar[str] = "probing"
    question: ClassVar[str] = "Does the contract hold?"

    mask: AnyMask = Random(ratio=0.5)
    fails_at: int | None = None
    error: str = "probe"

    def start(self, model: MAE, num_images: int, seed: int) -> "_Probing":  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Probing(self, model)


class _Probing(Accumulator):
    def __init__(self, probe: Probing, model: MAE) -> None:
        self.probe, self.model, self.mean = probe, model, RunningMean()

    def update(self, batch: Batch) -> None:
        if batch.first == self.probe.fails_at:
            self.probe.require(self.probe.error != "probe", "another batch")
            raise RuntimeError("a bug")
        self.mean.add(batch.masked(self.probe.mask, 1)[1].pooled)

    def result(self) -> xr.Dataset:
        return xr.Dataset({**with_sem("width", self.mean, "pooled", "mean of pooled vectors")})


class Other(Probing):
    name: ClassVar[str] = "other"


def state_of(model: MAE) -> dict[str, Any]:
    """Everything that a probe could disturb."""
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "gradients": [(p.requires_grad, p.grad is None, id(p.grad)) for p in model.parameters()],
        "values": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "precision": model.precision,
        "attributes": [set(vars(module)) for module in model.modules()],
    }


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name in ("modes", "gradients", "hooks", "precision", "attributes"):
        assert before[name] == after[name], name
    for name in ("weights", "values"):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


@pytest.fixture
def used(images: Tensor) -> MAE:
    """A model in the middle of training: gradients on some parameters, some frozen, one block in
    evaluation mode."""
    model = tiny_mae()
    model(images).pred.square().mean().backward()
    model.blocks[0].eval()
    model.norm.requires_grad_(False)
    hook = model.blocks[1].register_forward_hook(lambda *_: None)
    assert hook.id is not None
    return model


def test_several_probes_of_many_patches_share_smaller_passes() -> None:
    few, many = tiny_mae(), MAE(image_size=32, patch_size=1, channels=1, width=8, depth=1, heads=2)
    assert images_a_pass([Probing(batch_size=8)], many) == 8
    assert images_a_pass([Probing(batch_size=8), Other(batch_size=4)], many) == 1
    assert images_a_pass([Probing(batch_size=8), Other(batch_size=4)], few) == 4


def test_what_needs_memory_at_the_end_concludes_when_the_others_let_go_of_theirs(images: Tensor) -> None:
    concluded: list[tuple[str, list[str]]] = []
    held: dict[str, weakref.ref[Accumulator]] = {}

    class Noting(_Probing):
        def result(self) -> xr.Dataset:
            concluded.append((self.probe.name, [name for name, one in held.items() if one() is not None]))
            return super().result()

    class Large(Probing):
        name: ClassVar[str] = "large"
        concludes_last: ClassVar[bool] = True

        def start(self, model: MAE, num_images: int, seed: int) -> _Probing:  # pyright: ignore[reportIncompatibleMethodOverride]
            own = Noting(self, model)
            held[self.name] = weakref.ref(own)
            return own

    class Small(Large):
        name: ClassVar[str] = "small"
        concludes_last: ClassVar[bool] = False

    found = run_probes([Large(), Small()], tiny_mae(), images, seed=0)
    assert concluded == [("small", ["large", "small"]), ("large", ["large"])]
    assert list(found.datasets) == ["large", "small"], "results stand in the order that was asked for"


class TestTheModelComesBack:
    @pytest.mark.parametrize("probe", [Reconstruction(), LocalContrast(num_masks=2), Probing()], ids=lambda p: p.name)
    def test_after_a_probe(self, used: MAE, images: Tensor, probe: Probe) -> None:
        before = state_of(used)
        probe(used, images, torch.Generator().manual_seed(0))
        assert_same_state(before, state_of(used))

    @pytest.mark.parametrize(("error", "kind"), [("probe", ProbeError), ("bug", RuntimeError)])
    def test_after_an_error(self, used: MAE, images: Tensor, error: str, kind: type[Exception]) -> None:
        before = state_of(used)
        with pytest.raises(kind):
            Probing(fails_at=2, error=error, batch_size=2)(used, images, torch.Generator().manual_seed(0))
        assert_same_state(before, state_of(used))

    def test_after_an_interrupt(self, used: MAE) -> None:
        before = state_of(used)

        def interrupted() -> None:
            with unchanged(used):
                assert not any(module.training for module in used.modules())
                assert not any(parameter.requires_grad for parameter in used.parameters())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert_same_state(before, state_of(used))

    def test_after_images_that_are_refused(self, used: MAE, images: Tensor) -> None:
        before = state_of(used)
        images[3, 1, 2, 2] = math.nan
        with pytest.raises(InputError, match=r"^expected finite pixels, got NaN or infinity in image 3$"):
            Probing(batch_size=2)(used, images, torch.Generator().manual_seed(0))
        assert_same_state(before, state_of(used))

    def test_global_random_state_is_not_touched(self, images: Tensor) -> None:
        model = tiny_mae()
        before = torch.get_rng_state()
        LocalContrast(num_masks=2)(model, images, torch.Generator().manual_seed(0))
        assert torch.equal(torch.get_rng_state(), before)


class TestMasks:
    def drawn(self, model: MAE, images: Tensor, batch_size: int, num_masks: int, strategy: Any) -> Tensor:
        found = [batch.masks(strategy, num_masks).is_hidden for batch in batches(model, images, batch_size, seed=5)]
        return torch.cat(found)

    @pytest.mark.parametrize("strategy", [Random(), Block(ratio=0.5)], ids=["random", "block"])
    @pytest.mark.parametrize("num_masks", [1, 3])
    def test_belong_to_images_whatever_the_batch(self, mae: MAE, strategy: Any, num_masks: int) -> None:
        images = torch.zeros(150, 3, 8, 12)  # more than two blocks of 64
        whole = self.drawn(mae, images, 150, num_masks, strategy)
        assert whole.shape == (150 * num_masks, 24)
        for batch_size in (1, 7, 64, 100):
            assert torch.equal(self.drawn(mae, images, batch_size, num_masks, strategy), whole)
        # fewer images, the same masks for those that are left
        assert torch.equal(self.drawn(mae, images[:70], 33, num_masks, strategy), whole[: 70 * num_masks])
        # and images have masks of their own
        assert len(whole.unique(dim=0)) > 0.8 * len(whole)  # a small grid has few blocks

    def test_depend_on_seed_strategy_and_number(self, mae: MAE, images: Tensor) -> None:
        drawn = [
            Batch(mae, images, 0, seed).masks(Random(ratio=ratio), 1).is_hidden
            for seed, ratio in ((0, 0.5), (0, 0.5), (1, 0.5), (0, 0.75))
        ]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])
        assert not torch.equal(drawn[0], drawn[3])

    def test_do_not_depend_on_the_company(self, images: Tensor) -> None:
        model = tiny_mae()
        alone = run_probes([Reconstruction(batch_size=5)], model, images, seed=3).datasets["reconstruction"]
        company = [LocalContrast(num_masks=2, batch_size=2), Probing(), Reconstruction(batch_size=5)]
        together = run_probes(company, model, images, seed=3).datasets["reconstruction"]
        assert alone["hidden"].equals(together["hidden"])
        one, other = (float(trained(found)["error"]) for found in (alone, together))
        assert other == pytest.approx(one, rel=1e-5)


class TestSharing:
    def test_the_same_masks_cost_one_pass(self, images: Tensor) -> None:
        model = tiny_mae()
        with counted_rows(model) as rows:
            run_probes([Probing(batch_size=2), Other(batch_size=2)], model, images, seed=0)
        assert rows == [2, 2, 1]

    def test_other_masks_cost_another(self, images: Tensor) -> None:
        model = tiny_mae()
        with counted_rows(model) as rows:
            run_probes([Probing(), Other(mask=Random(ratio=0.75))], model, images, seed=0)
        assert rows == [5, 5]

    def test_unmasked_output_is_shared_too_and_without_gradients(self, mae: MAE, images: Tensor) -> None:
        batch = Batch(mae, images, 0, 0)
        with counted_rows(mae) as rows:
            assert batch.unmasked() is batch.unmasked()
        assert rows == [5]
        assert not batch.unmasked().tokens.requires_grad

    @pytest.mark.parametrize("probe", [Reconstruction(num_pictures=2), LocalContrast(num_masks=2, num_pictures=2)])
    def test_memory_does_not_grow_with_images(self, mae: MAE, rng: torch.Generator, probe: Any) -> None:
        images = torch.randn(40, 3, 8, 12, generator=rng)
        accumulator = probe.start(mae, 40, 0)
        held = []
        for batch in batches(mae, images, 4, seed=0):
            accumulator.update(batch)
            held.append(numbers_held(accumulator))
        assert held == [held[0]] * 10

    def test_a_pass_lets_go_of_its_batches(self, images: Tensor) -> None:
        model = tiny_mae()
        seen: list[weakref.ref[Batch]] = []
        alive: list[int] = []

        class Watching(Probing):
            name: ClassVar[str] = "watching"

            def start(self, model: MAE, num_images: int, seed: int) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
                inner = super().start(model, num_images, seed)
                update = inner.update

                def counted(batch: Batch) -> None:
                    update(batch)
                    alive.append(sum(earlier() is not None for earlier in seen))
                    seen.append(weakref.ref(batch))

                inner.update = counted
                return inner

        run_probes([Watching(batch_size=1)], model, images, seed=0)
        # at most the one that the loop is about to drop
        assert len(alive) == 5
        assert max(alive) <= 1

    def test_all_learn_before_any_pass_is_made(self, images: Tensor) -> None:
        model, order = tiny_mae(), []

        class Learning(_Probing):
            def prepare(self, batch: Batch) -> None:
                assert counted == []
                order.append(("prepare", self.probe.name, batch.first))

            def watch(self, batch: Batch) -> None:
                order.append(("watch", self.probe.name, batch.first))

        class First(Probing):
            def start(self, model: MAE, num_images: int, seed: int) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
                return Learning(self, model)

        class Second(First):
            name: ClassVar[str] = "second"

        with counted_rows(model) as counted:
            run_probes([First(batch_size=3), Second()], model, images, seed=0)
        each = [(kind, name, first) for kind, first in (("prepare", 0), ("watch", 0)) for name in ("probing", "second")]
        assert order[:4] == each
        assert [one for one in order[4:] if one[0] == "prepare"] == []

    def test_batches_and_sums_go_before_others_conclude(self, images: Tensor) -> None:
        seen: list[weakref.ref[Any]] = []
        alive: list[int] = []

        class Sums(Accumulator):
            def update(self, batch: Batch) -> None:
                seen.append(weakref.ref(batch))

            def result(self) -> xr.Dataset:
                alive.append(sum(earlier() is not None for earlier in seen))
                seen.append(weakref.ref(self))
                return xr.Dataset()

        class First(Probing):
            def start(self, model: MAE, num_images: int, seed: int) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
                return Sums()

        class Second(First):
            name: ClassVar[str] = "second"

        run_probes([First(batch_size=2), Second(batch_size=2)], tiny_mae(), images, seed=0)
        assert len(seen) == 2 * 3 + 2
        assert alive == [0, 0]


class TestFailures:
    def test_what_one_lacks_does_not_stop_the_others(self, images: Tensor) -> None:
        model = tiny_mae()
        results = run_probes([Probing(fails_at=2, batch_size=2), Other(), Reconstruction()], model, images, seed=0)
        assert list(results.datasets) == ["other", "reconstruction"]
        assert str(results.failures["probing"]) == "probe probing: needs another batch"
        whole = run_probes([Other(batch_size=2)], model, images, seed=0).datasets["other"]
        assert results.datasets["other"]["pooled"].equals(whole["pooled"])

    def test_what_one_cannot_learn_does_not_stop_the_others(self, images: Tensor) -> None:
        class Fails(_Probing):
            def prepare(self, batch: Batch) -> None:
                raise InputError("expected other images to learn from, got none")

        class Failing(Probing):
            def start(self, model: MAE, num_images: int, seed: int) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
                return Fails(self, model)

        results = run_probes([Failing(), Other()], tiny_mae(), images, seed=0)
        assert list(results.datasets) == ["other"]
        expected = "probe probing: expected other images to learn from, got none"
        assert str(results.failures["probing"]) == expected
        assert not results.failures["probing"].is_failure

    def test_numbers_that_do_not_come_out_are_a_failure_and_no_lack(self, images: Tensor) -> None:
        class Breaks(_Probing):
            def prepare(self, batch: Batch) -> None:
                raise np.linalg.LinAlgError("singular matrix")

        class Breaking(Probing):
            def start(self, model: MAE, num_images: int, seed: int) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
                return Breaks(self, model)

        error = run_probes([Breaking(), Other()], tiny_mae(), images, seed=0).failures["probing"]
        assert "singular matrix" in str(error)
        assert error.is_failure

    def test_a_checkpoint_without_decoder_is_told_so(self, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        model = tiny_mae()
        monkeypatch.setattr(model, "has_prediction", False)
        results = run_probes([Reconstruction(), Probing()], model, images, seed=0)
        assert list(results.datasets) == ["probing"]
        message = "probe reconstruction: needs a checkpoint with its decoder or head, got an encoder alone"
        assert str(results.failures["reconstruction"]) == message
        with pytest.raises(ProbeError, match=f"^{message}$"):
            Reconstruction()(model, images, torch.Generator())

    def test_all_failing_reads_no_further(self, images: Tensor) -> None:
        seen = []

        class Watched:
            def __len__(self) -> int:
                return 5

            def __getitem__(self, index: slice) -> Tensor:
                seen.append(index)
                return images[index]

        results = run_probes([Probing(fails_at=1, batch_size=1)], tiny_mae(), Watched(), seed=0)
        assert list(results.failures) == ["probing"]
        assert len(seen) == 2

    def test_no_images_are_one_line(self, mae: MAE, images: Tensor) -> None:
        with pytest.raises(InputError, match=r"^expected at least one image to probe, got none$"):
            Probing()(mae, images[:0], torch.Generator())

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_weights_that_are_no_numbers_are_named(self, images: Tensor, bad: float) -> None:
        model = tiny_mae()
        with torch.no_grad():
            model.blocks[1].mlp.fc1.bias[3] = bad  # pyright: ignore
        with pytest.raises(
            InputError, match=r"^expected finite weights, got NaN or infinity in blocks\.1\.mlp\.fc1\.bias$"
        ):
            Probing()(model, images, torch.Generator())
        assert model.training

    @pytest.mark.parametrize("settings", [{"batch_size": 0}, {"mask": {"kind": "random", "ratio": 1.5}}, {"masks": 3}])
    def test_settings_are_checked(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            Reconstruction(**settings)


class TestResults:
    def test_say_how_they_came_about(self, images: Tensor) -> None:
        rng = torch.Generator().manual_seed(0)
        first = Probing(batch_size=2)(tiny_mae(), images, rng)
        assert first.attrs["probe"] == "probing"
        assert first.attrs["question"] == "Does the contract hold?"
        assert first.attrs["num_images"] == 5
        assert Probing.model_validate_json(first.attrs["settings"]) == Probing(batch_size=2)
        assert all(name in first.attrs["versions"] for name in ("lcmae", "torch", "timm", "numpy"))
        # the generator decides, and moves on
        second = Probing(batch_size=2)(tiny_mae(), images, rng)
        again = Probing(batch_size=2)(tiny_mae(), images, torch.Generator().manual_seed(0))
        assert first.attrs["seed"] == again.attrs["seed"] != second.attrs["seed"]

    def test_a_variable_without_units_is_a_bug(self) -> None:
        with pytest.raises(AssertionError, match="naked has no units or long_name"):
            checked(xr.Dataset({"naked": ((), 1.0)}))

    def test_variables_are_plain_arrays(self) -> None:
        vector = variable("x", nn.Parameter(torch.ones(3, dtype=torch.float64)), "ones", "pixel", note="n")
        assert str(vector.dtype) == "float32"
        assert vector.attrs == {"long_name": "ones", "units": "pixel", "note": "n"}
        # a single number keeps its digits, counts stay whole
        assert float(variable((), torch.tensor(1 / 3, dtype=torch.float64), "a third").values) == 1 / 3
        assert str(variable("x", torch.arange(3), "counts").dtype) == "int64"


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("reconstruction", ["error", "error_nearest"]),
        ("local_contrast", ["loss", "term"]),
        ("encoder_attention", ["mean_distance"]),
        ("fidelity", ["ssim_unmasked", "psnr", "mse_hidden"]),
    ],
)
def test_groups_of_images_have_the_mean_of_all(mae: MAE, rng: torch.Generator, name: str, variables: list[str]) -> None:
    images = torch.randn(35, 3, 8, 12, generator=rng)  # three groups have two images
    found = trained(probe_class(name)()(mae, images, torch.Generator().manual_seed(1)))
    for variable_name in variables:
        groups = found[f"{variable_name}_groups"]
        assert groups.sizes["group"] == 32
        assert groups.attrs["num_images"] == 35
        weights = xr.DataArray(np.bincount(np.arange(35) % 32), dims="group")
        whole = found[variable_name]
        if variable_name == "term":  # the other two are no means over images
            groups, whole = (part.sel(part=["invariance", "local_consistency"]) for part in (groups, whole))
        np.testing.assert_allclose(groups.weighted(weights).mean("group"), whole, rtol=1e-5)
