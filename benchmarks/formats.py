"""The table of docs/formats.md: every layout is written, loaded and compared, every refusal seen.

    python -m benchmarks.formats --out docs/formats.md     # seconds; replaces what is between marks

The files are written key by key from documented layouts (tests/reference/foreign.py), and compared
with forward passes in float64; those of Hugging Face's names with the same pass.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lcmae.errors import InputError
from lcmae.formats import load
from lcmae.formats.export import to_huggingface
from lcmae.masking import Random
from tests.reference import foreign, refused

BEGIN, END = "<!-- benchmarks.formats: begin -->", "<!-- benchmarks.formats: end -->"
HEADS: dict[str, Any] = {"heads": foreign.HEADS, "decoder_heads": foreign.DECODER_HEADS}

Right = Callable[[foreign.State, Tensor, list[int]], Tensor]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _mae(eps: float) -> Right:
    return lambda plain, image, visible: foreign.decode(plain, foreign.encode(plain, image, visible), visible, eps)


def _stable(state: foreign.State, image: Tensor, visible: list[int]) -> Tensor:
    names = {name.removeprefix("encoder.vit."): value for name, value in state.items() if "encoder.vit." in name}
    return foreign.decode_stable_pretraining(state, foreign.encode(names, image, visible), visible)


def _simmim(state: foreign.State, image: Tensor, visible: list[int]) -> Tensor:
    return foreign.simmim_forward(state, image, [patch for patch in range(foreign.SIDE**2) if patch not in visible])


def _tokens(state: foreign.State, image: Tensor, visible: list[int]) -> Tensor:
    return foreign.encode(state, image, visible)[1:]


def layouts() -> list[tuple[str, foreign.State, foreign.State, Right]]:
    """Name, the tensors of the file, those that the reference takes, and the reference."""
    plain = foreign.official(rng())
    stable, simmim, encoder = foreign.stable_pretraining(rng()), foreign.simmim(rng()), foreign.encoder(rng())
    return [
        ("MAE, official names", plain, plain, _mae(1e-6)),
        ("U-MAE", foreign.umae(plain, rng()), plain, _mae(1e-6)),
        ("MAE below `mae.`", {f"mae.{name}": value for name, value in plain.items()}, plain, _mae(1e-6)),
        ("Hugging Face ViTMAE", to_huggingface(plain), plain, _mae(1e-12)),
        ("solo-learn", foreign.solo_learn(plain, rng()), plain, _mae(1e-5)),
        ("lightly, old decoder", foreign.lightly_old(plain, rng()), plain, _mae(1e-6)),
        ("lightly, new decoder", foreign.lightly_new(plain, rng()), plain, _mae(1e-6)),
        ("stable-pretraining", stable, stable, _stable),
        ("SimMIM ViT", simmim, simmim, _simmim),
        ("timm ViT, MAE's encoder", encoder, encoder, _tokens),
    ]


def table(folder: Path) -> str:
    image = torch.randn(foreign.CHANNELS, foreign.IMAGE, foreign.IMAGE, generator=rng())
    mask = Random(ratio=0.6)(1, (foreign.SIDE, foreign.SIDE), rng())
    lines = [
        "| format | recognised as | loads | largest difference | assumed (no settings beside the weights) |",
        "|---|---|---|---|---|",
    ]
    path = folder / "a.pth"
    for name, state, of_reference, right in layouts():
        torch.save({"state_dict": state}, path)
        said = {} if "SimMIM" in name else HEADS if any("decoder" in key for key in state) else {"heads": foreign.HEADS}
        model = load(path, **said)
        with torch.no_grad():
            out = model(image[None], mask)
        ours = out.pred[0] if model.has_prediction else out.tokens[0]
        apart = (ours.double() - right(of_reference, image, mask.visible[0].tolist())).abs().max().item()
        assert model.source is not None
        what = "everything" if model.has_prediction else "encoder"
        assumed = ", ".join(f"`{setting}`" for setting in model.source.assumed)
        lines.append(f"| {name} | {model.source.format} | {what} | {apart:.1e} | {assumed} |")
    lines += ["", "Refusals, as they were seen:", "", "| file | answer |", "|---|---|"]
    for name, (refused_path, _) in refused.files(folder).items():
        try:
            load(refused_path, heads=2)
        except InputError as error:
            answer = str(error).replace(str(folder), "FOLDER").replace("|", "\\|")
            lines.append(f"| {name} | {answer} |")
        else:
            raise AssertionError(f"expected {name} to be refused, got a model")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a page with the two marks; by default the table is printed")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        text = table(Path(folder))
    if out is None:
        print(text)
        return
    before, _, rest = out.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    out.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
