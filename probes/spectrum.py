"""How many directions do the features use: has the model collapsed in some dimensions?

Sources: U-MAE's uniformity (Zhang et al., "How Mask Matters", 2210.08344), whose inverse is a
participation ratio; effective rank (Roy and Vetterli, 2007); RankMe (Garrido et al., 2210.02885);
alpha-ReQ (Agrawal et al., NeurIPS 2022); LiDAR (Thilak et al., 2312.04000), with masks of an image
as its views, which is our choice; uniformity of Wang and Isola (2005.10242); intrinsic dimension by
TwoNN (Facco et al., 1803.06992).

Everything but the last two comes from d x d moments, in float64 and exact. Standard errors are
jackknifed over groups of images. Others publish other numbers under the same names: conventions
stand in each variable's `convention`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
import xarray as xr
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor

from lcmae.masking import AnyMask, Random
from lcmae.models import Feature, MaskedImageModel, MaskedOutput, take
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.measures import ranks
from lcmae.probes.measures.neighbours import SAME, distances, estimate_from_sample, estimate_two_nn, wang_isola
from lcmae.probes.statistics.jackknife import groups_of
from lcmae.probes.statistics.moments import GroupedMoments, Moments, estimate
from lcmae.probes.statistics.sample import Collected, ImageSample
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.probes.watching.batch import Batch
from lcmae.randomness import generator
from lcmae.shapes import Float, Int

COMPARED = (
    "effective_rank",
    "rankme",
    "participation_ratio",
    "alpha_req",
    "uniformity",
    "uniformity_of_others",
    "wang_isola",
    "intrinsic_dimension",
    "lidar",
)
VIEWS = ("full", "masked")


class Spectrum(Probe):
    """Returns rank-like numbers by `feature` (cls, mean, token) and `view` (full image, masked),
    each with a standard error, the spectra they come from (`singular_value`, `variance_share` by
    `rank`), and `lidar` of pooled vectors."""

    name: ClassVar[str] = "spectrum"
    question: ClassVar[str] = "How many directions do the features use: has the model collapsed in some dimensions?"
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": (*COMPARED, "singular_value", "variance_share"),
        "pixels": COMPARED,
    }

    baseline_images: int = Field(default=1024, ge=0)
    """How many of the first images the baselines see, too: more than elsewhere, because ranks
    grow with the number of images; 0 leaves them out."""

    mask: AnyMask = Random()
    """Which patches are hidden in the masked view, and in LiDAR's views."""

    num_masks: int = Field(default=8, ge=2)
    """Masks per image: LiDAR's views. The masked view uses the first of them."""

    centre: bool = False
    """Subtract the mean before RankMe and `singular_value` (as published: no)."""

    power: Literal[1, 2] = 1
    """RankMe of singular values (1, as published) or of their squares (2)."""

    first_rank: int = Field(default=11, ge=1)
    """First eigenvalue, counted from 1, of the line that alpha-ReQ fits."""

    last_rank: int = Field(default=100, ge=5)
    """Last eigenvalue of that line."""

    lidar_ridge: float = Field(default=1e-4, gt=0)
    """What LiDAR adds to the diagonal of the scatter within images, in squared feature units."""

    num_sampled: int = Field(default=1024, ge=1)
    """Most images for the two numbers that need pairs (Wang-Isola, intrinsic dimension); their cost
    is its square."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass (each with all its masks); does not change the result except for
    rounding."""

    @model_validator(mode="after")
    def _a_line_needs_points(self) -> "Spectrum":
        if self.last_rank < self.first_rank + 4:
            raise ValueError(f"expected at least 5 ranks for alpha-ReQ, got {self.first_rank} to {self.last_rank}")
        return self

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_Spectrum":
        return _Spectrum(self, model, num_images, seed)


