"""Results in the form of before: every number is found where it stands today, and what is of today
is left alone."""

import json

import numpy as np
import pytest
import xarray as xr

from lcmae.probes.registry import PROBES, probe_class
from lcmae.probes.results.legacy import COMPARED, upgrade
from lcmae.probes.results.networks import networks_of, of_network, trained, with_baselines
from tests.app import synthetic


def var(dims: tuple[str, ...] | str, values: object, long_name: str = "a number") -> xr.Variable:
    return xr.Variable(dims, np.asarray(values), {"long_name": long_name, "units": "1"})


def test_the_table_of_baselines_is_what_probes_declare() -> None:
    declared = {
        name: dict(probe_class(name).baselines)
        for name in PROBES
        if "baseline_images" in probe_class(name).model_fields
    }
    for name, baselines in COMPARED.items():  # numbers that came later have never stood beside
        assert {network: set(names) for network, names in baselines.items()} == {
            network: {one for one in names if "unbiased" not in one} for network, names in declared[name].items()
        }
    assert COMPARED.keys() <= declared.keys()


def test_baselines_in_names_become_labels() -> None:
    loss = {"loss": 1.0, "loss_sem": 0.1, "loss_untrained": 2.0, "loss_untrained_sem": 0.2, "loss_pixels": 3.0}
    values = {name: var((), value) for name, value in loss.items()}
    values |= {"loss_groups": var("group", [0.5, 1.5]), "term": var("part", [1.0, 2.0])}
    values |= {"term_untrained": var("part", [3.0, 4.0]), "invariance_unbiased": var((), 7.0)}
    old = xr.Dataset(values, {"part": ["one", "two"]}, {"probe": "local_contrast", "untrained_images": 64})
    new = upgrade(old)
    assert new["network"].values.tolist() == ["trained", "untrained", "pixels"]
    assert new["loss"].values.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(new["loss_sem"].values, [0.1, 0.2, np.nan])
    np.testing.assert_array_equal(new["loss_groups"].values, [[0.5, np.nan, np.nan], [1.5, np.nan, np.nan]])
    assert new["term"].sel(network="untrained").values.tolist() == [3, 4]
    assert new["invariance_unbiased"].dims == ()
    assert networks_of(new, "term") == ["trained", "untrained"]
    assert networks_of(new, "invariance_unbiased") == []
    assert {"loss_untrained", "loss_pixels"}.isdisjoint(new.data_vars)
    xr.testing.assert_identical(trained(new), old[list(trained(new).data_vars)])
    assert float(of_network(new, "pixels")["loss"]) == 3
    assert "loss" not in of_network(new, "another")


def test_a_result_without_baselines_has_one_network() -> None:
    new = upgrade(synthetic.reconstruction())
    assert new["error"].dims == ("network",)
    assert new["network"].values.tolist() == ["trained"]


def test_representations_become_networks_and_features() -> None:
    representation = ["cls", "mean", "untrained cls", "untrained mean", "pixels"]
    tested, judges = ["cls", "mean", "pixels"], ["knn", "linear"]
    accuracy = np.arange(10.0).reshape(2, 5)
    old = xr.Dataset(
        {
            "accuracy": var(("judge", "representation"), accuracy),
            "accuracy_groups": var(("group", "judge", "representation"), accuracy[None]),
            "confusion": var(("judge", "tested", "true"), np.arange(12.0).reshape(2, 3, 2)),
            "layer_accuracy": var(("judge", "network", "feature"), np.arange(8.0).reshape(2, 2, 2)),
            "rate_at_edge": var("representation", [0, 1, 0, 1, 1]),
        },
        {
            "judge": judges, "representation": representation, "tested": tested, "network": ["trained", "untrained"],
            "feature": ["cls", "mean"], "true": ["0", "1"],
        },
        {"probe": "transfer"},
    )  # fmt: skip
    new = upgrade(old)
    assert new["accuracy"].dims == ("classifier", "network", "feature")
    for at, name in enumerate(representation):
        feature = name.removeprefix("untrained ") if name != "pixels" else "mean"
        network = "pixels" if name == "pixels" else "untrained" if name.startswith("untrained") else "trained"
        assert new["accuracy"].sel(network=network, feature=feature).values.tolist() == accuracy[:, at].tolist()
    assert new["accuracy_groups"].dims == ("group", "classifier", "network", "feature")
    assert new["confusion"].sel(network="untrained").isnull().all()
    assert new["confusion"].sel(network="pixels", feature="cls").values.tolist() == [[4, 5], [10, 11]]
    assert new["layer_accuracy"].sel(network="pixels").isnull().all()
    np.testing.assert_array_equal(new["layer_accuracy"].sel(network="untrained").values, [[2, 3], [6, 7]])
    assert new["rate_at_edge"].dtype.kind == "i"
    xr.testing.assert_identical(upgrade(new), new)


def test_pixels_of_patches_belong_to_the_patch() -> None:
    old = xr.Dataset(
        {"skill": var("representation", [1.0, 2, 3, 4]), "chance": var("representation", [0.1, 0.2, 0.1, 0.2])},
        {"representation": ["mean", "patch", "pixels", "patch pixels"], "feature": ["mean", "patch"]},
        {"probe": "hierarchy"},
    )
    new = upgrade(old)
    assert new["skill"].sel(network="pixels").values.tolist() == [3, 4]
    assert new["chance"].dims == ("feature",)
    assert new["chance"].values.tolist() == [0.1, 0.2]


def test_predictors_are_networks() -> None:
    old = xr.Dataset(
        {"mse": var("predictor", [1.0, 2, 3, 4])}, {"predictor": ["model", "nearest", "mean", "untrained"]}
    )
    new = upgrade(old)
    assert new["network"].values.tolist() == ["trained", "pixels", "mean colour", "untrained"]
    assert new["mse"].dims == ("network",)


def test_settings_have_today_s_names() -> None:
    old = xr.Dataset(attrs={"probe": "receptive_field", "settings": json.dumps({"engine": "captum"})})
    assert json.loads(upgrade(old).attrs["settings"]) == {"backend": "captum"}


@pytest.mark.parametrize("name", synthetic.RESULTS)
def test_what_is_of_today_stays(name: str) -> None:
    once = upgrade(synthetic.RESULTS[name](seed=0))
    xr.testing.assert_identical(upgrade(once), once)


def test_a_baseline_with_fewer_labels_is_nan_there() -> None:
    own = xr.Dataset({"x": var("feature", [1.0, 2.0])}, {"feature": ["cls", "mean"]})
    other = xr.Dataset({"x": var("feature", [5.0])}, {"feature": ["mean"]})
    found = with_baselines(own, {"pixels": other}, {"pixels": ("x",)})
    np.testing.assert_array_equal(found["x"].values, [[1, 2], [np.nan, 5]])
