"""The picker of foreign checkpoints: what it lists, what it says, and that no file can do anything
to it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.jobs import inspect_many, reader
from lcmae.formats import inspect
from lcmae.models import MAE
from lcmae.runs.run import Run
from tests.app.pages import commands
from tests.reference import foreign, hostile

PAGE = """
from lcmae.app.dashboard import main
from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.pages import PAGES
main.open_page(next(page for page in PAGES if page.name == "open_checkpoint"), picks.ask())
"""

ELSEWHERE = {"device", "nothing", "link to nothing", "link to itself", "name that is too long", "name with a NUL"}
"""What is refused by its path, before anything is opened."""

SEEN_IN_WEIGHTS_ALONE = {"NaN weights", "infinite weights"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The reader's own function, in this process, so that a page does not wait for another torch;
    notes every path."""
    paths: list[Path] = []

    def read(wanted: list[Path]) -> list[reader.Answer]:
        paths.extend(wanted)
        said = [json.loads(json.dumps(inspect_many.answer(str(path)), default=str)) for path in wanted]
        return [reader.Answer(one.get("facts"), one.get("refusal", ""), 0) for one in said]

    monkeypatch.setattr(reader, "read", read)
    reader._remembered.cache_clear()
    return paths


def open_page(path: str = "") -> AppTest:
    app = AppTest.from_string(PAGE, default_timeout=60)
    if path:
        app.query_params["path"] = path
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    assert not app.exception, app.exception
    return app


def words(app: AppTest, *kinds: str) -> str:
    kinds = kinds or ("title", "markdown", "subheader", "caption", "info", "error", "text", "code")
    return "\n".join(str(getattr(element, "value", "")) for kind in kinds for element in app.get(kind))


def tables(app: AppTest) -> list[pd.DataFrame]:
    return [element.value for element in app.dataframe]


def test_a_good_file_is_picked_and_described(root: Path, asked: list[Path]):
    (root / "from elsewhere").mkdir()
    path = root / "from elsewhere" / "mae.pth"
    torch.save({"model": foreign.official(torch.Generator().manual_seed(0))}, path)
    app = open_page()
    assert app.selectbox(key="candidate").options == ["from elsewhere/mae.pth"]
    assert not asked, "nothing is read before it is picked"
    checked(app.selectbox(key="candidate").select("from elsewhere/mae.pth").run())
    # this small table of widths says no heads, so it is refused, and the refusal names the option
    assert "heads" in words(app, "code")
    torch.save(hostile.wrapped(hostile.state()), path)
    checked(app.run())
    known, assumed, read = tables(app)
    assert known["what it is"].tolist()[:2] == ["mae", f"MAE, {inspect(path).parameters:,} parameters"]
    assert set(read["setting"]) >= {"heads", "depth", "width"}
    mean = assumed.set_index("setting").loc["pixel-mean"]
    assert mean["replaced by"] == "--pixel-mean 0.485 0.456 0.406"
    assert mean["what it means"] == "Mean subtracted from pixels in [0, 1]."
    described = commands(app)
    assert described[0] == f"lcmae import '{path}' --out {root}/mae-imported"
    assert described[1].startswith(f"{described[0]} --")
    assert "--pixel-mean 0.485 0.456 0.406" in described[1]
    assert not app.error
    checked(app.run())
    assert len(asked) == 2, "a file that has not changed is read once"


def test_what_the_page_says_is_what_inspect_says(root: Path, asked: list[Path]):
    path = root / "a.pth"
    hostile.good(path)
    facts = reader.inspect_below(root, "a.pth").facts
    assert facts == json.loads(json.dumps(inspect(path).to_json()))


def test_an_encoder_says_that_it_predicts_nothing(root: Path, asked: list[Path]):
    weights = foreign.encoder(torch.Generator().manual_seed(0))
    torch.save({"model": weights, "lcmae": {"heads": foreign.HEADS}}, root / "encoder.pt")
    app = open_page("encoder.pt")
    assert "no (encoder only)" in tables(app)[0]["what it is"].tolist()
    assert "Encoder only" in words(app, "info")


def test_a_run_needs_no_import(root: Path, asked: list[Path], mae: MAE):
    config = {"model": mae.config.model_dump(mode="json")}
    Run.create(root / "mine", config).publish(0, mae.state_dict(), config=config, resume=None)
    app = open_page("mine")
    assert not app.selectbox(key="candidate").options
    assert commands(app) == [f"lcmae probe all --checkpoint {root}/mine"]


def test_a_refusal_is_one_line_of_plain_text(root: Path, asked: list[Path]):
    torch.save({"model": {"![x](http://elsewhere.example/x.png)": torch.zeros(3)}}, root / "a.bin")
    app = open_page("a.bin")
    assert "This cannot be opened" in words(app, "error")
    (refusal,) = [element.value for element in app.code]
    assert "known layout" in refusal
    assert "\n" not in refusal
    # a picture in Markdown would ask another host
    assert "elsewhere.example" not in words(app, "markdown", "caption", "info", "error", "subheader")
    assert not tables(app)


