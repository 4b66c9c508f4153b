"""A published claim in a small form: the numbers it is about, and the rule that decides. No torch,
no runs.

The rule is part of the claim, so it stands before the runs are looked at; the verdict is computed
and never written by hand.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lcmae.probes.claims.readings import Reading, Value
from lcmae.probes.grids.table import summarise

Verdict = Literal["reproduced", "contradicted", "not decidable"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "contradicted", "not decidable")

# --- combinations ---


def value(one: float) -> float:
    """The reading itself."""
    return one


def difference(one: float, other: float) -> float:
    """The first less the second."""
    return one - other


def ratio_difference(one: float, its_unit: float, other: float, other_unit: float) -> float:
    """Of two readings in units of their own: the first less the second."""
    return one / its_unit - other / other_unit


def middle_above_ends(low: float, middle: float, high: float) -> float:
    """How far the middle lies above the better of the two ends; negative where an end is best."""
    return middle - max(low, high)


def correlation(*pairs: float) -> float:
    """Pearson's correlation of the first half of the readings with the second."""
    half = len(pairs) // 2
    ours, theirs = pairs[:half], pairs[half:]
    mean, other_mean = sum(ours) / half, sum(theirs) / half
    products = sum((x - mean) * (y - other_mean) for x, y in zip(ours, theirs, strict=True))
    scale = math.sqrt(sum((x - mean) ** 2 for x in ours) * sum((y - other_mean) ** 2 for y in theirs))
    return products / scale if scale > 0 else math.nan


@dataclass(frozen=True)
class LessNull:
    """What a combination says of the trained network, less what it says of the nulls that pass
    without training (an untrained network, a copy of the nearest visible patch): the best of them.

    Takes the readings of the trained network, then those of each null in turn.
    """

    combine: Callable[..., float]
    nulls: tuple[str, ...]
    """What they are, in words."""
    above: bool = True
    """Whether the claim asks for a larger number, so that the largest null is the best."""

    def parts(self, *numbers: float) -> tuple[float, float]:
        """Of the trained network, and of the best null."""
        size = len(numbers) // (1 + len(self.nulls))
        found = [self.combine(*numbers[first : first + size]) for first in range(0, len(numbers), size)]
        best = max if self.above else min
        return found[0], best(found[1:])

    def __call__(self, *numbers: float) -> float:
        own, null = self.parts(*numbers)
        return own - null


# --- a claim and its rule ---


@dataclass(frozen=True)
class Rule:
    """Where the whole 95 % interval of the effect must lie for the claim to be reproduced."""

    side: Literal["above", "below", "within"]
    level: float = 0.0
    """The value that is compared with; for `within` the largest distance from 0 that counts as
    equal."""

    def __str__(self) -> str:
        return f"within ±{self.level:g}" if self.side == "within" else f"{self.side} {self.level:g}"


@dataclass(frozen=True)
class Scale:
    """What this scale has."""

    images: int
    """Training images."""
    image_side: int
    """Pixels."""
    mask_units: int
    """Sides of the mask unit that the patch grid can hold at ratio 0.75."""
    labels: frozenset[str]
    """What is known of the images."""


DIGITS = Scale(images=1437, image_side=32, mask_units=2, labels=frozenset({"classes"}))
"""scikit-learn's digits, in patches of 8 pixels."""


@dataclass(frozen=True)
class Needs:
    """What a claim asks for before anything can be measured."""

    images: int = 0
    image_side: int = 0
    mask_units: int = 0
    labels: frozenset[str] = frozenset()
    unpublished: tuple[str, ...] = ()
    """Constants, definitions or code that a test would need and that are not published, or not at
    hand."""

    def lacking(self, scale: Scale) -> list[str]:
        """What this scale does not have, in words."""
        missing = [
            f"{wanted:,} {what} (there are {had:,})"
            for wanted, had, what in (
                (self.images, scale.images, "training images"),
                (self.image_side, scale.image_side, "pixels a side"),
                (self.mask_units, scale.mask_units, "sides of the mask unit on the patch grid"),
            )
            if wanted > had
        ]
        missing += [f"images with {label}" for label in sorted(self.labels - scale.labels)]
        return missing + [f"{what} (not published, or not available)" for what in self.unpublished]


