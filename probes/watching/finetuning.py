"""Fine-tuning on classes: every weight of the encoder moves, and a linear head on the model's
pooled vector.

The recipe is the one under which MAE's small CIFAR models were judged (IcarusWizard/MAE: AdamW of
rate 1e-3 per 256 images, weight decay 0.05, a twentieth of the epochs to warm up, cosine, batches
of 128), without augmentation. Expensive: epochs x training images forward and backward.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.masking import Mask
from lcmae.models import MaskedImageModel
from lcmae.randomness import generator
from lcmae.shapes import Float, Int

BASE_RATE, WEIGHT_DECAY, BATCH_SIZE = 1e-3, 0.05, 128


class Classifier(nn.Module):
    """A copy of the encoder, trainable where a fresh one is, under a linear head; whole images to
    logits."""

    def __init__(self, model: MaskedImageModel, num_classes: int, seed: int) -> None:
        super().__init__()
        if not model.can_be_copied:
            raise InputError("expected a model that can be copied to be fine-tuned, got one of lcmae.adapt")
        self.encoder = copy.deepcopy(model)
        with torch.device("meta"):
            fresh = {name: parameter.requires_grad for name, parameter in model.config.build().named_parameters()}
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(fresh.get(name, True) and parameter.is_floating_point())
        start = torch.randn(num_classes, model.config.width, generator=generator("finetune-head", seed)) * 0.01
        self.weight = nn.Parameter(start.to(model.device))
        self.bias = nn.Parameter(torch.zeros(num_classes, device=model.device))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        none = Mask.none(len(images), self.encoder.num_patches, images.device)
        prefix, tokens, _ = self.encoder.encode(images, none)
        return F.linear(self.encoder.summarize(prefix.float(), tokens.float(), none.visible), self.weight, self.bias)

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "b c h w"]) -> Int[Tensor, " b"]:
        """The class of each image, on the CPU."""
        return self(images).argmax(1).cpu()


def finetune(
    model: MaskedImageModel,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    num_classes: int,
    *,
    epochs: int,
    seed: int,
) -> Classifier:
    """A classifier that starts from the model's weights; the model itself is not touched. Orders
    depend on the seed alone."""
    classifier = Classifier(model, num_classes, seed)
    batch_size = min(BATCH_SIZE, len(images))
    steps = len(images) // batch_size
    rate = BASE_RATE * batch_size / 256
    optimizer = torch.optim.AdamW(
        [parameter for parameter in classifier.parameters() if parameter.requires_grad], rate, weight_decay=WEIGHT_DECAY
    )
    warm_up = max(1, round(epochs * steps / 20))
    with torch.enable_grad():
        for epoch in range(epochs):
            order = torch.randperm(len(images), generator=generator("finetune-order", seed, epoch))
            for step, rows in enumerate(order[: steps * batch_size].split(batch_size), start=epoch * steps):
                factor = min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * step / (epochs * steps))))
                for group in optimizer.param_groups:
                    group["lr"] = rate * factor
                part = images[rows].to(classifier.weight.device)
                loss = F.cross_entropy(classifier(part), labels[rows].to(part.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return classifier
