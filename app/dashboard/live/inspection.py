"""One checkpoint, one image, one mask: the microscope's numbers
(`lcmae.probes.watching.microscope`), each computed once.

    inspected = inspect(models.load(location), chosen)
    inspected.pictures()["picture_error"]
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from lcmae.app.dashboard.live import models, uploads
from lcmae.app.dashboard.live.selection import Overlay, Selection, fit_model, unpack
from lcmae.errors import InputError

if TYPE_CHECKING:
    from lcmae.masking import Mask, MaskStrategy
    from lcmae.models import MaskedImageModel
    from lcmae.probes.watching.batch import Batch
    from lcmae.probes.watching.microscope import CachedForward

MOST_MAPS = 64 << 20
"""Bytes of the attention maps of all layers of one image, up to which they are kept: those of
ViT-Base on 14 x 14 patches take 11 MB."""

NUM_MASKS = 8
"""K of the contrast terms, as in the local_contrast probe."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """One model, one image, one mask."""

    loaded: models.Loaded
    picture: models.Picture
    chosen: Selection

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.loaded.model.grid

    @property
    def patch(self) -> int:
        """The selected patch, in raster order; the middle of the grid where none is."""
        rows, columns = self.grid
        return rows // 2 * columns + columns // 2 if self.chosen.patch is None else self.chosen.patch

    @property
    def encoder_layer(self) -> int:
        """Block of the encoder, from 1."""
        return self.chosen.encoder_layer or self.loaded.encoder[0]

    @property
    def decoder_layer(self) -> int:
        """Block of the decoder, from 1."""
        return self.chosen.decoder_layer or self.loaded.decoder[0]

    def pictures(self) -> xr.Dataset:
        """Image, mask, reconstruction and errors."""
        from lcmae.probes.watching import microscope

        return self._answer("pictures", (), lambda: microscope.pictures(self._masked()))

    def frame(self) -> xr.Dataset:
        """The same by a pass that keeps nothing for other answers: one of many in a row. Of a model
        with a prediction."""
        from lcmae.probes.watching import microscope

        return self._answer("frame", (), lambda: microscope.frame(self._batch(), self._mask()))

    def attention(self) -> xr.Dataset:
        """Encoder and decoder attention from the patch, all heads of the selected layers."""
        from lcmae.probes.watching import microscope

        patch, layers = self.patch, ([self.encoder_layer], [self.decoder_layer])

        def compute() -> xr.Dataset:
            return microscope.attention(self._whole(), self._masked(), patch, *layers)

        return self._answer("attention", (patch, self.encoder_layer, self.decoder_layer), compute)

    def receptive_field(self) -> xr.Dataset:
        """Gradient of the patch's token after the selected block, and of its prediction."""
        from lcmae.probes.watching import microscope

        patch, layer = self.patch, self.encoder_layer
        # another seed has other random signs, an edited mask has not
        settings = (self._key(is_whole=True), self.picture.index, self.chosen.seed, patch, layer)

        def compute() -> xr.Dataset:
            # of the same passes for all patches and layers: a backward pass each is left to do
            whole, masked = self._whole(), self._masked()
            of_whole = models.gradient(
                self.loaded,
                settings,
                lambda: models.Gradient(microscope.token_field(whole, masked.batch, patch, layer)),
            )
            return microscope.receptive_field(whole, masked, patch, layer, of_whole=of_whole)

        return self._answer("receptive_field", (patch, layer), compute)

    def contrast(self) -> xr.Dataset:
        """Contrast terms of every patch over `NUM_MASKS` masks of the strategy (an edited mask
        does not change them)."""
        from lcmae.probes.watching import microscope

        def compute() -> xr.Dataset:
            batch = self._batch(self.loaded.beside)
            return microscope.contrast(batch, self._strategy(), NUM_MASKS)

        return self._answer("contrast", NUM_MASKS, compute, beside=self.loaded.is_small)

    def matrix(self, what: Overlay, view: str, layer: int) -> xr.Dataset:
        """Attention of all queries of a layer (`encoder`, `decoder`), `rollout`, `likeness` of
        tokens, or that of their pixels (`pixel_likeness`)."""
        from lcmae.probes.watching import overlays

        def compute() -> xr.Dataset:
            seen = self._whole() if view == "full" else self._masked()
            if what == "decoder":
                return overlays.decoder_matrix(self._masked(), layer)
            if what == "rollout":
                return overlays.rollout(seen)
            if what == "pixel_likeness":
                return overlays.pixel_likeness(seen)
            return (overlays.likeness if what == "likeness" else overlays.encoder_matrix)(seen, layer)

        return self._answer("matrix", (what, view, layer), compute, is_whole=is_whole(what, view))

    def every_head(self, what: Overlay, view: str, query: int) -> xr.Dataset:
        """Attention from one query in all heads of all layers of the encoder or the decoder; of all
        queries at once, where their maps are small enough to be kept."""
        from lcmae.probes.watching import overlays

        layers, heads = self.loaded.decoder if what == "decoder" else self.loaded.encoder
        if 2 * layers * heads * self.loaded.model.num_patches**2 <= MOST_MAPS:
            return self._all_heads(what, view).sel(query=query)

        def compute() -> xr.Dataset:
            if what == "decoder":
                return overlays.every_head(self._masked(), self._masked().decoder, query, is_decoder=True)
            seen = self._whole() if view == "full" else self._masked()
            return overlays.every_head(seen, seen.encoder, query, is_decoder=False)

        return self._answer("every_head", (what, view, query), compute, is_whole=is_whole(what, view))

    def _all_heads(self, what: Overlay, view: str) -> xr.Dataset:
        from lcmae.probes.watching import overlays

        def compute() -> xr.Dataset:
            if what == "decoder":
                return overlays.all_heads(self._masked(), self._masked().decoder, is_decoder=True)
            seen = self._whole() if view == "full" else self._masked()
            return overlays.all_heads(seen, seen.encoder, is_decoder=False)

        return self._answer("all_heads", (what, view), compute, is_whole=is_whole(what, view))

    def colours(self, view: str, layer: int) -> xr.Dataset:
        """Tokens after a layer as colours."""
        from lcmae.probes.watching import overlays

        def compute() -> xr.Dataset:
            return overlays.as_colours(self._whole() if view == "full" else self._masked(), layer)

        return self._answer("colours", (view, layer), compute, is_whole=view == "full")

    def query_maps(self, layer: int, queries: np.ndarray, which: Hashable) -> xr.Dataset:
        """Where queries [q d] of an attentive probe look in the whole image, after an encoder block
        from 1; `which` names them. `InputError` for queries of another width."""
        from lcmae.probes.watching import overlays

        def compute() -> xr.Dataset:
            return overlays.query_maps(self._whole(), layer, queries)

        return self._answer("query_maps", (layer, which), compute, is_whole=True)

    def check(self) -> None:
        """`InputError` where the strategy cannot be drawn on this grid."""
        self._strategy()

    def _answer(
        self,
        what: str,
        settings: Hashable,
        compute: Callable[[], xr.Dataset],
        *,
        is_whole: bool = False,
        beside: bool = False,
    ) -> xr.Dataset:
        key = self._key(is_drawn=what == "contrast", is_whole=is_whole)
        return models.answer(self.loaded, what, (key, settings), compute, beside=beside)

    def _key(self, *, is_drawn: bool = False, is_whole: bool = False) -> Hashable:
        """The image, and what decides its mask: an edited mask replaces the drawn one, where a
        single mask counts; nothing does for what is of the whole image."""
        if is_whole:
            return self.picture.key
        chosen = self.chosen
        mask = (chosen.mask, chosen.ratio, chosen.seed, "" if is_drawn else chosen.hidden)
        return self.picture.key, self.picture.index, mask

    def view(
        self, what: str, settings: Hashable, draw: Callable[[], models.Drawn], *, is_whole: bool = False
    ) -> models.Drawn:
        """What a page shows of the answers, drawn once: `settings` must decide it together with
        image and mask, or with the image alone (`is_whole`)."""
        return models.view(self.loaded, what, (self._key(is_whole=is_whole), settings), draw)

    def _whole(self) -> "CachedForward":
        from lcmae.probes.watching import microscope

        return models.forward(self.loaded, self._key(is_whole=True), lambda: microscope.forward(self._batch()))

    def _masked(self) -> "CachedForward":
        from lcmae.probes.watching import microscope

        return models.forward(self.loaded, self._key(), lambda: microscope.forward(self._batch(), self._mask()))

    def _batch(self, model: "MaskedImageModel | None" = None) -> "Batch":
        from lcmae.probes.watching import microscope

        return microscope.batch_of(
            self.loaded.model if model is None else model, self.picture.pixels, self.picture.index, self.chosen.seed
        )

    def _strategy(self) -> "MaskStrategy":
        return models.strategy(self.chosen.mask, self.chosen.ratio, self.grid)

    def _mask(self) -> "Mask":
        from lcmae.probes.watching import microscope

        chosen = self.chosen
        hidden = unpack(chosen.hidden, self.loaded.model.num_patches) if chosen.hidden else None
        return microscope.mask_of(self._batch(), self._strategy(), hidden)


