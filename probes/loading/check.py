"""`lcmae.check`: is my loading right?

A state dict does not say how pixels were normalised, how many heads it has, or whether its targets
were normalised patches; a wrong value loads strictly and computes something else. Here every
setting that was *assumed* is tested against its alternatives on the user's own images, under the
same masks, and the readings are compared in pairs of images (95 % intervals of Student's t, shared
among all that are tried: Bonferroni). lcmae's own procedure; `measure` says what is measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from lcmae.data.images import images as open_images
from lcmae.data.source import ImageSource
from lcmae.errors import CheckpointError, InputError
from lcmae.formats import load
from lcmae.models import MaskedImageModel
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.loading.candidates import Candidate, candidates, option
from lcmae.probes.loading.measure import Fit, baselines, fit, recognition
from lcmae.progress import ProgressBar, Silent

Verdict = Literal["right", "suspect", "cannot tell"]
FEWEST = 8
"""Images that an interval over images needs."""

DEFAULT_RATIO = 0.75
ROUNDS = 4
NAN = float("nan")
RAW, NORMALISED = 0.25, 0.15
"""A slope of brightness above and below which targets were raw and normalised. A network that
predicts raw patches is below 1 (it regresses to the mean), and by a further factor of 2 where
pixels are scaled wrongly; normalised predictions have a mean of about 0."""


@dataclass(frozen=True)
class Finding:
    """One question, its answer, and why."""

    question: str
    verdict: Verdict
    reason: str
    do: str = ""
    """Options that would read the file as this finding says."""

    overrides: dict[str, Any] = field(default_factory=dict)
    """The same for `lcmae.load`."""

    value: float = 0.0
    """The fit that they reach."""


@dataclass(frozen=True)
class Reading:
    """The file read one way."""

    label: str
    option: str
    value: float
    """Its fit (R2), or its margin (mean over images)."""

    low: float
    high: float
    """Of its difference to the base of its round, mean over images: how much lower the logarithm of
    the error is, or how much higher the margin; NaN for the base."""

    round: int = 1
    """Counted from 1; a round's base holds what the rounds before found."""


@dataclass(frozen=True)
class Check:
    """What `lcmae.check` found."""

    verdict: Verdict
    sentence: str
    findings: tuple[Finding, ...]
    readings: tuple[Reading, ...]
    """Of all rounds, a round's base first."""

    measure: str
    num_images: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check(
    checkpoint: Any,
    images: Any,
    *,
    limit: int = 64,
    seed: int = 0,
    batch_size: int = 16,
    device: str = "cpu",
    show_progress: bool = False,
    **overrides: Any,
) -> Check:
    """Is the checkpoint read as its authors meant it?

    `checkpoint`: a path or a name on the hub; `images`: whatever `lcmae.images` takes, best like
    those of its training; `overrides`: what is known, as for `lcmae.load` (it is not tested). An
    alternative that fits better is taken, and the others are tested again, for at most `ROUNDS`
    rounds. Time: a pass of `limit` images for each reading, five to ten readings per round.
    `InputError` for fewer than 8 images, and the errors of `load`.
    """
    model = load(checkpoint, device=device, **overrides)
    source = open_images(images, limit=limit).at(model.config.image_size, model.config.channels)
    if len(source) < FEWEST:
        raise InputError(f"expected at least {FEWEST} images to compare readings on, got {len(source)}")
    return _Trial(checkpoint, source, seed, batch_size, device, show_progress).run(model, overrides)


@dataclass
class _Trial:
    checkpoint: Any
    source: ImageSource
    seed: int
    batch_size: int
    device: str
    show_progress: bool

    def run(self, model: MaskedImageModel, overrides: Mapping[str, Any]) -> Check:
        taken: list[Finding] = []
        said, readings, number = dict(overrides), [], 0
        while True:
            number += 1
            tried = _candidates(model)
            passes = len(tried) + 1 + model.has_prediction
            bar = ProgressBar(f"check, round {number}", passes * len(self.source)) if self.show_progress else Silent()
            with bar:
                found = _Round(self, model, bar)
                targets = found.targets(said)
                adopted = targets if targets is not None and targets.verdict == "suspect" else None
                rows, settings = ([], []) if adopted else found.settings(tried, said)
                readings += [replace(row, round=number) for row in rows]
                adopted = adopted or max(
                    (one for one in settings if one.verdict == "suspect"), key=lambda one: one.value, default=None
                )
                if adopted is None or number == ROUNDS:
                    trained, learned = found.trained()
                    settings = settings if learned else [_of_nothing(one) for one in settings]
                    findings = [*trained, *([targets] if targets else []), *settings, *_warnings(model)]
                    break
            taken.append(adopted)
            said |= adopted.overrides
            model = load(self.checkpoint, device=self.device, **said)
        asked = {one.question for one in taken}
        findings = [*taken, *(one for one in findings if one.question not in asked)]
        verdict, sentence = conclusion(findings)
        measure = "fit (R2 on hidden patches); differences of log error" if model.has_prediction else "margin of views"
        return Check(verdict, sentence, tuple(findings), tuple(readings), measure, len(self.source))


