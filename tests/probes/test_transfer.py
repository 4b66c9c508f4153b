"""The transfer probe: its protocol against torch's own modules, answers that are known, and what it
costs."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from scipy.stats import binomtest
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.models import MAE
from lcmae.probes.base import ProbeError, run_probes
from lcmae.probes.baselines.pixels import small_pixels
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.measures import linear_probe
from lcmae.probes.measures.classifiers import Bank, Opinions, wilson
from lcmae.probes.measures.corruptions import PARAMETERS, SEVERITIES, corrupt
from lcmae.probes.registry import probe_class
from lcmae.probes.results.store import load_result, save_result
from lcmae.probes.transfer import Transfer, at_edge
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.finetuning import finetune
from lcmae.probes.watching.views import open_view
from lcmae.randomness import generator
from lcmae.settings import parse
from tests.conftest import tiny_mae
from tests.reference.work import counted_rows, numbers_held

SMALL = Transfer(
    pooled_epochs=4,
    train_images=30,
    neighbours=3,
    epochs=60,
    seeds=2,
    batch_size=4,
    corruptions=("gaussian_noise", "contrast"),
    severities=(1, 5),
    num_corrupted=6,
)


@dataclass(frozen=True)
class Labelled:
    """Images in input space with classes, and another set of the same to train on."""

    images: Tensor
    labels: Tensor | None
    train: "Labelled | InputError | None" = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Tensor:
        return self.images[index]

    def other_split(self, limit: int | None) -> "Labelled":
        if isinstance(self.train, InputError):
            raise self.train
        assert self.train is not None
        labels = self.train.labels
        return Labelled(self.train.images[:limit], None if labels is None else labels[:limit])


def left_or_right(count: int, rng: torch.Generator) -> Labelled:
    """The class is the half of the image that is bright, which no network can lose."""
    labels = torch.arange(count) % 2
    half = torch.where((torch.arange(12) < 6) == (labels[:, None] == 0), 0.6, -0.6)[:, None, None]
    return Labelled(half + 0.05 * torch.randn(count, 3, 8, 12, generator=rng), labels)


def task(count: int, rng: torch.Generator) -> Labelled:
    test = left_or_right(count, rng)
    return Labelled(test.images, test.labels, left_or_right(40, rng))


def test_heads_are_those_of_torch_s_own_modules_and_sgd(rng: torch.Generator) -> None:
    features, labels = torch.randn(2, 600, 5, generator=rng) * 3 + 1, torch.randint(3, (600,), generator=rng)
    rates = torch.tensor([[0.1, 1.0], [0.5, 0.2]])
    found = linear_probe.train(features, labels, 3, rates, epochs=9, seed=(4, 1))
    first = torch.randn(5, 3, generator=generator("linear-start", 4, 1)) * 0.01
    for feature in range(2):
        for rate in range(2):
            head = nn.Sequential(nn.BatchNorm1d(5, eps=1e-6, affine=False), nn.Linear(5, 3))
            linear = head[1]
            assert isinstance(linear, nn.Linear)
            linear.weight.data, linear.bias.data = first.T.clone(), torch.zeros(3)
            base = float(rates[feature, rate])
            optimizer = torch.optim.SGD(linear.parameters(), lr=base, momentum=0.9)
            for step in range(18):  # two batches of 256 in 9 epochs; the rest of 88 is left out
                order = torch.randperm(600, generator=generator("linear-order", 4, 1, step // 2))
                rows = order[(step % 2) * 256 :][:256]
                optimizer.param_groups[0]["lr"] = base * (
                    (step + 1) / 2 if step < 2 else 0.5 * (1 + math.cos(math.pi * (step - 2) / 16))
                )
                loss = F.cross_entropy(head(features[feature, rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            # float32, 18 steps
            torch.testing.assert_close(found.weight[feature, rate], linear.weight.T, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.bias[feature, rate], linear.bias, rtol=1e-4, atol=1e-5)
            wanted = head.eval()(features[feature])
            torch.testing.assert_close(found.logits(features)[feature, :, rate], wanted, rtol=1e-4, atol=1e-4)


def test_the_rate_is_chosen_on_held_out_training_images(rng: torch.Generator) -> None:
    labels = torch.arange(200) % 2
    features = torch.randn(1, 200, 4, generator=rng) + labels[:, None]
    probe = linear_probe.fit({"": features}, labels, 2, rates=(1e-9, 0.1), epochs=5, num_seeds={"": 2}, seed=0)[""]
    # at a rate of nothing the head stays random
    assert float(probe.rate[0]) == pytest.approx(0.1)
    assert probe.predict(features).shape == (2, 1, 200)
    assert float((probe.predict(features)[0, 0] == labels).float().mean()) > 0.8
    order = torch.randperm(200, generator=generator("linear-held-out", 0))
    rest = order[40:]
    alone = linear_probe.train(features[:, rest], labels[rest], 2, torch.tensor([[1e-9, 0.1]]), 5, (0, 0))
    right = (alone.predict(features[:, order[:40]])[0] == labels[order[:40]]).float().mean(1)
    assert right[1] > right[0]


def test_banks_are_trained_in_step_as_each_would_be_alone(
    monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    shapes = {"a": (3, 40, 3), "b": (1, 40, 7), "c": (2, 40, 3)}
    banks = {name: torch.randn(*shape, generator=rng) for name, shape in shapes.items()}
    labels, num_seeds = torch.arange(40) % 4, {"a": 2, "b": 1, "c": 1}
    calls = []
    train = linear_probe.train

    def counted(features: Tensor, *given: Any, among: Tensor | None = None) -> linear_probe.Heads:
        num_features, num_images, width = features.shape
        calls.append((num_features, num_images if among is None else len(among), width))
        return train(features, *given, among=among)

    monkeypatch.setattr(linear_probe, "train", counted)

    def fit(names: str) -> dict[str, linear_probe.LinearProbe]:
        some = {name: banks[name] for name in names}
        return linear_probe.fit(some, labels, 4, rates=(0.1, 1.0), epochs=3, num_seeds=num_seeds, seed=1)

    together = fit("abc")
    # rates, then the first seed, by width; the second seed of one bank alone
    assert calls == [(5, 32, 3), (1, 32, 7), (5, 40, 3), (1, 40, 7), (3, 40, 3)]
    # at most two features of width 3 at a time
    monkeypatch.setattr(linear_probe, "MOST_NUMBERS", 2 * 256 * 3)
    for name, found in together.items():
        alone = fit(name)[name]
        assert found.rate.tolist() == alone.rate.tolist()
        assert len(found.heads) == len(alone.heads) == num_seeds[name]
        for mine, other in zip(found.heads, alone.heads, strict=True):
            # float32 sums in another order
            torch.testing.assert_close(mine.weight, other.weight, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(mine.mean, other.mean)


def test_images_that_are_not_trained_on_need_not_be_copied_out(rng: torch.Generator) -> None:
    features, labels = torch.randn(3, 50, 4, generator=rng), torch.arange(50) % 3
    rates, among = torch.tensor([[0.1, 1.0]]).expand(3, -1), torch.randperm(50, generator=rng)[:40]
    whole = linear_probe.train(features, labels, 3, rates, 4, (1, 2), among=among)
    cut = linear_probe.train(features[:, among], labels[among], 3, rates, 4, (1, 2))
    for one, other in zip(whole, cut, strict=True):
        assert torch.equal(one, other)


def test_intervals_are_wilson_s() -> None:
    for right in (0, 7, 20):
        low, high = (float(bound) for bound in wilson(torch.tensor(right / 20).double(), 20))
        wanted = binomtest(right, 20).proportion_ci(method="wilson")
        # 1.96 against 1.959964
        assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-4)


def test_confusion_and_right_count_by_hand() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    opinions = Opinions(torch.tensor([[0, 1, 0, 2]]), torch.tensor([[[0, 0, 2, 2]], [[1, 0, 2, 1]]]))
    assert opinions.right(labels)[:, :, 0].tolist() == [[1, 0.5], [1, 0], [0, 1], [1, 0.5]]
    knn, linear = opinions.confusion(labels, 3)[:, 0].tolist()
    assert knn == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert linear == [[0.5, 0.5, 0], [1, 0, 0], [0, 0.5, 1.5]]


def test_neighbours_vote_by_definition(rng: torch.Generator) -> None:
    train, test = torch.randn(30, 4, generator=rng), torch.randn(9, 4, generator=rng)
    labels = torch.arange(30) % 3
    linear = linear_probe.fit({"": train[None]}, labels, 3, rates=(0.1,), epochs=1, num_seeds={"": 1}, seed=0)[""]
    found = Bank(train[None], labels, linear, 5, 0.2).classify(test[None]).knn[0]
    for row in range(9):
        cosine = [float(F.cosine_similarity(test[row], other, dim=0)) for other in train]
        nearest = sorted(range(30), key=lambda index: -cosine[index])[:5]
        votes = [sum(math.exp(cosine[i] / 0.2) for i in nearest if labels[i] == one) for one in range(3)]
        assert int(found[row]) == int(np.argmax(votes))


@pytest.mark.parametrize("kind", PARAMETERS)
def test_corruptions_grow_and_do_not_depend_on_the_batch(kind: str, rng: torch.Generator) -> None:
    pixels = F.interpolate(torch.rand(4, 3, 8, 8, generator=rng), (32, 32), mode="bilinear")
    change = [float((corrupt(pixels, kind, level, 0, range(4)) - pixels).square().mean()) for level in SEVERITIES]
    assert change == sorted(change)
    assert change[0] > 0
    whole = corrupt(pixels, kind, 3, 0, range(4))
    torch.testing.assert_close(corrupt(pixels[2:], kind, 3, 0, range(2, 4)), whole[2:])
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert corrupt(pixels[:, :2], kind, 3, 0, range(4)).shape == (4, 2, 32, 32)


def test_corruptions_do_what_their_parameters_say() -> None:
    grey = torch.full((1, 3, 64, 64), 0.5)
    noise = corrupt(grey, "gaussian_noise", 3, 0, range(1)) - 0.5
    assert float(noise.std()) == pytest.approx(0.12, rel=0.05)
    impulse = corrupt(grey, "impulse_noise", 5, 0, range(1))
    assert float((impulse != 0.5).float().mean()) == pytest.approx(0.17, rel=0.1)
    assert float((impulse == 0).float().mean()) == pytest.approx(0.085, rel=0.15)
    torch.testing.assert_close(corrupt(grey, "gaussian_blur", 4, 0, range(1)), grey)
    torch.testing.assert_close(corrupt(grey, "brightness", 2, 0, range(1)), grey + 0.1)
    step = torch.cat([torch.zeros(1, 1, 64, 32), torch.ones(1, 1, 64, 32)], dim=3)
    torch.testing.assert_close(corrupt(step, "contrast", 2, 0, range(1)).unique(), torch.tensor([0.25, 0.75]))
    blocks = corrupt(torch.rand(1, 1, 64, 64), "pixelate", 1, 0, range(1))
    torch.testing.assert_close(blocks, blocks[..., ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3))
    # a step blurred by a Gaussian of 2 x 1.0 pixels is its integral
    wide = corrupt(step, "gaussian_blur", 3, 0, range(1))[0, 0, 32, 32]
    assert float(wide) == pytest.approx(0.5 * (1 + math.erf(0.5 / 2 / math.sqrt(2))), abs=0.01)


def test_pixels_are_averaged_to_at_most_32() -> None:
    assert small_pixels(torch.rand(2, 3, 8, 12)).shape == (1, 2, 3 * 8 * 12)
    large = torch.rand(1, 1, 64, 32)
    torch.testing.assert_close(small_pixels(large).reshape(32, 32), F.avg_pool2d(large, (2, 1))[0, 0])


def test_a_visible_class_is_found_and_the_untrained_network_is_another(mae: MAE, rng: torch.Generator) -> None:
    before = {name: value.clone() for name, value in mae.state_dict().items()}
    found = SMALL(mae, task(10, rng), rng)
    assert found.network.values.tolist() == ["trained", "untrained", "pixels"]
    np.testing.assert_allclose(found.accuracy.sel(network="pixels"), 1)
    np.testing.assert_allclose(found.accuracy.sel(network="trained", feature="mean", classifier="knn"), 1)
    assert float(found.majority_accuracy) == 0.5
    assert found.layer_accuracy.shape == (2, 3, 2, 2)
    assert found.corruption_accuracy.dims == ("classifier", "network", "feature", "corruption", "severity")
    tested = ["trained", "pixels"]
    assert found.confusion.sel(network="untrained").isnull().all()
    confusion = found.confusion.sel(network=tested)
    np.testing.assert_allclose(confusion.sum(("true", "predicted")), 10)
    diagonal = np.diagonal(confusion.values, axis1=3, axis2=4).sum(-1) / 10
    np.testing.assert_allclose(diagonal, found.accuracy.sel(network=tested), rtol=1e-6)
    of_corruptions = found.corruption_accuracy.mean(("corruption", "severity"))
    np.testing.assert_allclose(found.corrupted_accuracy, of_corruptions, rtol=1e-6)
    bounds = found.accuracy_interval
    assert (bounds.sel(bound=0.025) <= found.accuracy).all()
    assert (bounds.sel(bound=0.975) >= found.accuracy).all()
    for name, value in mae.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.slow
def test_labels_that_say_nothing_give_chance(mae: MAE, rng: torch.Generator) -> None:
    noise = torch.randn(80, 3, 8, 12, generator=rng)
    labels = torch.randint(2, (80,), generator=rng)
    train = Labelled(torch.randn(40, 3, 8, 12, generator=rng), torch.arange(40) % 2)
    found = SMALL.model_copy(update={"corruptions": (), "train_images": 40})(mae, Labelled(noise, labels, train), rng)
    # 80 coins: five deviations
    assert (abs(found.accuracy - 0.5) < 5 * 0.5 / math.sqrt(80)).all()
    assert "corruption_accuracy" not in found


def test_a_rate_at_the_edge_of_the_grid_is_told(mae: MAE, rng: torch.Generator) -> None:
    chosen = torch.tensor([0.01, 0.1, 10.0])
    assert at_edge(chosen, (0.01, 0.1, 1.0, 10.0)).tolist() == [True, False, True]
    assert not at_edge(chosen[:1], (0.01,)).any()
    # at a rate of nothing no head learns, so the other is chosen, which is the last
    probe = SMALL.model_copy(update={"rates": (1e-9, 0.1), "corruptions": (), "untrained": False, "each_layer": False})
    found = probe(mae, task(10, rng), rng)
    assert found["rate_at_edge"].values.tolist() == [[1, 1], [1, 1]]
    between = probe.model_copy(update={"rates": (1e-9, 0.1, 1e30)})(mae, task(10, rng), rng)
    assert (between["rate_at_edge"].sel(network="pixels") == 0).all()
    assert float(between["learning_rate"].sel(network="pixels", feature="cls")) == pytest.approx(0.1)


def test_classes_among_the_images_under_test_are_counted(mae: MAE, rng: torch.Generator) -> None:
    images = task(10, rng)
    assert images.labels is not None
    one_class = Labelled(images.images[images.labels == 1], torch.ones(5, dtype=torch.long), images.train)
    for data, count in ((images, 2), (one_class, 1)):
        found = SMALL.model_copy(update={"corruptions": ()})(mae, data, rng)
        assert (found.attrs["num_classes"], found.attrs["num_classes_tested"]) == (2, count)


def test_batches_change_nothing(mae: MAE, rng: torch.Generator) -> None:
    images = task(10, rng)
    few, many = (
        run_probes([SMALL.model_copy(update={"batch_size": size})], mae, images, 1).datasets["transfer"]
        for size in (3, 10)
    )
    xr.testing.assert_allclose(few, many, rtol=1e-6)


@pytest.mark.slow
def test_work_is_linear_and_only_training_features_are_kept(mae: MAE, rng: torch.Generator) -> None:
    held, rows = {}, {}
    for count in (16, 64):
        images = task(count, rng)
        assert images.labels is not None
        accumulator = SMALL.start(mae, count, 0)
        with counted_rows(mae.blocks[0]) as seen:
            for first in range(0, count, 4):
                part = slice(first, first + 4)
                accumulator.update(Batch(mae, images[part], first, 0, images.labels[part], images.other_split))
        accumulator.networks = {}  # weights are no memory of images
        held[count], rows[count] = numbers_held(accumulator), sum(seen)
    # 30 to train on, each image once, 6 of them clean again and under 2 x 2 corruptions
    assert rows == {16: 30 + 16 + 6 * 5, 64: 30 + 64 + 6 * 5}
    assert held[64] == held[16]


def test_what_is_missing_is_a_sentence(mae: MAE, images: Tensor, rng: torch.Generator) -> None:
    labels = torch.tensor([0, 1, 0, 1, 0])
    train = left_or_right(40, rng)
    one_class = torch.zeros(40, dtype=torch.long)
    for data, problem in {
        "without labels": (images, r"labelled images \(one folder a class, .* got images without labels$"),
        "without a split": (Plain(images, labels), "got images without another split"),
        "no other split": (Labelled(images, labels, InputError("nothing there")), "training images .*: nothing there"),
        "unlabelled": (
            Labelled(images, labels, Labelled(train.images, None)),
            "labels of its training images, got none",
        ),
        "few": (Labelled(images, labels, left_or_right(9, rng)), "at least 10 training images .* got 9"),
        "one class": (Labelled(images, labels, Labelled(train.images, one_class)), "two classes or more, got 1"),
        "new class": (Labelled(images, labels + 1, train), "of the classes 0 to 1 of its training images, got 1 to 2"),
    }.values():
        with pytest.raises(ProbeError, match=f"probe transfer: needs .*{problem}"):
            SMALL(mae, data, rng)
    with pytest.raises(ProbeError, match=r"at least 20 training images \(kNN has 20 neighbours\), got 12"):
        SMALL.model_copy(update={"neighbours": 20, "train_images": 12})(mae, Labelled(images, labels, train), rng)


@dataclass(frozen=True)
class Plain:
    """Images and classes, and nothing else."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Tensor:
        return self.images[index]


