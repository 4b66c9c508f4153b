"""Every probe where there is little to measure: numbers, NaN where nothing is defined, or one
sentence that names the probe.

`SITUATIONS` is the whole table. NaN or infinite weights and pixels stop all probes: see
test_base.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from lcmae.data.hierarchy import KnownLatents
from lcmae.formats.vit import ViT
from lcmae.masking import Random
from lcmae.models import MAE, MaskedImageModel
from lcmae.probes.base import ProbeError, Results, run_probes
from lcmae.probes.frequency import Frequency
from lcmae.probes.hierarchy import Hierarchy
from lcmae.probes.reconstruction import Reconstruction
from lcmae.probes.registry import PROBES, probe_class
from lcmae.probes.results import contracts
from lcmae.probes.results.networks import trained
from lcmae.probes.watching.views import View, open_view
from lcmae.settings import parse
from tests.few import few

SETTINGS: dict[str, dict[str, Any]] = {
    "reconstruction": {"linear_images": 40},
    "local_contrast": {"num_masks": 2},
    "second_order": {"ratios": (0.5,), "num_masks": 8, "fit_images": 40, "components": 4},
    "receptive_field": {"ratios": (0.5,), "masks": ("random",), "num_images": 4},
    "knock_out": {"single_images": 2, "baseline_images": 2},
    "spectrum": {"num_masks": 2},
    "fidelity": {"ratios": (0.5,)},
    "transfer": {
        "train_images": 24,
        "epochs": 2,
        "pooled_epochs": 2,
        "seeds": 1,
        "corruptions": ("contrast",),
        "severities": (3,),
    },
    "dense": {"train_images": 20, "rates": (0.1,), "epochs": 2},
    "position": {"num_sampled": 12, "components": 4},
    "attribution": {
        "num_images": 3,
        "num_queries": 1,
        "path_steps": 4,
        "shapley_permutations": 2,
        "untrained_images": 2,
    },
    "embedding_consistency": {"num_masks": 2, "num_directions": 8},
    "hierarchy": {"train_images": 30, "num_masks": 2, "ratios": (0.5,), "units": (1,)},
    "mask_graph": {"ratios": (0.5,), "num_masks": 1},
    "bounds": {"num_graph_masks": 1, "num_masks": 2},
}


@dataclass(frozen=True)
class Images:
    """Images with classes, latents and another split, as a view has them; `change` and `relabel`
    make them awkward."""

    view: View
    change: Callable[[Tensor], Tensor] = lambda images: images
    relabel: Callable[[Tensor | None], Tensor | None] = lambda labels: labels
    num_train: int = 60

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: slice) -> Tensor:
        return self.change(self.view[index])

    @property
    def labels(self) -> Tensor | None:
        return self.relabel(self.view.labels)

    @property
    def known_latents(self) -> KnownLatents | None:
        return self.view.known_latents

    @property
    def class_maps(self) -> Callable[[slice], Tensor] | None:
        return self.view.class_maps

    def other_split(self, limit: int | None) -> "Images":
        few = self.num_train if limit is None else min(limit, self.num_train)
        return Images(self.view.other_split(few), self.change, self.relabel)


def network(kind: type[MaskedImageModel] = MAE, **settings: Any) -> MaskedImageModel:
    torch.manual_seed(0)
    shape = {"image_size": 16, "patch_size": 4, "channels": 1, "width": 16, "depth": 2, "heads": 2}
    decoder = {"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2} if kind is MAE else {}
    return kind(**{**shape, **decoder, **settings})  # pyright: ignore[reportArgumentType]


def without_weights() -> MaskedImageModel:
    model = network()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return model


def images(model: MaskedImageModel, count: int = 12, **awkward: Any) -> Images:
    return Images(open_view(model, "hierarchy:images=60,classes=3,layouts=4", limit=count), **awkward)


def one_colour(images: Tensor) -> Tensor:
    """Each image its own grey."""
    return images.mean((1, 2, 3), keepdim=True).expand_as(images).contiguous()


def all_grey(images: Tensor) -> Tensor:
    """The same grey for all."""
    return torch.full_like(images, 0.3)


class Situation(NamedTuple):
    """What is awkward, and what every probe makes of it."""

    build: Callable[[], MaskedImageModel]
    awkward: dict[str, Any]
    sentences: Mapping[str, str]
    """What probes that fail say, behind their name."""

    undefined: Mapping[str, set[str]]
    """Variables with a NaN, but for those that `USUAL` has and for what comes with another variable
    (errors, groups)."""


USUAL = {
    "receptive_field": {
        "field",
        "area_ratio",
        "radius",
        "image_radius",
        "half_radius",
    },  # no prediction of a full image
    "spectrum": {"alpha_req", "lidar", "lidar_mask_share"},  # 12 vectors have few eigenvalues; tokens have no LiDAR
    "invariance": {"alignment_by_overlap"},  # bins without a pair
    "attribution": {"attribution_map"},  # of what is hidden
    "attention_flow": {"neighbour_cosine"},  # of outliers, where there are none
    "embedding_consistency": {"sliced_wasserstein", "loss", "invariance", "local_consistency"},  # what no mask hid
    "hierarchy": {"score", "chance", "skill", "gain"},  # a patch has no latent of the lowest level
    "mask_graph": {"toy_edges", "toy_label_error", "toy_components", "toy_eigenvalue", "toy_tail", "toy_error"},
    "bounds": {"alignment_by_overlap"},
}
"""What is never defined for these models and images."""

PREDICTS = (
    "attribution",
    "second_order",
    "reconstruction",
    "local_contrast",
    "decoder_attention",
    "knock_out",
    "fidelity",
    "bounds",
)
NO_DECODER: dict[str, str] = dict.fromkeys(
    PREDICTS, "needs a checkpoint with its decoder or head, got an encoder alone"
)
NO_PREDICTION = {
    "invariance": {"retrieval", "retrieval_shuffled", "retrieval_ceiling", "info_nce", "info_nce_shuffled", "info_nce_ceiling"},
    "embedding_consistency": {"gram_gap"},
}  # fmt: skip
EQUAL = "expected images that differ in their pixels, got equal ones in most cases"
NOTHING_TO_EXPLAIN = {"far_gain", "gain_map", "gain_over_linear", "gain_over_wiener", "r2"}
UNBIASED_MAPS = {"invariance_map_unbiased", "local_consistency_map_unbiased"}
NOTHING_MOVES = {
    *("agreement", "deletion_curve", "insertion_curve", "deletion", "insertion", "faithfulness", "reach", "spread"),
    *("completeness_error", "additivity"),
}
NO_GEOMETRY = {"consistency", "chance", "ceiling"}
NO_CKA = {"cka", "last_cka_to_input"}
DEPTH = {"depth_area_ratio", "depth_radius", "depth_image_radius", "depth_half_radius"}
SHARES = {
    f"positional_share_over_{what}{suffix}" for what in ("images", "masks") for suffix in ("", "_pooled", "_rise")
}

SITUATIONS = {
    "usual": Situation(network, {}, {}, {}),
    "weights of zero": Situation(
        without_weights,
        {},
        {},
        {
            "local_contrast": {"token_share", "token_share_unbiased", "position_share"},
            "attribution": NOTHING_MOVES,
            "decoder_attention": SHARES,
            "receptive_field": DEPTH,
            "spectrum": {
                "rankme", "participation_ratio", "uniformity", "uniformity_of_others", "wang_isola", "intrinsic_dimension",
                "variance_share",
            },
            "invariance": {"alignment"},
            "frequency": NO_CKA,
            "position": {"variance_share"},
            "attention_flow": {"agreement"},  # no gradient
            "embedding_consistency": {"consistency", "chance"},
            "bounds": {"alignment", "uniformity", "umae_loss"},  # vectors of length 0
        },
    ),
    "equal images": Situation(
        network,
        {"change": all_grey},
        {"mask_graph": EQUAL, "bounds": EQUAL},
        {
            "local_contrast": {"position_share"},
            "spectrum": {"intrinsic_dimension", "variance_share"},
            "attribution": NOTHING_MOVES,
            "frequency": NO_CKA,
            "pixels_by_layer": {"r2", "own", "around", "reach", "gathered"},
            "embedding_consistency": NO_GEOMETRY,
            "second_order": {*NOTHING_TO_EXPLAIN, "reach", "shared_variance"},
        },
    ),
    "images of one colour": Situation(
        network, {"change": one_colour}, {}, {"embedding_consistency": NO_GEOMETRY, "bounds": {"share_of_variance"}}
    ),
    "images of one colour, normalised targets": Situation(
        lambda: network(normalize_targets=True),
        {"change": one_colour},
        {},
        {
            "embedding_consistency": {*NO_GEOMETRY, "gram_gap"},
            "bounds": {"share_of_variance"},
            "second_order": NOTHING_TO_EXPLAIN,
        },
    ),
    "one image": Situation(
        network,
        {"count": 1},
        {
            "second_order": "needs at least 2 images, got 1",
            "position": "needs at least 2 images, got 1",
            "attribution": "needs at least 2 images for a position mean, got 1",
            "pixels_by_layer": "needs at least 4 images, got 1",
            "patch_retrieval": "needs at least 2 images, got 1",
            "mask_graph": "needs at least 4 images, got 1",
            "bounds": "needs at least 2 images, got 1",
        },
        {
            "reconstruction": {"error_map"},  # one mask does not hide every place
            "local_contrast": {
                "loss_map", "invariance_map", "local_consistency_map", *UNBIASED_MAPS, "term_unbiased", "token_share_unbiased",
                "collapse_unbiased", "collapse_position",
            },
            "decoder_attention": {name for name in SHARES if "images" in name},
            "spectrum": {"uniformity_of_others", "wang_isola", "intrinsic_dimension", "variance_share"},
            "invariance": {"alignment", *NO_PREDICTION["invariance"]},
            "frequency": NO_CKA,
            "attention_flow": {"agreement"},  # there is no other image
            "knock_out": {"increase", "block_increase", "head_increase", "skip_mean_increase"},  # nor a mean over any
            "embedding_consistency": NO_GEOMETRY,
            "dense": {"class_iou"},  # one image does not hold every class
            "hierarchy": {"layer_skill"},  # of kinds: a constant names the only one
        },
    ),
    "fewer images than neighbours": Situation(
        network,
        {"count": 3, "num_train": 9},
        {
            "transfer": "needs at least 20 training images (kNN has 20 neighbours), got 9",
            "hierarchy": "needs at least 20 training images, got 9",
            "mask_graph": "needs at least 4 images, got 3",
            "second_order": "needs at least 10 images of the other split, got 9",
            "pixels_by_layer": "needs at least 4 images, got 3",
            "dense": "needs at least 10 training images, got 9",
        },
        {
            "reconstruction": {"error_linear"},  # 9 images of the other split teach nobody
            "frequency": NO_CKA,
            "embedding_consistency": NO_GEOMETRY,
            "local_contrast": UNBIASED_MAPS,
        },
    ),
    "one class": Situation(
        network,
        {"relabel": torch.zeros_like},
        {
            "transfer": "needs training images of two classes or more, got 1",
            "mask_graph": "expected images of two classes or more, got one class (12 images)",
        },
        {"patch_retrieval": {"information"}},
    ),
    "no labels": Situation(
        network,
        {"relabel": lambda labels: None},
        {
            "transfer": "needs labelled images (one folder a class, a column label, KEY.cls), got images without labels",
            "mask_graph": "needs images with known classes, got images without labels",
        },
        {"position": {"knn_accuracy", "knn_chance"}, "patch_retrieval": {"purity", "last_purity", "information", "chance"}},
    ),
    "no decoder": Situation(lambda: network(ViT), {}, NO_DECODER, NO_PREDICTION),
    "no decoder, no class token": Situation(
        lambda: network(ViT, class_token=False, feature="mean"), {}, NO_DECODER, NO_PREDICTION
    ),
}  # fmt: skip
# without a decoder there are no masks of which a position could be left out; these encoders have
# outliers in every layer
NOT_MEASURED = {
    "embedding_consistency": {"loss", "invariance", "local_consistency"},
    "attention_flow": {"neighbour_cosine"},
}


def results(name: str) -> Results:
    """All probes at once; a warning is an error."""
    situation = SITUATIONS[name]
    model = situation.build()
    probes = [parse(probe_class(probe), SETTINGS.get(probe, {})) for probe in PROBES]
    return run_probes(probes, model, images(model, **situation.awkward), seed=0)


def undefined(result: xr.Dataset) -> set[str]:
    """Variables of the model's own numbers with a NaN, but for what comes with another one."""
    result = trained(result)
    names = [str(name) for name in result.data_vars if not str(name).endswith(("_sem", "_groups", "_without"))]
    return {name for name in names if result[name].dtype.kind == "f" and bool(result[name].isnull().any())}


