"""What a page answers: one sentence with its interval, and up to four headline tiles. Numbers ->
words; no torch, no streamlit.

Every `app/figures/<probe>.py` has a function `answer(results) -> Answer`, made of these parts:

- `number(result, variable, labels)`: a stored number with its 95 % interval
- `against(own, others)`: "is below A (0.50 ± 0.03) and cannot be told apart from B (0.31 ± 0.04)"
- `best_of(numbers)`: "layer 9", and which others cannot be told apart from it
- `of_runs(results, headline)`: several runs by one number, by paired differences

A sentence never claims more than its interval: where the interval of a difference holds 0 it says
"cannot be told apart", and where no interval is stored it makes no claim.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import xarray as xr

from lcmae.app.figures import style
from lcmae.probes.results.differences import Difference, apart, left_out, paired
from lcmae.probes.results.networks import NETWORK, TRAINED
from lcmae.probes.results.tables import Cell
from lcmae.probes.statistics import intervals

MOST_TILES = 4
MOST_NAMES = 4
"""Runs that a sentence names; of more it says how many."""


@dataclass(frozen=True)
class Tile:
    """A headline number: what it is, the number, its 95 % interval, and a baseline beside it."""

    label: str
    value: str
    interval: str = ""
    baseline: str = ""
    quantity: str = ""
    """What it is, where the label is a run's name."""


@dataclass(frozen=True)
class Answer:
    """What stands above a page's figures."""

    sentence: str
    tiles: tuple[Tile, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.tiles) <= MOST_TILES


@dataclass(frozen=True)
class Number:
    """A number with the ends of its 95 % interval; NaN for what is not stored."""

    value: float
    low: float = math.nan
    high: float = math.nan
    unit: str = "1"
    is_share: bool = False
    """Whether it is written in percent."""

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.value)

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def is_exact(self) -> bool:
        """Whether the interval is nothing but rounding."""
        return self.has_interval and self.high - self.low <= 1e-9 * abs(self.value)

    def __str__(self) -> str:
        """`78.2 ± 1.1 %`, `0.42 (0.31 to 0.60) patches`; a number without an interval stands
        alone."""
        value, low, high, unit = self._texts()
        if not self.has_interval or self.is_exact:
            return f"{value}{unit}"
        if abs(self.high + self.low - 2 * self.value) <= 0.1 * (self.high - self.low):
            return f"{value} ± {self._half()}{unit}"
        return f"{value} ({low} to {high}){unit}"

    def tile(self, label: str, baseline: str = "") -> Tile:
        """The number as a tile."""
        value, low, high, unit = self._texts()
        shown = unit if len(unit) <= 12 else ""  # a long unit stands in the label
        label = label if shown or not unit.strip() else f"{label} [{unit.strip()}]"
        has_ends = self.has_interval and not self.is_exact
        return Tile(label, f"{value}{shown}", f"{low} to {high}" if has_ends else "", baseline)

    def _texts(self) -> tuple[str, str, str, str]:
        scale = 100 if self.is_share else 1
        unit = " %" if self.is_share else "" if self.unit in ("1", "") else f" {self.unit}"
        value, low, high = (_digits(one * scale, self._decimals(scale)) for one in (self.value, self.low, self.high))
        return value, low, high, unit

    def _half(self) -> str:
        scale = 100 if self.is_share else 1
        return _digits((self.high - self.low) / 2 * scale, self._decimals(scale))

    def _decimals(self, scale: float) -> int | None:
        """Two significant digits of half the interval; None for three of the number."""
        half = (self.high - self.low) / 2 * scale
        if not self.has_interval or self.is_exact:
            return None
        return max(0, 1 - math.floor(math.log10(half)))


def _digits(number: float, decimals: int | None) -> str:
    if not math.isfinite(number):
        return "–"
    if decimals is None or decimals > 6:
        return f"{number:.3g}"
    text = f"{number:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text  # never "-0.000"


UNKNOWN = Number(math.nan)


def number(
    result: xr.Dataset,
    variable: str,
    at: Mapping[str, Hashable] | None = None,
    *,
    share: bool = False,
    **more: Hashable,
) -> Number:
    """A stored number with its interval, at the labels of `at` and `more`; of the trained network
    where these name no other.
    `UNKNOWN` where the result has no such variable or label, or only NaN."""
    if variable not in result:
        return UNKNOWN
    values, labels = result[variable], {**(at or {}), **more}
    if NETWORK in values.dims:
        labels.setdefault(NETWORK, TRAINED)
    elif labels.pop(NETWORK, TRAINED) != TRAINED:
        return UNKNOWN
    if any(dim in values.dims and label not in values[dim].values for dim, label in labels.items()):
        return UNKNOWN
    chosen = {str(dim): label for dim, label in labels.items() if dim in values.dims}
    value = float(values.sel(chosen))
    low, high = (float(end) for end in intervals.ends(result, variable, **chosen))
    return Number(value, low, high, str(values.attrs.get("units", "1")), share) if math.isfinite(value) else UNKNOWN


