"""Put a trained run into the zoo: python zoo/publish.py RUN NAME "what it is". Weights in half
precision."""

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file

import lcmae
from lcmae.runs.run import Run


def publish(run: Run, folder: Path, what: str) -> None:
    """model.safetensors, config.json, metrics.jsonl and zoo.json of a run's newest step."""
    checkpoint = run.newest()
    folder.mkdir(parents=True)
    save_file({name: tensor.half() for name, tensor in checkpoint.tensors().items()}, folder / "model.safetensors")
    for name in ("config.json", "metrics.jsonl"):
        shutil.copyfile(run.path / name, folder / name)
    last = next((line for line in reversed(run.metrics()) if "mean_knn" in line), {})
    about = {
        "what": what,
        "step": checkpoint.step,
        "licence": "Apache-2.0",
        "lcmae": lcmae.__version__,
        "metrics": last,
    }
    (folder / "zoo.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    path, name, what = sys.argv[1:]
    publish(Run.open(path), Path(__file__).parent / name, what)
