"""`make docs`: the site at 127.0.0.1:8000, drawn again when a page changes. With `--build`: built
strictly into a folder, every link checked."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main() -> int:
    """Serve, or build and check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", action="store_true", help="build strictly and check, instead of serving")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "site", help="folder of the built site")
    parser.add_argument("--address", default="127.0.0.1:8000", help="where it is served")
    options = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-P", "-m", "mkdocs"]
    config = ["--config-file", str(HERE / "mkdocs.yml")]
    if not options.build:
        return subprocess.call([*command, "serve", *config, "--dev-addr", options.address], env=environment)
    out = options.out.resolve()
    code = subprocess.call([*command, "build", "--strict", *config, "--site-dir", str(out)], env=environment)
    return code or subprocess.call([sys.executable, "-P", str(HERE / "check.py"), str(out)])


if __name__ == "__main__":
    sys.exit(main())
