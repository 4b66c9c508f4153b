"""Reported errors against the spread over independent draws of images and masks; every stored error
is measured."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from benchmarks.trust import (
    HIGH,
    LOW,
    REFERENCES,
    SETTINGS,
    document,
    draws,
    made_draw,
    measure,
    network,
    outside,
    over_masks,
    split,
)
from lcmae import processes
from lcmae.probes.registry import PROBES
from lcmae.probes.statistics.variables import error_of, variable

ROOT = Path(__file__).resolve().parents[2]


def known(value: float, error: float) -> dict[str, xr.Dataset]:
    values = {"x": variable((), value, "x"), "x_sem": error_of((), error, "x", degrees=7)}
    return {"reconstruction": xr.Dataset(values)}


def test_the_ratio_is_spread_over_error() -> None:
    rng = np.random.default_rng(0)
    (row,) = measure([known(float(value), 0.5) for value in rng.normal(size=400)])
    assert row.ratio == pytest.approx(2.0, rel=0.1)
    assert outside([row]) == {("reconstruction", "x"): row.ratio}
    assert document([row], known(0.0, 0.5)).endswith(f"`reconstruction.x`, {row.ratio:.2f}.\n")


def test_what_does_not_vary_has_no_ratio() -> None:
    (row,) = measure([known(1.0, 0.0)] * 3)
    assert math.isnan(row.ratio)
    assert outside([row]) == {}


def test_numbers_over_masks_alone_come_from_their_own_draw() -> None:
    def result(level: float, score: float) -> xr.Dataset:
        return xr.Dataset({
            "level": variable((), level, "x"), "level_sem": error_of((), 0.1, "x", degrees=3, over="masks"),
            "score": variable((), score, "x"), "score_sem": error_of((), 0.1, "x", degrees=3),
        })  # fmt: skip

    both = over_masks(result(1.0, 2.0), result(3.0, 4.0))
    assert (float(both["level"]), float(both["score"])) == (3.0, 2.0)


def test_every_probe_is_measured() -> None:
    assert set(SETTINGS) == set(PROBES)
    assert set(REFERENCES) == set(SETTINGS)


def test_draws_are_independent_and_what_is_fitted_on_is_the_same() -> None:
    first, second = split(0), split(1)
    assert not torch.equal(first.images, second.images)
    assert torch.equal(first.other_split(9).images, second.other_split(9).images)
    model = network((16, 16), 4, 1)
    one, other = made_draw(model, 0), made_draw(model, 1)
    assert one[:3].shape == (3, 1, 16, 16)
    assert not torch.equal(one.known_latents.rows, other.known_latents.rows)
    assert other.other_split(5).known_latents.rows.tolist() == [0, 1, 2, 3, 4]
    assert other.other_split(5).known_latents.hierarchy.split == "train"
    assert one.class_maps(slice(0, 2)).shape == (2, 16, 16)


@pytest.mark.slow
def test_every_stored_error_says_from_what_it_is() -> None:
    (found,) = draws(1)
    for probe, result in found.items():
        for name, values in result.data_vars.items():
            if str(name).endswith("_sem"):
                assert {"degrees_of_freedom", "error_sources"} <= values.attrs.keys(), (probe, name)
                assert {str(name).removesuffix(end) for end in ("_sem", "_masks_sem")} & {*result}, (probe, name)
    assert found["mask_graph"]["label_error_sem"].attrs["error_sources"] == "images and masks"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As the command writes it, in a process of its own, where shapes are not checked: about five
    minutes on an idle core, more beside other tests: who asks has its timeout."""
    written = tmp_path_factory.mktemp("trust") / "trust.md"
    threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = processes.run(processes.module("benchmarks.trust", "--out", str(written)), env=threads, cwd=ROOT)
    assert done.returncode == 0
    return written.read_text()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_reported_errors_are_the_spread(page: str) -> None:
    assert page.endswith(f"## Outside {LOW} to {HIGH}\n\nNone.\n")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nearly_every_error_has_a_ratio(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    without = [line.split("`")[1] for line in rows if line.endswith("| - |")]
    assert len(rows) > 100
    # what does not vary here: no image that is confused, no part that is cut off, and the like
    assert len(without) < 8, without


def test_the_page_names_every_probe_and_no_exception() -> None:
    written = (ROOT / "docs" / "trust.md").read_text()
    assert [line.removeprefix("## ") for line in written.splitlines() if line.startswith("## ")][:-1] == list(SETTINGS)
    assert written.endswith(f"## Outside {LOW} to {HIGH}\n\nNone.\n")
