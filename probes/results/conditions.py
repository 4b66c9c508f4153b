"""A result's condition: what it was measured on, and how. It is the result's identity.

Two results of one probe are the same result where checkpoint, data, split, images, mask, seed and
settings agree; they may stand on one axis where all but the checkpoint agree (`unlike`). The
attributes of a stored result say all of it, also those of results from before conditions had a
name. No torch.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

NOT_SETTINGS = ("mask", "batch_size")
"""Settings that are no part of `Condition.settings`: the mask has a field of its own, and images of
one forward pass decide nothing but rounding."""


@dataclass(frozen=True)
class Condition:
    """Everything that decides a probe's numbers, as text."""

    checkpoint: str
    """sha256 of the weights."""

    data: str
    """Name of the source; of images that were handed over, `array`."""

    split: str
    """train or test; empty for images that were handed over."""

    images: str
    """How many; behind it, where name and number do not decide which and in which order, digits of
    a sha256 that does (`lcmae.data.identity`)."""

    mask: str
    """The mask strategy's settings as JSON; empty for a probe without one."""

    seed: str
    """Of all that is drawn."""

    settings: str
    """The probe's other settings as JSON, keys sorted."""

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> "Condition":
        """The condition that the attributes of a result state; what they lack is empty."""
        mask, settings = split_settings(str(attrs.get("settings", "")))
        images = [str(attrs.get("num_images", "")), str(attrs.get("images_sha256", ""))]
        return cls(
            checkpoint=str(attrs.get("checkpoint_sha256", "")),
            data=str(attrs.get("data", "")),
            split=str(attrs.get("split", "")),
            images=" ".join(filter(None, images)),
            mask=mask,
            seed=str(attrs.get("seed", "")),
            settings=settings,
        )

    @property
    def digest(self) -> str:
        """sha256 of the condition."""
        return hashlib.sha256(json.dumps(astuple(self), ensure_ascii=True).encode()).hexdigest()

    @property
    def apart_from_checkpoint(self) -> "Condition":
        """The condition that results of several checkpoints can share."""
        return replace(self, checkpoint="")

    @property
    def num_images(self) -> str:
        """How many images, as text."""
        return self.images.partition(" ")[0]

    @property
    def mask_words(self) -> str:
        """`random 0.75`, or `block 0.6 (min_block 4)`; empty for a probe without a mask."""
        return mask_words(self.mask)

    def __str__(self) -> str:
        """`digits, 360 test images, random 0.5`."""
        split = "" if self.split in ("", "all") else f"{self.split} "
        images = f"{self.num_images} {split}images"
        return ", ".join(filter(None, (self.data, images, self.mask_words)))

    @property
    def file_stem(self) -> str:
        """`digits-test-360-random-0.5`: what a person reads of it in a file name, at most 80
        characters."""
        kind, _, _ = self.mask_words.partition(" (")
        text = "-".join(filter(None, (self.data, self.split, self.num_images, kind)))
        return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:80] or "result"


def split_settings(settings: str) -> tuple[str, str]:
    """The mask, and the other settings, of a probe's settings as JSON; text that is no JSON stays
    as it is."""
    try:
        values = json.loads(settings)
    except ValueError:
        return "", settings
    if not isinstance(values, dict):
        return "", settings
    mask = _canonical(values["mask"]) if values.get("mask") is not None else ""
    return mask, _canonical({name: value for name, value in values.items() if name not in NOT_SETTINGS})


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def mask_words(mask: str | Mapping[str, Any]) -> str:
    """A mask strategy in words, from its settings or their JSON: kind, ratio, and what else it
    has."""
    if isinstance(mask, str):
        try:
            mask = json.loads(mask)
        except ValueError:
            return ""
    if not isinstance(mask, Mapping):
        return ""
    others = ", ".join(f"{name} {value}" for name, value in mask.items() if name not in ("kind", "ratio"))
    words = " ".join(str(mask[name]) for name in ("kind", "ratio") if name in mask)
    return f"{words} ({others})" if others else words


NAMES = {"images": "num_images"}
"""Fields of a condition that go by another name among attributes."""


def unlike(conditions: Iterable[Condition]) -> list[str]:
    """Fields, but for the checkpoint, in which these conditions are not all the same."""
    all_of_them = list(conditions)
    found = [
        field.name
        for field in fields(Condition)
        if field.name != "checkpoint" and len({getattr(one, field.name) for one in all_of_them}) > 1
    ]
    return [NAMES.get(name, name) for name in found]


def in_words(names: Iterable[str]) -> str:
    """What `unlike` names, as a sentence has it: `data, images`."""
    fields_of = {attribute: name for name, attribute in NAMES.items()}
    return ", ".join(fields_of.get(name, name) for name in names)


def contrasts(a: Condition, b: Condition) -> list[str]:
    """What two conditions do not share, in words: `number of images (A 60, B 500)`."""
    return [_contrast(name, a, b) for name in unlike([a, b])]


def _contrast(name: str, a: Condition, b: Condition) -> str:
    if name == "num_images":
        if a.num_images == b.num_images:
            return f"choice of the {a.num_images} images"
        return f"number of images (A {a.num_images}, B {b.num_images})"
    if name == "settings":
        own, other = (_setting_words(one, [a, b]).replace("num_", "number of ").replace("_", " ") for one in (a, b))
        return f"settings of the probe (A {own}; B {other})"
    own, other = ((one.mask_words if name == "mask" else getattr(one, name)) or "none" for one in (a, b))
    return f"{name} (A {own}, B {other})"


def labels(conditions: Sequence[Condition]) -> list[str]:
    """Each condition in words, and behind them what tells it from the others: seed, settings, the
    digits of its images; the checkpoint is left aside."""
    named = [str(one) for one in conditions]
    for number, one in enumerate(conditions):
        alike = [other for other, words in zip(conditions, map(str, conditions), strict=True) if words == str(one)]
        names = [name for name in ("images", "seed", "settings") if len({getattr(two, name) for two in alike}) > 1]
        parts = [_setting_words(one, alike) if name == "settings" else f"{name} {getattr(one, name)}" for name in names]
        named[number] = ", ".join([named[number], *parts])
    return named


def _setting_words(one: Condition, alike: Sequence[Condition]) -> str:
    """The settings in which these conditions differ, as `num_masks 8`."""
    try:
        all_of_them = [json.loads(other.settings) for other in alike]
        own = json.loads(one.settings)
        names = [name for name in own if len({_canonical(values.get(name)) for values in all_of_them}) > 1]
    except (ValueError, AttributeError):
        return f"settings {one.settings}"
    return ", ".join(f"{name} {_canonical(own[name])}" for name in names)
