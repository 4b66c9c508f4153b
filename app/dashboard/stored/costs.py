"""What a probe will about take, before anybody presses a button: measured times of one model,
scaled to another by its config alone. No torch, no streamlit."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = {
    "reconstruction": 8.02,
    "local_contrast": 59.7,
    "decoder_attention": 45.2,
    "encoder_attention": 29.9,
    "receptive_field": 68.0,
    "spectrum": 85.7,
    "invariance": 66.4,
    "fidelity": 56.7,
    "frequency": 25.4,
    "transfer": 745.0,
    "embedding_consistency": 150.0,
    "hierarchy": 662.0,
    "mask_graph": 275.0,
    "bounds": 20.4,
    "attention_flow": 37.2,
    "pixels_by_layer": 43.6,
    "position": 96.8,
    "second_order": 48.6,
}
"""Of each probe alone on 1,000 images with its defaults: ViT-Tiny on 8 x 8 patches, one thread
(docs/speed.md, "What each costs"; the last four from its lines of 500 images)."""

CAPPED = {
    "knock_out": (21.2, 64, 128),
    "attribution": (40.9, 16, 16),
    "patch_retrieval": (15.7, 64, 64),
}
"""Of probes that look at few images whatever the result is of: seconds of the processors, the
images that took them, and the most that are looked at (docs/speed.md)."""

FITTED = {
    "dense": (40.0, 114.0),
}
"""Of probes that learn from other images first: seconds of the processors that this takes however
many images are measured, and for 1,000 of these (docs/speed.md)."""

ALL = 2160.0 + sum(SECONDS[name] for name in ("attention_flow", "pixels_by_layer", "position", "second_order"))
"""Of all the others in one pass, by the same table and what came later, which was timed alone."""

START = 12.0
"""Seconds until torch and the checkpoint are loaded (docs/dashboard.md)."""

IMAGES = 500
"""That `lcmae probe` takes unasked."""

REFERENCE = {
    "image_size": [32, 32],
    "patch_size": 4,
    "width": 192,
    "depth": 12,
    "decoder_width": 192,
    "decoder_depth": 4,
}


def words(arguments: Sequence[str], config: Mapping[str, Any], num_steps: int = 1) -> str:
    """`about 40 s on one core: 500 images, scaled from a measured ViT-Tiny`, for the words behind
    `lcmae`; "" where the command is no probe's, or the config does not say how large the model is.

    `num_steps` are the checkpoints of the run, for a command of every step.
    """
    seconds = estimate(arguments, config, num_steps)
    if seconds is None:
        return ""
    images, steps = images_of(arguments), num_steps if "--every-step" in arguments else 1
    of_steps = f"{steps} checkpoints, " if steps > 1 else ""
    return f"about {duration(seconds)} on one core: {of_steps}{images} images, scaled from a measured ViT-Tiny"


def words_of_all(commands: Sequence[tuple[Sequence[str], Mapping[str, Any], int]]) -> str:
    """The same for several commands one after another, each with its run's config and number of
    checkpoints; of those that nobody has measured it says how many they are."""
    known = [seconds for one in commands if (seconds := estimate(*one)) is not None]
    if not known:
        return ""
    more = len(commands) - len(known)
    without = f", and {more} of unknown time" if more else ""
    return f"about {duration(sum(known))} on one core, one after another{without}"


def estimate(arguments: Sequence[str], config: Mapping[str, Any], num_steps: int = 1) -> float | None:
    """Seconds, or None for what nobody has measured."""
    if not arguments or arguments[0] != "probe" or not (size := size_of(config)):
        return None
    asked = _before_options(arguments[1:])
    names = [*SECONDS, *CAPPED, *FITTED] if "all" in asked else asked
    if not names or not {*names} <= {*SECONDS, *CAPPED, *FITTED}:
        return None
    images, steps = images_of(arguments), num_steps if "--every-step" in arguments else 1
    work = min(sum(SECONDS.get(name, 0) for name in names), ALL) * images / 1000
    for seconds, of_images, most in (CAPPED[name] for name in names if name in CAPPED):
        work += seconds / of_images * min(images, most)
    for learning, measuring in (FITTED[name] for name in names if name in FITTED):
        work += learning + measuring * images / 1000
    return START + steps * work * size


def images_of(arguments: Sequence[str]) -> int:
    """How many images the command takes, as far as it says so."""
    words = list(arguments)
    at = words.index("--images") + 1 if "--images" in words[:-1] else None
    return int(words[at]) if at is not None and words[at].isascii() and words[at].isdecimal() else IMAGES


def size_of(config: Mapping[str, Any]) -> float | None:
    """The work of one pass over an image, as a share of the measured model's; None where the config
    does not say."""
    model = config.get("model")
    if not isinstance(model, Mapping):
        return None
    own, reference = _work(model), _work(REFERENCE)
    assert reference is not None
    return own and own / reference


def _work(model: Mapping[str, Any]) -> float | None:
    """Multiplications of encoder and decoder over all patches: 12 width^2 a token and block, and
    attention."""
    size, patch = model.get("image_size"), model.get("patch_size")
    sides = size if isinstance(size, list | tuple) else [size, size]
    numbers = [*sides, patch, *(model.get(name, 0) for name in ("width", "depth", "decoder_width", "decoder_depth"))]
    if len(numbers) != 7 or not all(_is_size(one) for one in numbers) or not numbers[2]:
        return None
    height, across, side, width, depth, decoder_width, decoder_depth = map(float, numbers)
    tokens = height * across / side**2
    return sum(n * tokens * (12 * w**2 + 2 * tokens * w) for w, n in ((width, depth), (decoder_width, decoder_depth)))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**20


def _before_options(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        if word.startswith("-"):
            break
        found.append(word)
    return found


def duration(seconds: float) -> str:
    """In the two digits that an estimate has: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60):.0f} min"
    return f"{seconds / 3600:.1f} h"
