"""The table of docs/formats.md: every layout is written, loaded and compared, every refusal seen.

    python -m benchmarks.formats --out docs/formats.md     # seconds; replaces what is between marks

The files are small models with random weights. What they should compute comes from timm and
transformers themselves; for the other libraries, from forward passes in float64 that are written
from their layouts (tests/reference/foreign.py).
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import marked
from lcmae.errors import InputError
from lcmae.formats import load
from lcmae.formats.export import to_huggingface
from lcmae.masking import Mask, Random
from lcmae.models import MAE
from lcmae.patches import patchify
from lcmae.progress import ProgressBar
from tests.reference import foreign, refused
from tests.reference.checkpoint_files import HEADS, publish
from tests.reference.layouts import FAMILIES, SHAPE, crossmae, dinov2, halves, mmpretrain, prithvi, shaken

BEGIN, END = "<!-- benchmarks.formats: begin -->", "<!-- benchmarks.formats: end -->"
ENCODER_HEADS: dict[str, Any] = {"heads": foreign.HEADS}
LIMIT = 1e-5
"""Of the largest difference, over the largest value where that is above 1."""

Right = Callable[[Tensor, Mask], Tensor]
What = Literal["predictions", "visible tokens", "all tokens"]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@dataclass
class Layout:
    """A file, what is compared of its model, and the function of (images, mask) that gives it."""

    content: dict[str, Any] | Callable[[Path], Path]
    """What torch.save writes; or a function that writes into a folder and returns the path."""

    name: str
    """A part of a tensor's name in the file, or a member of the folder."""

    what: What
    by: str
    right: Right
    said: dict[str, Any] = field(default_factory=dict)
    size: int = foreign.IMAGE
    patch: int = foreign.PATCH

    def write(self, folder: Path) -> Path:
        if not isinstance(self.content, dict):
            return self.content(folder)
        torch.save(self.content, folder / "a.pth")
        return folder / "a.pth"


# --- files of other libraries: float64 ---


def _visible(mask: Mask) -> list[int]:
    return mask.visible[0].tolist()


def _mae(plain: foreign.State, eps: float) -> Right:
    def right(images: Tensor, mask: Mask) -> Tensor:
        visible = _visible(mask)
        return foreign.decode(plain, foreign.encode(plain, images[0], visible), visible, eps)[None]

    return right


def _tokens(plain: foreign.State) -> Right:
    return lambda images, mask: foreign.encode(plain, images[0], _visible(mask))[None, 1:]


def _stable(state: foreign.State) -> Right:
    inner = {name.removeprefix("encoder.vit."): value for name, value in state.items() if "encoder.vit." in name}

    def right(images: Tensor, mask: Mask) -> Tensor:
        visible = _visible(mask)
        return foreign.decode_stable_pretraining(state, foreign.encode(inner, images[0], visible), visible)[None]

    return right


def _simmim(state: foreign.State) -> Right:
    return lambda images, mask: foreign.simmim_forward(state, images[0], mask.hidden[0].tolist())[None]