def level(value: float, unit: str = "1", *, share: bool = False) -> Number:
    """A number that is known exactly, as chance is."""
    return Number(value, value, value, unit, share)


def exactly(one: Number) -> Number:
    """A stored number that is exact for these images, as the error of their mean patch is."""
    return level(one.value, one.unit, share=one.is_share) if not one.has_interval else one


def difference(a: Number, b: Number) -> Number:
    """b - a as of two that were measured apart (MOVER, `lcmae.probes.results.differences`); on the
    same images that is wider than need be, never narrower where they go together."""
    found = apart(_cell(a), _cell(b))
    return Number(found.value, found.low, found.high, a.unit, a.is_share)


def _cell(one: Number, variable: str = "", position: tuple[int, ...] = ()) -> Cell:
    return Cell(variable, position, "", "", "", "", one.value, math.nan, one.low, one.high, one.unit)


Verdict = Literal["above", "below", "cannot be told apart from", "beside"]


def verdict(difference: Number) -> Verdict:
    """What the interval of a difference allows to be said of its sign."""
    if not difference.has_interval:
        return "beside"
    if difference.low <= 0 <= difference.high:
        return "cannot be told apart from"
    return "above" if difference.value > 0 else "below"


def against(own: Number, others: Mapping[str, Number], begin: str = "") -> str:
    """Where a number lies among others, which are known by name: "is below the nearest patch (0.50
    ± 0.03) and chance (0.9) and cannot be told apart from ...", after `begin`; nothing where none
    is known."""
    found: dict[Verdict, list[str]] = {}
    for name, other in others.items():
        if other.is_known and own.is_known:
            found.setdefault(verdict(difference(other, own)), []).append(f"{name} ({_short(other, within=True)})")
    verbs = {"above": "is above", "below": "is below", "beside": "is shown, without an interval, beside"}
    clauses = [f"{verbs.get(words, words)} {listed(names)}" for words, names in found.items()]
    return f"{begin}{listed(clauses, ', and ')}" if clauses else ""


def _short(one: Number, *, within: bool = False) -> str:
    """Without the unit, which the number that it stands beside has said; `within` brackets there
    are none in it."""
    text = str(replace(one, unit="1"))
    return text.replace(" (", "; ").replace(")", "") if within else text


def listed(names: Sequence[str], last: str = " and ") -> str:
    """`a, b and c`."""
    return last.join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def ends_in_s(count: int) -> str:
    return "" if count == 1 else "s"


def beside(words: str, other: Number) -> str:
    """A tile's baseline: "untrained 0.31 ± 0.02"; nothing where it is not known."""
    return f"{words} {_short(other)}" if other.is_known else ""


@dataclass(frozen=True)
class Best:
    """The best of several numbers, and which of the others cannot be told apart from it."""

    name: Hashable
    number: Number
    alike: tuple[Hashable, ...]

    def caution(self, what: str) -> str:
        """`; layers 7 and 8 cannot be told apart from it`; nothing where it stands alone."""
        if not self.alike:
            return ""
        names = [str(name) for name in self.alike]
        if len(names) > MOST_NAMES:
            return f"; {len(names)} other {what}s cannot be told apart from it"
        return f"; {what}{ends_in_s(len(names))} {listed(names)} cannot be told apart from it"


def best_of(numbers: Mapping[Any, Number], best: Literal["highest", "lowest"]) -> Best | None:
    """The extreme of several numbers, and those whose difference from it holds 0 or has no
    interval. None where none is known."""
    known = {name: one for name, one in numbers.items() if one.is_known}
    if not known:
        return None
    sign = 1 if best == "highest" else -1
    first = max(known, key=lambda name: sign * known[name].value)
    alike = tuple(
        name for name, one in known.items()
        if name != first and verdict(difference(one, known[first])) not in ("above", "below")
    )  # fmt: skip
    return Best(first, known[first], alike)


