"""He, Chen, Xie, Li, Dollar and Girshick, "Masked Autoencoders Are Scalable Vision Learners" (arXiv
2111.06377)."""

from lcmae.probes.claims.claim import Claim, Needs, difference
from lcmae.probes.claims.readings import Reading

UNTRAINED = ("untrained network",)
"""What a number is held against where it would say something of any network."""

SOURCE = "He et al., Masked Autoencoders, 2111.06377"


def linear(grid: str, feature: str = "cls", network: str = "trained", **where: object) -> Reading:
    """Accuracy of the linear probe on unmasked test images (protocol of
    `lcmae.probes.measures.linear_probe`)."""
    at = {"classifier": "linear", "network": network, "feature": feature}
    return Reading(grid, "transfer", "accuracy", at, **where)  # pyright: ignore[reportArgumentType]


CLAIMS = (
    Claim(
        id="mae-learns",
        says="Filling in hidden patches teaches features that classes can be read off linearly.",
        source=SOURCE,
        quantity="accuracy of the linear probe by SGD (class token), trained less fresh weights",
        units="share of test images",
        readings=(linear("mae"), linear("mae", network="untrained")),
        combine=difference,
        leaves_open="Fresh weights are the baseline, and not another way of learning. Raw pixels do well on digits.",
    ),
    Claim(
        id="mae-finetune",
        says="Fine-tuned, a masked autoencoder is better than the same network trained from scratch.",
        source=SOURCE,
        quantity="accuracy after fine-tuning, from the checkpoint less from fresh weights",
        units="share of test images",
        readings=(
            Reading("mae", "transfer", "finetuned_accuracy", {"network": "trained"}),
            Reading("mae", "transfer", "finetuned_accuracy", {"network": "untrained"}),
        ),
        combine=difference,
        leaves_open="10 epochs of fine-tuning for both: from scratch it has not converged.",
    ),
    Claim(
        id="mae-imagenet",
        says="The same at scale: ViT-H reaches 87.8 % on ImageNet-1K without other data.",
        source=f"{SOURCE}, abstract",
        needs=Needs(images=1_281_167, image_side=448),
    ),
)
