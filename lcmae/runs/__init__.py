"""What a run folder holds, and why a kill loses nothing.

    config.json  metrics.jsonl  checkpoints/000500/{model.safetensors, resume.pt, manifest.json}
    probes/000500/...

Read `run.py` first: `Run` finds, opens and writes such a folder. Then
- `publish.py`: a step appears as a whole, or not at all;
- `checkpoint.py`: a reader knows that every byte is the one that was published;
- `durable.py`: files that replace others in one system call, folders that are swept of remains;
- `lock.py`: one writer at a time;
- `within_root.py`: a path stays below a folder, whatever links it goes through.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcmae.runs.run import Run

__all__ = ["Run"]


def __getattr__(name: str) -> Any:
    if name == "Run":
        from lcmae.runs.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
