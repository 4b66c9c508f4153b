"""`make release`: what would be published, tried as a stranger would get it.

Wheel and source distribution are built into dist/, their metadata and the README on a package
index are checked, and each is installed with its dependencies into a fresh environment on every
Python of 3.11 to 3.13 that is at hand, outside this source tree. There the smoke test runs: the
help of each command, an epoch of training, a probe. Nothing is published. A Python that is not at
hand is skipped, and the last lines say so.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PYTHONS = ("3.11", "3.12", "3.13")
SMOKE = """
import subprocess, sys
from pathlib import Path

lcmae = str(Path(sys.executable).with_name("lcmae"))

def run(*words):
    done = subprocess.run([lcmae, *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"lcmae {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout

import lcmae as package
from lcmae.app.cli import COMMANDS

assert Path(package.__file__).is_relative_to(sys.prefix), package.__file__
assert run("--version").split()[1] == sys.argv[1], run("--version")
for command in COMMANDS:
    assert f"lcmae {command}" in run(command, "--help"), command
options = ["--limit", "64", "--batch-size", "32", "--monitor-every", "0", "--device", "cpu"]
trained = run("train", "mae-digits", "--epochs", "1", "--warmup-epochs", "0", *options, "--out", "runs/one").split()[-1]
run("probe", "reconstruction", "--checkpoint", trained, "--images", "16", "--device", "cpu")
assert list(Path(trained).glob("probes/*/reconstruction*")), "no result was stored"
print(f"{len(COMMANDS)} commands, an epoch, a probe")
"""
"""Runs in the fresh environment, in an empty folder, with the version as its word."""


def main() -> int:
    """Build, check, install, try; 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="3.N", help="versions to try (default: all)")
    parser.add_argument("--only", choices=("wheel", "sdist"), help="install one of the two (default: both)")
    parser.add_argument("--build-only", action="store_true", help="build and check, install nowhere")
    options = parser.parse_args()
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    built = build(uv)
    skipped = []
    for version in [] if options.build_only else options.python:
        python = find(uv, version)
        if python is None:
            skipped.append(version)
            continue
        for file in built:
            if options.only is not None and (file.suffix == ".whl") != (options.only == "wheel"):
                continue
            smoke(uv, python, version, file)
    for version in skipped:
        say(f"SKIPPED: no Python {version} at hand; nothing is known about it ('uv python install {version}')")
    say(f"{', '.join(file.name for file in built)}: ready" + (", but for what was skipped" if skipped else ""))
    return 0


def build(uv: str) -> list[Path]:
    """Source distribution, and the wheel made from it; both pass twine's checks."""
    DIST.mkdir(exist_ok=True)
    for old in [*DIST.glob("lcmae-*.whl"), *DIST.glob("lcmae-*.tar.gz")]:
        old.unlink()
    call([uv, "build", "--quiet", "--out-dir", str(DIST)], cwd=ROOT)
    built = [*sorted(DIST.glob("lcmae-*.whl")), *sorted(DIST.glob("lcmae-*.tar.gz"))]
    if len(built) != 2:
        sys.exit(f"expected a wheel and a source distribution in {DIST}, got {[file.name for file in built]}")
    call([uv, "run", "--no-project", "--quiet", "--with", "twine>=6", "twine", "check", "--strict", *map(str, built)])
    return built


def find(uv: str, version: str) -> Path | None:
    """A Python of this version that runs: uv's, of the path, or pyenv's."""
    for candidate in candidates(uv, version):
        asked = [str(candidate), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
        except OSError:
            continue
        if done.stdout.strip() == version:
            return candidate
    return None


def candidates(uv: str, version: str) -> Iterator[Path]:
    """Where a Python of this version may be."""
    found = subprocess.run([uv, "python", "find", "--system", version], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        yield Path(found.stdout.strip())
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)


def smoke(uv: str, python: Path, version: str, file: Path) -> None:
    """Install a file into a fresh environment and run the smoke test there."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lcmae-release-") as folder:
        environment, work = Path(folder) / "environment", Path(folder) / "work"
        work.mkdir()
        call([uv, "venv", "--quiet", "--python", str(python), str(environment)])
        inside = environment / "bin" / "python"
        call([uv, "pip", "install", "--quiet", "--python", str(inside), str(file)])
        installed = time.monotonic()
        release = file.name.removeprefix("lcmae-").removesuffix(".tar.gz").split("-")[0]
        call([str(inside), "-P", "-c", SMOKE, release], cwd=work)
        times = f"installed in {installed - begin:.0f} s, tried in {time.monotonic() - installed:.0f} s"
    say(f"Python {version}, {file.name}: {times}")


def call(command: list[str], *, cwd: Path | None = None) -> None:
    """Run a command; its failure ends everything."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, cwd=cwd, env=environment, check=False)
    if done.returncode:
        sys.exit(f"release: {' '.join(command[:4])} ... ended with {done.returncode}")


def say(line: str) -> None:
    """A line of the report, at once."""
    print(f"release: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
