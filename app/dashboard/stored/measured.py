"""Under which conditions the results of several runs were measured, and which of them may share an
axis. No torch.

Pages and reports show the condition that most of the picked runs have, offer the others, and draw
runs of other conditions in panels of their own.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import xarray as xr

from lcmae.app.dashboard.stored import reading
from lcmae.probes.results.conditions import Condition, labels

Value = TypeVar("Value")


def conditions_of(path: Path, probe: str, steps: Iterable[int]) -> dict[Condition, int]:
    """What a run has of a probe: the condition, and the newest of these steps that has it; the
    newest result last."""
    found: dict[Condition, int] = {}
    for step in steps:
        for condition in reading.conditions_at(path, step, probe):
            found.pop(condition, None)
            found[condition] = step
    return found


def offered(by_run: Iterable[Iterable[Condition]]) -> list[Condition]:
    """Every condition, those of the most runs first, and of these the newest."""
    count: dict[Condition, int] = {}
    for known in by_run:
        for condition in known:
            count[condition] = count.pop(condition, 0) + 1
    newest_first = list(reversed(count))
    return sorted(newest_first, key=lambda condition: -count[condition])


def groups(results: Mapping[str, xr.Dataset]) -> list[tuple[Condition, dict[str, xr.Dataset]]]:
    """Results that were measured alike, the largest group first."""
    found: dict[Condition, dict[str, xr.Dataset]] = {}
    for name, result in results.items():
        found.setdefault(Condition.of(result.attrs).apart_from_checkpoint, {})[name] = result
    return sorted(found.items(), key=lambda group: -len(group[1]))


def words(
    condition: Condition, beside: Iterable[Condition], results: Mapping[str, xr.Dataset], steps: Iterable[int]
) -> str:
    """`digits, 360 test images, random 0.5 (trained at 0.5), step 792`: what stands on a page, as
    far as needed to tell it from the conditions beside it."""
    known = list(dict.fromkeys([condition, *beside]))
    masks = {str(result.attrs["trained_mask"]) for result in results.values() if "trained_mask" in result.attrs}
    trained = f" (trained at {', '.join(sorted(map(_short, masks)))})" if masks and condition.mask else ""
    numbers = sorted(set(steps))
    at = f", step{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}" if numbers else ""
    return f"{labels(known)[0]}{trained}{at}"


def _short(mask: str) -> str:
    return mask.removeprefix("random ")
