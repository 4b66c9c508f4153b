"""A corpus of files that no loader may trust: payloads, bombs, torn and altered files, lies about
shapes.

Each entry writes one file (or pipe, folder, link) below a folder and returns its path. A payload
that runs would create `CANARY` in that folder.
"""

import argparse
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.reference import foreign

CANARY = "the-payload-ran"

Maker = Callable[[Path], Path]
CORPUS: dict[str, Maker] = {}
REASONS: dict[str, str] = {}
"""What the refusal of each must say, so that no entry is refused for the wrong reason."""


def entry(name: str, reason: str) -> Callable[[Maker], Maker]:
    def keep(maker: Maker) -> Maker:
        assert name not in CORPUS
        CORPUS[name], REASONS[name] = maker, reason
        return maker

    return keep


def state() -> foreign.State:
    return foreign.official(torch.Generator().manual_seed(0))


SETTINGS = {"heads": foreign.HEADS, "decoder_heads": foreign.DECODER_HEADS}
"""What a table cannot say of so small a model; a file of ours says it."""


def wrapped(weights: Any, **beside: Any) -> dict[str, Any]:
    return {"model": weights, "lcmae": SETTINGS, **beside}


def good(path: Path) -> bytes:
    """A file that loads."""
    torch.save(wrapped(state()), path)
    return path.read_bytes()


def good_safetensors(path: Path) -> bytes:
    """Another that loads."""
    save_file(state(), path, metadata={"lcmae": json.dumps(SETTINGS)})
    return path.read_bytes()


