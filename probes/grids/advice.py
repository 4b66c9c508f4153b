"""What may be advised of a mask, and what may not: from the verdict of a race, or from none. No
torch.

The published mask, random 0.75, is the advice unless a race shows another one to be better on these
images: beyond the chance of seeds (Holm's correction over all tested masks) and by more than other
test images could undo. A race whose networks know no more than untrained ones decides nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import xarray as xr

from lcmae.probes.grids.verdict import PUBLISHED, CellVerdict, Key, Verdict, labelled
from lcmae.probes.statistics import intervals

Grounds = Literal["published", "not ruled out", "better"]
"""The published mask untested; the published mask, which the race leaves in question or could not
replace; another one, which the race shows to be better."""


@dataclass(frozen=True)
class Advice:
    """One page's worth: what to do, on which grounds, what else it could be, what is not known."""

    key: Key
    grounds: Grounds
    headline: str
    reasons: tuple[str, ...]
    alternatives: tuple[Key, ...]
    """Tested masks that cannot be told apart from the advised one, best first."""
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "mask": dict(zip(("objective", "mask", "ratio", "unit"), self.key, strict=True)),
            "grounds": self.grounds,
            "headline": self.headline,
            "reasons": list(self.reasons),
            "alternatives": [words(key) for key in self.alternatives],
            "unknown": list(self.unknown),
        }


@dataclass(frozen=True)
class Baselines:
    """The measure of what is not trained, on the same images."""

    untrained: tuple[float, ...] = ()
    """Networks of the same shape and seeds without training."""
    pixels: float = math.nan
    """Raw pixels."""

    @property
    def untrained_mean(self) -> float:
        """NaN where there is none."""
        return sum(self.untrained) / len(self.untrained) if self.untrained else math.nan


@dataclass(frozen=True)
class RaceEvidence:
    """A race that ended with at least two seeds of each cell."""

    verdict: Verdict
    dropped: tuple[Key, ...]
    """Cells that earlier rungs ruled out as the best."""
    conditions: str
    """Model, images, steps and seeds in a sentence."""
    agreement: tuple[tuple[float, float], ...] = ()
    """Rank correlation and regret of each earlier rung against the last one."""
    baselines: Baselines = field(default_factory=Baselines)


def pictured(tested: RaceEvidence) -> xr.Dataset:
    """The tested masks as labelled numbers, with `untrained` and `pixels`."""
    found = labelled(tested.verdict).assign_coords(name=("cell", [words(cell.key) for cell in tested.verdict.cells]))
    about = {"units": tested.verdict.units}
    return found.assign(
        untrained=((), tested.baselines.untrained_mean, {**about, "long_name": "untrained networks"}),
        pixels=((), tested.baselines.pixels, {**about, "long_name": "raw pixels"}),
    )


def words(key: Key) -> str:
    """A mask in words: "random 0.75", "random 0.5 in units of 2 patches"."""
    _, mask, ratio, unit = key
    return f"{mask} {ratio:g}" + ("" if unit in (None, 1) else f" in units of {unit} patches")


def untested(why: str) -> Advice:
    """The advice where no race could decide anything."""
    return Advice(
        PUBLISHED,
        "published",
        f"{words(PUBLISHED).capitalize()}, as published; not tested on your images.",
        (why,),
        (),
        ("Whether another mask, ratio or mask unit serves these images better.",),
    )


def decide(tested: RaceEvidence) -> Advice:
    """The advice after a race whose baseline is the published mask."""
    verdict, baselines = tested.verdict, tested.baselines
    top = verdict.cells[0]
    published = next(cell for cell in verdict.cells if cell.key == verdict.baseline)
    measure = verdict.long_name
    unknown = [
        f"Every number is of small networks after short training: {tested.conditions}. A larger network or a longer "
        "training may prefer another mask.",
        f"Only {measure} was compared: what fine-tuning or another task would say is not known.",
        *_notes(verdict),
        *_agreement(tested.agreement),
    ]
    if math.isfinite(baselines.untrained_mean) and not top.low > baselines.untrained_mean:
        return Advice(
            published.key,
            "published",
            f"{words(published.key).capitalize()}, as published; this test could not tell masks apart on your images.",
            (
                f"The best of the tested networks ({words(top.key)}) reaches {_share(top)}, untrained networks "
                f"{baselines.untrained_mean:.1%}: training of this length taught nothing that this measure sees.",
            ),
            (),
            ("Whether another mask serves these images better: give it more time or more images.", *unknown),
        )
    reasons = [f"Tested: {tested.conditions}.", f"By {measure}: {verdict.sentence()}", *_baselines(tested)]
    reasons += _units_and_ratios(tested)
    others = tuple(key for key in verdict.best if key != published.key)
    if published.may_be_best:
        text = (
            f"{words(published.key).capitalize()}, as published: no tested mask is better beyond chance on your images."
        )
        return Advice(published.key, "not ruled out", text, tuple(reasons), others, tuple(unknown))
    undone = verdict.test_set_reach
    gain = top.mean - published.mean
    if top.word not in ("higher", "lower") or gain * verdict.direction <= undone:
        text = (
            f"{words(published.key).capitalize()}, as published: {words(top.key)} did better in this test ({_share(top)} "
            f"against {_share(published)}), but not by enough to be sure on other images."
        )
        return Advice(published.key, "not ruled out", text, tuple(reasons), tuple(verdict.best), tuple(unknown))
    rest = tuple(key for key in verdict.best if key != top.key)
    text = (
        f"{words(top.key).capitalize()}: {_share(top)} against {_share(published)} of {words(published.key)}, the published "
        "mask, on your images."
    )
    return Advice(top.key, "better", text, tuple(reasons), rest, tuple(unknown))


