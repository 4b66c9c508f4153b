"""Every claim on made-up results: the verdict follows the numbers, and what lacks is a reason."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from lcmae.probes.claims.catalogue import CLAIMS
from lcmae.probes.claims.claim import (
    DIGITS,
    Claim,
    Verdict,
)  # fmt: skip
from lcmae.probes.claims.readings import LAST
from lcmae.probes.claims.rerun import Laboratory, outcome_of
from lcmae.probes.jobs.executors import Engine
from lcmae.probes.results.store import save_result
from lcmae.runs.run import Run

MEASURED = [claim for claim in CLAIMS.values() if claim.readings]
DECIDABLE = [claim for claim in MEASURED if not claim.needs.lacking(DIGITS)]


def store_results(claim: Claim, lab: Laboratory, numbers: Sequence[float], spread: float = 1e-3) -> None:
    """Runs with results that hold these numbers for the claim's readings (and its variants'), a
    little more for each seed."""
    wanted: dict[tuple[Path, str], dict[str, list[tuple[dict[str, Any], float]]]] = {}
    for readings in (claim.readings, *claim.variants):
        for reading, number in zip(readings, numbers, strict=True):
            for seed in lab.seeds_of(claim):
                at = {dim: 4 if label == LAST else label for dim, label in reading.at.items()}
                of_file = wanted.setdefault((lab.folder(reading, seed), reading.probe), {})
                of_file.setdefault(reading.variable, []).append((at, number * (1 + spread * seed)))
    for (folder, probe), variables in wanted.items():
        if not folder.exists():
            run = Run.create(
                folder, next(job.config for job in lab.runs(folder.parent.name) if job.folder == str(folder))
            )
            run.publish(8, {}, config=run.config, resume=None)
        save_result(_dataset(variables), Run.open(folder).result_path(8, probe))


def _dataset(variables: dict[str, list[tuple[dict[str, Any], float]]]) -> xr.Dataset:
    whole = xr.Dataset()
    for name, entries in variables.items():
        for at, number in entries:
            values = np.full([1] * len(at), number)
            coordinates = {dim: [label] for dim, label in at.items()}
            pair = {name: (tuple(at), values), f"{name}_sem": (tuple(at), values * 1e-4)}
            whole = whole.merge(xr.Dataset(pair, coordinates), compat="no_conflicts", join="outer")
    return whole


def candidates(claim: Claim) -> Iterator[tuple[float, ...]]:
    if len(claim.readings) == 1:
        yield from ((claim.rule.level - 0.5,), (claim.rule.level + 0.5,))
        return
    yield from itertools.product((0.2, 0.7), repeat=len(claim.readings))


def extremes(claim: Claim) -> dict[Verdict, tuple[float, ...]]:
    """Numbers that show the claim, and numbers that show its reverse."""
    known = [numbers for numbers in candidates(claim) if math.isfinite(claim.combine(*numbers))]
    largest, smallest = (pick(known, key=lambda row: claim.combine(*row)) for pick in (max, min))
    equal = (0.5,) * len(claim.readings)
    if claim.rule.side == "within":
        return {"reproduced": equal, "contradicted": largest}
    ends = (largest, smallest) if claim.rule.side == "above" else (smallest, largest)
    return {"reproduced": ends[0], "contradicted": ends[1]}


@pytest.mark.parametrize("claim", DECIDABLE, ids=[claim.id for claim in DECIDABLE])
@pytest.mark.parametrize("verdict", ["reproduced", "contradicted"])
def test_made_up_results_get_the_verdict_that_they_show(claim: Claim, verdict: Verdict, tmp_path: Path) -> None:
    lab = Laboratory(tmp_path, 2, Engine())
    store_results(claim, lab, extremes(claim)[verdict])
    found = outcome_of(claim, lab, {})
    assert found.verdict == verdict, found.reason
    assert found.effect is not None
    assert set(found.runs) == {
        path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/config.json")
    }
    assert found.command == f"lcmae claims --claims {claim.id}"
    if claim.over == "everything":
        assert found.low is None
    else:
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.effect <= found.high


def test_a_number_without_what_it_needs_is_shown_and_not_judged(tmp_path: Path) -> None:
    claim, lab = CLAIMS["theorem-4.2"], Laboratory(tmp_path, 2, Engine())
    store_results(claim, lab, (0.1, 0.2, 0.4, 1.0, 2.0, 4.0))
    found = outcome_of(claim, lab, {})
    assert found.effect == pytest.approx(1.0)
    assert found.verdict == "not decidable"
    assert "Lipschitz" in found.reason


def test_an_interval_over_the_level_decides_nothing(tmp_path: Path) -> None:
    claim, lab = CLAIMS["umae-rank"], Laboratory(tmp_path, 2, Engine())
    store_results(claim, lab, (1.0, 1.01), spread=0.5)
    for file in (tmp_path / "mae").glob("*-s1/probes/*/spectrum.nc"):
        file.unlink()
    store_results(claim, lab, (1.0, 1.01), spread=0.5)
    found = outcome_of(claim, lab, {})
    assert found.values == (pytest.approx(-0.01), pytest.approx(-0.015))
    assert (found.verdict, found.reason) == ("not decidable", "the interval holds 0")


def test_missing_and_torn_results_are_reasons(tmp_path: Path) -> None:
    claim, lab = CLAIMS["umae-rank"], Laboratory(tmp_path, 2, Engine())
    store_results(claim, lab, (2.0, 1.0))
    torn = next((tmp_path / "umae").glob("*-s1/probes/*/spectrum.nc"))
    torn.write_bytes(torn.read_bytes()[:-9])
    found = outcome_of(claim, lab, {})
    assert found.verdict == "not decidable"
    assert "runs failed: umae/umae-random-0.5-s1: expected a probe result" in found.reason
    assert outcome_of(claim, lab, {"umae/umae-random-0.5-s1": "loss is nan"}).reason.endswith(": loss is nan")


def test_shorter_training_than_declared_decides_nothing(tmp_path: Path) -> None:
    claim = CLAIMS["umae-rank"]
    lab = Laboratory(tmp_path, 2, Engine(), epochs=3)
    store_results(claim, lab, (2.0, 1.0))
    found = outcome_of(claim, lab, {})
    assert (found.verdict, found.reason) == ("not decidable", "needs runs of 72 epochs (these have 3)")
    assert found.effect == pytest.approx(1.0, rel=1e-2)
