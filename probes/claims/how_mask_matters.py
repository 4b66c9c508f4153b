"""Zhang, Wang and Wang, "How Mask Matters: Towards Theoretical Understandings of Masked
Autoencoders" (NeurIPS 2022, 2210.08344).

Theorems hold up to constants that nobody states, so what is held against runs is their direction,
never their inequality.
"""

from typing import Any

from lcmae.probes.claims.claim import Claim, LessNull, Needs, Rule, correlation, difference, value
from lcmae.probes.claims.masked_autoencoders import UNTRAINED, linear
from lcmae.probes.claims.readings import Reading

SOURCE = "Zhang et al., How Mask Matters, 2210.08344"
LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9
"""Masking ratios: the ends are those of Kong et al.; the middle is what the recipes for digits
train with."""

BANDWIDTH, OTHER_BANDWIDTHS = 0.5, (0.35, 0.7)
"""Of the kernel that stands for "the same content": a free choice, so a verdict must hold for all
of them."""


def rank(grid: str, feature: str, **where: Any) -> Reading:
    """exp of the entropy of the covariance's spectrum, unmasked test images."""
    return Reading(grid, "spectrum", "effective_rank", {"feature": feature, "view": "full"}, **where)


def edge(kind: str, ratio: float, bandwidth: float = BANDWIDTH) -> Reading:
    """Share of edges between images that have the same visible part, kernel form in pixels."""
    at = {"mask": "unit 1", "ratio": ratio, "bandwidth": bandwidth, "side": "share_visible", "edge": kind}
    return Reading("mae", "mask_graph", "edges", at)


def alpha(ratio: float, bandwidth: float = BANDWIDTH) -> Reading:
    """Label error of visible parts, kernel form in pixels."""
    return Reading("mae", "mask_graph", "label_error", {"mask": "unit 1", "ratio": ratio, "bandwidth": bandwidth})


def toy(kind: str, ratio: float) -> Reading:
    """The same share of edges on the toy of palette images, by enumeration."""
    at = {"toy_unit": 1, "toy_ratio": ratio, "side": "share_visible", "edge": kind}
    return Reading("mae", "mask_graph", "toy_edges", at)


def bound(variable: str, at: dict[str, Any] | None = None, ratio: float = MIDDLE, grid: str | None = None) -> Reading:
    """A side of one of the theorems, under the mask of training."""
    grid = grid or ("mae" if ratio == MIDDLE else "ratios")
    return Reading(grid, "bounds", variable, at or {}, ratio=ratio)


PAIRS = {"quantity": "prediction", "pair": "same_image", "centring": "centred"}
UMAE: dict[str, Any] = {"objective": "umae"}
ACCURACY = "share of test images"
KERNEL = (
    "Kernel form in pixels. Changed after a first look: the number is that of bandwidth 0.5, and now the interval holds "
    "those of 0.35 and 0.7, too; its error holds the masks that all images share. No model is tested: kernel, images and "
    "masks alone."
)