def by_hand() -> Iterator[tuple[str, Layout]]:
    plain, stable, simmim, encoder = (
        make(rng()) for make in (foreign.official, foreign.stable_pretraining, foreign.simmim, foreign.encoder)
    )

    def full(state: foreign.State, name: str, eps: float = 1e-6) -> Layout:
        return Layout({"state_dict": state}, name, "predictions", "float64", _mae(plain, eps), HEADS)

    def part(content: Any, name: str) -> Layout:
        return Layout(content, name, "visible tokens", "float64", _tokens(encoder), ENCODER_HEADS)

    yield "MAE, official names", full(plain, "decoder_pred.weight")
    yield "U-MAE", full(foreign.umae(plain, rng()), "fc.weight")
    yield "MAE below `mae.`", full({f"mae.{name}": value for name, value in plain.items()}, "mae.decoder_pred.weight")
    apart = halves(plain, "encoder.", "")
    yield "MAE, decoder beside its encoder", full(apart, "encoder.patch_embed.proj.weight")
    yield "Hugging Face ViTMAE, weights alone", full(to_huggingface(plain), "decoder.decoder_pred.weight", 1e-12)
    yield "solo-learn", full(foreign.solo_learn(plain, rng()), "decoder.decoder_embed.weight", 1e-5)
    yield "lightly, old decoder", full(foreign.lightly_old(plain, rng()), "decoder.decoder_embed.weight")
    yield "lightly, new decoder", full(foreign.lightly_new(plain, rng()), "prediction_head.weight")
    yield (
        "stable-pretraining",
        Layout(stable, "decoder.transformer.context_proj.weight", "predictions", "float64", _stable(stable), HEADS),
    )
    yield "SimMIM ViT", Layout(simmim, "encoder.mask_token", "predictions", "float64", _simmim(simmim))
    yield "mmpretrain, with its neck", full(mmpretrain(plain, True), "neck.decoder_embed.weight")
    yield "mmpretrain, mmselfsup, Sapiens: encoder", part(mmpretrain(encoder, False), "layers.0.ffn.layers.1.weight")
    yield "Prithvi, one frame", full(prithvi(plain), "encoder.patch_embed.proj.weight")
    cross = part({"model": crossmae(plain)}, "decoder_blocks.0.cross_attn.q.weight")
    cross.right = _tokens(plain)
    yield "CrossMAE", cross
    yield "timm ViT, MAE's encoder", part({"state_dict": encoder}, "blocks.0.attn.qkv.weight")
    other = {name: value + 1 for name, value in encoder.items()}
    moco = {f"module.base_encoder.{name}": value for name, value in encoder.items()}
    moco |= {f"module.momentum_encoder.{name}": value for name, value in other.items()}
    yield "MoCo v3", part({"state_dict": moco}, "module.base_encoder.")


# --- files of timm: its own model ---


def by_timm() -> Iterator[tuple[str, Layout]]:
    small: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0, "patch_size": 4}

    def vit(**more: Any) -> Any:
        return shaken(timm.create_model("vit_small_patch16_224", img_size=16, **small, **more))

    def whole(module: Any, state: dict[str, Any], name: str, **more: Any) -> Layout:
        return Layout(state, name, "all tokens", "timm", lambda images, _: module.forward_features(images), **more)

    registers = vit(reg_tokens=3, init_values=0.1, pre_norm=True)
    yield (
        "timm ViT with registers, LayerScale, norm_pre",
        whole(registers, registers.state_dict(), "reg_token", said={"heads": 4}),
    )
    classifier = vit(global_pool="avg")
    head = foreign.linear("head", 10, 32, rng())
    yield (
        "MAE's encoder, fine-tuned",
        whole(classifier, classifier.state_dict() | head, "fc_norm.weight", said={"heads": 4}),
    )
    plain = vit(class_token=False, global_pool="avg", fc_norm=False)
    state = dict(plain.state_dict())
    other = {name: value + 1 for name, value in state.items()}
    both = {"encoder": other, "predictor": {"predictor_blocks.0.norm1.weight": torch.zeros(3)}, "target_encoder": state}
    yield "I-JEPA's own file", whole(plain, both, "predictor_blocks.", said={"heads": 4})
    state = {**state, "pos_embed": state["pos_embed"].unflatten(1, (4, 4))}
    yield "SAM-like positions [1 h w d]", whole(plain, state, "pos_embed", said={"heads": 4})
    for chunks in (False, True):
        module, state = dinov2(chunks)
        yield (
            f"DINOv2's own file, {'blocks in chunks' if chunks else 'registers'}",
            whole(
                module, state, "blocks.0.0." if chunks else "register_tokens", said={"heads": 4}, size=28, patch=14
            ),
        )  # fmt: skip
    for label, name, size, patch, part in (
        ("timm's DINOv3", "vit_small_patch16_dinov3", 64, 16, "reg_token"),
        ("timm's EVA-02", "eva02_tiny_patch14_224", 56, 14, "blocks.0.attn.q_bias"),
    ):
        module = timm.create_model(name, img_size=size, num_classes=0).eval()
        said = {"image_size": size}
        yield label, Layout(module.state_dict(), part, "visible tokens", "timm", _rotary(module), said, size, patch)


def _rotary(module: Any) -> Right:
    """A key of a hidden patch has no weight."""

    def right(images: Tensor, mask: Mask) -> Tensor:
        prefix = module.num_prefix_tokens
        hidden = torch.cat([torch.zeros(1, prefix, dtype=torch.bool), mask.is_hidden], dim=1)
        bias = torch.zeros(1, 1, hidden.shape[1], hidden.shape[1]).masked_fill(hidden[:, None, None], -torch.inf)
        return module.forward_features(images, attn_mask=bias)[:, prefix:][:, mask.visible[0]]

    return right