class Reduced:
    """Pickles to a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def payload(folder: Path) -> list[tuple[str, Any]]:
    import builtins
    import importlib
    import runpy
    import subprocess
    import webbrowser

    target = str(folder / CANARY)
    touch = f"open({target!r}, 'w').close()"
    return [
        ("os.system", Reduced(os.system, f"touch {target}")),
        ("eval", Reduced(builtins.eval, touch)),
        ("exec", Reduced(builtins.exec, touch)),
        ("subprocess", Reduced(subprocess.check_output, ["touch", target])),
        ("open for writing", Reduced(builtins.open, target, "w")),
        ("import_module", Reduced(importlib.import_module, "antigravity")),
        ("runpy", Reduced(runpy.run_path, target)),
        ("webbrowser", Reduced(webbrowser.open, f"file://{target}")),
        ("getattr", Reduced(builtins.getattr, "x", "upper")),
        ("pathlib touch", Reduced(Path.touch, Path(target))),
        ("os.mkdir", Reduced(os.mkdir, target)),
        ("torch.load inside", Reduced(torch.load, target)),
        ("numpy.load inside", Reduced(np.load, target)),
        ("bytearray bomb", Reduced(bytearray, 2**33)),
        ("namespace of a payload", argparse.Namespace(run=Reduced(os.system, f"touch {target}"))),
        ("numpy object scalar", np.array([Reduced(os.system, f"touch {target}")], dtype=object)[0]),
    ]


PAYLOADS = [name for name, _ in payload(Path("."))]


def _payload(name: str) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / "payload.pth"
        torch.save(wrapped(state(), args=dict(payload(folder))[name]), path)
        return path

    return make


for _name in PAYLOADS:
    entry(f"payload: {_name}", "refused .*: it asks for code")(_payload(_name))


def rezip(
    path: Path, data: bytes, change: Callable[[str, bytes], bytes | None], method: int = zipfile.ZIP_STORED
) -> Path:
    """A torch file whose members are changed (None: dropped)."""
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(path, "w", method) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return path


@entry("pickle protocol 4 with STACK_GLOBAL", "opcode STACK_GLOBAL")
def _(folder: Path) -> Path:
    body = pickle.dumps({"model": Reduced(os.system, f"touch {folder / CANARY}")}, protocol=4)
    path = folder / "a.pth"
    return rezip(path, good(path), lambda name, old: body if name.endswith("data.pkl") else old)


@entry("bare pickle", "bare pickle")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    path.write_bytes(pickle.dumps(Reduced(os.system, f"touch {folder / CANARY}"), protocol=2))
    return path


@entry("legacy file of torch before 1.6", "bare pickle.*save it again")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    torch.save(wrapped(state()), path, _use_new_zipfile_serialization=False)
    return path


@entry("deflated bomb", "zip bomb")
def _(folder: Path) -> Path:
    path = folder / "a.pth"

    def inflate(name: str, old: bytes) -> bytes:
        return bytes(400 * 2**20) if name.endswith("/data/0") else old

    return rezip(path, good(path), inflate, zipfile.ZIP_DEFLATED)


@entry("bomb of overlapping members", "zip bomb")
def _(folder: Path) -> Path:
    # a zip whose directory names one stored body many times
    path = folder / "a.pth"
    body = bytes(2**20)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, len(body), len(body), 1, 0) + b"x" + body
    names = [f"a/data/{index}".encode() for index in range(2000)]
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, len(body), len(body), len(n), 0, 0, 0, 0, 0, 0)
        + n
        for n in names
    )
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, len(names), len(names), len(directory), len(local), 0)
    path.write_bytes(local + directory + end)
    return path


@entry("directory of a million members", "at most 50000 members")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    one = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0)
    directory = b"".join(one + struct.pack("<I", index) for index in range(400_000))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, len(directory), 0, 0)
    path.write_bytes(b"PK\x03\x04" + directory + end)
    return path


@entry("shape bomb of stride 0", "declares 160000000000 bytes")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    torch.save(_changed("norm.weight", torch.zeros(1).expand(200_000, 200_000)), path)
    return path


@entry("storage that declares more than it has", "bytes declared|declares")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    number = 987_654
    torch.save({"model": {"norm.weight": torch.zeros(number)}}, path)
    small, large = struct.pack("<i", number), struct.pack("<i", 2**31 - 1)

    def lie(name: str, old: bytes) -> bytes:
        return old.replace(b"J" + small, b"J" + large) if name.endswith("data.pkl") else old

    return rezip(path, path.read_bytes(), lie)


@entry("a million opcodes", "at most 1000000 opcodes")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    body = b"\x80\x02]" + b"(" + b"}" * 3_000_000 + b"e."
    return rezip(path, good(path), lambda name, old: body if name.endswith("data.pkl") else old)


@entry("deep nesting", "levels of nesting|state dict")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    body = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    return rezip(path, good(path), lambda name, old: body if name.endswith("data.pkl") else old)


@entry("a dict that contains itself", "state dict")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    loop: dict[str, Any] = {}
    loop["model"] = loop
    torch.save(loop, path)
    return path


@entry("memo index of four billion", "state dict")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    body = b"\x80\x02}r\xff\xff\xff\xff."
    return rezip(path, good(path), lambda name, old: body if name.endswith("data.pkl") else old)


@entry("blocks numbered to ten thousand", "numbered blocks")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    torch.save(_changed("blocks.9999.norm1.weight", torch.zeros(1)), path)
    return path


@entry("many blocks of an enormous width", "missing|heads")
def _(folder: Path) -> Path:
    # shapes that are cheap to write, of a model that is not
    path = folder / "a.safetensors"
    lies = {"patch_embed.proj.weight": torch.zeros(65536, 3, 1, 1), "pos_embed": torch.zeros(1, 2, 4)}
    lies |= {f"blocks.{index}.mlp.fc1.weight": torch.zeros(262144, 1) for index in range(3)}
    lies |= {f"blocks.{index}.mlp.fc2.weight": torch.zeros(1, 1) for index in range(40)}
    lies |= {
        "blocks.0.attn.qkv.weight": torch.zeros(1, 1),
        "cls_token": torch.zeros(1, 1, 1),
        "norm.weight": torch.zeros(1),
    }
    save_file(lies, path)
    return path


for _tenth in range(10):

    def _cut(folder: Path, tenth: int = _tenth) -> Path:
        path = folder / "cut.pth"
        data = good(path)
        path.write_bytes(data[: len(data) * tenth // 10])
        return path

    def _cut_safetensors(folder: Path, tenth: int = _tenth) -> Path:
        path = folder / "cut.safetensors"
        data = good_safetensors(path)
        path.write_bytes(data[: len(data) * tenth // 10])
        return path

    entry(f"torch file cut at {_tenth}0 %", "cut off|empty file")(_cut)
    entry(f"safetensors file cut at {_tenth}0 %", "header|intact|empty file")(_cut_safetensors)


for _part in ("data.pkl", "data/0", "data/7", "version"):

    def _flip(folder: Path, part: str = _part) -> Path:
        """One bit inside a member; its checksum in the zip stays."""
        path = folder / "flip.pth"
        data = bytearray(good(path))
        with zipfile.ZipFile(path) as archive:
            member = next(m for m in archive.infolist() if m.filename.endswith(f"/{part}"))
        content = member.header_offset + 30 + struct.unpack_from("<H", data, member.header_offset + 26)[0]
        content += struct.unpack_from("<H", data, member.header_offset + 28)[0]
        data[content + member.file_size // 2] ^= 4
        path.write_bytes(bytes(data))
        return path

    entry(f"bit flip in {_part}", "checksum|damaged zip|whole pickle|refused")(_flip)


@entry("small table of relative positions, enormous index", "tables take at most")
def _(folder: Path) -> Path:
    # 358 kB; the index of a grid of 150x150 would take 4 GB
    path = folder / "a.pth"
    weights = foreign.simmim(torch.Generator().manual_seed(0))
    table = "encoder.rel_pos_bias.relative_position_bias_table"
    torch.save({"model": {**weights, table: torch.zeros(299**2 + 3, foreign.HEADS)}}, path)
    return path


@entry("a run of a billion blocks", "at most 256 blocks")
def _(folder: Path) -> Path:
    from lcmae.models import MAEConfig
    from lcmae.runs.run import Run

    config = {"model": MAEConfig(depth=10**9).model_dump(mode="json")}
    Run.create(folder / "run", config).publish(0, {"norm.weight": torch.zeros(3)}, config=config, resume=None)
    return folder / "run"


@entry("bit flip in a safetensors header", "expected")
def _(folder: Path) -> Path:
    path = folder / "a.safetensors"
    data = bytearray(good_safetensors(path))
    data[60] ^= 8
    path.write_bytes(bytes(data))
    return path


@entry("safetensors header of 2^60 bytes", "header of at most")
def _(folder: Path) -> Path:
    path = folder / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}" + bytes(100))
    return path


@entry("safetensors offsets beyond the file", "intact safetensors")
def _(folder: Path) -> Path:
    path = folder / "a.safetensors"
    header = b'{"norm.weight":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    return path


@entry("safetensors with trailing bytes", "intact safetensors")
def _(folder: Path) -> Path:
    path = folder / "a.safetensors"
    path.write_bytes(good_safetensors(path) + bytes(9))
    return path


def _bytes(name: str, reason: str, content: bytes) -> None:
    @entry(name, reason)
    def _(folder: Path) -> Path:
        path = folder / "a.pth"
        path.write_bytes(content)
        return path


_bytes("empty", "an empty file", b"")
_bytes("one byte", "something else", b"P")
_bytes("HTML", "a web page", b"<!DOCTYPE html><html><body>404</body></html>")
_bytes("XML", "an XML page", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>")
_bytes("git-lfs pointer", "git lfs pull", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
_bytes("gzip", "a gzip", b"\x1f\x8b\x08" + bytes(50))
_bytes("HDF5", "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(50))
_bytes("text", "something else", b"just words, no weights\n" * 9)
_bytes("zeros", "something else", bytes(4096))
_bytes("legacy tar", "a tar archive", bytes(257) + b"ustar\x0000" + bytes(255))
_bytes("zip end alone", "damaged zip|without one data.pkl", b"PK\x05\x06" + bytes(18))


@entry("zip without data.pkl", "without one data.pkl")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    return rezip(path, good(path), lambda name, old: None if name.endswith("data.pkl") else old)


@entry("zip without one tensor's data", "torch can read|bytes declared")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    return rezip(path, good(path), lambda name, old: None if name.endswith("data/3") else old)


@entry("a member twice", "same name twice")
def _(folder: Path) -> Path:
    path = folder / "a.pth"
    data = good(path)
    out = io.BytesIO(data)
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(out, "a") as archive:
        warnings.simplefilter("ignore")
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        archive.writestr(name, b"\x80\x02}.")
    path.write_bytes(out.getvalue())
    return path


@entry("TorchScript program", "TorchScript")
def _(folder: Path) -> Path:
    # what torch.jit.save writes beside data.pkl
    path = folder / "a.pth"
    data = good(path)
    rezip(path, data, lambda name, old: old)
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{root}/constants.pkl", b"\x80\x02).")
        archive.writestr(f"{root}/code/__torch__.py", b"")
    return path


def _tree(name: str, reason: str, make: Callable[[], Any]) -> None:
    @entry(name, reason)
    def _(folder: Path) -> Path:
        path = folder / "a.pth"
        torch.save(make(), path)
        return path


def _changed(name: str, value: Any) -> dict[str, Any]:
    return wrapped({**state(), name: value})


_tree("a tensor", "got Tensor", lambda: torch.zeros(3))
_tree("a list", "got list", lambda: [1, 2, 3])
_tree("a dict of numbers", "state dict", lambda: {"epoch": 3, "model": {"a": 1}})
_tree("an empty state dict", "state dict", lambda: {"model": OrderedDict()})
_tree("a whole module", "refused", lambda: torch.nn.Linear(2, 2))
_tree("names that are numbers", "known layout", lambda: {1: torch.zeros(1), "x.y": torch.zeros(1)})
_tree("unknown names", "known layout", lambda: {"layer1.0.weight": torch.zeros(3)})
_tree("names with control characters", "known layout", lambda: {"model": {"a.\x1b[31m\nb": torch.zeros(3)}})
_tree("Swin", "Swin", lambda: {"model": {"encoder.layers.0.blocks.0.attn.qkv.weight": torch.zeros(3, 3)}})
_tree("NaN weights", "NaN", lambda: _changed("norm.weight", torch.full((foreign.WIDTH,), float("nan"))))
_tree("infinite weights", "infinity", lambda: _changed("norm.weight", torch.full((foreign.WIDTH,), float("inf"))))
_tree(
    "integer weights", "floating-point", lambda: _changed("norm.weight", torch.ones(foreign.WIDTH, dtype=torch.int32))
)
_tree(
    "complex weights",
    "floating-point|refused",
    lambda: _changed("norm.weight", torch.ones(foreign.WIDTH, dtype=torch.complex64)),
)
_tree(
    "sparse weights", "refused|torch can read", lambda: _changed("norm.weight", torch.ones(foreign.WIDTH).to_sparse())
)
_tree(
    "quantised weights",
    "refused",
    lambda: _changed("norm.weight", torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)),
)
_tree(
    "swapped shape",
    "of other shapes: blocks.0.mlp.fc1.weight|hidden layer",
    lambda: _changed("blocks.0.mlp.fc1.weight", torch.zeros(foreign.WIDTH, 4 * foreign.WIDTH)),
)
_tree(
    "a patch embedding of two dimensions",
    "4 dimensions",
    lambda: _changed("patch_embed.proj.weight", torch.zeros(3, 3)),
)
_tree(
    "patches that are not square",
    "square patches",
    lambda: _changed("patch_embed.proj.weight", torch.zeros(16, 3, 4, 2)),
)
_tree("an empty tensor", "pos_embed with 3", lambda: _changed("pos_embed", torch.zeros(1, 0, foreign.WIDTH)))
_tree("positions of no square", "square grid", lambda: _changed("pos_embed", torch.zeros(1, 12, foreign.WIDTH)))
_tree(
    "no positions",
    "pos_embed",
    lambda: wrapped({name: value for name, value in state().items() if name != "pos_embed"}),
)
_tree("a key too many", "1 unexpected: blocks.0.extra", lambda: _changed("blocks.0.extra", torch.zeros(1)))
_tree(
    "args of nonsense",
    "normalize_targets",
    lambda: {"model": state(), "args": argparse.Namespace(norm_pix_loss="perhaps", model="mae_vit_large")},
)
_tree("args of a class", "refused", lambda: wrapped(state(), args=zipfile.ZipFile))