def _notes(verdict: Verdict) -> list[str]:
    lines = []
    if verdict.is_provisional:
        seeds = min(cell.num_seeds for cell in verdict.cells)
        lines.append(f"{seeds} seeds of each mask are valid but nearly powerless: more time brings more of them.")
    if verdict.test_set_error:
        lines.append(
            "Intervals are over seeds on these test images; other images would add up to "
            f"± {100 * verdict.test_set_reach:.2g} points to a difference (binomial, 95 %)."
        )
    return lines


def _share(cell: CellVerdict) -> str:
    if math.isnan(cell.high):
        return f"{cell.mean:.1%}"
    return f"{cell.mean:.1%} ({cell.low:.1%} to {cell.high:.1%})"


def _baselines(tested: RaceEvidence) -> list[str]:
    known = tested.baselines
    parts = []
    if known.untrained:
        parts.append(f"untrained networks reach {known.untrained_mean:.1%}")
    if math.isfinite(known.pixels):
        parts.append(f"raw pixels {known.pixels:.1%}")
    return [f"For scale: {', '.join(parts)}."] if parts else []


def _units_and_ratios(tested: RaceEvidence) -> list[str]:
    """Which mask units and ratios are still in question."""
    best = tested.verdict.best
    every = [*(cell.key for cell in tested.verdict.cells), *tested.dropped]
    found = []
    units = sorted({key[3] for key in every if key[3] is not None})
    if len(units) > 1:
        left = sorted({key[3] for key in best if key[3] is not None})
        gone = [unit for unit in units if unit not in left]
        if not gone:
            found.append(f"The mask unit is undecided: units of {_listed(units)} patches may all be best.")
        elif left:
            found.append(f"Mask units of {_listed(gone)} patches are ruled out as the best; {_listed(left)} may be.")
    ratios = sorted({key[2] for key in best})
    if len({key[2] for key in every}) > 1:
        found.append(f"Ratios that may be best: {_listed(ratios)}.")
    if tested.dropped:
        found.append(f"Ruled out after a short schedule: {'; '.join(map(words, tested.dropped))}.")
    return found


def _listed(values: Sequence[float | int]) -> str:
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _agreement(found: Sequence[tuple[float, float]]) -> list[str]:
    known = [(number, rho) for number, (rho, _) in enumerate(found, start=1) if math.isfinite(rho)]
    return [
        f"How far short schedules predict long ones: rung {number}'s order and the last one's have a rank correlation of "
        f"{rho:.2f}."
        for number, rho in known
    ]


def of_statistics(statistics: xr.Dataset) -> list[str]:
    """What the images' own statistics say, a sentence each, with 95 % intervals."""
    lines = []
    side = int(statistics.attrs["patch_size"])
    reach = _interval(statistics, "reach")
    if reach is None:
        lines.append("Pixels stay correlated beyond half of the image (no fall to 1 / e).")
    else:
        lines.append(f"Pixels agree over {reach} patches of {side} pixels (where their correlation falls to 1 / e).")
    ratio = _nearest(statistics["ratio"].values, PUBLISHED[2])
    for unit in statistics["unit"].values.tolist():
        at = {"unit": unit, "ratio": ratio}
        lines.append(
            f"Random {ratio:g}{'' if unit == 1 else f' in units of {unit} patches'}: a linear predictor explains "
            f"{_interval(statistics, 'r2_linear', **at)} of the variance of hidden patches, the 8 neighbours alone "
            f"{_interval(statistics, 'r2_near', **at)}."
        )
    if "label_error" in statistics:
        errors = [
            f"{value:g}: {_interval(statistics, 'label_error', ratio=value, unit=1)}"
            for value in statistics["ratio"].values.tolist()
        ]
        lines.append(
            f"Label error of similar visible parts by ratio: {'; '.join(errors)} (always the commonest class: "
            f"{float(statistics['label_chance']):.2f})."
        )
    lines.append(
        "These rise or fall steadily with the ratio, so they do not choose one: what neighbours explain is interpolation, "
        "and a higher ratio or a larger unit leaves less of it."
    )
    return lines


def _nearest(values: Any, wanted: float) -> float:
    return min(values.tolist(), key=lambda value: abs(value - wanted))


def _interval(statistics: xr.Dataset, name: str, **at: Any) -> str | None:
    """ "0.62 ± 0.03"; None where the number is none."""
    chosen = {key: value for key, value in at.items() if key in statistics[name].dims}
    value = float(statistics[name].sel(chosen))
    low, high = (float(end) for end in intervals.ends(statistics, name, **chosen))
    if math.isnan(value):
        return None
    half = (high - low) / 2
    digits = 2 if math.isnan(half) or half <= 0 else max(2, -math.floor(math.log10(half)))
    return f"{value:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")
