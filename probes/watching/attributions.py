"""The prediction of a hidden patch as a function of which visible patches are there, and what each
of them did for it, by captum and otherwise.

Every input feature is a visible patch: 1 is the image's own, 0 the blank image's, in between a mix
of both. The sum over the patch's pixels of captum's attributions to pixels would be the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lcmae.masking import Mask
from lcmae.models import MaskedImageModel, spread
from lcmae.patches import patchify, unpatchify
from lcmae.probes.watching.gradients import graph_bytes, predictions
from lcmae.probes.watching.hooks import attention_problem, watch_attention
from lcmae.shapes import Float, Int

AT_ONCE = 128
"""Most rows of one forward pass."""

GRAPH_BYTES = 2**27
"""About what the graph of one backward pass may keep."""


@dataclass(frozen=True)
class Queried:
    """A few hidden patches, one a row, of images whose visible patches may be replaced by those of
    a blank image."""

    model: MaskedImageModel
    images: Float[Tensor, "r c h w"]
    blank: Float[Tensor, "c h w"]
    mask: Mask
    query: Int[Tensor, " r"]
    """The hidden patch that is predicted, in raster order."""

    direction: Float[Tensor, "r p"] | None = None
    """The unit vector along which `score` measures predictions; None until `with_direction`."""

    whole: Float[Tensor, "r p"] | None = None
    """The prediction with all visible patches there."""

    @property
    def num_visible(self) -> int:
        return self.mask.visible.shape[1]

    @property
    def at_once(self) -> int:
        """Rows of one graph, at least 1."""
        model = self.model
        encoded = model.num_patches if model.encodes_hidden else self.num_visible
        row = graph_bytes(model, model.num_prefix + encoded, model.num_decoder_prefix + model.num_patches)
        return max(1, min(AT_ONCE, int(GRAPH_BYTES / max(row, 1))))

    def predict(self, present: Float[Tensor, "s v"], rows: Int[Tensor, " s"]) -> Float[Tensor, "s p"]:
        """Predictions of the queried patches of `rows`, as many visible patches there as `present`
        says; with their graph where gradients are on."""
        model, mask = self.model, self.mask[rows]
        own, blank = (patchify(some, model.patch_size) for some in (self.images[rows], self.blank[None]))
        share = spread(present[..., None].to(own.dtype), mask.visible, model.num_patches)
        mixed = blank + share * (own - blank)
        pred = predictions(model, unpatchify(mixed, model.grid, model.patch_size), mask)
        return pred[torch.arange(len(rows), device=pred.device), self.query[rows]]

    @torch.no_grad()
    def predict_many(self, present: Float[Tensor, "s v"], rows: Int[Tensor, " s"]) -> Float[Tensor, "s p"]:
        """The same in parts, without a graph, in float64."""
        parts = zip(present.split(AT_ONCE), rows.split(AT_ONCE), strict=True)
        return torch.cat([self.predict(*part).double() for part in parts])

    def with_direction(self) -> tuple["Queried", Float[Tensor, " r"]]:
        """This, with the direction in which all visible patches together move the prediction away
        from that of the blank image; and how far they move it. A prediction that does not move has
        no direction: its scores are 0."""
        rows = torch.arange(len(self.query), device=self.images.device)
        ones = self.everything
        whole, nothing = self.predict_many(ones, rows), self.predict_many(torch.zeros_like(ones), rows)
        length = (whole - nothing).norm(dim=1)
        known = length > 1e-6 * whole.norm(dim=1)
        unit = (whole - nothing) / length.clamp(min=1e-300)[:, None]
        found = replace(self, direction=torch.where(known[:, None], unit, 0.0), whole=whole)
        return found, torch.where(known, length, 0.0)

    @property
    def everything(self) -> Float[Tensor, "r v"]:
        """All visible patches there."""
        return torch.ones(len(self.query), self.num_visible, dtype=self.images.dtype, device=self.images.device)

    def nothing(self, length: Float[Tensor, " r"]) -> Float[Tensor, "r p"]:
        """The prediction with no visible patch there, from how far all of them move it."""
        assert self.direction is not None
        assert self.whole is not None
        return self.whole - length[:, None] * self.direction

    def score_of(self, pred: Float[Tensor, "... s p"], rows: Int[Tensor, " s"] | slice) -> Float[Tensor, "... s"]:
        """How far predictions of `rows` have moved along the direction, less that of the whole
        image: 0 with all patches there, float64."""
        assert self.direction is not None
        assert self.whole is not None
        return ((pred.double() - self.whole[rows]) * self.direction[rows]).sum(-1)

    def score(self, present: Float[Tensor, "s v"], rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
        """The function that is explained."""
        return self.score_of(self.predict(present, rows), rows)

    def _explained(self, method: Callable[[Any], Any], **options: Any) -> Any:
        """What a method of captum says of `score`, between no patch and all of them."""
        ones = self.everything
        rows = torch.arange(len(ones), device=ones.device)
        return method(self.score).attribute(ones, additional_forward_args=rows, **options)

    def ablation(self) -> Float[Tensor, "r v"]:
        """What the score loses with one patch alone replaced (captum's FeatureAblation)."""
        from captum.attr import FeatureAblation

        several = max(1, AT_ONCE // len(self.query))
        return self._explained(FeatureAblation, baselines=0, perturbations_per_eval=several)

    def integrated_gradients(self, num_steps: int) -> tuple[Float[Tensor, "r v"], Float[Tensor, " r"]]:
        """Sundararajan et al. (1703.01365) by Gauss and Legendre's rule, and the completeness
        error: the attributions' sum less the change of the score (captum's convergence delta)."""
        from captum.attr import IntegratedGradients

        most = max(len(self.query), self.at_once)
        return self._explained(
            IntegratedGradients, baselines=0, n_steps=num_steps, internal_batch_size=most, return_convergence_delta=True
        )

    def gradient_times_input(self) -> Float[Tensor, "r v"]:
        """The slope of the score where all patches are there (captum's InputXGradient; the input's
        distance from the blank image is 1)."""
        from captum.attr import InputXGradient

        leaf = self.everything.requires_grad_()
        rows = torch.arange(len(leaf), device=leaf.device)
        return InputXGradient(self.score).attribute(leaf, additional_forward_args=rows).detach()

    def shapley(self, num_permutations: int, seed: int) -> Float[Tensor, "r v"]:
        """Shapley values by random orders (Castro et al., 2009; captum's ShapleyValueSampling), the
        same for all rows. captum draws from torch's global generator, which is put back as it
        was."""
        from captum.attr import ShapleyValueSampling

        several = max(1, AT_ONCE // len(self.query))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._explained(
                ShapleyValueSampling, baselines=0, n_samples=num_permutations, perturbations_per_eval=several
            )

    @torch.no_grad()
    def hiding(self) -> Float[Tensor, "r v"]:
        """What the score loses when one more patch is hidden: a masked model's own way to leave a
        patch out. Needs two visible patches."""
        num_rows, num_visible = self.mask.visible.shape
        row = torch.arange(num_rows, device=self.query.device).repeat_interleave(num_visible)
        also = self.mask.visible.flatten()
        is_hidden = self.mask.is_hidden[row].scatter(1, also[:, None], True)
        masks = Mask.from_hidden(is_hidden, self.mask.hidden.shape[1] + 1)
        found = []
        for first in range(0, len(row), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            pred = predictions(self.model, self.images[row[part]], masks[part])
            pred = pred[torch.arange(len(pred), device=pred.device), self.query[row[part]]]
            found.append(-self.score_of(pred, row[part]))
        return torch.cat(found).unflatten(0, (num_rows, num_visible))

    @torch.no_grad()
    def attention(self) -> Float[Tensor, "r v"] | None:
        """The queried patch's attention to each visible patch, mean over heads and over the
        decoder's layers (the encoder's where it encodes hidden patches and there is no decoder).
        None where no such maps are known."""
        model = self.model
        blocks, num_prefix = model.decoder_blocks, model.num_decoder_prefix
        if not len(blocks) and model.encodes_hidden:
            blocks, num_prefix = model.blocks, model.num_prefix
        if not len(blocks) or attention_problem(blocks) is not None:
            return None
        found: list[Tensor] = []
        every = torch.arange(len(self.query), device=self.query.device)

        def see(layer: int, maps: Tensor) -> None:
            if maps.shape[-1] == num_prefix + model.num_patches:
                of_query = maps[every, :, num_prefix + self.query, num_prefix:].mean(1)
                found.append(of_query.gather(1, self.mask.visible))

        with watch_attention(blocks, see):
            predictions(model, self.images, self.mask)
        return torch.stack(found).mean(0) if len(found) == len(blocks) else None
