"""Every probe by name. Names are listed without importing a probe, because probes import torch."""

from importlib import import_module
from typing import TYPE_CHECKING

from lcmae.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from lcmae.probes.base import Probe

PROBES: dict[str, str] = {
    "reconstruction": "Reconstruction",
    "second_order": "SecondOrder",
    "local_contrast": "LocalContrast",
    "decoder_attention": "DecoderAttention",
    "encoder_attention": "EncoderAttention",
    "knock_out": "KnockOut",
    "attention_flow": "AttentionFlow",
    "receptive_field": "ReceptiveField",
    "attribution": "Attribution",
    "pixels_by_layer": "PixelsByLayer",
    "spectrum": "Spectrum",
    "invariance": "Invariance",
    "fidelity": "Fidelity",
    "frequency": "Frequency",
    "transfer": "Transfer",
    "dense": "Dense",
    "patch_retrieval": "PatchRetrieval",
    "position": "Position",
    "embedding_consistency": "EmbeddingConsistency",
    "hierarchy": "Hierarchy",
    "mask_graph": "MaskGraph",
    "bounds": "Bounds",
}
"""Name of the probe (and of its module) -> name of its class."""


def probe_class(name: str) -> "type[Probe]":
    """The settings class of a probe; `InputError` for an unknown name."""
    if name not in PROBES:
        raise InputError(f"expected a probe out of {', '.join(PROBES)}, got {name!r}{did_you_mean(name, PROBES)}")
    return getattr(import_module(f"lcmae.probes.{name}"), PROBES[name])
