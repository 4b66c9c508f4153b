"""Jobs: the same files whichever engine ran, nothing computed twice, and one failure is one
failure."""

import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import lcmae.probes.jobs.batch
from lcmae.errors import InputError
from lcmae.probes.base import run_probes
from lcmae.probes.jobs.batch import Job, JobResult, probe_settings, run_job, run_jobs, scalars
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.local_contrast import LocalContrast
from lcmae.probes.reconstruction import Reconstruction
from lcmae.probes.results import catalogue
from lcmae.probes.results.networks import trained
from lcmae.probes.results.store import load_result
from lcmae.runs.run import Run
from lcmae.training.train import build_model
from tests.reference.tiny_runs import only_file, tiny_config, tiny_run
from tests.reference.work import counted_rows

PROBES: dict[str, dict[str, Any]] = {"reconstruction": {}, "local_contrast": {"num_masks": 2}}


def published(path: Path, seed: int = 0, **poison: float) -> Run:
    """A run with one step of untrained weights."""
    run = tiny_run(path, seed=seed)
    tensors = build_model(tiny_config(seed=seed)).state_dict()
    for name, value in poison.items():
        tensors[name.replace("__", ".")].view(-1)[0] = value
    run.publish(3, tensors, config=run.config, resume=None)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return published(tmp_path / "run")


def job(run: Run, **changes: Any) -> Job:
    return replace(Job(str(run.path), PROBES, images=12), **changes)


def same(first: xr.Dataset, second: xr.Dataset) -> None:
    """The same numbers and the same account of them, but for where the checkpoint lay."""
    for name in ("checkpoint", "command"):
        for dataset in (first, second):
            dataset.attrs.pop(name)
    xr.testing.assert_identical(first, second)


class TestOneJob:
    def test_leaves_a_file_a_probe_in_the_run(self, run: Run) -> None:
        result = run_job(job(run))
        expected = {name: str(only_file(run.results_folder(3), name)) for name in PROBES}
        assert result == JobResult(str(run.path), files=expected)
        attrs = load_result(only_file(run.results_folder(3), "reconstruction")).attrs
        assert (attrs["data"], attrs["split"], attrs["num_images"], attrs["step"]) == ("digits", "test", 12, "3")
        assert attrs["checkpoint_sha256"] == run.newest().sha256
        assert attrs["probe"] == "reconstruction"

    def test_a_step_may_be_named_and_results_laid_elsewhere(self, run: Run, tmp_path: Path) -> None:
        step = run.path / "checkpoints" / "000003"
        result = run_job(job(run, checkpoint=str(step), out=str(tmp_path / "out")))
        assert {Path(file) for file in result.files.values()} == {only_file(tmp_path / "out", name) for name in PROBES}
        run_job(job(run))
        for name in PROBES:
            same(load_result(only_file(tmp_path / "out", name)), load_result(only_file(run.results_folder(3), name)))

    def test_what_is_stored_is_not_computed_again(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        run_job(job(run, probes={"reconstruction": {}}))
        asked: list[list[str]] = []

        def watched(missing: Any, *rest: Any, **more: Any) -> Any:
            asked.append([probe.name for probe in missing])
            return run_probes(missing, *rest, **more)

        monkeypatch.setattr(lcmae.probes.jobs.batch, "run_probes", watched)
        assert run_job(job(run)).reused == ["reconstruction"]
        assert sorted(run_job(job(run)).reused) == ["local_contrast", "reconstruction"]
        assert asked == [["local_contrast"]]
        # another seed, number of images, split or setting is another result
        for changes in (
            {"seed": 1},
            {"images": 13},
            {"split": "train"},
            {"probes": {"reconstruction": {"num_pictures": 1}}},
        ):
            assert run_job(job(run, **changes)).reused == []
        assert sorted(run_job(job(run)).reused) == ["local_contrast", "reconstruction"]  # and took nothing's place
        assert len(catalogue.files(run.results_folder(3))) == 9
        again = run_job(job(run, overwrite=True))
        assert again.reused == []
        assert sorted(again.replaced) == sorted(again.files.values())
        assert len(catalogue.files(run.results_folder(3))) == 9

    def test_other_weights_or_a_torn_result_are_computed_again(self, run: Run) -> None:
        run_job(job(run))
        file = only_file(run.results_folder(3), "reconstruction")
        file.write_bytes(file.read_bytes()[:-1])
        assert run_job(job(run)).reused == ["local_contrast"]
        run.publish(3, build_model(tiny_config(seed=9)).state_dict(), config=run.config, resume=None)
        assert run_job(job(run)).reused == []

    def test_probes_share_the_pass(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        model = build_model(tiny_config()).eval()
        source = lcmae.probes.jobs.batch.lcmae.load(run.path).source
        monkeypatch.setattr(model, "source", source)
        monkeypatch.setattr(lcmae.probes.jobs.batch.lcmae, "load", lambda *_, **__: model)
        with counted_rows(model) as rows:
            run_job(job(run, probes={"reconstruction": {"batch_size": 6}}))
        assert rows == [6, 6]

    def test_nan_weights_and_nan_images_are_named(self, tmp_path: Path, rng: torch.Generator) -> None:
        poisoned = published(tmp_path / "bad", decoder_pred__bias=np.nan)
        with pytest.raises(
            InputError, match=r"^expected finite weights in [^\n]+, got NaN or infinity in decoder_pred.bias$"
        ):
            run_job(job(poisoned))
        model = build_model(tiny_config())
        images = torch.randn(5, 1, 8, 8, generator=rng)
        images[4] = torch.inf
        with pytest.raises(InputError, match=r"^expected finite pixels, got NaN or infinity in image 4$"):
            run_probes([Reconstruction(batch_size=2)], model, images, seed=0)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"probes": {"nonsense": {}}}, "expected a probe out of reconstruction, "),
            ({"probes": {"reconstruction": {"batch": 3}}}, "batch: extra inputs are not permitted, got 3"),
            ({"data": "mnist"}, "expected data to be digits, "),
            ({"split": "val"}, "expected split train or test, got 'val'"),
            ({"checkpoint": "/nowhere"}, "/nowhere"),
        ],
    )
    def test_bad_input_is_one_line(self, run: Run, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError) as caught:
            run_job(job(run, **changes))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not list(run.path.glob("probes/*/*"))

    def test_a_checkpoint_without_a_run_must_be_told_data_and_place(self, run: Run, tmp_path: Path) -> None:
        alone = tmp_path / "alone.safetensors"
        alone.write_bytes((run.path / "checkpoints" / "000003" / "model.safetensors").read_bytes())
        with pytest.raises(InputError, match=r"^expected --data NAME"):
            lcmae.probes.jobs.batch.default_data(str(alone))
        with pytest.raises(InputError, match=r"^expected --out FOLDER"):
            lcmae.probes.jobs.batch.result_folder(Job(str(alone), PROBES), build_model(tiny_config()))


