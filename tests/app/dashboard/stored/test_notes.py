"""Tags and notes of runs: kept beside the runs, and read as what anybody may have written."""

import json
from pathlib import Path

import pytest

from lcmae.app.dashboard.stored import notes
from lcmae.app.dashboard.stored.notes import FILE, Note
from lcmae.errors import InputError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert notes.read(tmp_path) == {}
    notes.change(tmp_path, ["a", "deep/b"], lambda note: Note(tags=("good", "paper"), text="longest training"))
    notes.change(tmp_path, ["a"], lambda note: note.model_copy(update={"hidden": True}))
    found = notes.read(tmp_path)
    assert found["a"] == Note(tags=("good", "paper"), text="longest training", hidden=True)
    assert notes.all_tags(found) == ["good", "paper"]
    assert [file.name for file in tmp_path.iterdir()] == [FILE], "nothing half-written is left"


def test_a_run_without_notes_is_not_written(tmp_path: Path) -> None:
    notes.change(tmp_path, ["a"], lambda note: Note(text="x"))
    notes.change(tmp_path, ["a"], lambda note: Note())
    assert json.loads((tmp_path / FILE).read_text()) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"runs": {"a": {"tags": 3}}}',
        b'{"runs": {"a": {"hidden": true, "more": 1}}}',
        b'{"version": 2}',
        b"[" * 100_000,
        json.dumps({"runs": {"a": {"text": "x" * 1001}}}).encode(),
        json.dumps({"runs": {"a": {"tags": ["t"] * 13}}}).encode(),
        b'{"runs": "' + b"x" * (1 << 20) + b'"}',
    ],
    ids=["empty", "list", "tags", "fields", "version", "deep", "text", "many", "large"],
)
def test_a_foreign_file_is_refused_and_never_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(InputError, match=r"\.lcmae-dashboard\.json"):
        notes.read(tmp_path)
    with pytest.raises(InputError):
        notes.change(tmp_path, ["a"], lambda note: Note(text="mine"))
    assert (tmp_path / FILE).read_bytes() == content


def test_a_pipe_is_no_file_of_notes(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to("/dev/zero")
    with pytest.raises(InputError):
        notes.read(tmp_path)


def test_text_that_does_not_print_is_shown_otherwise(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"runs": {"a": {"tags": ["x\u202ey"], "text": "one\ntwo\u0000"}}}))
    note = notes.read(tmp_path)["a"]
    assert note.text.isprintable()
    assert note.tags[0].isprintable()