@dataclass
class _Spectrum(Accumulator):
    probe: Spectrum
    model: MaskedImageModel
    num_images: int
    seed: int

    def __post_init__(self) -> None:
        self.pooled: tuple[Feature, ...] = ("cls", "mean") if self.model.num_prefix else ("mean",)
        self.features = (*self.pooled, "token")
        self.keys = [(feature, view) for feature in self.features for view in VIEWS]
        self.raw = {key: GroupedMoments() for key in self.keys}
        self.normalised = {key: GroupedMoments() for key in self.keys}
        self.between = {name: GroupedMoments() for name in self.pooled}
        self.within = {name: GroupedMoments() for name in self.pooled}
        self.sample = ImageSample(self.probe.num_sampled, self.num_images, self.seed)
        self.sampled = {key: Collected(self.sample) for key in self.keys}

    def update(self, batch: Batch) -> None:
        group = groups_of(batch.indices, self.num_images)
        rows = self.sample.rows(batch)
        num_masks = self.probe.num_masks
        _, masked = batch.masked(self.probe.mask, num_masks)
        whole = batch.unmasked()

        # the spectra: one vector (or one set of tokens) an image, whole and under its first mask
        for name in self.features:
            for view, out, every in (("full", whole, 1), ("masked", masked, num_masks)):
                vectors = _vectors(out, name, every)
                self.raw[name, view].add(vectors, group)
                self.normalised[name, view].add(F.normalize(vectors.double(), dim=-1), group)
                few = vectors[rows]
                positions = self._positions(batch, rows, few.shape[1])
                self.sampled[name, view].add(take(few, positions[:, None])[:, 0])

        # LiDAR: how images differ, against how one image differs from itself under masks
        for name in self.pooled:
            views = rearrange(masked.feature(name).double(), "(b k) d -> b k d", k=num_masks)
            centre = views.mean(1, keepdim=True)
            self.between[name].add(centre, group)
            self.within[name].add(views - centre, group)

    def _positions(self, batch: Batch, rows: Int[Tensor, " r"], num_tokens: int) -> Int[Tensor, " r"]:
        """One token of each sampled image, drawn: tokens of one image are too alike to count as
        neighbours."""
        positions = [
            int(torch.randint(num_tokens, (), generator=generator("spectrum-token", self.seed, batch.first + row)))
            for row in rows.tolist()
        ]
        return torch.tensor(positions, dtype=torch.long, device=rows.device)

    def result(self) -> xr.Dataset:
        numbers: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in _NUMBERS}
        spectra: dict[str, list[Tensor]] = {"singular_value": [], "variance_share": []}
        for key in self.keys:
            names, found = self._estimates(key)
            for name, value, sem in zip(names, *found, strict=True):
                numbers[name].append((value, sem))
            for name, value in self._spectra(self.raw[key].whole()).items():
                spectra[name].append(value)

        shape = len(self.features), len(VIEWS)
        result = {}
        for name, (long_name, convention) in _NUMBERS.items():
            value, sem = (torch.stack(part).reshape(shape) for part in zip(*numbers[name], strict=True))
            result[name] = variable(("feature", "view"), value, long_name, convention=convention)
            result[f"{name}_sem"] = error_of(
                ("feature", "view"), sem, long_name, degrees=self.degrees_of_freedom, method="jackknife"
            )
        for name, parts in spectra.items():
            result[name] = variable(
                ("feature", "view", "rank"), torch.stack(parts).unflatten(0, shape), *_SPECTRA[name]
            )
        result |= self._lidar()
        count = torch.tensor([self.raw[key].whole().count for key in self.keys]).reshape(shape)
        width = self.raw[self.keys[0]].whole().width
        result["num_vectors"] = variable(("feature", "view"), count.long(), "vectors that were seen")
        result["largest_rank"] = variable(
            ("feature", "view"), count.clamp(max=width).long(), "largest rank possible: min(vectors, width)"
        )
        coordinates = {"feature": list(self.features), "view": list(VIEWS), "rank": torch.arange(1, width + 1).numpy()}
        attributes = {"num_sampled": len(self.sample), "standard_error": "delete-a-group jackknife over images"}
        return xr.Dataset(result, coordinates, attributes)

    def _estimates(self, key: tuple[str, str]) -> tuple[tuple[str, ...], tuple[Tensor, Tensor]]:
        """Every number of one feature and view, and their standard errors."""
        probe = self.probe

        def of_moments(raw: Moments, normalised: Moments) -> Tensor:
            uniform = ranks.uniformity(normalised)
            return torch.stack(
                [
                    ranks.effective_rank(raw),
                    ranks.rankme(raw, probe.centre, probe.power),
                    1 / uniform,
                    ranks.alpha_req(ranks.variances(raw), probe.first_rank, probe.last_rank),
                    uniform,
                    ranks.uniformity_of_others(normalised),
                ]
            )

        points = self.sampled[key].every().double()
        same = SAME * float(points.square().sum(-1).mean().sqrt())
        found = [
            estimate(of_moments, self.raw[key], self.normalised[key]),
            # a vector of zeros has no direction: NaN, and not a point where all meet
            estimate_from_sample(wang_isola, distances(points / points.norm(dim=-1, keepdim=True))),
            estimate_two_nn(distances(points), same),
        ]
        values, sems = (torch.cat([part.reshape(-1) for part in parts]) for parts in zip(*found, strict=True))
        return tuple(_NUMBERS), (values, sems)

    def _spectra(self, moments: Moments) -> dict[str, Tensor]:
        spread = ranks.variances(moments)
        square = spread if self.probe.centre else ranks.eigenvalues(moments.second_moment, moments.count)
        return {"singular_value": square.sqrt(), "variance_share": spread / spread.sum()}

    @property
    def degrees_of_freedom(self) -> int:
        return self.raw[self.keys[0]].degrees_of_freedom

    def _lidar(self) -> dict[str, xr.Variable]:
        count = self.probe.num_masks

        def numbers(between: Moments, within: Moments) -> Tensor:
            rank = ranks.lidar(between, within, self.probe.lidar_ridge)
            return torch.stack([rank, ranks.mask_share(between, within, count)])

        found = [estimate(numbers, self.between[name], self.within[name]) for name in self.pooled]
        # tokens have no place in LiDAR: under masks an image keeps no fixed set of them
        nothing = torch.full((2,), torch.nan, dtype=torch.float64)
        value, sem = (torch.stack([*part, nothing], dim=1) for part in zip(*found, strict=True))
        degrees = self.degrees_of_freedom
        share = "share of LiDAR's scatter between images that masks alone would make (1: images do not differ)"
        name = "LiDAR rank of pooled vectors, masks as views"
        convention = "entropy rank of Sw^-1/2 Sb Sw^-1/2, Sb's divisor the number of images, "
        convention += f"{self.probe.lidar_ridge:g} added to Sw; at most images - 1"
        return {
            "lidar": variable("feature", value[0], name, convention=convention + FLOOR),
            "lidar_sem": error_of("feature", sem[0], name, degrees=degrees, method="jackknife"),
            "lidar_mask_share": variable("feature", value[1], share),
            "lidar_mask_share_sem": error_of("feature", sem[1], share, degrees=degrees, method="jackknife"),
        }


