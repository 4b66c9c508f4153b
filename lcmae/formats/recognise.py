"""Which layout a file has; and, where it has none that we know, why it is refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lcmae.errors import CheckpointError
from lcmae.formats import huggingface, lightly, official, simmim, solo_learn, stable_pretraining, timm_vit
from lcmae.formats.build import Reading
from lcmae.formats.own import is_own, read_own
from lcmae.formats.weights import Weights, first_keys, open_state

FORMATS: tuple[ModuleType, ...] = (
    official,
    huggingface,
    simmim,
    stable_pretraining,
    solo_learn,
    lightly,
    timm_vit,
)
"""In the order they are tried: the more particular first. Each has `recognise(weights)` and
`read(weights, overrides)`."""

SHAPED_LIKE: tuple[tuple[str, Callable[[Weights], bool]], ...] = (
    ("a Swin transformer, whose windows and merged patches have no single grid of tokens", simmim.is_swin),
    ("a BEiT or SimMIM encoder without its `encoder.` prefix and mask token", lambda w: "blocks.0.attn.q_bias" in w),
    ("a convolutional network", lambda w: "layer1.0.conv1.weight" in w or "stages.0.blocks.0.conv_dw.weight" in w),
    ("a model with rotary positions (DINOv3, EVA)", lambda w: any("rope" in name for name in w.tensors)),
    ("an OpenAI or OpenCLIP model, whose encoder has names of its own", lambda w: "visual.conv1.weight" in w),
)

ENCODERS = ("backbone.vit.", "backbone.", "encoder.vit.", "encoder.", "vit.", "model.", "visual.trunk.")
"""Where trainers put a timm encoder that came without a decoder."""


def read_any(path: Path | str, overrides: Mapping[str, Any], *, meta: bool = False) -> Reading:
    """A `Reading` of whatever lies at `path`: our run or step, `timm:NAME`, or a foreign file or
    folder."""
    if isinstance(path, str) and path.startswith("timm:"):
        return timm_vit.read_named(path, overrides, meta=meta)
    if "\0" in str(path):
        raise CheckpointError(f"expected a path, got one with a NUL character: {str(path)!a}")
    if is_own(path):
        return read_own(path, dict(overrides), meta=meta)
    weights = open_state(Path(path), meta=meta)
    return understand(weights, overrides)


def understand(weights: Weights, overrides: Mapping[str, Any]) -> Reading:
    """The first layout that recognises the names, or a refusal that says what the file looks
    like."""
    for layout in FORMATS:
        if layout.recognise(weights):
            return layout.read(weights, overrides)
    like = next((what for what, is_it in SHAPED_LIKE if is_it(weights)), None)
    if like is not None:
        raise CheckpointError(f"expected a ViT checkpoint of a known layout, got {like}: {weights.path}")
    for prefix in ENCODERS:
        for root in weights.prefixes(f"{prefix}blocks.0.attn.qkv.weight"):
            if f"{root}{prefix}patch_embed.proj.weight" in weights:
                return _encoder_below(weights, root + prefix, overrides)
    raise CheckpointError(
        f"expected a ViT checkpoint of a known layout (MAE, U-MAE, timm, Hugging Face ViTMAE, SimMIM, solo-learn, lightly, "
        f"stable-pretraining), got keys {first_keys(weights.tensors)}; a ViT has patch_embed.proj.weight: {weights.path}"
    )


def _encoder_below(weights: Weights, prefix: str, overrides: Mapping[str, Any]) -> Reading:
    inner = weights.under(prefix)
    others = len(weights.tensors) - len(inner)
    notes = [*weights.notes, f"encoder under '{prefix}'; {others} other tensors left aside"]
    reading = timm_vit.read(
        Weights(weights.path, weights.sha256, inner, weights.extras, weights.metadata, notes=notes), overrides
    )
    reading.keys = {name: prefix + name for name in inner}
    return reading