@dataclass
class _Round:
    """Everything that is measured of one reading, and of its neighbours."""

    trial: _Trial
    model: MaskedImageModel
    bar: Any

    def __post_init__(self) -> None:
        self.fit = self._fit(self.model) if self.model.has_prediction else None
        self.base, self.value = self._numbers(self.model) if self.fit is None else (self.fit.score, self.fit.fit)

    def _fit(self, model: MaskedImageModel) -> Fit:
        trial = self.trial
        return fit(model, trial.source, masking_ratio(self.model), trial.seed, trial.batch_size, self.bar)

    def _numbers(self, model: MaskedImageModel) -> tuple[np.ndarray, float]:
        """What is compared, of each image; and the value that a person reads."""
        if model.has_prediction:
            found = self._fit(model)
            return found.score, found.fit
        margins = recognition(model, self.trial.source, self.trial.seed, self.trial.batch_size, self.bar)
        return margins, float(margins.mean())

    def trained(self) -> tuple[list[Finding], bool]:
        """Is it better than no network, and than one that learned nothing? Beside it whether it
        beats those two that know nothing of the image (a smooth image's neighbours may do better
        than a network)."""
        if self.fit is None:
            return [], True
        trial, ratio = self.trial, masking_ratio(self.model)
        errors = baselines(self.model, trial.source, ratio, trial.seed, trial.batch_size)
        fresh = untrained(self.model, trial.seed)
        if fresh is None:
            self.bar.advance(len(trial.source))
        else:
            errors["untrained network"] = self._fit(fresh).error
        own = self.fit.error
        parts, passed, learned = [f"model {own.mean():.3g}", f"best constant {self.fit.constant:.3g}"], True, True
        for name, error in errors.items():
            low, high = interval(error - own, len(errors))
            passed = passed and low > 0
            learned = learned and (low > 0 or name == "nearest visible patch")
            parts.append(f"{name} {error.mean():.3g} (higher by {low:.2g} to {high:.2g})")
        text = f"error on hidden patches at ratio {ratio:g}: {', '.join(parts)}"
        return [Finding("Does it fill in hidden patches?", "right" if passed else "suspect", text)], learned

    def targets(self, given: Mapping[str, Any]) -> Finding | None:
        """Predictions carry a patch's brightness only where targets were raw pixels."""
        if self.fit is None:
            return None
        slope, without = self.fit.slope
        count = len(without)
        error = float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))
        reach = float(stats.t.ppf(0.975, count - 1)) * error
        low, high = slope - reach, slope + reach
        question, said = "Raw or normalised targets?", bool(self.model.config.normalize_targets)
        text = f"brightness of predicted on true patches has slope {slope:.2f} ({low:.2f} to {high:.2f})"
        is_raw, is_normalised = low > RAW, high < NORMALISED
        if not is_raw and not is_normalised:
            return Finding(question, "cannot tell", f"{text}: neither near 1 (raw) nor near 0 (normalised)")
        text = f"{text}: it predicts {'raw' if is_raw else 'normalised'} patches"
        if is_normalised == said:
            return Finding(question, "right", f"{text}, as it is read")
        wanted = {"normalize_targets": is_normalised}
        if is_normalised:
            # a network that learned nothing knows no brightness either
            other = load(self.trial.checkpoint, device=self.trial.device, **{**given, **wanted})
            self.bar.more(len(self.trial.source))
            if interval(self._numbers(other)[0], 1)[0] <= 0:
                return Finding(question, "cannot tell", f"{text}, or nothing: it fits neither")
        return Finding(
            question, "suspect", f"{text}, but was read the other way", option(wanted), overrides=wanted, value=1.0
        )

    def settings(self, tried: Sequence[Candidate], said: Mapping[str, Any]) -> tuple[list[Reading], list[Finding]]:
        """Each answer's reading, the base first, and a finding for each setting."""
        base = Reading("with what is said" if said else "as it is read", "", self.value, NAN, NAN)
        by_setting: dict[str, list[tuple[Candidate, Reading]]] = {}
        for candidate in tried:
            rows = by_setting.setdefault(candidate.setting, [])
            try:
                other = load(self.trial.checkpoint, device=self.trial.device, **{**said, **candidate.overrides})
            except CheckpointError:
                # its shapes exclude it
                self.bar.advance(len(self.trial.source), candidate.label)
                continue
            numbers, value = self._numbers(other)
            low, high = interval(numbers - self.base, len(tried))
            reading = Reading(candidate.label, option(candidate.overrides), value, low, high)
            rows.append((candidate, reading))
        readings = [base, *(reading for rows in by_setting.values() for _, reading in rows)]
        return readings, [answer(setting, base, rows) for setting, rows in by_setting.items()]


