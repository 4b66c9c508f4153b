"""*Compute now* on other images: the owner's, those that come with lcmae, or dropped ones; the
browser names a number, never a path."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.components import compute_button, compute_images
from lcmae.app.dashboard.jobs.dropped import Store
from lcmae.app.dashboard.jobs.queue import Queue
from lcmae.probes.results import catalogue
from lcmae.runs.run import Run
from tests.app import synthetic
from tests.app.pages import checked, commands, components, open_page, words
from tests.reference.image_files import png

DONE = "import sys; sys.exit(0)"


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    found = Queue(1, [sys.executable, "-c", DONE])
    monkeypatch.setattr(compute_button, "server_queue", lambda: found)
    yield found
    found.close()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    found = Store()
    monkeypatch.setattr(compute_images, "server_store", cache(lambda: found))
    yield found
    found.close()


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> str:
    """Images of whoever started the server."""
    name = "folder:/home/me/my photos?value_range=0:4000"
    monkeypatch.setattr(sys, "argv", ["run.py", "--data", name])
    return name


def choose(app: AppTest, words: str) -> AppTest:
    (box,) = [box for box in app.selectbox if box.label == "Images"]
    (option,) = [option for option in box.options if words in option]
    return checked(box.select_index(box.options.index(option)).run())


def test_what_is_missing_is_computed_on_the_owners_images(root: Path, queue: Queue, store: Store, owners: str) -> None:
    synthetic.run(root / "a", results=False)
    app = open_page("reconstruction", "a")
    usual = ["probe", "reconstruction", "--checkpoint", f"{root}/a"]
    assert shlex.split(commands(app)[0])[1:] == usual
    app = choose(app, "my photos")
    wanted = [*usual, "--data", owners, "--split", "test"]
    assert shlex.split(commands(app)[0])[1:] == wanted
    (split,) = [box for box in app.selectbox if box.label == "Split"]
    app = checked(split.select("all").run())
    (button,) = [button for button in app.button if button.label == "Compute now"]
    checked(button.click().run())
    job = queue.find([*wanted[:-1], "all"])
    assert job is not None
    queue.wait(job)
    assert job.state == "done"


@pytest.mark.parametrize("page", ["runs", "embedding_map", "through_training", "local_contrast"])
def test_every_page_that_computes_offers_the_owners_images(
    root: Path, queue: Queue, store: Store, owners: str, page: str
) -> None:
    synthetic.run(root / "a", results=False)
    app = choose(open_page(page, "a"), "my photos")
    assert owners in shlex.split(commands(app)[0])


def test_a_run_of_images_without_masks_is_segmented_on_others(
    root: Path, queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, masked = "folder:/home/me/bare", "folder:/home/me/my photos?masks=/home/me/masks"
    monkeypatch.setattr(sys, "argv", ["run.py", "--data", bare, "--data", masked])
    synthetic.run(root / "a", results=False)  # of digits
    app = open_page("dense", "a")
    assert "was trained on digits, images without segmentation masks" in app.info[0].value
    assert not commands(app)
    app = choose(app, "bare")
    assert "cannot be probed on folder:/home/me/bare, images without segmentation masks" in app.info[0].value
    assert not commands(app)
    app = choose(app, "my photos")
    usual = ["probe", "dense", "--checkpoint", f"{root}/a"]
    assert shlex.split(commands(app)[0])[1:] == [*usual, "--data", masked, "--split", "test"]
    assert [button.label for button in app.button if button.label == "Compute now"]


def test_images_that_no_choice_replaces_are_not_asked_for(root: Path, owners: str) -> None:
    synthetic.run(root / "a", results=False)
    for page, words_of in (("hierarchy", "made from a tree of known latents"), ("dense", "segmentation masks")):
        app = open_page(page, "a")
        assert words_of in app.info[0].value
        assert [box.label for box in app.selectbox if box.label == "Images"] == ["Images"] * (page == "dense")


@pytest.mark.slow
def test_a_page_with_results_offers_other_images_and_then_shows_them(
    root: Path, queue: Queue, store: Store, owners: str
) -> None:
    run = synthetic.run(root / "a")
    app = open_page("local_contrast", "a")
    before = commands(app)
    assert not any("--data" in shlex.split(command) for command in before[:-1])
    app = choose(app, "my photos")
    (command,) = [command for command in commands(app) if owners in shlex.split(command)]
    assert command.startswith(f"lcmae probe local_contrast --checkpoint {root}/a/checkpoints/000040")
    add(run, owners)
    app = checked(app.run())
    assert app.selectbox(key="measured_data").value == owners, "what was asked for is shown, once it is there"
    assert "stored for" in words(app)


def add(run: Run, data: str) -> None:
    result = synthetic.RESULTS["local_contrast"](seed=1, normalised=False)
    about = {"probe": "local_contrast", "data": data, "split": "test", "checkpoint_sha256": run.name}
    catalogue.add(result.assign_attrs({**result.attrs, **about}), run.results_folder(40))


@pytest.mark.parametrize("said", ["folder:/etc", "2. folder:/etc", "../../etc", ""])
def test_a_browser_cannot_name_a_path(root: Path, queue: Queue, store: Store, owners: str, said: str) -> None:
    synthetic.run(root / "a", results=False)
    app = open_page("reconstruction", "a")
    (box,) = [box for box in app.selectbox if box.label == "Images"]
    box.options.append(said)
    app = checked(box.set_value(said).run())
    assert app.session_state["compute-chosen-number"] == 0
    (command,) = commands(app)
    assert shlex.split(command)[1:] == ["probe", "reconstruction", "--checkpoint", f"{root}/a"]


def test_an_address_cannot_name_images(root: Path, queue: Queue, store: Store) -> None:
    synthetic.run(root / "a", results=False)
    link = {"compute-chosen": "folder:/etc", "compute-chosen-number": "folder:/etc", "data": "folder:/etc"}
    assert "/etc" not in " ".join(commands(open_page("reconstruction", "a", **link)))


def test_dropped_images_are_what_is_computed_on(
    root: Path, queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.run(root / "a", results=False)
    app = open_page("reconstruction", "a")
    assert json.loads(components(app, "lcmae.image_drop")[0].json)["files"] > 1
    pending = [(png(0), "0.png"), (png(1), "1.png"), (b"no image", "c.png")]

    def dropped(*, on_file: Callable[[bytes, str], None], **_: object) -> None:
        while pending:
            on_file(*pending.pop(0))

    monkeypatch.setattr(compute_images, "image_drop", dropped)
    app = checked(checked(app.run()).run())
    (folder,) = [path for path in store_root(store).iterdir() if len(list(path.iterdir())) == 2]
    assert shlex.split(commands(app)[0])[-4:] == ["--data", f"dropped:{folder}", "--split", "all"]
    assert [one.value for one in app.error] == [
        "c.png: the image cannot be read: not an image format that is read here"
    ]
    (forget,) = [button for button in app.button if button.label == "Forget them"]
    other = checked(open_page("reconstruction", "a"))
    assert "dropped:" not in " ".join(commands(other)), "another session has not dropped any"
    assert "dropped:" not in " ".join(commands(checked(forget.click().run())))


def test_dropped_images_that_are_gone_are_no_longer_offered(
    root: Path, queue: Queue, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.run(root / "a", results=False)
    pending = [(png(0), "0.png")]
    monkeypatch.setattr(compute_images, "image_drop", lambda *, on_file, **_: pending and on_file(*pending.pop()))
    app = checked(open_page("reconstruction", "a").run())
    assert "dropped:" in commands(app)[0]
    store.close()
    assert "dropped:" not in commands(checked(app.run()))[0]


def store_root(store: Store) -> Path:
    assert store.root is not None
    return store.root