# one test for each situation: in two, two processes would each run all probes
@pytest.mark.parametrize("name", few(SITUATIONS, 5))
def test_a_probe_gives_numbers_or_one_sentence(name: str) -> None:
    found, situation = results(name), SITUATIONS[name]
    assert {probe: str(error) for probe, error in found.failures.items()} == {
        probe: f"probe {probe}: {sentence}" for probe, sentence in situation.sentences.items()
    }
    assert all(isinstance(error, ProbeError) for error in found.failures.values())
    # the others still run
    assert {*found.failures, *found.datasets} == set(PROBES)

    # what is not defined is NaN, and nothing is infinite
    for probe, result in found.datasets.items():
        usual = USUAL.get(probe, set()) - (NOT_MEASURED.get(probe, set()) if name.startswith("no decoder") else set())
        assert undefined(result) == usual | situation.undefined.get(probe, set()), probe
        for variable in result.data_vars.values():
            assert variable.dtype.kind != "f" or not np.isinf(variable).any(), (probe, variable.name)

    # every result has the form that its readers expect
    problems = {probe: contracts.problem(result, probe) for probe, result in found.datasets.items()}
    assert problems == dict.fromkeys(found.datasets, "")


def test_a_mask_that_does_not_fit_is_its_probe_s_own_affair() -> None:
    model = network()
    whole = Reconstruction(mask=Random(ratio=0.99))
    found = run_probes([whole, Hierarchy(mask=Random(ratio=0.99)), Frequency()], model, images(model), seed=0)
    assert list(found.datasets) == ["frequency"]
    for name, error in found.failures.items():
        assert str(error).startswith(
            f"probe {name}: masking ratio 0.99 leaves 0 of the 16 patches of a 4x4 grid visible"
        )
        assert isinstance(error, ProbeError)


def test_numbers_of_next_to_nothing_are_not_made_up() -> None:
    """What would be a ratio of roundings: patches of one colour vary by 1e-13 once they are divided
    by 1e-3."""
    found = results("images of one colour, normalised targets").datasets["bounds"]
    assert (found["variance"] < 1e-6).all()
    assert found["share_of_variance"].isnull().all()
    # one image has one class: naming it is no skill, and its attributes are still decoded
    skill = results("one image").datasets["hierarchy"]["skill"].sel(network="trained", feature="mean")
    assert np.isnan(skill.sel(level="class"))
    assert np.isfinite(skill.sel(level="part"))
    # features that say nothing name the commonest class
    found = results("weights of zero").datasets["transfer"]
    assert found["accuracy"].sel(network="trained").values == pytest.approx(float(found["majority_accuracy"]))
