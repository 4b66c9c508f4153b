"""What a training step costs in multiplications and additions, from the architecture alone.

Matrix products are counted, two operations for each multiplication and addition, as torch's own
counter does: patch embedding and encoder blocks on what the encoder sees (MAE: visible patches and
the class token; SimMIM: all of them), the decoder on every patch, its last block and the head where
something is predicted; backward takes twice forward. Norms, activations, the optimiser, and
networks that guide a mask are not counted."""

from lcmae.config import RunConfig
from lcmae.masking import at_ratio
from lcmae.masking.schedules import quantize
from lcmae.models import MAEConfig, ModelConfig
from lcmae.objectives import UMAE, USimMIM
from lcmae.randomness import generator

SAMPLES = 256
"""Moments of training at which a schedule of the ratio is looked at."""


def flops_an_image(config: RunConfig) -> float:
    """FLOP of training on one image once, with all its masks; the mean over a schedule of the
    ratio."""
    return sum(step_flops(config, hidden) for hidden in hidden_counts(config)) / len(hidden_counts(config))


def hidden_counts(config: RunConfig) -> list[int]:
    """Hidden patches of a mask: one number, or those at `SAMPLES` moments of a schedule."""
    mask, grid, schedule = config.objective.mask, config.model.grid, config.ratio_schedule
    if schedule is None:
        return [mask.num_hidden(grid)]
    ratios = [
        quantize(schedule((it + 0.5) / SAMPLES, generator("flops", it)), grid, config.ratio_multiple)
        for it in range(SAMPLES)
    ]
    return [at_ratio(mask, ratio).num_hidden(grid) for ratio in ratios]


def step_flops(config: RunConfig, hidden: int) -> int:
    """Forward and backward for one image, of whose patches each mask hides `hidden`."""
    model, masks = config.model, config.objective.masks_per_image
    n, p = model.num_patches, model.patch_values
    is_mae = isinstance(model, MAEConfig)
    seen = n - hidden if is_mae else n
    embedded = n if masks > 1 else seen
    # no gradient flows into the pixels
    total = 2 * (2 * embedded * p * model.width) + 3 * masks * model.depth * _encoder_block(model, seen + 1)
    width = model.width
    if isinstance(model, MAEConfig):
        width, tokens = model.decoder_width, n + model.decoder_prefix
        ratio = model.mlp_ratio if model.decoder_mlp_ratio is None else model.decoder_mlp_ratio
        inner = int(width * ratio)
        blocks = [tokens] * (model.decoder_depth - 1) + [hidden]
        total += 3 * masks * 2 * (seen + model.decoder_prefix) * model.width * width
        total += 3 * masks * sum(block_flops(tokens, queries, width, inner) for queries in blocks)
    total += 3 * masks * 2 * hidden * width * p
    if isinstance(config.objective, UMAE | USimMIM):
        total += 6 * model.width**2  # second moments of the pooled vectors
    return total


def _encoder_block(model: ModelConfig, tokens: int) -> int:
    return block_flops(tokens, tokens, model.width, int(model.width * model.mlp_ratio))


def block_flops(tokens: int, queries: int, width: int, inner: int) -> int:
    """Forward through a transformer block on so many tokens, of which `queries` go on."""
    keys_and_values = 2 * tokens * width * 2 * width
    attention = 4 * tokens * queries * width
    return keys_and_values + attention + 2 * queries * width * (2 * width + 2 * inner)
