"""What does the class token gather, where does attention flow from, and are there outlier tokens?

Sources: what the class token attends to, itself, registers and patches (Przewiezlikowski et al.,
"Beyond [cls]", 2412.03215: MAE's looks at itself); attention rollout (Abnar and Zuidema,
2005.00928) and its gradient-weighted form (Chefer et al., 2103.15679); outlier tokens and registers
(Darcet et al., 2309.16588; Jiang et al., 2506.08010). Always on whole images.

Attention is no dependence: on some images the maps (the last layer's row, both rollouts) stand
beside the gradient of the class token with respect to the pixels, patch by patch, which is the
receptive field's quantity; `agreement` is their rank correlation, and that of *another* image's
gradient says how much of it is the same for all images. The differentiated scalar is the token's
product with its own value (there is no class score to explain): lcmae's own choice, as is the
outliers' threshold (`lcmae.probes.measures.attention_flow`). Without a class token the mean of
the patch tokens takes its part.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from einops import reduce
from pydantic import Field
from torch import Tensor

from lcmae.models import MaskedImageModel
from lcmae.patches import patchify
from lcmae.probes.base import Accumulator, Probe
from lcmae.probes.measures.attention_flow import (
    GATHERED,
    defined,
    gathered,
    gradient_rollout,
    neighbour_cosine,
    outliers,
    rollout,
    spearman,
)
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.running import RunningMean
from lcmae.probes.statistics.variables import error_of, variable, with_sem
from lcmae.probes.watching.attention_slopes import attention_slopes, parts_of
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.hooks import attention_problem, values_problem, watch_attention
from lcmae.probes.watching.layers import layers_of, watch_layers
from lcmae.shapes import Float

FLOWS = ("raw attention", "rollout", "gradient rollout", "gradient of another image")
"""What is held against the gradient of the pixels."""

PICTURED = (*FLOWS[:3], "gradient")
"""Maps of single images that are stored."""


class AttentionFlow(Probe):
    """Returns what the class token (where there is one) and patches attend to by (layer, head), its
    mean over heads and layers (`mean_...`); `agreement` of each flow with the gradient of the
    pixels; `outlier_share`, `norm_ratio` (largest over median) and `prefix_norm_ratio` by layer;
    `outlier_map` of the last layer; `neighbour_cosine` of outliers and of the others; and maps of
    the first images."""

    name: ClassVar[str] = "attention_flow"
    question: ClassVar[str] = "What does the class token gather, and are there outlier tokens?"
    baselines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "untrained": (
            *GATHERED,
            *(f"mean_{name}" for name in GATHERED),
            *("agreement", "outlier_share", "norm_ratio", "prefix_norm_ratio"),
        )
    }

    baseline_images: int = Field(default=64, ge=0)
    """How many of the first images the untrained network sees, too; 0 leaves it out."""

    flow_images: int = Field(default=64, ge=0)
    """How many of the first images rollouts and gradients are computed on; each costs a backward
    pass."""

    num_pictures: int = Field(default=4, ge=0)
    """How many of these are stored with their maps."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass; does not change the result except for rounding."""

    def for_baselines(self) -> "AttentionFlow":
        """Without pictures."""
        return self.model_copy(update={"num_pictures": 0})

    def start(self, model: MaskedImageModel, num_images: int, seed: int) -> "_AttentionFlow":
        self.require(len(model.blocks) > 0, "an encoder of blocks, got a model without")
        problem = attention_problem(model.blocks)
        self.require(problem is None, str(problem))
        return _AttentionFlow(self, model, num_images)


