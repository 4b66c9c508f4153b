"""What a bare machine lacks, in one folder that git does not track: packages and CIFAR-10.

    python -m benchmarks.gpu.pack                  # into .gpu/pack; LCMAE_DATA holds cifar10/

Each package is installed for Python 3.12 on x86-64 Linux into a folder of its own, at the version
of this environment, so that what is carried is what was tested; `benchmarks.gpu.run` puts those on
the path that the machine has not. Refused above 64 MiB, with the working tree: more does not
travel.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.run import CARRIED, ROOT
from lcmae.runs.publish import git_revision

PACKAGES = (
    "pydantic", "pydantic-core", "annotated-types", "typing-inspection",  # settings
    "h5netcdf",  # stored results
    "tyro", "docstring-parser", "typeguard",  # benchmarks.cifar10 takes options as the command line does
    "rich", "markdown-it-py", "mdurl", "pygments",  # progress
    "beartype",  # the tests' check of shapes
)  # fmt: skip
"""Not captum (`receptive_field` with backend captum) nor umap-learn (`embedding_consistency` with
umap): no step asks for either."""

MOST = 64 << 20
"""Bytes of the working tree and of what is carried, together."""


def main() -> int:
    """Make the folder anew; the exit code is 1 where it is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=CARRIED)
    parser.add_argument("--data", type=Path, default=os.environ.get("LCMAE_DATA"), help="the folder that has cifar10/")
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / "cifar10").is_dir():
        parser.error("expected --data FOLDER or LCMAE_DATA with a folder cifar10, got none")
    shutil.rmtree(options.into, ignore_errors=True)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    for name, version in versions.items():
        install(name, version, options.into / "site" / name)
    shutil.copytree(Path(options.data) / "cifar10", options.into / "data" / "cifar10", copy_function=shutil.copyfile)
    (options.into / "data" / "cifar10").chmod(0o755)
    (options.into / "manifest.json").write_text(
        json.dumps({"revision": git_revision(), "packages": versions}, indent=1)
    )
    carried, tree = size_of(options.into), tree_size()
    print(f"{options.into}: {carried / 2**20:.1f} MiB; with the working tree {(carried + tree) / 2**20:.1f} of 64 MiB")
    for folder in sorted((options.into / "site").iterdir()):
        print(f"  {folder.name} {versions[folder.name]}: {size_of(folder) / 2**20:.2f} MiB")
    print(f"  cifar10: {size_of(options.into / 'data') / 2**20:.1f} MiB")
    return 0 if carried + tree <= MOST else 1


def install(name: str, version: str, folder: Path) -> None:
    """One package without its needs, from wheels alone."""
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    words = [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"]
    words += ["--python", sys.executable, "--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28"]
    subprocess.run([*words, "--target", str(folder), f"{name}=={version}"], check=True)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def tree_size() -> int:
    """Of what git tracks or does not ignore."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(words, cwd=ROOT, text=True).split("\0")
    return sum((ROOT / name).lstat().st_size for name in names if name and (ROOT / name).is_file())


if __name__ == "__main__":
    sys.exit(main())
