"""A condition is what the attributes of a result say; two conditions of one probe lie side by
side."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from lcmae.probes.results import catalogue
from lcmae.probes.results.conditions import Condition, contrasts, in_words, unlike
from lcmae.probes.results.store import load_attrs, load_result, save_result
from lcmae.runs import durable

ATTRS = {
    "probe": "reconstruction",
    "checkpoint_sha256": "ab" * 32,
    "data": "digits",
    "split": "test",
    "num_images": 360,
    "seed": 5,
    "settings": json.dumps({"batch_size": 64, "mask": {"kind": "random", "ratio": 0.5}, "num_pictures": 8}),
}
OTHER = {
    "checkpoint_sha256": "cd" * 32,
    "data": "cifar10",
    "split": "train",
    "num_images": 4,
    "images_sha256": "ef" * 32,
    "seed": 6,
    "settings": json.dumps({"batch_size": 64, "mask": {"kind": "random", "ratio": 0.75}, "num_pictures": 8}),
}


def result_with(value: float = 1.0, **changes: object) -> xr.Dataset:
    error = xr.Variable((), value, {"units": "1", "long_name": "an error"})
    return xr.Dataset({"value": error}, attrs={**ATTRS, **changes})


class TestConditions:
    def test_says_what_it_is(self) -> None:
        condition = Condition.of(ATTRS)
        assert str(condition) == "digits, 360 test images, random 0.5"
        assert condition.file_stem == "digits-test-360-random-0.5"
        assert unlike([condition, condition]) == []

    @pytest.mark.parametrize("name", OTHER)
    def test_each_part_counts(self, name: str) -> None:
        one, other = Condition.of(ATTRS), Condition.of({**ATTRS, name: OTHER[name]})
        assert one != other
        assert one.digest != other.digest
        expected = {"checkpoint_sha256": [], "settings": ["mask"], "images_sha256": ["num_images"]}.get(name, [name])
        assert unlike([one, other]) == expected

    def test_what_two_do_not_share_in_words(self) -> None:
        a, b = Condition.of(ATTRS), Condition.of({**ATTRS, "num_images": 60, "data": "cifar10"})
        assert contrasts(a, a) == []
        assert contrasts(a, b) == ["data (A digits, B cifar10)", "number of images (A 360, B 60)"]
        assert contrasts(a, replace(a, images="360 abc")) == ["choice of the 360 images"]
        assert contrasts(a, replace(a, mask="")) == ["mask (A random 0.5, B none)"]
        few, many = (replace(a, settings=json.dumps({"num_masks": number, "seed": 0})) for number in (2, 8))
        assert contrasts(few, many) == ["settings of the probe (A number of masks 2; B number of masks 8)"]
        assert in_words(unlike([a, b])) == "data, images"

    def test_the_order_of_settings_and_the_batches_do_not_count(self) -> None:
        values = json.loads(ATTRS["settings"])
        other = json.dumps(dict(reversed({**values, "batch_size": 3}.items())))
        assert Condition.of({**ATTRS, "settings": other}) == Condition.of(ATTRS)

    @given(data=st.text(max_size=300), settings=st.text(max_size=20))
    def test_any_name_of_data_makes_a_file_name(self, data: str, settings: str) -> None:
        stem = Condition.of({**ATTRS, "data": data, "settings": settings}).file_stem
        assert 0 < len(stem.encode()) <= 80
        assert "/" not in stem
        assert not stem.startswith(".")


class TestCatalogue:
    def test_conditions_lie_side_by_side(self, tmp_path: Path) -> None:
        paths = [catalogue.add(result_with(n, **change), tmp_path) for n, change in enumerate([{}, *_changes()])]
        assert len(set(paths)) == len(paths)
        assert {path.parent for path in paths} == {tmp_path / "reconstruction"}
        assert [float(load_result(path)["value"]) for path in paths] == [float(n) for n in range(len(paths))]
        assert {one.path for one in catalogue.stored(tmp_path)} == set(paths)

    def test_what_is_stored_stays_unless_told_otherwise(self, tmp_path: Path) -> None:
        path = catalogue.add(result_with(1), tmp_path)
        before = path.read_bytes()
        assert catalogue.add(result_with(2), tmp_path) == path
        assert path.read_bytes() == before
        assert catalogue.add(result_with(2), tmp_path, overwrite=True) == path
        assert float(load_result(path)["value"]) == 2
        assert len(catalogue.files(tmp_path)) == 1

    def test_the_old_layout_is_found_and_left_alone(self, tmp_path: Path) -> None:
        old = tmp_path / "reconstruction.nc"
        save_result(result_with(1), old)
        found = catalogue.find(tmp_path, "reconstruction", Condition.of(ATTRS))
        assert found is not None
        assert found.path == old
        new = catalogue.add(result_with(2, seed=9), tmp_path)
        assert catalogue.files(tmp_path, "reconstruction") == [old, new]
        assert [catalogue.probe_of(path, tmp_path) for path in (old, new)] == ["reconstruction"] * 2
        assert float(load_result(old)["value"]) == 1

    def test_a_torn_file_is_nobodys_result(self, tmp_path: Path) -> None:
        path = catalogue.add(result_with(1), tmp_path)
        path.write_bytes(path.read_bytes()[:-1])
        assert list(catalogue.stored(tmp_path)) == []
        assert catalogue.add(result_with(2), tmp_path) == path
        assert float(load_result(path)["value"]) == 2

    def test_two_conditions_of_one_file_name_are_told_apart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catalogue, "DIGITS", 0)
        paths = [catalogue.add(result_with(1, seed=seed), tmp_path) for seed in (1, 2)]
        assert len(set(paths)) == 2
        assert [load_attrs(path)["seed"] for path in paths] == [1, 2]

    def test_two_writers_leave_one_whole_file(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("fork")
        writers = [context.Process(target=_write, args=(tmp_path, value)) for value in (1.0, 1.0, 2.0)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(120)
            assert writer.exitcode == 0
        found = list(catalogue.stored(tmp_path))
        assert sorted(float(one.load()["value"]) for one in found) == [1.0, 2.0]
        assert len(list(tmp_path.rglob("*.nc"))) == 2

    def test_a_kill_between_two_results_loses_none(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("fork")
        writer = context.Process(target=_write_and_die, args=(tmp_path,))
        writer.start()
        writer.join(120)
        assert writer.exitcode == -signal.SIGKILL
        assert len(list((tmp_path / "reconstruction").iterdir())) == 2  # and what was half-way
        assert [float(one.load()["value"]) for one in catalogue.stored(tmp_path)] == [1.0]
        catalogue.add(result_with(2, seed=2), tmp_path)
        assert len(list(catalogue.stored(tmp_path))) == 2


def _changes() -> list[dict[str, object]]:
    return [{name: value} for name, value in OTHER.items()]


def _write(folder: Path, value: float) -> None:
    for _ in range(5):
        catalogue.add(result_with(value, seed=int(value)), folder)


def _write_and_die(folder: Path) -> None:
    catalogue.add(result_with(1, seed=1), folder)
    # killed with the second result half-way: written under its temporary name, not yet published
    durable.flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)
    catalogue.add(result_with(2, seed=2), folder)