@dataclass
class _AttentionFlow(Accumulator):
    probe: AttentionFlow
    model: MaskedImageModel
    num_images: int
    gathered: RunningMean = field(default_factory=RunningMean)
    overall: RunningMean = field(default_factory=RunningMean)
    agreement: RunningMean = field(default_factory=RunningMean)
    of_other: RunningMean = field(default_factory=RunningMean)
    norms: RunningMean = field(default_factory=RunningMean)
    """[b layer 3]: share of outliers, largest over median, class token over median."""
    outlier_map: RunningMean = field(default_factory=RunningMean)
    last_gradient: Tensor | None = None
    pictures: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.problem = values_problem(self.model.blocks)
        self.cosines = GroupedSums(self.num_images)

    def watch(self, batch: Batch) -> None:
        watch_layers(batch)
        batch.watch(self.probe.name, self._seen)

    @contextmanager
    def _seen(self) -> Iterator[list[Float[Tensor, "b h 7"]]]:
        found: list[Tensor] = []
        with watch_attention(self.model.blocks, lambda _, maps: found.append(gathered(maps, self.model.num_prefix))):
            yield found

    def update(self, batch: Batch) -> None:
        self.watch(batch)
        values = torch.stack(batch.watched(self.probe.name), dim=1)
        self.gathered.add(values)
        self.overall.add(values.mean((1, 2)))
        self._norms(batch)
        few = batch.images[: max(0, self.probe.flow_images - batch.first)]
        if self.problem is None and len(few):
            size = parts_of(self.model)
            for first in range(0, len(few), size):
                self._flow(few[first : first + size], batch.first + first)

    def _norms(self, batch: Batch) -> None:
        num_prefix, rows, cosines, counts = self.model.num_prefix, [], [], []
        far = torch.empty(0)
        for tokens in layers_of(batch).encoder:
            patches = tokens[:, num_prefix:]
            norms = patches.norm(dim=-1).double()
            far, middle = outliers(norms), norms.median(1).values.clamp(min=1e-12)
            prefix = tokens[:, 0].norm(dim=-1).double() / middle if num_prefix else torch.full_like(middle, torch.nan)
            rows.append(torch.stack([far.double().mean(1), norms.max(1).values / middle, prefix], dim=1))
            cosine = neighbour_cosine(patches, self.model.grid).nan_to_num(0.0)
            kinds = torch.stack([far, ~far], dim=1).double()
            cosines.append((kinds * cosine[:, None]).sum(2))
            counts.append(kinds.sum(2))
        self.norms.add(torch.stack(rows, dim=1))
        self.outlier_map.add(far.double())
        self.cosines.add(batch.indices, cosine=torch.stack(cosines, 1), count=torch.stack(counts, 1))

    def _flow(self, images: Float[Tensor, "b c h w"], first: int) -> None:
        """Maps of the class token (or of the mean patch token) beside the gradient of the
        pixels."""
        num_prefix = self.model.num_prefix
        weight = torch.zeros(num_prefix + self.model.num_patches, device=images.device)
        if num_prefix:
            weight[0] = 1
        else:
            weight[:] = 1 / self.model.num_patches

        def own_product(tokens: Tensor) -> Tensor:
            chosen = torch.einsum("btd,t->bd", tokens.float(), weight)
            return (chosen * chosen.detach()).sum(-1)

        found = attention_slopes(self.model, images, own_product)

        def of_token(flow: Float[Tensor, "b t t"]) -> Float[Tensor, "b n"]:
            return torch.einsum("btk,t->bk", flow.float(), weight)[:, num_prefix:]

        flows = [
            of_token(found.maps[-1].mean(1)),
            of_token(rollout(found.maps)),
            of_token(gradient_rollout(found.maps, found.slopes)),
        ]
        gradient = reduce(patchify(found.pixels, self.model.patch_size).double().square(), "b n p -> b n", "sum").sqrt()
        self.agreement.add(torch.stack([spearman(flow, gradient) for flow in flows], dim=1))
        before = gradient[:0] if self.last_gradient is None else self.last_gradient
        others = torch.cat([before, gradient[:-1]])
        if len(others):
            self.of_other.add(spearman(others, gradient[len(gradient) - len(others) :]))
        self.last_gradient = gradient[-1:]
        room = self.probe.num_pictures - first
        if room > 0:
            self.pictures.setdefault("original", []).append(self.model.to_picture(images[:room]).cpu())
            for name, flow in zip(PICTURED, [*flows, gradient], strict=True):
                share = flow.double() / flow.double().sum(1, keepdim=True).clamp(min=1e-30)
                self.pictures.setdefault(name, []).append(share[:room].cpu())

    def result(self) -> xr.Dataset:
        result: dict[str, xr.Variable] = {}
        there = defined(self.model.num_prefix)
        for index, (name, (words, units)) in enumerate(GATHERED.items()):
            if name not in there:
                continue
            result |= with_sem(("layer", "head"), self.gathered.part(index), name, words, units)
            overall = f"{words}, mean over layers and heads"
            result |= with_sem((), self.overall.part(index), f"mean_{name}", overall, units)
        about = {
            "outlier_share": "share of patch tokens whose norm lies far above their image's others",
            "norm_ratio": "largest norm of a patch token over the median of its image",
            "prefix_norm_ratio": "norm of the class token over the median of its image's patch tokens",
        }
        for index, (name, words) in enumerate(about.items()):
            if name == "prefix_norm_ratio" and not self.model.num_prefix:
                continue
            result |= with_sem("layer", self.norms.part(index), name, words)
        grid = self.model.grid
        far = self.outlier_map.mean
        assert far is not None
        result["outlier_map"] = variable(
            ("row", "column"), far.reshape(grid), "share of images with an outlier at the position, last layer"
        )
        cosine, error = self.cosines.estimate(
            lambda total: total["cosine"] / torch.where(total["count"] > 0, total["count"], torch.nan)
        )
        words = "mean cosine of a patch token to the tokens around it"
        degrees = self.cosines.degrees_of_freedom
        result["neighbour_cosine"] = variable(("layer", "kind"), cosine, words)
        result["neighbour_cosine_sem"] = error_of(("layer", "kind"), error, words, degrees=degrees, method="jackknife")
        result |= self._agreement()
        coordinates: dict[str, object] = {
            "layer": variable("layer", np.arange(1, len(self.model.blocks) + 1), "encoder block"),
            "head": [head + 1 for head in range(result["patch_self"].shape[-1])],
            "kind": ["outlier", "other"],
            "flow": list(FLOWS),
        }
        if self.pictures:
            originals = torch.cat(self.pictures["original"])
            result["original"] = variable(("picture", "y", "x", "channel"), originals, "image", "pixel value")
            maps = torch.stack([torch.cat(self.pictures[name]) for name in PICTURED], dim=1).unflatten(-1, grid)
            dims = ("picture", "map", "row", "column")
            result["picture_flow"] = variable(dims, maps, "share of each patch in the token's map")
            coordinates["map"] = list(PICTURED)
        attributes = {
            "token": "class token" if self.model.num_prefix else "mean of patch tokens",
            "num_registers": max(self.model.num_prefix - 1, 0),
            "num_flow_images": self.agreement.count,
            "entropy_of_uniform": float(np.log(self.model.num_patches)),
            "definition": "rollouts as published; scalar, threshold of outliers and agreement are lcmae's own",
        }
        return xr.Dataset(result, coordinates, attributes)

    def _agreement(self) -> dict[str, xr.Variable]:
        words = "rank correlation with the gradient of the pixels, patch by patch"
        values, errors = (torch.full((len(FLOWS),), torch.nan, dtype=torch.float64) for _ in range(2))
        if self.agreement.mean is not None:
            values[:-1], errors[:-1] = self.agreement.mean, self.agreement.sem
        if self.of_other.mean is not None:
            values[-1], errors[-1] = self.of_other.mean, self.of_other.sem
        attrs = {} if self.problem is None else {"missing": f"needs {self.problem}"}
        degrees = self.agreement.degrees_of_freedom
        return {
            "agreement": variable("flow", values, words, **attrs),
            "agreement_sem": error_of("flow", errors, words, degrees=degrees),
        }
