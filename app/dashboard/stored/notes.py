"""Tags and notes of runs, and which are hidden from the table: one small file in the root of the
runs, for all who look at them. No streamlit, no torch.

The file may come with the runs from anywhere, so it is read as hostile input: bounded, strict, and
never overwritten where it is not ours.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from lcmae.errors import InputError
from lcmae.runs.durable import show, write_atomically
from lcmae.safety.files import read_regular
from lcmae.safety.text import printable
from lcmae.settings import Settings, parse

FILE = ".lcmae-dashboard.json"
MOST_BYTES = 1 << 20
MOST_RUNS = 5000
MOST_TAGS = 12
MOST_NOTE = 1000

Tag = Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]

_writing = threading.Lock()


class Note(Settings):
    """What people say of one run."""

    tags: Annotated[tuple[Tag, ...], Field(max_length=MOST_TAGS)] = ()
    text: Annotated[str, StringConstraints(max_length=MOST_NOTE)] = ""
    hidden: bool = False
    """Whether the table leaves it out."""


class Notes(Settings):
    """The whole file."""

    version: int = Field(default=1, ge=1, le=1)
    runs: dict[Annotated[str, StringConstraints(max_length=1000)], Note] = Field(
        default_factory=dict, max_length=MOST_RUNS
    )
    """By the run's name."""


def read(root: Path) -> dict[str, Note]:
    """Notes by the run's name; none where there is no file. `InputError` for a file that lcmae did
    not write."""
    file = root / FILE
    try:
        content = read_regular(file, MOST_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"expected a file of notes at {show(file)}, got one that cannot be read: {error}") from error
    try:
        found = parse(Notes, content)
    except (InputError, RecursionError) as error:
        raise InputError(
            f"expected the dashboard's own notes in {show(file)}, got something else ({printable(error, 200)}); "
            "move it away to write new ones"
        ) from error
    return {name: _clean(note) for name, note in found.runs.items()}


def change(root: Path, names: list[str], how: Callable[[Note], Note]) -> None:
    """Change the notes of some runs; the file is written whole or not at all. `InputError` where it
    cannot be, or where what is there is not ours."""
    with _writing:
        known: dict[str, Note] = read(root)
        for name in names:
            known[name] = how(known.get(name, Note()))
        worth_keeping = {name: note for name, note in known.items() if note != Note()}
        if len(worth_keeping) > MOST_RUNS:
            raise InputError(f"expected notes of at most {MOST_RUNS} runs, got {len(worth_keeping)}")
        content = Notes(runs=worth_keeping).model_dump_json(indent=1, exclude_defaults=True).encode()
        if len(content) > MOST_BYTES:
            raise InputError(f"expected at most {MOST_BYTES >> 20} MiB of notes, got {len(content)} bytes")
        write_atomically(root / FILE, content)


def all_tags(notes: Mapping[str, Note]) -> list[str]:
    """Every tag that a run has, sorted."""
    return sorted({tag for note in notes.values() for tag in note.tags})


def _clean(note: Note) -> Note:
    """With text that prints."""
    tags = tuple(dict.fromkeys(tag for tag in (printable(tag, 40).strip() for tag in note.tags) if tag))
    return note.model_copy(update={"tags": tags, "text": printable(note.text, MOST_NOTE)})
