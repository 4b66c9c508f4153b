"""What is measured on a GPU, in order of value, and how the time is shared. Standard library
alone: this runs before carried packages are on the path."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One process of `benchmarks.gpu.child`. It ends by itself when its time is over, or is stopped
    a little later."""

    name: str
    measures: str
    seconds: float
    """Time that it is given, where there is as much."""

    least: float
    """With less it is not begun."""

    takes_what_is_left: bool = False
    """Gets all time that later steps do not need, instead of `seconds`."""


STEPS = (
    Step("tests", "the tests that need a GPU: graphs equal plain steps, nothing waits", 60, 20),
    Step("roof", "a large copy and a large matrix product", 20, 8),
    Step("steps", "training steps beside Hugging Face's and a plain timm loop: ViT-Tiny/4, then ViT-B/16", 150, 40),
    Step("cifar", "CIFAR-10: MAE, U-MAE, LC-MAE trained as long as fits, classified, half precision", 420, 100, True),
    Step("probes", "the battery of probes beside its slow form", 60, 25),
)
"""In order of value."""

OPTIONS = ("epochs", "batch", "jobs", "at_once", "mode")
"""What may be told to the step cifar, which chooses them else."""

GRACE = 10.0
"""Seconds between a step's own end and SIGTERM, and between SIGTERM and SIGKILL."""

ENDING = 5.0
"""Seconds that the program keeps for itself: the last file, the table of what was done."""


def steps_named(names: Sequence[str]) -> list[Step]:
    """Steps by name, in order of value. `ValueError` for a name that is none."""
    known = {step.name for step in STEPS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"expected steps out of {', '.join(step.name for step in STEPS)}, got {', '.join(unknown)}")
    return [step for step in STEPS if step.name in names]


def allotted(step: Step, later: Sequence[Step], left: float) -> float:
    """Seconds for a step, `left` before the end of all; 0 where there are too few to begin it.

    Its grace and the program's own last seconds are taken off. Steps that come later yield: only
    one that takes what is left leaves them their time, and only above its own least.
    """
    left = left - GRACE - ENDING
    seconds = min(step.seconds, left)
    if step.takes_what_is_left:
        seconds = min(left, max(left - sum(each.seconds + GRACE for each in later), step.least))
    return seconds if seconds >= step.least else 0.0
