"""Choices that change how fast a model computes and, but for rounding, not what."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from torch.compiler import config as compiler_config
from torch.nn.attention import SDPBackend, sdpa_kernel

from lcmae.blocks import Block
from lcmae.config import AttentionKernel
from lcmae.models import MaskedImageModel

BACKENDS: Mapping[str, SDPBackend] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
"""torch's own attention kernels by the names of the setting."""


@contextmanager
def attention_kernel(model: MaskedImageModel, kernel: AttentionKernel) -> Iterator[None]:
    """Within this, attention runs by this kernel; `written` multiplies the matrices out, `auto`
    leaves it to torch.

    What is compiled within is stored under the kernel's name: torch's cache of compiled code, which
    processes share, does not ask which kernel was chosen (2.11), and would return another one's.
    """
    if kernel == "written":
        for block in blocks_of(model):
            block.attn.fused_attn = False  # pyright: ignore[reportAttributeAccessIssue] - Final for TorchScript alone
    tag = compiler_config.cache_key_tag
    compiler_config.cache_key_tag = f"{tag} attention {kernel}".strip()
    try:
        with sdpa_kernel(BACKENDS[kernel]) if kernel in BACKENDS else nullcontext():
            yield
    finally:
        compiler_config.cache_key_tag = tag


def compile_blocks(model: MaskedImageModel, *, fixed_shapes: bool = True) -> None:
    """Compile what the time goes into: the encoder's block, the decoder's and its last, once each
    for all of a kind."""
    for block in blocks_of(model):
        block.compile(dynamic=False if fixed_shapes else None)


def recompute_blocks(model: MaskedImageModel) -> None:
    """Activation checkpointing: each block keeps its input alone, and is computed again in the
    backward pass."""
    for block in blocks_of(model):
        block.recompute = True


def blocks_of(model: MaskedImageModel) -> Iterator[Block]:
    """Encoder blocks, then decoder blocks."""
    for block in (*model.blocks, *model.decoder_blocks):
        assert isinstance(block, Block)
        yield block