FLOOR = (
    "; where lidar_mask_share is near 1, images differ by no more than masks make them, and the rank is that of noise"
)

_NUMBERS = {
    "effective_rank": ("effective rank", "exp entropy of the centred covariance's eigenvalues; 1 if constant"),
    "rankme": ("RankMe", "exp entropy of singular values / their sum; uncentred unless `centre`; no epsilon"),
    "participation_ratio": (
        "participation ratio",
        "of the uncentred second moment of vectors scaled to length 1: 1 / uniformity",
    ),
    "alpha_req": (
        "alpha of a power law through the eigenvalues",
        "centred covariance, ranks first_rank to last_rank, weights 1/rank, null directions left out; NaN below 5",
    ),
    "uniformity": ("mean squared cosine of pairs", "U-MAE's term: the pair with itself included, floor 1/largest_rank"),
    "uniformity_of_others": (
        "mean squared cosine of pairs of different vectors",
        "unbiased; 1/width for even directions",
    ),
    "wang_isola": (
        "uniformity of Wang and Isola",
        "log mean exp(-2 |x - y|^2) of vectors of length 1, over pairs of a sample; NaN if one is 0",
    ),
    "intrinsic_dimension": (
        "intrinsic dimension (TwoNN)",
        "of a sample; line through the origin, largest tenth discarded; tokens: one an image",
    ),
}
_SPECTRA = {
    "singular_value": ("singular value / sqrt(number of vectors)", "feature units"),
    "variance_share": ("share of the variance along this direction", "1"),
}


def _vectors(out: MaskedOutput, name: str, every: int) -> Float[Tensor, "b t d"]:
    """Vectors of each image under the first of its `every` masks; tokens are those of visible
    patches."""
    if name == "token":
        tokens = out.tokens if out.tokens.shape[1] == out.visible.shape[1] else take(out.tokens, out.visible)
        return tokens[::every]
    feature: Feature = "cls" if name == "cls" else "mean"
    return out.feature(feature)[::every, None]
