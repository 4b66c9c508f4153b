"""What a run folder holds, and why a kill loses nothing."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcmae.runs.run import Run

__all__ = ["Run"]


def __getattr__(name: str) -> Any:
    if name == "Run":
        from lcmae.runs.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
