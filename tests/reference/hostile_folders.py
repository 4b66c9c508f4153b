"""More of the corpus: folders, pipes, devices, links, and paths that name no file."""

import os
import pickle
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.reference.hostile import CANARY, Reduced, entry, good_safetensors


@entry("folder", "got a folder")
def _(folder: Path) -> Path:
    (folder / "a").mkdir()
    return folder / "a"


@entry("torch.distributed.checkpoint folder", "contains pickles")
def _(folder: Path) -> Path:
    (folder / "a").mkdir()
    (folder / "a" / ".metadata").write_bytes(pickle.dumps(Reduced(os.system, f"touch {folder / CANARY}")))
    (folder / "a" / "__0_0.distcp").write_bytes(b"")
    return folder / "a"


@entry("Hugging Face folder whose config is not JSON", "expected JSON")
def _(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(good_safetensors(folder / "x"))
    (folder / "config.json").write_text("{" * 100_000)
    return folder


@entry("Hugging Face folder of another kind", "got 'bert'")
def _(folder: Path) -> Path:
    save_file(
        {"vit.embeddings.patch_embeddings.projection.weight": torch.zeros(8, 3, 4, 4)}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


@entry("pipe", "a pipe")
def _(folder: Path) -> Path:
    os.mkfifo(folder / "a")
    return folder / "a"


@entry("device", "a pipe, socket or device")
def _(folder: Path) -> Path:
    return Path("/dev/zero")


@entry("nothing", "nothing readable")
def _(folder: Path) -> Path:
    return folder / "missing.pth"


@entry("link to nothing", "nothing readable")
def _(folder: Path) -> Path:
    (folder / "a.pth").symlink_to(folder / "missing")
    return folder / "a.pth"


@entry("link to itself", "nothing readable")
def _(folder: Path) -> Path:
    (folder / "a.pth").symlink_to(folder / "a.pth")
    return folder / "a.pth"


@entry("name that is too long", "nothing readable")
def _(folder: Path) -> Path:
    return folder / ("a" * 5000)


@entry("name with a NUL", "NUL")
def _(folder: Path) -> Path:
    return folder / "a\0b.pth"


@entry("name with a new line", "a web page")
def _(folder: Path) -> Path:
    path = folder / "a\n\x1b[31mb.pth"
    path.write_bytes(b"<html>")
    return path
