"""What every block says about whole images, computed once a batch for all probes that ask."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import Feature, MaskedImageModel
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.hooks import block_outputs
from lcmae.shapes import Float


@dataclass(frozen=True)
class Layers:
    """Tokens after each block, prefix tokens first and patches in raster order, before any final
    norm; all float32."""

    embedding: Float[Tensor, "b t d"]
    """What enters the first block: patches with their positions."""

    encoder: list[Float[Tensor, "b t d"]]
    decoder: list[Float[Tensor, "b s e"]]
    prefix: Float[Tensor, "b p d"]
    """Prefix tokens after the final norm."""

    tokens: Float[Tensor, "b n d"]
    """Patch tokens after the final norm."""

    def feature(self, name: Feature) -> Float[Tensor, "b d"]:
        """The class token or the mean of the patch tokens, after the final norm."""
        return self.prefix[:, 0] if name == "cls" else self.tokens.mean(1)


def watch_layers(batch: Batch) -> None:
    """Have the pass over whole images keep what `layers_of` will ask for."""
    batch.watch("layers", lambda: _watch(batch.model))


def layers_of(batch: Batch) -> Layers:
    """Of the batch's own model: from the one pass over whole images, shared."""
    watch_layers(batch)
    out = batch.unmasked()
    return batch.once("layers", lambda: batch.watched("layers").described(out.prefix, out.tokens))


@torch.no_grad()
def layers(model: MaskedImageModel, images: Float[Tensor, "b c h w"], *, decoder: bool = True) -> Layers:
    """A pass over whole images of its own, on request without the decoder (its list is then empty);
    no gradients."""
    mask = Mask.none(len(images), model.num_patches, images.device)
    low_precision = model.precision == "bfloat16"
    with _watch(model) as watched, torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=low_precision):
        prefix, tokens, _ = model.encode(images, mask)
        if decoder and len(model.decoder_blocks):
            model.predict(prefix, tokens, mask)
    return watched.described(prefix, tokens)


@dataclass(frozen=True)
class _Watched:
    entered: list[Tensor]
    encoder: dict[int, Tensor]
    decoder: dict[int, Tensor]

    def described(self, prefix: Tensor, tokens: Tensor) -> Layers:
        encoder, decoder = ([found[layer].float() for layer in sorted(found)] for found in (self.encoder, self.decoder))
        return Layers(self.entered[-1].float(), encoder, decoder, prefix.float(), tokens.float())


@contextmanager
def _watch(model: MaskedImageModel) -> Iterator[_Watched]:
    entered: list[Tensor] = []
    hook = model.blocks[0].register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    try:
        with block_outputs(model.blocks) as encoder, block_outputs(model.decoder_blocks) as decoder:
            yield _Watched(entered, encoder, decoder)
    finally:
        hook.remove()
