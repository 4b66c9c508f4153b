"""Where a model came from, what its file said, and what had to be assumed."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from lcmae.errors import CheckpointError


@dataclass(frozen=True)
class Provenance:
    """Hangs on every loaded model as `model.source`."""

    format: str
    """Layout of the file: run, mae, umae, vit, rotary, huggingface, simmim, solo-learn, lightly,
    stable-pretraining."""

    path: str
    """The file or folder as it was given."""

    sha256: str
    """Of the file that holds the weights."""

    step: int | None = None
    """Optimiser step, for checkpoints of our own runs."""

    read: dict[str, Any] = field(default_factory=dict)
    """Settings that the file gives, or that you gave, by name."""

    assumed: dict[str, Any] = field(default_factory=dict)
    """Settings that no file gives; each can be overridden by name."""

    origins: dict[str, str] = field(default_factory=dict)
    """For every setting in `read` and `assumed`, where it comes from: shapes, args, config.json, a
    table, you."""

    notes: list[str] = field(default_factory=list)
    """What was left aside, converted or resampled."""

    objective: str | None = None
    """Name of the objective it was trained with, where the format or the file says so."""

    mask: dict[str, Any] | None = None
    """Settings of the mask strategy it was trained with, where the run's config says so."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Provenance":
        try:
            return cls(**values)
        except TypeError as error:
            raise CheckpointError(f"expected the provenance of a checkpoint under 'source', got {values!r}") from error


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found out about a checkpoint without loading its weights."""

    source: Provenance
    """Format, hash, what was read and what was assumed."""

    architecture: str
    """Class of the model that would be loaded."""

    config: dict[str, Any]
    """All its settings."""

    parameters: int
    """Number of values in its parameters."""

    has_prediction: bool
    """Whether there is a decoder or a head, so that probes of reconstructions work."""

    def to_json(self) -> dict[str, Any]:
        """Everything that is known, as JSON holds it."""
        facts = {"architecture": self.architecture, "parameters": self.parameters, "config": self.config}
        return {**self.source.to_json(), **facts, "has_prediction": self.has_prediction}
