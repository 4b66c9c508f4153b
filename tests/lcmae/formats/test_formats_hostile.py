"""Files that nobody should trust: one clear line, no side effect, no memory, whatever they hold."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tests.reference.hostile_folders
import tests.reference.hostile_torch  # noqa: F401 - it adds to the corpus
from lcmae.errors import CheckpointError
from lcmae.formats import import_checkpoint, inspect, load, within_root
from tests.reference.hostile import CANARY, CORPUS, REASONS, good, good_safetensors

ROOT = Path(__file__).parents[3]
SEEN_IN_WEIGHTS_ALONE = ("NaN weights", "infinite weights")


def is_one_line(message: str) -> bool:
    return "\n" not in message and message.isprintable() and 20 < len(message) < 1000


def test_the_corpus_is_large_enough():
    assert len(CORPUS) >= 40


LONGEST = pytest.param("a million opcodes", marks=pytest.mark.slow)
"""Takes longer than all others together."""


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor|.*quantized:")
@pytest.mark.parametrize("name", [name for name in CORPUS if name != "a million opcodes"] + [LONGEST])
def test_hostile_file(name: str, tmp_path: Path):
    folder = tmp_path / "files"
    folder.mkdir()
    path = CORPUS[name](folder)
    before = sorted(tmp_path.rglob("*"))
    calls: list[Callable[[], object]] = [lambda: load(path), lambda: import_checkpoint(path, tmp_path / "run")]
    if name in SEEN_IN_WEIGHTS_ALONE:
        assert inspect(path).architecture == "MAE"
    else:
        calls.append(lambda: inspect(path))
    for call in calls:
        with pytest.raises(CheckpointError, match=REASONS[name]) as answer:
            call()
        assert is_one_line(str(answer.value)), str(answer.value)
    assert not (folder / CANARY).exists()
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


@pytest.mark.parametrize("make", [good, good_safetensors])
def test_the_file_that_the_corpus_is_made_of_loads(make: Callable[[Path], bytes], tmp_path: Path):
    make(tmp_path / "a")
    assert load(tmp_path / "a").source is not None


def test_refused_globals_are_listed(tmp_path: Path):
    path = CORPUS["payload: os.system"](tmp_path)
    with pytest.raises(CheckpointError, match=r"refused .*: (posix|os)\.system"):
        load(path)


@pytest.mark.parametrize("name", ["torch", "safetensors"])
def test_every_bit_flip_is_refused_or_harmless(name: str, tmp_path: Path, rng: torch.Generator):
    """A flipped bit in the names or shapes is refused; in a safetensors payload it cannot be seen,
    and stays a number."""
    path = tmp_path / "a"
    data = (good if name == "torch" else good_safetensors)(path)
    for position in torch.randint(len(data), (40,), generator=rng).tolist():
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(changed))
        try:
            model = load(path)
        except CheckpointError as error:
            message = str(error)
        else:
            message = "loaded, and every weight is a number"
            assert all(torch.isfinite(value).all() for value in model.state_dict().values())
        assert is_one_line(message), message


BOMBS = (
    "payload: bytearray bomb",
    "deflated bomb",
    "bomb of overlapping members",
    "directory of a million members",
    "shape bomb of stride 0",
    "storage that declares more than it has",
    "a million opcodes",
    "deep nesting",
    "memo index of four billion",
    "blocks numbered to ten thousand",
    "many blocks of an enormous width",
    "small table of relative positions, enormous index",
    "a run of a billion blocks",
    "safetensors header of 2^60 bytes",
    "safetensors offsets beyond the file",
)

MEASURE = """
import sys
from lcmae.app.dashboard.jobs.inspect_many import peak
from lcmae.errors import CheckpointError
from lcmae.formats import inspect, load
import timm.models, safetensors.torch
before = peak()
for path in sys.argv[1:]:
    for read in (load, inspect):
        try:
            read(path)
        except CheckpointError:
            pass
        else:
            raise SystemExit(f"{path} was accepted")
print((peak() - before) >> 20)
"""


@pytest.mark.slow
def test_bombs_take_no_memory(tmp_path: Path):
    """Peak resident memory of one process that reads them all; the bombs ask for 400 MiB to 150 GiB
    each."""
    paths = []
    for index, name in enumerate(BOMBS):
        folder = tmp_path / str(index)
        folder.mkdir()
        paths.append(str(CORPUS[name](folder)))
    ran = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 1024, f"{ran.stdout} MiB"


def test_inside_follows_no_link_out_of_the_root(tmp_path: Path):
    root, outside = tmp_path / "runs", tmp_path / "secret.pth"
    root.mkdir()
    good(outside)
    good(root / "mine.pth")
    (root / "link.pth").symlink_to(outside)
    for folder, target in (("folder", outside), ("cycle", root / "cycle" / "model.safetensors")):
        (root / folder).mkdir()
        (root / folder / "config.json").write_text("{}")
        (root / folder / "model.safetensors").symlink_to(target)
    (root / "good").mkdir()
    good(root / "good" / "model.safetensors")
    (root / "good" / "config.json").write_text("{}")
    (root / "beside").mkdir()
    good(root / "beside" / "model.safetensors")
    (root / "beside" / "config.json").symlink_to(outside)
    assert within_root("good", root) == root / "good"
    assert within_root("mine.pth", root) == root / "mine.pth"
    assert within_root(root / "mine.pth", root) == root / "mine.pth"
    texts = set()
    links = ("link.pth", "folder", "cycle", "beside/model.safetensors")
    for path in (*links, "../secret.pth", str(outside), "missing.pth", "a\0b", "x" * 5000):
        with pytest.raises(CheckpointError) as answer:
            within_root(path, root)
        texts.add(str(answer.value).split(", got")[0])
        assert is_one_line(str(answer.value))
    # what is missing and what is elsewhere get the same answer
    assert len(texts) == 1


def test_no_code_of_ours_trusts_a_pickle():
    """weights_only is never switched off, and arrays are never unpickled, anywhere in the
    product."""
    switched_off = re.compile(
        r"weights_only\s*=\s*False|allow_pickle\s*=\s*True|pickle\.(load|loads|Unpickler)\b|joblib"
    )
    sources = [path for room in ("lcmae", "probes", "app") for path in (ROOT / room).rglob("*.py")]
    assert len(sources) > 20
    found = [
        f"{path}: {line}" for path in sources for line in path.read_text().splitlines() if switched_off.search(line)
    ]
    assert not found
    # every torch.load says so itself, and does not lean on a default
    calls = re.compile(r"torch\.load\((.*)")
    for path in sources:
        for call in calls.findall(path.read_text()):
            assert "weights_only=True" in call, f"{path}: torch.load({call}"
