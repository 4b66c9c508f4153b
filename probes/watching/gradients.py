"""Gradients of one output with respect to every pixel: of a token after a block, or of a
prediction.

The output is made a scalar by the caller, for example by its product with random signs: a plain sum
over the channels of a token has no gradient behind a layer norm.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import MaskedImageModel
from lcmae.probes.watching.hooks import block_outputs
from lcmae.randomness import generator
from lcmae.shapes import Float, Int


def random_signs(model: MaskedImageModel, seed: int, indices: Sequence[int]) -> dict[str, Float[Tensor, "b d"]]:
    """The random cotangents of each target: for every image, by its index, a sign for every value
    of a token, and of a prediction."""
    sizes = {"token": model.config.width, "prediction": model.config.patch_values}
    rngs = [generator("cotangent", seed, index) for index in indices]
    return {
        name: torch.stack([torch.randint(2, (size,), generator=rng) for rng in rngs]).float() * 2 - 1
        for name, size in sizes.items()
    }


def product(output: Float[Tensor, "b d"], signs: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """The scalar of each row: its output times its signs."""
    return (output * signs.to(output)).sum(1)


def token_index(model: MaskedImageModel, mask: Mask, patch: int) -> Int[Tensor, " b"]:
    """Where the token of a patch stands among the encoder's tokens, prefix tokens first; the patch
    must have one."""
    positions = mask.visible
    if model.encodes_hidden:
        positions = Mask.none(len(mask), mask.num_patches, mask.visible.device).visible
    return model.num_prefix + (positions == patch).int().argmax(1)


GRAPH_BYTES = 2**29
"""About what the graph of one forward pass may keep: more rows than that go one part after the
other."""


def rows_at_once(model: MaskedImageModel) -> int:
    """Rows of one graph, at least 1."""
    tokens = model.num_patches + model.num_prefix
    return max(1, int(GRAPH_BYTES / max(graph_bytes(model, tokens, tokens), 1)))


def graph_bytes(model: MaskedImageModel, tokens: int, decoder_tokens: int) -> float:
    """About what the graph of a pass with so many tokens keeps, in bytes. For its backward pass a
    block of frozen weights keeps what both norms see, queries, keys, values, the attention's answer
    and what the activation sees: 6 + mlp_ratio numbers a channel and token."""
    config = model.config
    channels = config.width * len(model.blocks) * tokens
    channels += getattr(config, "decoder_width", 0) * len(model.decoder_blocks) * decoder_tokens
    return 4 * (6 + config.mlp_ratio) * channels


def token_gradients(
    model: MaskedImageModel,
    images: Float[Tensor, "b c h w"],
    mask: Mask,
    layers: Sequence[int],
    scalar: Callable[[Tensor], Tensor],
) -> list[Float[Tensor, "b c h w"]]:
    """Gradient of `scalar` [b] of each block's output [b t d], before the final norm; one forward
    pass serves all layers."""
    passes = Traced(model, images, mask, to_prediction=False)
    return [passes.of_token(layer, scalar) for layer in layers]


def predictions(model: MaskedImageModel, images: Float[Tensor, "b c h w"], mask: Mask) -> Float[Tensor, "b n p"]:
    """The model's predictions, in full precision and with their graph."""
    prefix, tokens, _ = model.encode(images, mask)
    return model.predict(prefix, tokens, mask)


def prediction_gradient(
    model: MaskedImageModel, images: Float[Tensor, "b c h w"], mask: Mask, scalar: Callable[[Tensor], Tensor]
) -> Float[Tensor, "b c h w"]:
    """Gradient of `scalar` [b] of the predictions [b n p]."""
    return Traced(model, images, mask, to_prediction=True).of_prediction(scalar)


def leaf_of(images: Tensor) -> Tensor:
    """A copy that takes a gradient."""
    return images.detach().clone().requires_grad_()


class Traced:
    """One forward pass whose graph is kept: any number of its outputs are differentiated at a
    backward pass each.

    `token_gradients` and `prediction_gradient` are this for callers that ask once. One thread at a
    time.
    """

    def __init__(
        self, model: MaskedImageModel, images: Float[Tensor, "b c h w"], mask: Mask, *, to_prediction: bool
    ) -> None:
        with torch.enable_grad(), block_outputs(model.blocks) as self.tokens:
            self.leaf = leaf_of(images)
            prefix, tokens, _ = model.encode(self.leaf, mask)
            self.prediction = model.predict(prefix, tokens, mask) if to_prediction else None

    def of_token(self, layer: int, scalar: Callable[[Tensor], Tensor]) -> Float[Tensor, "b c h w"]:
        """Gradient of `scalar` [b] of a block's output [b t d], before the final norm."""
        return self._gradient(self.tokens[layer], scalar)

    def of_prediction(self, scalar: Callable[[Tensor], Tensor]) -> Float[Tensor, "b c h w"]:
        """Gradient of `scalar` [b] of the predictions [b n p]."""
        assert self.prediction is not None
        return self._gradient(self.prediction, scalar)

    def _gradient(self, output: Tensor, scalar: Callable[[Tensor], Tensor]) -> Float[Tensor, "b c h w"]:
        with torch.enable_grad():
            return torch.autograd.grad(scalar(output).sum(), self.leaf, retain_graph=True)[0]