CLAIMS = (
    Claim(
        id="umae-rank",
        says="A uniformity loss keeps the features of masked images apart (less dimensional collapse): class token.",
        source=SOURCE,
        quantity="effective rank (class token), U-MAE less MAE",
        units="dimensions",
        readings=(rank("umae", "cls", **UMAE), rank("mae", "cls")),
        combine=difference,
    ),
    Claim(
        id="umae-rank-mean",
        says="The same for the mean of the patch tokens, on which the loss does not act directly.",
        source=SOURCE,
        quantity="effective rank (mean token), U-MAE less MAE",
        units="dimensions",
        readings=(rank("umae", "mean", **UMAE), rank("mae", "mean")),
        combine=difference,
    ),
    Claim(
        id="umae-linear",
        says="U-MAE is better than MAE under linear probing (CIFAR-10, ViT-Tiny: 59.6 -> 68.9 %; ImageNet-1K, ViT-B: 55.4 -> "
        "58.5 %).",
        source=f"{SOURCE}, table of linear probing (slides)",
        quantity="accuracy of the linear probe by SGD (class token), U-MAE less MAE",
        units=ACCURACY,
        readings=(linear("umae", **UMAE), linear("mae")),
        combine=difference,
        leaves_open="One weight of the uniformity loss (0.01), on easy images.",
    ),
    Claim(
        id="umae-linear-mean",
        says="The same, read off the mean of the patch tokens.",
        source=f"{SOURCE}, table of linear probing (slides)",
        quantity="accuracy of the linear probe by SGD (mean token), U-MAE less MAE",
        units=ACCURACY,
        readings=(linear("umae", "mean", **UMAE), linear("mae", "mean")),
        combine=difference,
    ),
    Claim(
        id="umae-finetune",
        says="Fine-tuned, U-MAE and MAE are the same (CIFAR-10, ViT-Tiny: 89.6 and 89.4 %).",
        source=f"{SOURCE}, table of fine-tuning (slides)",
        quantity="accuracy after fine-tuning, U-MAE less MAE",
        units=ACCURACY,
        readings=(
            Reading("umae", "transfer", "finetuned_accuracy", {"network": "trained"}, **UMAE),
            Reading("mae", "transfer", "finetuned_accuracy", {"network": "trained"}),
        ),
        combine=difference,
        rule=Rule("within", 0.02),
        leaves_open="Equal means within 2 points; the published difference is 0.2.",
    ),
    Claim(
        id="usimmim-linear",
        says="The uniformity loss helps SimMIM, too (U-SimMIM, ImageNet-100, ViT-B, linear: 54.3 -> 61.1 %).",
        source=f"{SOURCE}, U-SimMIM (slides)",
        quantity="accuracy of the linear probe by SGD (mean token), U-SimMIM less SimMIM",
        units=ACCURACY,
        readings=(linear("simmim", "mean", objective="usimmim"), linear("simmim", "mean", objective="simmim")),
        combine=difference,
        leaves_open="SimMIM does not train its class token, so the mean token is used.",
    ),
    Claim(
        id="umae-imagenet",
        says="The published gains at their own scale (ImageNet-1K, ViT-L: 62.2 -> 65.8 % linear).",
        source=f"{SOURCE}, table of linear probing (slides)",
        needs=Needs(images=1_281_167, image_side=224),
    ),
    Claim(
        id="theorem-3.4",
        says="The loss bounds alignment: as L_MAE falls, predictions of pairs that share a hidden part align.",
        source=f"{SOURCE}, theorem 3.4",
        quantity="centred cosine of the predictions of true positive pairs, trained less fresh weights",
        readings=(bound("alignment", PAIRS), bound("alignment", PAIRS, grid="untrained")),
        combine=difference,
        leaves_open="The direction alone: constant and eps are unknown. Changed after a first look: it was L_align itself, "
        "which also counts the length of predictions; fresh weights make long ones, so it rose in training.",
    ),
    Claim(
        id="theorem-3.6",
        says="Full collapse would leave the loss at Var(x2) or above, and masked autoencoders do not collapse fully.",
        source=f"{SOURCE}, theorem 3.6",
        quantity="masked loss over Var(x2) about the mean of each position (what a constant encoder can reach)",
        readings=(bound("share_of_variance", {"level": "position"}),),
        combine=value,
        rule=Rule("below", 1.0),
    ),
    Claim(
        id="dimensional-collapse",
        says="Dimensional collapse still happens: features of MAE lie in few of their directions.",
        source=SOURCE,
        quantity="effective rank of the class token, trained less fresh weights",
        units="dimensions",
        readings=(rank("mae", "cls"), rank("untrained", "cls")),
        combine=LessNull(value, UNTRAINED, above=False),
        rule=Rule("below"),
        leaves_open="Changed after runs: it was below half of the width, which fresh weights pass, too.",
    ),
    Claim(
        id="theorem-4.1",
        says="Classification error is bounded by c1 L_U-MAE + c2 alpha + c3 eps + c4.",
        source=f"{SOURCE}, theorem 4.1",
        needs=Needs(unpublished=("the constants c1 to c4", "the decoder's Lipschitz constant")),
    ),
    Claim(
        id="theorem-4.2",
        says="L_U-MAE is bounded from below by the tail of the augmentation graph's spectrum, over 4 L.",
        source=f"{SOURCE}, theorem 4.2",
        quantity="correlation of L_U-MAE with the tail beyond rank 64, over ratios 0.1, 0.5, 0.9",
        readings=(
            *(bound("umae_loss", ratio=ratio) for ratio in (LOW, MIDDLE, HIGH)),
            *(bound("tail_at_width", {"bandwidth": 0.5}, ratio) for ratio in (LOW, MIDDLE, HIGH)),
        ),
        combine=correlation,
        needs=Needs(unpublished=("the decoder's Lipschitz constant L", "the constant of the bound at each ratio")),
        leaves_open="The correlation is shown for what it is. Changed after a first look: it was required to be positive, "
        "which a bound with an unknown constant at each ratio does not imply. Three ratios, MAE's runs, kernel form of "
        "bandwidth 0.5.",
    ),
    Claim(
        id="graph-intra",
        says="A large ratio joins more images of the same class.",
        source=f"{SOURCE}, the augmentation graph",
        quantity="share of edges to other images of the class, ratio 0.75 less 0.1, digits",
        readings=(edge("intra_class", 0.75), edge("intra_class", LOW)),
        variants=tuple(
            (edge("intra_class", 0.75, width), edge("intra_class", LOW, width)) for width in OTHER_BANDWIDTHS
        ),
        combine=difference,
        over="images",
        leaves_open=KERNEL,
    ),
    Claim(
        id="graph-inter",
        says="A ratio that is too large joins images of different classes.",
        source=f"{SOURCE}, the augmentation graph",
        quantity="share of edges to images of other classes, ratio 0.9 less 0.5, digits",
        readings=(edge("inter_class", HIGH), edge("inter_class", MIDDLE)),
        variants=tuple(
            (edge("inter_class", HIGH, width), edge("inter_class", MIDDLE, width)) for width in OTHER_BANDWIDTHS
        ),
        combine=difference,
        over="images",
        leaves_open=KERNEL,
    ),
    Claim(
        id="graph-alpha",
        says="So the label error alpha rises with the ratio.",
        source=f"{SOURCE}, the augmentation graph",
        quantity="label error of visible parts, ratio 0.9 less 0.1, digits",
        readings=(alpha(HIGH), alpha(LOW)),
        variants=tuple((alpha(HIGH, width), alpha(LOW, width)) for width in OTHER_BANDWIDTHS),
        combine=difference,
        over="images",
        leaves_open=KERNEL,
    ),
    Claim(
        id="toy-intra",
        says="A large ratio joins more images of the same class: toy, by enumeration.",
        source=f"{SOURCE}, the augmentation graph",
        quantity="share of edges to other images of the class, ratio 0.75 less 0.125, palette images",
        readings=(toy("intra_class", 0.75), toy("intra_class", 0.125)),
        combine=difference,
        over="everything",
    ),
    Claim(
        id="toy-inter",
        says="A ratio that is too large joins images of different classes: toy, by enumeration.",
        source=f"{SOURCE}, the augmentation graph",
        quantity="share of edges to images of other classes, ratio 0.875 less 0.5, palette images",
        readings=(toy("inter_class", 0.875), toy("inter_class", 0.5)),
        combine=difference,
        over="everything",
    ),
)
