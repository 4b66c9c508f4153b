"""A few images as a model sees them: what every probe is shown, and shares with the others.

`Batch` computes a forward pass when a probe first asks for it and keeps it for the batch's other
probes: this is how many probes share one pass over the images.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from lcmae.data.hierarchy import KnownLatents
from lcmae.masking import Mask, MaskStrategy, stack_masks
from lcmae.models import MaskedImageModel, MaskedOutput
from lcmae.probes.watching.passes import Passes, Watcher
from lcmae.randomness import generator
from lcmae.shapes import Float, Int

Computed = TypeVar("Computed")

MASK_BLOCK = 64
"""Masks are drawn for this many images at a time, so that an image's masks do not depend on the
batch it comes in."""


@runtime_checkable
class Images(Protocol):
    """What a probe looks at: anything with a length whose slices are images in the model's input
    space, [b c h w].

    A tensor is one. `lcmae.data` sources become one through `lcmae.probes.watching.views.View`,
    which decodes as it goes.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> Tensor: ...


@dataclass
class Batch:
    """A few images and, computed once and on demand, what the model says about them."""

    model: MaskedImageModel
    images: Float[Tensor, "b c h w"]
    first: int
    """Index of the first image among all images."""

    seed: int
    """Decides the masks; the same for all checkpoints that are probed together."""

    labels: Tensor | None = None
    """Class of each image, int64, where it is known."""

    other_split: Callable[[int | None], Images] | None = None
    """At most so many images of the split that these are not from, where there is one
    (`lcmae.probes.watching.views.View`)."""

    known_latents: KnownLatents | None = None
    """The latents that these images were made from, where they were made (`--data hierarchy`)."""

    class_maps: Callable[[slice], Int[Tensor, "b h w"]] | None = None
    """The class of each pixel of some of all images, where there are segmentation masks
    (`lcmae.probes.watching.views.View`); read when asked for."""

    _passes: Passes = field(default_factory=Passes)
    _cache: dict[Hashable, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def indices(self) -> range:
        """Indices of these images among all images."""
        return range(self.first, self.first + len(self))

    def masks(self, strategy: MaskStrategy, num_masks: int) -> Mask:
        """`num_masks` masks an image, ordered image by image: a function of (seed, strategy,
        image), never of the batch."""
        return self.once(("masks", _view(strategy, num_masks)), lambda: self._draw(strategy, num_masks))

    def _draw(self, strategy: MaskStrategy, num_masks: int) -> Mask:
        grid, rows = self.model.grid, []
        for block in range(self.first // MASK_BLOCK, (self.first + len(self) - 1) // MASK_BLOCK + 1):
            rng = generator("probe-mask", self.seed, strategy.model_dump_json(), num_masks, block)
            start = block * MASK_BLOCK
            within = range(max(self.first, start), min(self.first + len(self), start + MASK_BLOCK))
            images = self.images[within.start - self.first : within.stop - self.first]
            share = slice((within.start - start) * num_masks, (within.stop - start) * num_masks)
            pixels = self.model.to_pixels(images) if strategy.needs_images else None
            rows.append(strategy(MASK_BLOCK * num_masks, grid, rng, images=pixels, share=share))
        return stack_masks(rows)

    def masked(self, strategy: MaskStrategy, num_masks: int) -> tuple[Mask, MaskedOutput]:
        """The model's output under `num_masks` masks an image, rows ordered image by image; no
        gradients."""
        return self._output(_view(strategy, num_masks), lambda: self.masks(strategy, num_masks))

    def unmasked(self) -> MaskedOutput:
        """The model's output on whole images; no gradients."""
        return self._output(_view(), self._no_masks)[1]

    def watch(self, key: Hashable, watcher: Watcher, strategy: MaskStrategy | None = None, num_masks: int = 1) -> None:
        """Have a watcher around the pass over whole images, or over images under these masks,
        before it is made."""
        self._passes.watch(_view(strategy, num_masks), key, watcher)

    def watched(self, key: Hashable, strategy: MaskStrategy | None = None, num_masks: int = 1) -> Any:
        """What the watcher yielded in that pass, which is made where it was not."""
        if strategy is None:
            self.unmasked()
        else:
            self.masked(strategy, num_masks)
        return self._passes.seen(_view(strategy, num_masks), key)

    def of(self, model: MaskedImageModel, most: int | None = None) -> "Batch":
        """The same images, at most so many, as another model of the same input space sees them; its
        passes are shared, too."""
        if model is self.model and most is None:
            return self
        few = slice(0, len(self) if most is None else most)
        labels = None if self.labels is None else self.labels[few]
        known_latents = None if self.known_latents is None else self.known_latents[few]
        other = Batch(
            model, self.images[few], self.first, self.seed, labels, self.other_split, known_latents, self.class_maps
        )
        return self.once(("of", id(model), len(other)), lambda: other)

    def once(self, key: Hashable, compute: Callable[[], Computed]) -> Computed:
        """What `compute` gives, kept under `key` for the batch's other probes."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def _no_masks(self) -> Mask:
        return Mask.none(len(self), self.model.num_patches)

    def _output(self, view: Hashable, draw: Callable[[], Mask]) -> tuple[Mask, MaskedOutput]:
        def run() -> tuple[Mask, MaskedOutput]:
            with torch.no_grad():
                mask = draw().to(self.images.device)
                return mask, self.model(self.images, mask)

        return self._passes.output(view, run)


def _view(strategy: MaskStrategy | None = None, num_masks: int = 1) -> Hashable:
    return None if strategy is None else (strategy.model_dump_json(), num_masks)
