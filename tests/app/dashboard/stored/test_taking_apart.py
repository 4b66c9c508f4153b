"""From what a person brings to the commands that take it apart."""

from pathlib import Path

import pytest

from lcmae.app.dashboard.pages import TITLES
from lcmae.app.dashboard.stored import taking_apart
from lcmae.app.dashboard.stored.taking_apart import HEADLINE, PRESETS, plan
from lcmae.errors import InputError
from lcmae.probes.registry import PROBES
from tests.app import synthetic


def test_a_file_is_imported_and_then_probed(tmp_path: Path) -> None:
    found = plan(tmp_path, "/x/my model.pth", "photographs", "quick")
    assert found.run == tmp_path / "my-model"
    first, second = found.commands
    assert first == ("import", "/x/my model.pth", "--out", str(tmp_path / "my-model"), "--data", "photographs")
    assert second[: 1 + len(HEADLINE)] == ("probe", *HEADLINE)
    assert second[-2:] == ("--images", "16")
    assert found.lines.startswith("lcmae import '/x/my model.pth' --out ")


def test_a_run_is_probed_on_its_own_images(tmp_path: Path) -> None:
    run = synthetic.run(tmp_path / "a", results=False)
    (only,) = plan(tmp_path, str(run.path), None, "everything").commands
    assert only == ("probe", "all", "--checkpoint", str(run.path), "--images", "500")


def test_a_name_of_the_hub_and_a_model_of_the_zoo(tmp_path: Path) -> None:
    assert plan(tmp_path, "hf:facebook/vit-mae-base", None, "quick").run.parent == tmp_path
    assert plan(tmp_path, "mae-small", None, "quick", is_zoo=True).commands[0][:2] == ("zoo", "mae-small")


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert plan(tmp_path, "/x/m.pth", None, "quick").run.name == "m-2"


def test_photographs_are_all_shown_and_kept_once(tmp_path: Path) -> None:
    folder = taking_apart.keep_photographs(tmp_path, [("b.png", b"2"), ("a.jpg", b"1")])
    assert [(file.name, file.read_bytes()) for file in sorted(folder.iterdir())] == [
        ("000.jpg", b"1"),
        ("001.png", b"2"),
    ]
    assert taking_apart.keep_photographs(tmp_path, [("a.jpg", b"1"), ("b.png", b"2")]) == folder
    words = plan(tmp_path, "/x/m.pth", f"folder:{folder}", "quick").commands[-1]
    assert "--split" in words


@pytest.mark.parametrize("name", ["../../evil.pth", "/etc/x.pth", "a\nb.pth", ".pth", "..pt"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    try:
        stored = taking_apart.keep_checkpoint(tmp_path, name, b"x")
    except InputError:
        return
    assert stored.parent == tmp_path / "uploads"
    assert stored.name.isprintable()


def test_what_is_no_checkpoint_or_image_or_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="expected a checkpoint"):
        taking_apart.keep_checkpoint(tmp_path, "x.py", b"x")
    with pytest.raises(InputError, match="expected images"):
        taking_apart.keep_photographs(tmp_path, [("x.svg", b"x")])
    with pytest.raises(InputError, match="expected 1 to 200"):
        taking_apart.keep_photographs(tmp_path, [("x.png", b"x")] * 201)
    monkeypatch.setattr(taking_apart, "MOST_BYTES", 10)
    with pytest.raises(InputError, match="GiB of uploads"):
        taking_apart.keep_checkpoint(tmp_path, "x.pth", b"x" * 11)
    assert not list((tmp_path / "uploads").glob("*"))


def test_presets_name_probes_that_exist() -> None:
    assert all(set(preset.probes) <= {*PROBES, "all"} for preset in PRESETS.values())


def test_what_was_left_out_is_said_once_and_without_paths() -> None:
    said = [f"runs/m: probe {name}: needs a decoder" for name in ("reconstruction", "second_order")]
    assert taking_apart.left_out([*said, "/a/b: probe x: got 4", "no space left"], TITLES) == [
        "Reconstruction, Beyond covariance: needs a decoder",
        "x: got 4",
        "no space left",
    ]