class TestSettingsTravel:
    @pytest.mark.parametrize(
        "probe",
        [
            Reconstruction(),
            LocalContrast(num_masks=3, num_pictures=0),
            Reconstruction.model_validate({"mask": {"kind": "random", "ratio": 0.5}}),
            LocalContrast.model_validate({"mask": {"kind": "block", "ratio": 0.6, "min_block": 2}}),
        ],
        ids=["default", "numbers", "ratio", "block"],
    )
    def test_to_the_job_and_back(self, probe: Any) -> None:
        assert type(probe).model_validate(probe_settings(probe)) == probe

    def test_the_command_that_is_stored_computes_it_again(self, run: Run, tmp_path: Path) -> None:
        """Bit for bit, though it asks for one probe only, and the smaller batches of the other one
        decided the last bits."""
        from lcmae.app.cli import main

        mask = {"kind": "block", "ratio": 0.6, "min_block": 2}
        settings = {"mask": mask, "num_masks": 3, "num_pictures": 1}
        run_job(job(run, probes={"local_contrast": settings, "reconstruction": {"batch_size": 5}}, seed=4))
        stored = load_result(only_file(run.results_folder(3), "local_contrast"))
        run.publish(
            9, build_model(tiny_config(seed=9)).state_dict(), config=run.config, resume=None
        )  # newer, and not meant
        words = shlex.split(stored.attrs["command"])
        assert words[:3] == ["lcmae", "probe", "local_contrast"]
        assert "reconstruction" not in words
        assert main([*words[1:], "--out", str(tmp_path / "again")]) == 0
        again = load_result(only_file(tmp_path / "again", "local_contrast"))
        assert list(again.variables) == list(stored.variables)
        for name, variable in stored.variables.items():
            assert again[name].dtype == variable.dtype
            bits = [
                found.tolist() if found.dtype == object else found.tobytes()
                for found in (again[name].values, variable.values)
            ]
            assert bits[0] == bits[1], name

    def test_the_command_is_for_one_probe_with_its_own_batches(self, run: Run) -> None:
        run_job(job(run, probes={"local_contrast": {}, "reconstruction": {}}))
        found = {name: load_result(only_file(run.results_folder(3), name)).attrs["command"] for name in PROBES}
        start = (
            f"--checkpoint {run.path}/checkpoints/000003 --data digits --split test --images 12 --seed 0 --device cpu"
        )
        assert found == {
            "local_contrast": f"lcmae probe local_contrast {start}",
            "reconstruction": f"lcmae probe reconstruction {start} --reconstruction.batch-size 16",
        }


