"""Which end of a number is the better one, and why; beside the glossary, and like it one meaning
everywhere.

Most numbers describe: neither end is better, and what is not listed here has no direction.
"""

from typing import Literal, NamedTuple

Direction = Literal["higher", "lower", "neither"]


class Better(NamedTuple):
    """A direction and its reason, in half a sentence."""

    direction: Direction
    reason: str


NEITHER = Better("neither", "it describes the model, or is a baseline of the data")

_ERROR = "it is what the model was trained to make small; features need not be better for it"
_PART = "a part of the loss; at its collapse level nothing was learned of it"
_RANK = "fewer directions in use are dimensional collapse; more of them need not transfer better"
_SPREAD = "vectors that all point one way have collapsed"
_PICTURE = "the picture is nearer to the image, which says little of the features"

BETTER: dict[str, Better] = {
    "reconstruction.error": Better("lower", _ERROR),
    "second_order.error": Better("lower", _ERROR),
    "second_order.r2": Better("higher", _ERROR),
    "second_order.gain_over_linear": Better("higher", "more was learned than patch covariance says"),
    "second_order.gain_over_wiener": Better("higher", "more was learned than any Gaussian account says"),
    "local_contrast.loss": Better("lower", _ERROR),
    "local_contrast.term": Better("lower", _PART),
    "local_contrast.term_unbiased": Better("lower", _PART),
    "local_contrast.invariance_unbiased": Better("lower", _PART),
    "spectrum.effective_rank": Better("higher", _RANK),
    "spectrum.rankme": Better("higher", "it goes with linear accuracy (Garrido et al., 2210.02885)"),
    "spectrum.lidar": Better("higher", "it goes with linear accuracy (Thilak et al., 2312.04000)"),
    "spectrum.participation_ratio": Better("higher", _RANK),
    "spectrum.uniformity": Better("lower", _SPREAD),
    "spectrum.uniformity_of_others": Better("lower", _SPREAD),
    "spectrum.wang_isola": Better("lower", _SPREAD),
    "invariance.retrieval": Better("higher", "a prediction that finds its own target knows this patch"),
    "invariance.info_nce": Better("lower", "a prediction that finds its own target knows this patch"),
    "transfer.accuracy": Better("higher", "more images are told right"),
    "transfer.layer_accuracy": Better("higher", "more images are told right"),
    "transfer.pooled_accuracy": Better("higher", "more images are told right"),
    "transfer.clean_accuracy": Better("higher", "more images are told right"),
    "transfer.corruption_accuracy": Better("higher", "more corrupted images are told right"),
    "transfer.corrupted_accuracy": Better("higher", "more corrupted images are told right"),
    "transfer.finetuned_accuracy": Better("higher", "more images are told right"),
    "transfer.seed_deviation": Better("lower", "the linear probe depends less on its own seed"),
    "dense.miou": Better("higher", "parts are told apart more surely"),
    "dense.layer_miou": Better("higher", "parts are told apart more surely"),
    "dense.class_iou": Better("higher", "the class is told apart more surely"),
    "dense.gain": Better("higher", "more is told apart than the baseline does"),
    "dense.accuracy": Better("higher", "more pixels are named rightly"),
    "dense.layer_accuracy": Better("higher", "more pixels are named rightly"),
    "fidelity.ssim": Better("higher", _PICTURE),
    "fidelity.ssim_unmasked": Better("higher", _PICTURE),
    "fidelity.psnr": Better("higher", _PICTURE),
    "fidelity.psnr_unmasked": Better("higher", _PICTURE),
    "fidelity.mse": Better("lower", _PICTURE),
    "fidelity.mse_hidden": Better("lower", _PICTURE),
    "fidelity.mse_unmasked": Better("lower", _PICTURE),
    "embedding_consistency.sliced_wasserstein": Better(
        "lower", "reconstructed patches are distributed as the true ones"
    ),
    "embedding_consistency.gram_gap": Better("lower", "reconstructed patches relate to each other as the true ones do"),
}
"""PROBE.VARIABLE of stored results -> which end is better. Alignment, attention, receptive fields,
frequency and CKA have no better end: a collapsed model is perfectly invariant, and far or near
attention is a matter of the task."""


def better(probe: str, variable: str) -> Better:
    """Which end of a probe's variable is better."""
    return BETTER.get(f"{probe}.{variable}", NEITHER)