@dataclass(frozen=True)
class Headline:
    """The one number by which a page orders several runs."""

    variable: str
    words: str
    """What it is, after "the lowest": "error of hidden patches"."""

    best: Literal["highest", "lowest"]
    labels: Callable[[xr.Dataset], Mapping[str, Hashable]] = field(default=lambda result: {})
    share: bool = False
    beside: Mapping[str, Hashable] = field(default_factory=lambda: {NETWORK: "untrained"})
    """Labels of the baseline that a run's tile has beside it."""

    beside_words: str = "untrained"
    brief: str = ""
    """What it is in the room of a tile, where `words` are long."""

    def tile(self, run: str, one: Number, other: Number) -> Tile:
        """A run's number, called by what it is and its unit, beside the baseline."""
        shown = one.tile(self.brief or self.words, beside(self.beside_words, other))
        return replace(shown, label=run, quantity=shown.label)


def of_runs(results: Mapping[str, xr.Dataset], headline: Headline) -> Answer:
    """Several runs by one number: the extreme one, and which cannot be told apart from it by paired
    differences (`lcmae.probes.results.differences`). Runs of other units stand apart."""
    sentences, tiles = [], []
    for unit, group in style.by_units(results, headline.variable):
        numbers = {run: _of_run(result, headline) for run, result in group.items()}
        known = {run: one for run, one in numbers.items() if one.is_known}
        if not known:
            continue
        sign = -1 if headline.best == "highest" else 1
        order = sorted(known, key=lambda run: sign * known[run].value)
        sentences.append(_ranked(group, known, order, headline, unit))
        for run in order:
            labels = {**headline.labels(group[run]), **headline.beside}
            other = number(group[run], headline.variable, labels, share=headline.share)
            tiles.append(headline.tile(run, known[run], other))
    if not sentences:
        return Answer(f"No picked run has a number for the {headline.words}.")
    return Answer(" ".join(sentences), tuple(tiles[:MOST_TILES]))


def _of_run(result: xr.Dataset, headline: Headline) -> Number:
    return number(result, headline.variable, headline.labels(result), share=headline.share)


def _ranked(
    group: Mapping[str, xr.Dataset], known: Mapping[str, Number], order: Sequence[str], headline: Headline, unit: str
) -> str:
    first, *others = order
    begin = f"{first} has the {headline.best} {headline.words}{unit}, {known[first]}"
    if not others:
        return f"{begin}."
    found = {run: between(group[first], group[run], headline) for run in others}
    alike = [run for run in others if verdict(found[run]) not in ("above", "below")]
    if len(alike) == len(others):
        *some, last = order[:MOST_NAMES]
        more = [f"{len(order) - MOST_NAMES} more"] if len(order) > MOST_NAMES else []
        shown = listed([*(f"{run} {_short(known[run])}" for run in some), f"{last} {known[last]}", *more])
        return f"The runs cannot be told apart by their {headline.words}{unit}: {shown}."
    if alike:
        names = listed(alike) if len(alike) <= MOST_NAMES else f"{len(alike)} of the {len(others)} others"
        return f"{begin}; {names} cannot be told apart from it."
    nearest = others[0]
    distance, words = found[nearest], "higher"
    if headline.best == "highest":
        distance, words = replace(distance, value=-distance.value, low=-distance.high, high=-distance.low), "lower"
    return f"{begin}; next is {nearest}, {_short(known[nearest])} ({words} by {_short(distance)})."


def between(a: xr.Dataset, b: xr.Dataset, headline: Headline) -> Number:
    """b - a, paired over images where both results keep what that needs and are of the same
    labels."""
    one, two = _of_run(a, headline), _of_run(b, headline)
    positions = [_position(result[headline.variable], headline.labels(result)) for result in (a, b)]
    cells = [_cell(own, headline.variable, position) for own, position in zip((one, two), positions, strict=True)]
    found: Difference | None = None
    if a[headline.variable].dims == b[headline.variable].dims:
        found = paired(a, b, *cells) or left_out(a, b, *cells)
    found = found or apart(*cells)
    return Number(found.value, found.low, found.high, one.unit, headline.share)


def _position(values: xr.DataArray, labels: Mapping[str, Hashable]) -> tuple[int, ...]:
    labels = {NETWORK: TRAINED, **labels}
    return tuple(int(np.flatnonzero(values[dim].values == labels[str(dim)])[0]) for dim in values.dims)


def trained_ratio(result: xr.Dataset, ratios: Sequence[float]) -> float:
    """The ratio nearest to that of training, which the attribute `trained_mask` says (`random
    0.75`); the middle one where it does not."""
    word = str(result.attrs.get("trained_mask", "")).rpartition(" ")[2]
    try:
        wanted = float(word)
    except ValueError:
        wanted = float(sorted(ratios)[len(ratios) // 2])
    return min(ratios, key=lambda ratio: abs(ratio - wanted))


def known(tiles: Sequence[Tile]) -> tuple[Tile, ...]:
    """The tiles that have a number, at most four."""
    return tuple(tile for tile in tiles if not tile.value.startswith("–"))[:MOST_TILES]
