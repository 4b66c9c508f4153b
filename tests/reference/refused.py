"""Files that are not taken, one of each kind, with words that the refusal must have: its reason and
the next step. Read by the tests and by benchmarks/formats.py."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from tests.reference import foreign

ADAPT = "lcmae.adapt"


def _empty(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(3, 1) for name in names}


def states() -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Kind -> what torch.save writes, and the words."""
    rng = torch.Generator().manual_seed(0)
    plain, encoder = foreign.official(rng), foreign.encoder(rng)
    kernel = encoder["patch_embed.proj.weight"]
    vit: Any = timm.models.vision_transformer.VisionTransformer
    small: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return {
        "two models in one file": (
            {"model": plain, "model_ema": {name: value + 1 for name, value in plain.items()}},
            ("'model'", "'model_ema'", "--weights"),
        ),
        "a grid that is no square, of no known size": (
            {**encoder, "pos_embed": torch.zeros(1, 14, kernel.shape[0])},
            ("square grid", "image_size="),
        ),
        "Swin": (_empty("encoder.layers.0.blocks.0.attn.qkv.weight"), ("Swin", "windows", ADAPT)),
        "Hiera": (_empty("blocks.0.attn.qkv.weight", "pos_embed_spatial"), ("Hiera", "pooled", ADAPT)),
        "ConvNeXt": (_empty("stages.0.blocks.0.conv_dw.weight"), ("ConvNeXt", "convolutions", "a ViT is needed")),
        "video, two frames a patch": (
            {**encoder, "patch_embed.proj.weight": kernel[:, :, None].repeat(1, 1, 2, 1, 1)},
            ("patches of 2 frames", ADAPT),
        ),
        "SatMAE, grouped channels": (
            _empty("patch_embed.0.proj.weight", "patch_embed.1.proj.weight", "channel_embed", "pos_embed"),
            ("SatMAE", "a patch has several", ADAPT),
        ),
        "no table of positions": (vit(**small, pos_embed="none").state_dict(), ("table of positions", ADAPT)),
        "rotary positions, other names": (_empty("blocks.0.rope.freqs"), ("rotary", "timm:", ADAPT)),
        "a convolutional network": (_empty("layer1.0.conv1.weight"), ("convolutional", "a ViT is needed")),
        "OpenCLIP": (_empty("visual.conv1.weight"), ("OpenCLIP", "timm")),
        "a pickled module": (
            {"model": torch.nn.Linear(2, 2)},
            ("a whole module was pickled", "save model.state_dict() instead"),
        ),
        "a list of state dicts": ([plain], ("got list", "torch.save(model.state_dict(), NEW_FILE)")),
        "weights as numpy arrays": (
            {"model": {name: value.numpy() for name, value in encoder.items()}},
            ("got a dict with model", "torch tensors by their names"),
        ),
        "a sparse tensor": (
            {**encoder, "norm.weight": encoder["norm.weight"].to_sparse()},
            ("_rebuild_sparse_tensor", "sparse", "value.float()"),
        ),
        "unknown names": (_empty("body.0.weight"), ("body.0.weight", "patch_embed.proj.weight")),
    }


def files(folder: Path) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Kind -> a path below `folder` that is refused, and the words."""
    written = {}
    for index, (kind, (content, words)) in enumerate(states().items()):
        torch.save(content, folder / f"{index}.pth")
        written[kind] = (folder / f"{index}.pth", words)
    np.savez(folder / "vit.npz", kernel=np.zeros(3))
    written["npz"] = (folder / "vit.npz", ("npz", "timm.create_model", "torch.save"))
    with zipfile.ZipFile(folder / "script.pt", "w", zipfile.ZIP_DEFLATED) as script:
        # torch.jit.save compresses code, which is none of a torch.save file's business
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl"):
            script.writestr(f"script/{name}", b"\x80\x02)." * 100)
    written["a TorchScript program"] = (folder / "script.pt", ("TorchScript", "torch.jit.load(FILE).state_dict()"))
    (folder / "dcp").mkdir()
    (folder / "dcp" / ".metadata").write_bytes(b"")
    written["torch.distributed.checkpoint"] = (folder / "dcp", ("contain", "pickles", "dcp_to_torch"))
    (folder / "one").mkdir()
    torch.save(foreign.official(torch.Generator().manual_seed(0)), folder / "one" / "checkpoint-799.pth")
    written["a folder with one .pth"] = (folder / "one", ("got a folder with checkpoint-799.pth", "say "))
    return written
