"""A data source as a probe looks at it: slices come decoded, at the model's size, in its input
space."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lcmae.data import ImageSource, open_source
from lcmae.data.hierarchy import KnownLatents
from lcmae.models import MaskedImageModel
from lcmae.shapes import Float, Int


@dataclass(frozen=True)
class View:
    """`view[a:b]` is images [b c h w] for `model`; nothing is kept, so any number of images can be
    looked at."""

    source: ImageSource
    model: MaskedImageModel

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: slice) -> Float[Tensor, "b c h w"]:
        return self.model.prepare(self.source[index])

    @property
    def labels(self) -> Tensor | None:
        """Class of each image, int64, where the source knows it."""
        return self.source.labels

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Name of each class, where the source knows it."""
        return self.source.label_names

    @property
    def known_latents(self) -> KnownLatents | None:
        """The latents that these images were made from, where they were made (`--data
        hierarchy`)."""
        hierarchy = self.source.images.hierarchy
        return None if hierarchy is None else KnownLatents(hierarchy, self.source.images.rows)

    @property
    def class_maps(self) -> Callable[[slice], Int[Tensor, "b h w"]] | None:
        """The class of each pixel of some of the images (255: none), where there are segmentation
        masks or the images are made of parts."""
        return self.source.masks if self.source.has_masks else None

    def other_split(self, limit: int | None) -> "View":
        """At most `limit` images of the same data's other split: train for test images, and the
        reverse; never the same."""
        return open_view(
            self.model, self.source.name, split="train" if self.source.split == "test" else "test", limit=limit
        )


def about_images(source: ImageSource) -> dict[str, str]:
    """What a result says of the images behind it, beside the name of their source; which they are
    (`images_sha256`) only where name, split and number do not say it."""
    skipped = f"; {len(source.skipped)} could not be read and were left out" if source.skipped else ""
    about = {
        "split": source.split,
        "image_description": "; ".join([str(source.description), *source.description.notes]),
    }
    about["image_description"] += skipped
    return {**about, "images_sha256": source.identity} if source.identity else about


def open_view(model: MaskedImageModel, data: str, *, split: str = "test", limit: int | None = None) -> View:
    """A named source at the model's size and channels."""
    config = model.config
    source = open_source(data, split=split, image_size=config.image_size, channels=config.channels, limit=limit)
    return View(source, model)