# --- folders of transformers: its own model ---


def _saved(module: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        module.save_pretrained(folder)
        return folder

    return write


def _in_shards(module: Any) -> Callable[[Path], Path]:
    """Two files with their index, as the hub has them."""

    def write(folder: Path) -> Path:
        module.save_pretrained(folder)
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names, where = sorted(tensors), {}
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            file_name = f"model-0000{number}-of-00002.safetensors"
            save_file({name: tensors[name] for name in part}, folder / file_name, {"format": "pt"})
            where |= dict.fromkeys(part, file_name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
        return folder

    return write


def by_transformers() -> Iterator[tuple[str, Layout]]:
    for family, settings in FAMILIES.items():
        config = getattr(transformers, f"{family}Config")(**SHAPE, **settings)
        module: Any = shaken(getattr(transformers, f"{family}Model")(config))
        right: Right = lambda images, _, module=module: module(images).last_hidden_state  # noqa: E731
        yield (
            f"Hugging Face `{config.model_type}`, folder",
            Layout(
                _saved(module), "embeddings.patch_embeddings.projection.weight", "all tokens", "transformers", right
            ),
        )

    config = transformers.ViTConfig(**SHAPE, patch_size=4, intermediate_size=64, encoder_stride=4)
    imaging: Any = shaken(transformers.ViTForMaskedImageModeling(config))
    yield (
        "Hugging Face ViTForMaskedImageModeling, folder",
        Layout(
            _saved(imaging), "vit.embeddings.mask_token", "predictions", "transformers",
            lambda images, mask: patchify(imaging(images, bool_masked_pos=mask.is_hidden).reconstruction, 4),
        ),
    )  # fmt: skip

    decoder = {"decoder_hidden_size": 24, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 3}
    settings = {**SHAPE, **decoder, "decoder_intermediate_size": 48, "intermediate_size": 64, "mask_ratio": 0.5}
    mae: Any = shaken(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**settings, patch_size=4)))
    predict: Right = lambda images, mask: mae(images, noise=mask.is_hidden.float()).logits  # noqa: E731
    yield (
        "Hugging Face ViTMAE, folder",
        Layout(_saved(mae), "decoder.decoder_pred.weight", "predictions", "transformers", predict),
    )
    said = {"heads": 4, "decoder_heads": 3}
    yield (
        "Hugging Face ViTMAE, names in memory",
        Layout(dict(mae.state_dict()), "attention.q_proj.weight", "predictions", "transformers", predict, said),
    )
    yield (
        "Hugging Face ViTMAE, sharded safetensors",
        Layout(_in_shards(mae), "model.safetensors.index.json", "predictions", "transformers", predict),
    )


def by_itself() -> Iterator[tuple[str, Layout]]:
    size: dict[str, Any] = {"image_size": 16, "patch_size": 4, "width": 32, "depth": 1, "heads": 4}
    ours: Any = shaken(MAE(**size, decoder_width=32, decoder_depth=1, decoder_heads=4))
    yield (
        "our runs",
        Layout(
            lambda folder: publish(folder / "run", ours),
            "config.json", "predictions", "the model in memory", lambda images, mask: ours(images, mask).pred,
        ),
    )  # fmt: skip


