"""What is known of a model's settings, and from where: the file's shapes, its metadata, a table, or
the user."""

from collections.abc import Mapping
from typing import Any

from lcmae.errors import CheckpointError, InputError
from lcmae.models import ModelConfig

MAX_BLOCKS = 256
"""Deeper models are refused: the deepest ViT in use has 64."""

# facts about training that no model is built from
BESIDES = ("mask_ratio", "epoch", "step")
OVERRIDABLE_BESIDES = ("mask_ratio",)


class Facts:
    """Collects settings with their origins. What you say wins over metadata, and metadata over
    tables.

    Shapes cannot be argued with: an override that contradicts them is an `InputError`.
    """

    def __init__(self, overrides: Mapping[str, Any]) -> None:
        self._overrides = dict(overrides)
        self.values: dict[str, Any] = {}
        self.read: dict[str, Any] = {}
        self.assumed: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.notes: list[str] = []

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    @property
    def overridden(self) -> bool:
        """Whether you said anything at all."""
        return bool(self._overrides)

    def wanted(self, name: str) -> Any:
        """What you asked for, or None."""
        return self._overrides.get(name)

    def shape(self, name: str, value: Any) -> None:
        """A setting that the shapes in the file decide."""
        if name in self._overrides and self._overrides[name] != value:
            raise InputError(
                f"expected no other {name} than {value!r}, which the file's shapes decide, got "
                f"{self._overrides[name]!r}"
            )
        self._set(self.read, name, value, "shapes")

    def say(self, name: str, value: Any, origin: str) -> None:
        """A setting that the file's metadata gives. The first to say something is believed; None
        says nothing."""
        if value is not None:
            self._set(self.read, name, value, origin)

    def assume(self, name: str, value: Any, origin: str) -> None:
        """A setting that nothing in the file gives; ignored where something did."""
        self._set(self.assumed, name, value, origin)

    def _set(self, where: dict[str, Any], name: str, value: Any, origin: str) -> None:
        if name in self.values:
            return
        if name in self._overrides and origin != "shapes":
            where, value, origin = self.read, self._overrides[name], "you"
        self.values[name] = where[name] = value
        self.origins[name] = origin

    def settings(self, kind: type[ModelConfig]) -> dict[str, Any]:
        """Everything that a config of this class is made from; overrides that no setting answers to
        are refused."""
        fields = kind.model_fields
        for name, value in self._overrides.items():
            if name in fields and name != "kind":
                self._set(self.read, name, value, "you")
            elif name not in self.values and name not in OVERRIDABLE_BESIDES:
                known = ", ".join(sorted({*fields, *OVERRIDABLE_BESIDES} - {"kind"}))
                raise InputError(f"expected overrides among {known}, got {name!r}")
        for name in OVERRIDABLE_BESIDES:
            if name in self._overrides:
                self._set(self.read, name, self._overrides[name], "you")
        return {name: value for name, value in self.values.items() if name in fields}


def ratio_of(hidden: int, width: int) -> float:
    """The ratio r for which int(width * r) is `hidden`, as blocks compute it: 100/48 alone would
    round down to 99."""
    ratio = hidden / width
    while int(width * ratio) < hidden:
        ratio = ratio * (1 + 2**-52)
    if int(width * ratio) != hidden:
        raise CheckpointError(f"expected a hidden layer that is a multiple of the width {width}, got {hidden}")
    return ratio