def test_settings_that_cannot_be_are_refused() -> None:
    assert probe_class("transfer") is Transfer
    for wrong, problem in {
        "corruptions": (["fog"], "corruptions out of gaussian_noise"),
        "severities": ([6], "severities out of 1, 2"),
        "rates": ([0.1, 0.1], "rising learning rates"),
    }.items():
        with pytest.raises(InputError, match=problem[1]):
            parse(Transfer, {wrong: problem[0]})


def test_constant_features_are_chance_and_can_be_stored(rng: torch.Generator, tmp_path) -> None:
    model = tiny_mae()
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.fill_(0.7)
    found = SMALL.model_copy(update={"untrained": False, "each_layer": False})(model, task(10, rng), rng)
    assert found.accuracy.sel(network="trained").values == pytest.approx(0.5)
    assert "layer_accuracy" not in found
    save_result(found, tmp_path / "transfer.nc")
    xr.testing.assert_equal(load_result(tmp_path / "transfer.nc"), found)


def test_an_encoder_alone_is_enough(mae: MAE, rng: torch.Generator) -> None:
    mae.has_prediction = False
    mae.decoder_blocks = nn.ModuleList()
    assert not SMALL(mae, task(10, rng), rng).accuracy.isnull().any()


def test_fine_tuning_learns_and_leaves_the_model_alone(mae: MAE, rng: torch.Generator) -> None:
    train = left_or_right(40, rng)
    assert train.labels is not None
    before = {name: value.clone() for name, value in mae.state_dict().items()}
    tuned = finetune(mae, train.images, train.labels, 2, epochs=15, seed=0)
    assert float((tuned.predict(train.images) == train.labels).float().mean()) == 1
    for name, value in mae.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not torch.equal(tuned.encoder.state_dict()["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])
    # fixed positions stay fixed
    assert torch.equal(tuned.encoder.pos_embed, before["pos_embed"])
    probe = SMALL.model_copy(update={"finetune_epochs": 1, "corruptions": (), "each_layer": False})
    found = probe(mae, task(10, rng), rng)
    assert found.finetuned_accuracy.dims == ("network",)
    assert found.finetuned_accuracy.isnull().values.tolist() == [False, False, True]  # pixels have no weights


def test_the_untrained_twin_has_its_own_weights_and_draws_from_no_global_generator(mae: MAE) -> None:
    state = torch.random.get_rng_state()
    one, other = untrained(mae, 0), untrained(mae, 0)
    assert one is not None
    assert other is not None
    assert torch.equal(torch.random.get_rng_state(), state)
    weight = "blocks.0.attn.qkv.weight"
    assert torch.equal(one.state_dict()[weight], other.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], mae.state_dict()[weight])
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_a_view_trains_on_the_other_split() -> None:
    model = tiny_mae(image_size=(32, 32), patch_size=8, channels=1)
    view = open_view(model, "digits", limit=20)
    assert view.other_split(30).source.split == "train"
    assert view.other_split(30).other_split(5).source.split == "test"
    found = SMALL.model_copy(update={"train_images": 200, "epochs": 20, "corruptions": ()})(
        model, view, torch.Generator().manual_seed(0)
    )
    assert found.attrs["num_train_images"] == 200
    assert found["true"].values.tolist() == [str(digit) for digit in range(10)]
    # 20 digits, 200 to learn from: raw pixels know most of them
    assert float(found.accuracy.sel(network="pixels", feature="mean", classifier="knn")) > 0.6
