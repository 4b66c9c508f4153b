"""The server is for this machine alone: its flags, and a warning to whoever binds it elsewhere."""

import ast
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.server import launch
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
    assert found["server.maxUploadSize"] == ["2048"], "a checkpoint may be brought"
    assert found["runner.postScriptGC"] == ["false"], "or every answer takes half a second longer"
    assert found["runner.magicEnabled"] == ["false"], "or a string that stands alone in the main file is shown"
    assert found["runs"] == [str(tmp_path)]
    assert "server.port" not in flags(launch.command(tmp_path, None))


def test_the_server_runs_our_file_and_no_package_of_the_working_folder(tmp_path: Path):
    words = launch.command(tmp_path, None)
    assert "-P" in words
    assert Path(words[words.index("run") + 1]) == launch.MAIN
    assert launch.MAIN.is_file()
    assert not (launch.MAIN.parent / "pages").exists(), "Streamlit would make a menu of its own out of it"


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


def test_starting_needs_neither_torch_nor_streamlit():
    code = "import sys, lcmae.app.dashboard.server.launch; assert not {'torch', 'streamlit'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_what_the_server_imports_ahead_is_what_pages_need_without_torch():
    code = (
        "import sys; from importlib import import_module; from lcmae.app.dashboard.script import served; "
        "[import_module(name) for name in served.PREPARED]; "
        "assert {'pandas', 'xarray', 'h5netcdf', 'plotly.basedatatypes'} <= set(sys.modules) and 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_streamlit_is_used_by_what_it_documents_but_for_its_command_line():
    found = set()
    for file in (Path(launch.__file__).parents[2]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {(alias.name, "") for alias in node.names if alias.name.split(".")[0] == "streamlit"}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "streamlit":
                found |= {(node.module, alias.name) for alias in node.names}
    public = {("streamlit", ""), ("streamlit", "App"), ("streamlit.components.v2", "component")}
    private = {("streamlit.web.cli", "main"), ("streamlit.delta_generator", "DeltaGenerator")}
    assert found - public == private, "private ones are listed in server/tuning.py"


def test_the_owners_images_reach_the_server_and_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = launch.command(tmp_path, None, data=("folder:/a?value_range=0:4000", "digits"))
    monkeypatch.setattr("sys.argv", words[words.index("--") :])
    assert picks.data_sources() == ["folder:/a?value_range=0:4000", "digits"]
    assert picks.runs_root() == tmp_path
