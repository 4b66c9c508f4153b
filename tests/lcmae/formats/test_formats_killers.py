"""Files that ended or stopped their reader once, each read by a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

import tests.reference.hostile_folders
import tests.reference.hostile_torch  # noqa: F401 - it adds to the corpus
from tests.reference.hostile import CORPUS

READ = """
import sys
from lcmae.errors import CheckpointError
from lcmae.formats import inspect, load
for path in sys.argv[1:]:
    for read in (inspect, load):
        try:
            read(path)
        except CheckpointError as error:
            print(error)
"""
KILLERS = (
    "byteorder b'big'",
    "storage alignment b'0'",
    "member BYTEORDER",
    "pickle: punycode",
    "pickle: a key of nested tuples",
    "pickle: a set of nested tuples",
    "pickle: keys that collide",
)


@pytest.mark.slow
def test_no_file_ends_or_stops_its_reader(tmp_path: Path):
    paths = []
    for index, name in enumerate(KILLERS):
        (tmp_path / str(index)).mkdir()
        paths.append(str(CORPUS[name](tmp_path / str(index))))
    read = [sys.executable, "-P", "-c", READ, *paths]
    # a signal is a negative code, and a reader that never ends runs into the limit
    done = subprocess.run(read, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * len(KILLERS)


@pytest.mark.parametrize("value", ["1", "64", "4096"])
def test_alignments_that_torch_writes_load(value: str, tmp_path: Path):
    """What the fences allow, torch itself writes: files of every alignment load."""
    from torch.utils.serialization import config

    from lcmae.formats import load
    from tests.reference.hostile import good

    # torch's installer of configs adds `patch`
    with config.patch({"save.storage_alignment": int(value)}):  # pyright: ignore[reportAttributeAccessIssue]
        good(tmp_path / "a.pth")
    assert load(tmp_path / "a.pth").source is not None