class Threads(Engine):
    """An engine whose workers are threads: what a pool of processes does, without their start."""

    @property
    def in_process(self) -> bool:
        return False

    @contextmanager
    def executor(self, folder: Path, *, threads: int | None = None) -> Any:
        with ThreadPoolExecutor(1) as pool:
            yield pool


@pytest.mark.parametrize("engine", [Engine(), Threads()], ids=["here", "pool"])
class TestManyJobs:
    def test_one_failure_is_one_failure(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
    ) -> None:
        def trips(*_: Any) -> None:
            raise RuntimeError("a bug in a probe")

        good = job(run)
        bad = job(run, checkpoint=str(tmp_path / "missing"))
        buggy = job(published(tmp_path / "buggy"), probes={"spectrum": {}})
        monkeypatch.setattr(lcmae.probes.jobs.batch.probe_class("spectrum"), "start", trips)
        outcomes = list(run_jobs([bad, buggy, good], engine, tmp_path))
        (done,) = [outcome for outcome in outcomes if isinstance(outcome, JobResult)]
        assert sorted(done.files) == sorted(PROBES)
        failed = {outcome[0].checkpoint: outcome[1] for outcome in outcomes if not isinstance(outcome, JobResult)}
        assert isinstance(failed[bad.checkpoint], InputError)
        assert str(failed[buggy.checkpoint]) == "a bug in a probe"
        assert not isinstance(failed[buggy.checkpoint], InputError)


@pytest.mark.slow
def test_a_pool_of_processes_leaves_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # sums depend on the number of threads; tests before (Dask workers) leave numbers of their own
    for library in ("OMP", "MKL", "OPENBLAS"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", str(torch.get_num_threads()))
    for where in ("here", "pool"):
        for seed in (0, 1):
            published(tmp_path / where / f"{seed}", seed)
    for where, engine in (("here", Engine()), ("pool", Engine(workers=2))):
        jobs = [job(Run.open(tmp_path / where / f"{seed}")) for seed in (0, 1)]
        outcomes = list(run_jobs(jobs, engine, tmp_path))
        assert sorted(outcome.checkpoint for outcome in outcomes if isinstance(outcome, JobResult)) == [
            str(tmp_path / where / "0"),
            str(tmp_path / where / "1"),
        ]
    for seed in (0, 1):
        for name in PROBES:
            same(
                *(
                    load_result(only_file(Run.open(tmp_path / where / f"{seed}").results_folder(3), name))
                    for where in ("here", "pool")
                )
            )


def test_an_engine_without_its_address_or_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    with pytest.raises(InputError, match=r"^expected --address tcp://host:port with --engine dask, got none$"):
        list(run_jobs([], Engine(engine="dask"), tmp_path))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        InputError, match=r"^expected the package submitit, got none: install it with `uv sync --extra slurm`$"
    ):
        list(run_jobs([], Engine(engine="slurm"), tmp_path))


def test_scalars_are_the_numbers_that_have_a_name(run: Run) -> None:
    run_job(job(run))
    stored = load_result(only_file(run.results_folder(3), "local_contrast"))
    numbers = scalars(stored)
    stored = trained(stored)
    assert numbers["loss"] == (float(stored["loss"]), float(stored["loss_sem"]))
    assert numbers["term[invariance]"][0] == float(stored["term"].sel(part="invariance"))
    assert numbers["term[invariance]"][1] == float(stored["term_sem"].sel(part="invariance"))
    assert np.isnan(numbers["token_share[mask]"][1])
    assert not [name for name in numbers if "map" in name or "picture" in name or name.endswith("_sem")]
