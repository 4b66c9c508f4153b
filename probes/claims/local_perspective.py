"""Yue et al., "Understanding Masked Autoencoders From a Local Contrastive Perspective" (arXiv
2310.01994).

The paper's method text was not at hand, only its abstracts (v1, v2) and reviews of v1: what its
sentences are measured by is lcmae's own choice, and so named.
"""

from typing import Any

from lcmae.probes.claims.claim import Claim, LessNull, Needs, Rule, difference, ratio_difference, value
from lcmae.probes.claims.how_mask_matters import HIGH, LOW
from lcmae.probes.claims.masked_autoencoders import UNTRAINED
from lcmae.probes.claims.readings import LAST, Reading

SOURCE = "Yue et al., local contrastive perspective, 2310.01994"
OURS = "The measure is lcmae's own."
CHANGED = OURS + " Changed after runs: it was the trained network's number alone, which fresh weights pass, too."


def radius(target: str, view: str, grid: str = "mae", **where: Any) -> Reading:
    """Radius that holds half of the gradient, mean over images."""
    return Reading(grid, "receptive_field", "half_radius", {"target": target, "view": view}, **where)


def geometry(variable: str, grid: str = "mae") -> Reading:
    """CKA of the last block's tokens with the patches of the same image."""
    at = {"scope": "within", "layer": LAST, "measure": "cka"}
    return Reading(grid, "embedding_consistency", variable, at)


def alignment(pair: str, grid: str = "mae") -> Reading:
    """Centred cosine of a patch's token under two masks."""
    return Reading(grid, "invariance", "alignment", {"quantity": "token", "pair": pair, "centring": "centred"})


def distance(variable: str, mask_ratio: float | None = None, network: str = "trained") -> Reading:
    """How far hidden patches look in the decoder, mean over layers and heads, under the mask of
    training."""
    at = {"network": network}
    if mask_ratio is None:
        return Reading("mae", "decoder_attention", variable, at)
    return Reading("ratios", "decoder_attention", variable, at, ratio=mask_ratio)


def retrieval(network: str) -> Reading:
    """Top-1 retrieval of a hidden patch's own target among those of its image."""
    at = {"scope": "image", "similarity": "cosine", "network": network}
    return Reading("mae", "invariance", "retrieval", at)