@dataclass(frozen=True)
class Effect:
    """The claim's number with its 95 % interval."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    """One a seed; a single one where the interval is over images or masks."""


@dataclass(frozen=True)
class Claim:
    """One statement of one paper, and how it is held against runs.

    Where an untrained network would pass, the effect is the trained network's number less that of
    the nulls (`LessNull`): what training did, and not what the measure finds in anything.
    """

    id: str
    says: str
    """The statement, in our words."""
    source: str
    """Paper, and theorem, table or figure."""
    quantity: str = ""
    """The effect in words: what less what, and whose definition it is."""
    units: str = "1"
    readings: tuple[Reading, ...] = ()
    variants: tuple[tuple[Reading, ...], ...] = ()
    """The same readings under other values of a free choice (a kernel's bandwidth): the interval
    then holds those of all."""
    combine: Callable[..., float] = value
    """From the readings of one seed to the effect."""
    rule: Rule = field(default_factory=lambda: Rule("above"))
    over: Literal["seeds", "images", "masks", "everything"] = "seeds"
    """What the interval is over: training seeds (Student's t), or the images or masks of one seed
    (stored standard errors); what is computed from everything there is has none."""
    needs: Needs = field(default_factory=Needs)
    leaves_open: str = ""
    """What the verdict does not say."""

    @property
    def all_readings(self) -> tuple[Reading, ...]:
        """Those of the variants, too."""
        return tuple(reading for row in (self.readings, *self.variants) for reading in row)

    @property
    def tests_a_model(self) -> bool:
        """Whether any trained network has a say: kernels on pixels, enumerated toys and cuts of a
        tree know none."""
        return self.over == "seeds"

    @property
    def page(self) -> str:
        """The dashboard's page that shows where the number comes from; "runs" where nothing is
        read."""
        return self.readings[0].probe if self.readings else "runs"


def effect(claim: Claim, values: Sequence[Mapping[int, Sequence[Value]]]) -> Effect | None:
    """The effect of the claim's readings, with an interval that holds those of all its variants;
    None where one has no number.

    `values` are by variant (the claim's own readings first), then by seed.
    """
    found = [one for one in (_effect(claim, of_variant) for of_variant in values) if one is not None]
    if not found or len(found) < len(values):
        return None
    own = found[0]
    return Effect(own.mean, min(one.low for one in found), max(one.high for one in found), own.values)


def _effect(claim: Claim, values: Mapping[int, Sequence[Value]]) -> Effect | None:
    """The effect over seeds (paired: each seed gives one difference), or of one seed with its
    stored errors; None without any."""
    singles = {seed: claim.combine(*(one.value for one in row)) for seed, row in values.items()}
    singles = {seed: value for seed, value in sorted(singles.items()) if math.isfinite(value)}
    if not singles:
        return None
    if claim.over == "seeds":
        found = summarise(list(singles.values()))
        return Effect(found.mean, found.mean - found.half_width, found.mean + found.half_width, tuple(singles.values()))
    seed = min(singles)
    reach = 0.0 if claim.over == "everything" else propagated(claim.combine, values[seed])
    return Effect(singles[seed], singles[seed] - reach, singles[seed] + reach, (singles[seed],))


def propagated(combine: Callable[..., float], values: Sequence[Value]) -> float:
    """Half of the 95 % interval of a combination of numbers whose errors are independent, to first
    order: each has Student's t of its own degrees of freedom in it (Banerjee, 1960).

    Readings of the same images are not independent but rise and fall together, so that errors of
    differences come out too large.
    """
    numbers = [one.value for one in values]
    moved = [
        combine(*(number + one.half * (index == other) for other, number in enumerate(numbers)))
        for index, one in enumerate(values)
    ]
    return math.hypot(*(value - combine(*numbers) for value in moved))


def decide(
    found: Effect | None, rule: Rule, lacking: Sequence[str] = (), failures: Sequence[str] = ()
) -> tuple[Verdict, str]:
    """The verdict and its reason, from the effect, the rule, and what was lacking or failed."""
    if lacking:
        return "not decidable", f"needs {'; '.join(lacking)}"
    if failures:
        return "not decidable", f"runs failed: {'; '.join(failures)}"
    if found is None:
        return "not decidable", "no run has the number"
    if not math.isfinite(found.high - found.low):
        return "not decidable", f"{len(found.values)} seed has no interval; at least 2 are needed"
    if rule.side == "within":
        is_met = -rule.level < found.low and found.high < rule.level
        is_against = found.low > rule.level or found.high < -rule.level
    else:
        is_above, is_below = found.low > rule.level, found.high < rule.level
        is_met, is_against = (is_above, is_below) if rule.side == "above" else (is_below, is_above)
    if is_met:
        return "reproduced", f"the whole interval lies {rule}"
    if is_against:
        return "contradicted", f"the whole interval lies {_other_side(rule)}"
    if rule.side == "within":
        return "not decidable", f"the interval reaches beyond ±{rule.level:g}"
    return "not decidable", f"the interval holds {rule.level:g}"


def _other_side(rule: Rule) -> str:
    if rule.side == "within":
        return f"outside ±{rule.level:g}"
    return str(Rule("below" if rule.side == "above" else "above", rule.level))