@pytest.mark.parametrize("path", ["../secret.pth", "{outside}", "link.pth", "missing.pth", "a\tb\x00"])
def test_what_is_elsewhere_or_missing_gets_the_same_answer(root: Path, asked: list[Path], path: str):
    outside = root.parent / "secret.pth"
    hostile.good(outside)
    (root / "link.pth").symlink_to(outside)
    typed = path.format(outside=outside)
    app = open_page(typed)
    assert not app.selectbox(key="candidate").options, "links are not listed"
    (refusal,) = [element.value for element in app.code]
    assert refusal.startswith(f"expected a checkpoint below {root}, got ")
    assert not asked


def test_the_list_is_bounded_and_follows_no_link(root: Path, monkeypatch: pytest.MonkeyPatch):
    def touch(name: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()

    for name in ("b.PTH", "deep/a.safetensors", "deep/notes.txt", ".hidden/a.pt", "hub/config.json"):
        touch(name)
    for name in (
        "hub/model.safetensors",
        "hub/other.ckpt",
        "run/config.json",
        "run/checkpoints/000001/model.safetensors",
    ):
        touch(name)
    for name in ("run/old.pth.tar", "1/2/3/4/5/a.pt", "1/2/3/4/5/6/too-deep.pt", "new\nline.pt"):
        touch(name)
    (root / "deep" / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.pth")
    (root / os.fsdecode(b"\xff.pth")).touch()
    found = reader.candidates_below(root)
    assert found.names == ["b.PTH", "deep/a.safetensors", "hub", "hub/other.ckpt", "run/old.pth.tar", "1/2/3/4/5/a.pt"]
    assert not found.is_complete
    monkeypatch.setattr(reader, "MAX_NAMES", 2)
    assert reader.candidates_below(root) == reader.Listing(["b.PTH", "deep/a.safetensors"], False)
    monkeypatch.setattr(reader, "MAX_ENTRIES", 1)
    assert not reader.candidates_below(root).is_complete
    assert reader.candidates_below(root / "missing") == reader.Listing([], True)


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_reader_that_gives_no_answer_is_a_line_and_is_asked_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    child = tmp_path / "child"
    ending = "kill -9 $$" if how == "dies" else "exec sleep 60"
    # a whole answer, half an answer, and then nothing
    child.write_text(f'#!/bin/sh\necho \'{{"refusal": "x", "memory": 1}}\'\nprintf \'{{"refu\'\n{ending}\n')
    child.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(child))
    monkeypatch.setattr(reader, "TIMEOUT", 60.0 if how == "dies" else 0.5)
    answers = reader.read([Path("a"), Path("b")])
    assert answers[0] == reader.Answer(None, "x", 1)
    assert answers[1].memory is None
    assert answers[1].refusal.endswith("signal 9" if how == "dies" else "a kill after 0 s")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor|.*quantized:")
def test_the_hostile_corpus_through_the_picker(tmp_path: Path):
    """One reader, behind its fence, for all of them; the files that load are among them, so the
    fence lets work through."""
    paths: dict[str, Path] = {}
    for position, (name, make) in enumerate(hostile.CORPUS.items()):
        folder = tmp_path / str(position)
        folder.mkdir()
        paths[name] = make(folder)
    hostile.good(tmp_path / "good.pth")
    hostile.good_safetensors(tmp_path / "good.safetensors")
    good = [tmp_path / "good.pth", tmp_path / "good.safetensors"]
    before = sorted(tmp_path.rglob("*"))
    *answers, torch_file, safetensors_file = reader.inspect_all_below(tmp_path, [*paths.values(), *good])
    for name, answer in zip(paths, answers, strict=True):
        if name in SEEN_IN_WEIGHTS_ALONE:
            assert answer.facts is not None
            continue
        assert answer.facts is None, name
        assert answer.refusal.isprintable(), name
        assert 20 < len(answer.refusal) < 1000, name
        reason = f"expected a checkpoint below {tmp_path}, got" if name in ELSEWHERE else hostile.REASONS[name]
        assert re.search(reason, answer.refusal), (name, answer.refusal)
    assert torch_file.facts is not None
    assert safetensors_file.facts is not None
    assert sorted(tmp_path.rglob("*")) == before, "something was written"
    most = max(answer.memory or 0 for answer in answers)
    print(f"{len(answers)} files, {most / 2**20:.0f} MiB above an idle reader")
    assert most < 2**30


FENCED = """
import os, sys
from lcmae.app.dashboard.jobs.inspect_many import HEADROOM, fence
fence(0)
try:
    bytearray(HEADROOM + 2**24)  # more than Python's own small change, which it may have given back meanwhile
    raise SystemExit("memory was given")
except MemoryError:
    pass
bytearray(2**20)
try:
    with open(sys.argv[1], "w") as file:
        file.write("x")
    raise SystemExit("a file was written")
except OSError:
    pass
"""


def test_the_fence_gives_no_memory_and_no_file(tmp_path: Path):
    command = [sys.executable, "-c", FENCED, str(tmp_path / "written")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "written").stat().st_size == 0
