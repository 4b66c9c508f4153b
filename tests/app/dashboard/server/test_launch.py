"""The server is for this machine alone: its flags, and a warning to whoever binds it elsewhere."""

import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from lcmae.app.dashboard.server import launch, process
from lcmae.errors import InputError


def flags(words: list[str]) -> dict[str, list[str]]:
    """Values by flag."""
    found: dict[str, list[str]] = {}
    for flag, value in pairwise(words):
        if flag.startswith("--") and flag != "--":
            found.setdefault(flag.removeprefix("--"), []).append(value)
    return found


def test_the_server_listens_here_and_sends_nothing(tmp_path: Path):
    found = flags(launch.command(tmp_path, 8600))
    assert found["server.address"] == ["127.0.0.1"]
    assert found["server.port"] == ["8600"]
    assert found["server.allowedHosts"] == ["localhost", "127.0.0.1"]
    assert found["browser.gatherUsageStats"] == ["false"]
    assert found["server.maxUploadSize"] == ["20"]
    assert found["runner.postScriptGC"] == ["false"], "or every answer takes half a second longer"
    assert found["runner.magicEnabled"] == ["false"], "or a string that stands alone in the main file is shown"
    assert found["runs"] == [str(tmp_path)]
    assert "server.port" not in flags(launch.command(tmp_path, None))


def test_the_server_runs_our_file_and_no_package_of_the_working_folder(tmp_path: Path):
    words = launch.command(tmp_path, None)
    assert "-P" in words
    assert Path(words[words.index("run") + 1]) == launch.MAIN
    assert launch.MAIN.is_file()


def test_more_hosts_are_added_once(tmp_path: Path):
    found = flags(launch.command(tmp_path, None, address="0.0.0.0", hosts=("gpu1", "localhost")))
    assert found["server.allowedHosts"] == ["localhost", "127.0.0.1", "0.0.0.0", "gpu1"]


@pytest.mark.parametrize(("address", "is_open"), [("127.0.0.1", False), ("::1", False), ("localhost", False),
                                                  ("0.0.0.0", True), ("::", True), ("10.0.0.3", True), ("gpu1", True)])  # fmt: skip
def test_whoever_binds_elsewhere_is_warned(address: str, is_open: bool):
    warning = launch.warning(address)
    assert (warning is not None) == is_open
    assert not is_open or (address in str(warning) and "ssh -L" in str(warning))


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: int):
    with pytest.raises(InputError, match=f"got {port}"):
        launch.command(tmp_path, port)


def test_a_file_is_no_folder_of_runs(tmp_path: Path):
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="got a file"):
        launch.command(tmp_path / "x", None)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_no_part_of_an_answer_waits_for_a_receipt(monkeypatch: pytest.MonkeyPatch, family: int, address: str):
    monkeypatch.setattr(socket.socket, "listen", socket.socket.listen)  # put back at the end
    process.send_at_once()
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        try:
            listening.bind((address, 0))
        except OSError as error:
            pytest.skip(f"this machine has no {address}: {error}")
        listening.listen(1)
        with socket.create_connection(listening.getsockname()[:2]), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_starting_needs_neither_torch_nor_streamlit():
    code = "import sys, lcmae.app.dashboard.server.launch; assert not {'torch', 'streamlit'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_what_pages_import_is_there_before_the_first_browser_asks():
    code = """
import gc, sys
from lcmae.app.dashboard.server import process as server
server.leave_dask_out()
server.preload()
assert gc.isenabled() and gc.get_freeze_count() > 50_000, gc.get_freeze_count()
before = set(sys.modules)
import lcmae.app.dashboard.main, lcmae.app.dashboard.pages.reconstruction
import lcmae.app.dashboard.pages.training, lcmae.app.dashboard.pages.runs
import xarray
assert bool((xarray.DataArray([1.0]) > 0).all())  # where xarray would import dask
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["lcmae", "False"]


@pytest.mark.skipif(not Path("/lib64/ld-linux-x86-64.so.2").exists(), reason="a setting of glibc's")
@pytest.mark.parametrize("keeps", [True, False])
def test_memory_of_one_answer_serves_the_next(keeps: bool):
    """The share of 48 MiB that is new to the process when they are asked for again, by the system's
    count of pages."""
    code = f"""
import resource
from lcmae.app.dashboard.server import process as server
if {keeps}:
    server.keep_memory()
import numpy as np
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [np.ones(6 << 20, dtype=np.uint8) for _ in range(8)]
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / (48 << 20)
pages()
print(pages())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (float(done.stdout) < 0.1) == keeps