CLAIMS = (
    Claim(
        id="hidden-contrast",
        says="Reconstruction holds a local contrast at patch level: a prediction is closer to its own target than to those of "
        "other patches of the image.",
        source=f"{SOURCE} v2",
        quantity="top-1 retrieval of a hidden patch's own target in its image, trained less the better of fresh weights and a "
        "copy of the nearest visible patch",
        readings=(retrieval("trained"), retrieval("untrained"), retrieval("pixels")),
        combine=LessNull(value, ("untrained network", "nearest visible patch")),
        leaves_open=OURS
        + " Changed after runs: it was less shuffled targets, which a blur of the visible pixels passes, too.",
    ),
    Claim(
        id="mask-invariance",
        says="MAE learns invariance to random masking.",
        source=f"{SOURCE} v2",
        quantity="centred cosine of a patch's token under two masks, trained less fresh weights",
        readings=(alignment("same_image"), alignment("same_image", "untrained")),
        combine=difference,
        leaves_open=OURS + " Fresh weights mix patches little, so their tokens depend little on the mask.",
    ),
    Claim(
        id="mask-invariance-baseline",
        says="The same against other images: a patch's tokens under two masks are more alike than those of two images there.",
        source=f"{SOURCE} v2",
        quantity="centred cosine of a patch's token under two masks, same image less other image, trained less fresh weights",
        readings=tuple(
            alignment(pair, grid) for grid in ("mae", "untrained") for pair in ("same_image", "other_image")
        ),
        combine=LessNull(difference, UNTRAINED),
        leaves_open=CHANGED,
    ),
    Claim(
        id="consistency",
        says="The distribution of token embeddings stays consistent with the original image.",
        source=f"{SOURCE} v2",
        quantity="CKA of the last block's tokens with the image's patches, less that with shuffled patches, trained less fresh "
        "weights",
        readings=tuple(
            geometry(variable, grid) for grid in ("mae", "untrained") for variable in ("consistency", "chance")
        ),
        combine=LessNull(difference, UNTRAINED),
        leaves_open=CHANGED,
    ),
    Claim(
        id="consistency-learned",
        says="The same, as an effect of training.",
        source=f"{SOURCE} v2",
        quantity="CKA of the last block's tokens with the image's patches, trained less fresh weights",
        readings=(geometry("consistency"), geometry("consistency", "untrained")),
        combine=difference,
        leaves_open=OURS + " Fresh weights are random maps, which keep geometry rather well.",
    ),
    Claim(
        id="decoder-local",
        says="The decoder mainly learns local features with a limited receptive field.",
        source=f"{SOURCE} v1 and v2",
        quantity="attention distance of hidden patches in the decoder, trained less fresh weights",
        units="patches",
        readings=(distance("mean_distance"), distance("mean_distance", network="untrained")),
        combine=LessNull(value, UNTRAINED, above=False),
        rule=Rule("below"),
        leaves_open=f"{CHANGED} A decoder of two blocks on a 4 x 4 grid.",
    ),
    Claim(
        id="decoder-distance",
        says="Attention distance in the decoder grows with the masking ratio.",
        source=f"{SOURCE} v1 (figure 3, as reviewers report it)",
        quantity="attention distance over that of fresh weights, trained at ratio 0.9 less 0.1, each under its own mask",
        readings=tuple(
            distance("mean_distance", ratio, network) for ratio in (HIGH, LOW) for network in ("trained", "untrained")
        ),
        combine=ratio_difference,
        leaves_open=f"{OURS} Changed after runs: it was over uniform attention. Two ratios.",
    ),
    Claim(
        id="decoder-positional",
        says="The decoder's first layer is positional, later layers add what the image says.",
        source=f"{SOURCE} v1 (as reviewers report it)",
        quantity="positional share of attention over images, last of four decoder blocks less first, trained less fresh "
        "weights",
        readings=tuple(
            Reading("deep_decoder", "decoder_attention", "positional_share_over_images_rise", {"network": network})
            for network in ("trained", "untrained")
        ),
        combine=LessNull(value, UNTRAINED, above=False),
        rule=Rule("below"),
        leaves_open=CHANGED,
    ),
    Claim(
        id="field-masked",
        says="Random masking restricts the effective receptive field: one model, more hidden.",
        source=f"{SOURCE} v2",
        quantity="half-mass radius of a token, seen at ratio 0.9 less the full image, trained less fresh weights",
        units="pixels",
        readings=tuple(radius("token", view, grid) for grid in ("mae", "untrained") for view in ("random 0.9", "full")),
        combine=LessNull(difference, UNTRAINED, above=False),
        rule=Rule("below"),
        leaves_open=f"{CHANGED} Part of it is geometry: at 0.9 one or two patches of 16 are visible.",
    ),
    Claim(
        id="field-trained",
        says="Random masking restricts the effective receptive field: trained under more hiding, seen on the full image.",
        source=f"{SOURCE} v2",
        quantity="half-mass radius of a token on full images, trained at ratio 0.9 less 0.1",
        units="pixels",
        readings=(radius("token", "full", "ratios", ratio=HIGH), radius("token", "full", "ratios", ratio=LOW)),
        combine=difference,
        rule=Rule("below"),
    ),
    Claim(
        id="field-prediction",
        says="The same for what the decoder predicts: one model, more hidden.",
        source=f"{SOURCE} v2",
        quantity="half-mass radius of a prediction, seen at ratio 0.9 less 0.25, trained less fresh weights",
        units="pixels",
        readings=tuple(
            radius("prediction", view, grid) for grid in ("mae", "untrained") for view in ("random 0.9", "random 0.25")
        ),
        combine=LessNull(difference, UNTRAINED, above=False),
        rule=Rule("below"),
        leaves_open=f"{CHANGED} With fewer visible patches a prediction must reach farther to see any.",
    ),
    Claim(
        id="augmentation",
        says="Random masking acts as data augmentation.",
        source=f"{SOURCE} v2",
        needs=Needs(unpublished=("the paper's definition of this effect",)),
    ),
    Claim(
        id="uni-ssl",
        says="A Siamese network without masks and decoder (Uni-SSL) learns representations that are closer to those of masked "
        "than of contrastive models.",
        source=f"{SOURCE} v1",
        needs=Needs(unpublished=("the loss of Uni-SSL", "its code")),
    ),
)
