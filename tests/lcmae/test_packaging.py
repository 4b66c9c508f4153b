"""The source distribution and the wheel hold what the source tree holds, and the wheel works where
nothing else of the repository is."""

import email.message
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
import tomllib
import urllib.request
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import lcmae
from lcmae.app.cli import COMMANDS

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".css", ".js"}
ROOMS = {"lcmae": "lcmae", "probes": "lcmae/probes", "app": "lcmae/app", "zoo": "lcmae/zoo"}
"""Folders at the top, and where the wheel has them."""


def source_files() -> set[str]:
    """Code files of the source tree, by their names in the wheel. (rglob follows no links.)"""
    return {
        f"{package}/{file.relative_to(ROOT / folder).as_posix()}"
        for folder, package in ROOMS.items()
        for file in (ROOT / folder).rglob("*")
        if file.suffix in SUFFIXES
    }


def build(source: Path, out: Path, target: str) -> Path:
    """What hatchling makes of a source tree."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=source, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    archive = build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the source distribution."""
    return build(sdist, tmp_path_factory.mktemp("wheel"), "wheel")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(file.read(name))


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert re.fullmatch(r"\d+\.\d+\.\d+", lcmae.__version__)
    assert lcmae.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_no_distribution_of_a_common_name() -> None:
    """The environment of the tests has no package `probes` or `app` that would hide a wrong
    import."""
    for name in ("probes", "app"):
        with pytest.raises(PackageNotFoundError):
            version(name)


@pytest.mark.slow
def test_the_wheel_has_one_package_with_every_file(wheel: Path, tmp_path: Path) -> None:
    found = names(wheel)
    assert {name.partition("/")[0] for name in found} == {"lcmae", f"lcmae-{lcmae.__version__}.dist-info"}
    assert {name for name in found if Path(name).suffix in SUFFIXES} == source_files()
    assert "lcmae/py.typed" in found
    assert names(build(ROOT, tmp_path, "wheel")) == found


@pytest.mark.slow
def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    about = metadata(wheel)
    assert about["Version"] == lcmae.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert "Operating System :: POSIX" in about.get_all("Classifier", [])
    assert about.get_all("Project-URL") is None
    assert not any(word.startswith("torchmetrics") for word in about.get_all("Requires-Dist", []))
    with zipfile.ZipFile(wheel) as file:
        (licence,) = (name for name in file.namelist() if name.endswith("licenses/LICENSE"))
        assert file.read(licence) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.slow
def test_links_of_the_readme_work_on_a_package_index(wheel: Path) -> None:
    text = metadata(wheel).get_payload()
    assert isinstance(text, str)
    targets = re.findall(r"\]\(([^)]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
    relative = [a or b for a, b in targets if not (a or b).startswith(("https://", "#"))]
    assert relative == []
    assert "docs/formats.md" in text


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scripts of a fresh environment with the wheel in it; its dependencies are those of the tests'
    own."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-P", "-m", "venv", str(folder)], check=True, timeout=120)
    install = [str(folder / "bin" / "pip"), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    # a path in a .pth file: the .pth files found there, an editable lcmae among them, are not read
    own = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(own + "\n")
    return folder / "bin"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an app.py that must not run."""
    (tmp_path / "app.py").write_text("raise SystemExit('app.py of the working folder has run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def lcmae_output(bin_folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(bin_folder / "lcmae"), *arguments], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_the_installed_command(bin_folder: Path, folder: Path, command: str) -> None:
    assert "usage: lcmae" in lcmae_output(bin_folder, command, "--help")


@pytest.mark.slow
def test_the_installed_package_is_the_wheel(bin_folder: Path, folder: Path) -> None:
    code = "import lcmae, lcmae.probes, lcmae.app; print(lcmae.__file__, lcmae.probes.__file__)"
    done = subprocess.run([str(bin_folder / "python"), "-P", "-c", code], capture_output=True, text=True, check=True)
    assert all(path.startswith(str(bin_folder.parent)) for path in done.stdout.split())


@pytest.mark.slow
def test_training_a_probe_and_the_dashboard_of_the_wheel(bin_folder: Path, folder: Path) -> None:
    train = ("train", "mae-digits", "--epochs", "1", "--warmup-epochs", "0", "--limit", "64", "--batch-size", "32")
    run = lcmae_output(bin_folder, *train, "--monitor-every", "0", "--device", "cpu", "--out", "runs/one").splitlines()[
        -1
    ]
    lcmae_output(bin_folder, "probe", "reconstruction", "--checkpoint", run, "--images", "16", "--device", "cpu")
    assert list(Path(run).glob("probes/*/reconstruction*"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    process = subprocess.Popen(
        [str(bin_folder / "lcmae"), "dashboard", "--port", str(port)], stderr=subprocess.PIPE, env=environment
    )
    try:
        answer, end = b"", time.monotonic() + 90
        while not answer and time.monotonic() < end and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as response:
                    answer = response.read()
            except OSError:
                time.sleep(0.2)
        assert b"<title>" in answer
    finally:
        process.terminate()
        process.communicate(timeout=20)
