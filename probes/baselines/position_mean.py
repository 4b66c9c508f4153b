"""The best prediction that looks at nothing but the position of a hidden patch: the mean of the
targets there."""

import torch
from torch import Tensor

from lcmae.shapes import Bool, Float


class PositionMean:
    """Error of the mean target of each position over what was hidden there, from sums: n x p
    numbers, whatever the number of images. Fitted on the same images, as the best constant is, so
    with few images it is a little too good."""

    def __init__(self) -> None:
        self.origin: Tensor | None = None

    def add(self, target: Float[Tensor, "b n p"], hidden: Bool[Tensor, "b n"]) -> None:
        """Take in a batch's targets where they are hidden."""
        target, weight = target.double().cpu(), hidden.double().cpu()
        if self.origin is None:
            # sums are taken around a first guess of the means, so that squares do not cancel
            self.origin = target.mean(0)
            self.count = torch.zeros(target.shape[1], dtype=torch.float64)
            self.total, self.square = torch.zeros_like(self.origin), torch.zeros_like(self.count)
        off = target - self.origin
        self.count += weight.sum(0)
        self.total += (off * weight[..., None]).sum(0)
        self.square += (off.square().sum(-1) * weight).sum(0)

    @property
    def error(self) -> Tensor:
        """Mean squared error over all that was hidden, per value."""
        spread = self.square - self.total.square().sum(-1) / self.count.clamp(min=1)
        return spread.sum() / (self.count.sum() * self.total.shape[-1])