def layouts() -> list[tuple[str, Layout]]:
    """Every layout that loads, by the name of its row."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [*by_itself(), *by_hand(), *by_timm(), *by_transformers()]


# --- tables ---


def names(path: Path) -> list[str]:
    """Of tensors and members."""
    if path.is_dir():
        tensors = [name for file in path.glob("*.safetensors") for name in load_file(file)]
        return tensors + [member.name for member in path.iterdir()]

    def below(content: dict[str, Any]) -> Iterator[str]:
        for name, value in content.items():
            yield name
            yield from below(value) if isinstance(value, dict) else ()

    return list(below(torch.load(path, weights_only=True)))


@torch.no_grad()
def row(label: str, layout: Layout, folder: Path) -> str:
    path = layout.write(folder)
    if not any(layout.name in name for name in names(path)):
        raise AssertionError(f"expected {layout.name} in the file of {label}, got {names(path)[:3]}")
    model = load(path, **layout.said)
    side = layout.size // layout.patch
    images = torch.randn(1, foreign.CHANNELS, layout.size, layout.size, generator=rng())
    mask = Random(ratio=0.5)(1, (side, side), rng())
    out = model(images) if layout.what == "all tokens" else model(images, mask)
    every = torch.cat([out.prefix, out.tokens], dim=1)
    ours = {"predictions": out.pred, "visible tokens": out.tokens, "all tokens": every}[layout.what]
    right = layout.right(images, mask).double()
    apart, largest = (ours.double() - right).abs().max().item(), right.abs().max().item()
    if ours.shape != right.shape or apart > LIMIT * max(1, largest) or model.source is None:
        raise AssertionError(f"expected {label} as {layout.by} has it, got {apart:.1e} from it at {largest:.1f}")
    loads = "everything" if model.has_prediction else "encoder"
    assumed = ", ".join(f"`{setting}`" for setting in model.source.assumed) or "nothing"
    compared = f"{layout.what}, {layout.by}"
    return f"| {label} | {model.source.format} | `{layout.name}` | {loads} | {compared} | {apart:.1e} | {assumed} |"


@torch.no_grad()
def resampled(folder: Path) -> str:
    """Tokens of an image of 24 pixels by models of 16: ours, timm's and transformers'."""
    images = torch.randn(1, 3, 24, 24, generator=rng())
    small: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0, "patch_size": 4}
    vit: Any = shaken(timm.create_model("vit_small_patch16_224", img_size=16, **small))
    torch.save(vit.state_dict(), folder / "vit.pth")
    settings: dict[str, Any] = {**SHAPE, **FAMILIES["ViT"]}
    hugging: Any = shaken(transformers.ViTModel(transformers.ViTConfig(**settings)))
    hugging.save_pretrained(folder)
    heads: dict[str, Any] = {"heads": 4}
    apart = {}
    for name, path, said in (("timm", folder / "vit.pth", heads), ("transformers", folder, {})):
        out = load(path, image_size=24, **said)(images)
        if name == "timm":
            vit.set_input_size(img_size=24)
            right = vit.forward_features(images)
        else:
            right = hugging(images, interpolate_pos_encoding=True).last_hidden_state
        apart[name] = (torch.cat([out.prefix, out.tokens], dim=1) - right).abs().max().item()
    return (
        f"Positions resampled from 4x4 to 6x6: tokens are {apart['timm']:.1e} from timm's (`set_input_size`) and "
        f"{apart['transformers']:.1e} from those of transformers (`interpolate_pos_encoding`)."
    )


def trained_mask(folder: Path) -> str:
    """SimMIM's settings beside the weights."""
    settings = {"DATA": {"MASK_PATCH_SIZE": 8, "MASK_RATIO": 0.5, "IMG_SIZE": 16}}
    torch.save({"model": foreign.simmim(rng()), "config": settings}, folder / "simmim.pth")
    source = load(folder / "simmim.pth").source
    if source is None or source.mask is None:
        raise AssertionError("expected the mask of SimMIM's config, got none")
    return f"SimMIM with `MASK_PATCH_SIZE` 8 and `MASK_RATIO` 0.5 on patches of 4 pixels: the mask is `{source.mask}`."


def refusals(folder: Path) -> Iterator[str]:
    for name, (path, _) in refused.files(folder).items():
        try:
            load(path, heads=2)
        except InputError as error:
            answer = str(error).replace(str(folder), "FOLDER").replace("|", "\\|")
            yield f"| {name} | {answer} |"
        else:
            raise AssertionError(f"expected {name} to be refused, got a model")


def table(folder: Path) -> str:
    every = layouts()
    lines = [
        "| format | recognised as | a name in it | loads | compared | largest difference | assumed |",
        "|---|---|---|---|---|---|---|",
    ]
    with ProgressBar("formats", len(every)) as bar:
        for number, (label, layout) in enumerate(every):
            here = folder / f"layout{number}"
            here.mkdir()
            lines.append(row(label, layout, here))
            bar.advance(note=label)
    (folder / "sizes").mkdir()
    versions = f"torch {torch.__version__}, timm {timm.__version__}, transformers {transformers.__version__}"
    lines += ["", f"Versions: {versions}.", "", resampled(folder / "sizes"), "", trained_mask(folder), ""]
    (folder / "refused").mkdir()
    lines += ["Refusals, as they were seen:", "", "| file | answer |", "|---|---|", *refusals(folder / "refused")]
    return "\n".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        marked.write(__doc__, lambda: table(Path(folder)), BEGIN, END)


if __name__ == "__main__":
    main()
