"""Reading latents off features: one ridge for all latents of all levels, and the score of what it
says."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lcmae.probes.measures.ridge import Ridge, fit
from lcmae.shapes import Float

CONSTANT = "constant"
"""The representation that knows nothing: the best constant answer of the training rows."""


@dataclass(frozen=True)
class Level:
    """One level's latents, or those above some patches, as targets of a linear map."""

    name: str
    kinds: int
    """Number of kinds; 0 for attributes."""

    def targets(self, latents: Tensor) -> Float[Tensor, "b k"]:
        """One-hot kinds, or attributes, latent after latent."""
        values = F.one_hot(latents, self.kinds) if self.kinds else latents
        return values.double().flatten(1)

    def score(self, guess: Float[Tensor, "b k"], latents: Tensor, variance: Float[Tensor, " k"]) -> Float[Tensor, " b"]:
        """Each image's share of right kinds, or its R2: means over the level's latents."""
        if self.kinds:
            return (guess.unflatten(1, (-1, self.kinds)).argmax(-1) == latents).double().mean(1)
        return 1 - ((guess - latents.flatten(1)).square() / variance).mean(1)


@dataclass(frozen=True)
class Decoder:
    """Ridges of one kind of rows (whole images, or patches) onto every level, beside the best
    constant."""

    levels: list[Level]
    sizes: list[int]
    mean: Float[Tensor, " k"]
    variance: Float[Tensor, " k"]
    ridges: dict[str, Ridge]

    @classmethod
    def fit(cls, levels: list[Level], latents: dict[str, Tensor], features: dict[str, Tensor], seed: int) -> "Decoder":
        """From the latents [n nodes ...] and features [n d] of training rows."""
        parts = [level.targets(latents[level.name]) for level in levels]
        targets, sizes = torch.cat(parts, dim=1), [part.shape[1] for part in parts]
        groups = torch.arange(len(parts)).repeat_interleave(torch.tensor(sizes))
        ridges = {name: fit(rows, targets, groups, seed) for name, rows in features.items()}
        variance = targets.var(0, correction=0).clamp(min=1e-12)
        return cls(levels, sizes, targets.mean(0), variance, ridges)

    def scores(self, features: dict[str, Tensor], latents: dict[str, Tensor]) -> Float[Tensor, "b f level"]:
        """Each row's score by feature, in the order of `names`."""
        rows = len(next(iter(latents.values())))
        guesses = [self.ridges[name](features[name]) for name in self.ridges] + [self.mean.expand(rows, -1)]
        return torch.stack([self._score(guess, latents) for guess in guesses], dim=1)

    @property
    def names(self) -> list[str]:
        """The features, and the constant at last."""
        return [*self.ridges, CONSTANT]

    def _score(self, guess: Float[Tensor, "b k"], latents: dict[str, Tensor]) -> Float[Tensor, "b level"]:
        parts, variances = guess.split(self.sizes, dim=1), self.variance.split(self.sizes)
        triples = zip(self.levels, parts, variances, strict=True)
        return torch.stack([level.score(part, latents[level.name], spread) for level, part, spread in triples], dim=1)