def is_whole(what: Overlay, view: str) -> bool:
    """Whether such a map is the same under every mask; the decoder's never is."""
    return what != "decoder" and view == "full"


def inspect(loaded: models.Loaded, chosen: Selection) -> Inspection:
    """The selection through this model. `InputError` where its image is not there, or its mask
    cannot be drawn."""
    if chosen.upload:
        picture = models.uploaded(loaded, chosen.upload)
    else:
        picture = models.picture(loaded, chosen.data or loaded.data, chosen.split, chosen.image)
    inspected = Inspection(loaded, picture, chosen)
    inspected.check()
    return inspected


def _count_photographs(loaded: models.Loaded, why: str) -> int:
    """How many there are. `InputError` where this model cannot take them either."""
    try:
        return models.num_images(loaded, models.NAMED[0], "test")
    except InputError as error:
        channels = loaded.model.config.channels
        raise InputError(
            f"expected images of {channels} bands for this model, got none ({why}; the photographs that come with lcmae do not "
            "fit it); give some with lcmae dashboard --data FOLDER, or lcmae import --data"
        ) from error


def trained_mask(loaded: models.Loaded) -> "MaskStrategy | None":
    """The strategy that the model was trained with; None where nothing says so."""
    from lcmae.probes.watching.trained_mask import trained_mask

    return trained_mask(loaded.model)