def masking_ratio(model: MaskedImageModel) -> float:
    """What it was trained with, where that is known; else MAE's 0.75."""
    source = model.source
    known = {} if source is None else {**(source.mask or {}), **source.assumed, **source.read}
    ratio = known.get("mask_ratio", known.get("ratio"))
    return float(ratio) if isinstance(ratio, int | float) and 0 < ratio < 1 else DEFAULT_RATIO


def _candidates(model: MaskedImageModel) -> list[Candidate]:
    assert model.source is not None
    return list(candidates(model.config.model_dump(mode="json"), model.source))


def _warnings(model: MaskedImageModel) -> list[Finding]:
    """What the notes of reading it warn of, but for what was tried here."""
    assert model.source is not None
    return [
        Finding("Are there warnings from reading it?", "cannot tell", note)
        for note in model.source.notes
        if "resampled" in note or (note.startswith("ASSUMED") and "heads" not in note)
    ]


def interval(difference: np.ndarray, shared: int) -> tuple[float, float]:
    """Of the mean of paired differences [images], 95 % for `shared` intervals together."""
    count = len(difference)
    reach = stats.t.ppf(1 - 0.025 / max(shared, 1), count - 1) * difference.std(ddof=1) / np.sqrt(count)
    return float(difference.mean() - reach), float(difference.mean() + reach)


def answer(setting: str, base: Reading, others: Sequence[tuple[Candidate, Reading]]) -> Finding:
    """A setting's verdict from its readings: suspect where one is better beyond its interval, right
    where all are worse."""
    question = "Are pixels normalised as it expects?" if setting == "pixels" else f"Is {setting} right?"
    if not others:
        return Finding(question, "right", "no alternative fits the shapes")
    _, best = max(others, key=lambda pair: pair[1].value)
    adopted = [pair for pair in others if pair[1].low > 0]
    if adopted:
        candidate, best = max(adopted, key=lambda pair: pair[1].value)
        text, wanted = against(best, base), candidate.overrides
        return Finding(question, "suspect", f"an alternative fits better, {text}", option(wanted), wanted, best.value)
    text = against(best, base)
    if all(reading.high < 0 for _, reading in others):
        return Finding(question, "right", f"every alternative fits worse; the nearest, {text}")
    return Finding(question, "cannot tell", f"an alternative fits about as well, {text}")


def _of_nothing(one: Finding) -> Finding:
    """What the readings of a model say that predicts no better than no network."""
    if one.verdict != "right":
        return one
    return replace(one, verdict="cannot tell", reason=f"{one.reason}; but it predicts no better than no network")


def against(one: Reading, base: Reading) -> str:
    """The two values, and their difference's interval."""
    return f"{one.label}: {one.value:.3f} against {base.value:.3f} (difference {one.low:+.2g} to {one.high:+.2g})"


def conclusion(findings: list[Finding]) -> tuple[Verdict, str]:
    """The whole in a sentence."""
    advised = [finding.do for finding in findings if finding.verdict == "suspect" and finding.do]
    if advised:
        return "suspect", f"Some settings do not fit these images; try {' '.join(advised)}"
    if any(finding.verdict == "suspect" for finding in findings):
        return "suspect", (
            "It predicts no better than no network: another model's weights, images unlike those it was trained on, or a "
            "setting that is not among those tried"
        )
    if any(finding.verdict == "right" for finding in findings):
        open_ones = [finding.question for finding in findings if finding.verdict == "cannot tell"]
        rest = f"; these images leave open: {' '.join(open_ones)}" if open_ones else ""
        return "right", f"Nothing contradicts the current reading{rest}"
    return "cannot tell", "These images cannot tell the readings apart"