def fit(loaded: models.Loaded, chosen: Selection) -> tuple[Selection, list[str]]:
    """The selection as far as this model, its data and the server's uploads have it, and phrases
    for what fell back."""
    chosen, notices = fit_model(
        chosen,
        num_patches=loaded.model.num_patches,
        encoder=loaded.encoder,
        decoder=loaded.decoder,
        masks=models.masks(),
    )
    if chosen.upload and not uploads.is_stored(chosen.upload):
        notices = [*notices, "the uploaded image is no longer on this server"]
        chosen = chosen.changed(upload="")
    if chosen.data and chosen.data not in models.sources(loaded):
        notices = [*notices, f"data {chosen.data} cannot be picked here"]
        chosen = chosen.changed(data="", image=0)
    if not chosen.upload:
        try:
            count = models.num_images(loaded, chosen.data or loaded.data, chosen.split)
        except InputError as error:
            # what it was trained on may lie on another machine
            notices = [*notices, f"photographs that come with lcmae are shown, because {error}"]
            chosen = chosen.changed(data=models.NAMED[0], split="test", image=0)
            count = _count_photographs(loaded, str(error))
        if chosen.image >= count:
            notices = [*notices, f"there is no image {chosen.image} among {count}"]
            chosen = chosen.changed(image=0)
    try:
        models.strategy(chosen.mask, chosen.ratio, loaded.model.grid)
    except InputError as error:
        notices = [*notices, str(error)]
        chosen = chosen.changed(mask="random", ratio=Selection().ratio)
    return chosen, notices
