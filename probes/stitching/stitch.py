"""Can one model's decoder read another model's tokens? `lcmae.stitch`: an affine map from the
encoder's tokens of one model to those of another, and how much the other's masked loss rises.

Model stitching: Lenc and Vedaldi (1411.5908); Bansal, Nakkiran and Barak (2106.07682). For masked
autoencoders there is no need to train through the network: both encoders see the same visible
patches, so the map is a ridge regression between their tokens (`affine.py`), fitted on other images
than it is measured on. lcmae's own are the closed form and the baselines of each pair: tokens
without a map (`identity`), an untrained encoder of the decoder's own model with a map of its own
(`untrained`), and the decoder's mean token in place of every token (`constant`), the score of a map
that carries nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from lcmae.data.images import images as open_images
from lcmae.data.source import ImageSource
from lcmae.errors import InputError
from lcmae.masking import Mask, MaskStrategy, Random
from lcmae.models import MaskedImageModel, take
from lcmae.probes.base import unchanged
from lcmae.probes.baselines.untrained import untrained
from lcmae.probes.jobs.direct import loaded_model, model_name
from lcmae.probes.results.conditions import mask_words
from lcmae.probes.statistics.jackknife import GroupedSums
from lcmae.probes.statistics.seeds import probe_seed
from lcmae.probes.statistics.variables import error_of, variable
from lcmae.probes.stitching.affine import AffineMap, Moments, chosen_map
from lcmae.probes.watching.batch import Batch
from lcmae.probes.watching.trained_mask import trained_mask
from lcmae.probes.watching.views import open_view
from lcmae.progress import ProgressBar, Silent
from lcmae.shapes import Float

LEAST_FITTED = 10
"""Images of the fit; every fifth chooses the ridge."""

Source = tuple[str, str]
"""(kind, name of a model): its own encoder, or an untrained one."""

OWN, FRESH = "trained", "untrained"


def stitch(
    models: Any,
    images: Any,
    *,
    fit: Any = None,
    mask: MaskStrategy | None = None,
    fit_images: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "cpu",
    show_progress: bool = False,
) -> xr.Dataset:
    """How much each decoder's masked loss rises with each encoder's tokens, over [encoder decoder].

    `models`: two or more models of one grid, {name: model, path or name on the hub} or a list of
    these. `images`: whatever `lcmae.images` takes; errors are over them. `fit`: the images that
    maps are fitted on; by default at most `fit_images` of the other split, of data without splits
    every second image. `mask`: by default the strategy that all were trained with, else random.
    Returns `increase`, `identity_increase` (NaN between different widths), and by decoder
    `untrained_increase`, `constant_increase` and the intact `loss`, each with a jackknife error;
    increases are shares of the intact loss. `InputError` for models that do not fit together.
    """
    named = _loaded(models, device)
    check_fit(named)
    first = next(iter(named.values()))
    opened = open_images(images).at(first.config.image_size, first.config.channels)
    other, measured, fitted_on = _apart(opened, fit, fit_images, first)
    strategy = mask or _shared_mask(named)
    return _Stitching(named, strategy, probe_seed(seed), batch_size, show_progress).run(other, measured, fitted_on)


def _loaded(models: Any, device: str) -> dict[str, MaskedImageModel]:
    """Models by their names."""
    given = list(models.values()) if isinstance(models, Mapping) else [models]
    if isinstance(models, Sequence) and not isinstance(models, str):
        given = list(models)
    if len(given) < 2:
        raise InputError(f"expected at least two models to stitch, got {len(given)}")
    found = [loaded_model(one, device) for one in given]
    if isinstance(models, Mapping):
        return dict(zip(map(str, models), found, strict=True))
    names = [model_name(one, model) for one, model in zip(given, found, strict=True)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"expected models of different names, got {twice!r} twice; give {{name: model}}")
    return dict(zip(names, found, strict=True))


def check_fit(models: Mapping[str, MaskedImageModel]) -> None:
    """`InputError`, one sentence, where a decoder cannot take the others' tokens."""
    first, *others = models.items()
    for name, model in models.items():
        if not model.has_prediction:
            raise InputError(f"expected models with a decoder or head to stitch, got the encoder alone of {name}")
    for name, model in others:
        for what, own, its in (
            ("grid", _grid(first[1]), _grid(model)),
            ("images", _images(first[1]), _images(model)),
            ("tokens", _tokens(first[1]), _tokens(model)),
        ):
            if own != its:
                raise InputError(
                    f"expected models with the same {what} to stitch, got {own} in {first[0]} and {its} in {name}"
                )


def _grid(model: MaskedImageModel) -> str:
    return f"{model.grid[0]}x{model.grid[1]} patches of {model.patch_size} pixels"


def _images(model: MaskedImageModel) -> str:
    return f"{model.config.channels} channels"


def _tokens(model: MaskedImageModel) -> str:
    return "a token for every patch" if model.encodes_hidden else "tokens of visible patches alone"


def _apart(
    opened: ImageSource, fit: Any, most: int, model: MaskedImageModel
) -> tuple[ImageSource, "_Every", str] | tuple["_Every", "_Every", str]:
    """Images to fit on, images to measure on, and in words which the first are."""
    if fit is not None:
        source = open_images(fit).at(model.config.image_size, model.config.channels).first(most)
        found = _Every(source), _Every(opened), f"{source.name}, {source.split}"
    elif opened.split in ("train", "test"):
        other = "train" if opened.split == "test" else "test"
        source = open_view(model, opened.name, split=other, limit=most).source
        found = _Every(source), _Every(opened), f"{source.name}, {other}"
    else:
        found = _Every(opened, 0, 2, most), _Every(opened, 1, 2), "every second image"
    for part, least in ((found[0], LEAST_FITTED), (found[1], 1)):
        if len(part) < least:
            raise InputError(f"expected at least {least} images to fit maps on and 1 to measure on, got {len(part)}")
    return found


@dataclass(frozen=True)
class _Every:
    """Images of a source: every `step`th from `first` on, at most so many."""

    source: ImageSource
    first: int = 0
    step: int = 1
    most: int | None = None

    def __len__(self) -> int:
        count = len(range(self.first, len(self.source), self.step))
        return count if self.most is None else min(count, self.most)

    def batches(self, size: int) -> Iterator[tuple[range, Tensor]]:
        """Positions among these, and pixels."""
        for start in range(0, len(self), size):
            positions = range(start, min(start + size, len(self)))
            rows = torch.arange(positions.start, positions.stop) * self.step + self.first
            yield positions, self.source[rows]


def _shared_mask(models: Mapping[str, MaskedImageModel]) -> MaskStrategy:
    found = [trained_mask(model) for model in models.values()]
    return found[0] if found[0] is not None and all(one == found[0] for one in found) else Random()


@dataclass(frozen=True)
class _Code:
    """What an encoder hands on."""

    prefix: Float[Tensor, "b s d"]
    tokens: Float[Tensor, "b t d"]

    def towards(self, num_prefix: int) -> Float[Tensor, "b w"] | None:
        """What prefix tokens of another model are read off: one's own where there are as many, else
        the mean token; None where there are none to read."""
        if not num_prefix:
            return None
        own = self.prefix.flatten(1)
        return own if self.prefix.shape[1] == num_prefix else self.tokens.mean(1)


@dataclass(frozen=True)
class _Maps:
    """From one encoder to one decoder."""

    tokens: AffineMap
    prefix: AffineMap | None

    def __call__(self, code: _Code, num_prefix: int) -> tuple[Tensor, Tensor]:
        tokens = self.tokens(code.tokens.double()).float()
        read = code.towards(num_prefix)
        if self.prefix is None or read is None:
            return tokens.new_zeros(len(tokens), 0, tokens.shape[-1]), tokens
        return self.prefix(read.double()).float().unflatten(-1, (num_prefix, -1)), tokens


class _Stitching:
    def __init__(
        self, models: Mapping[str, MaskedImageModel], mask: MaskStrategy, seed: int, batch_size: int, show: bool
    ) -> None:
        self.models, self.mask, self.seed, self.size, self.show = models, mask, seed, batch_size, show
        fresh = {name: untrained(model, seed) for name, model in models.items()}
        self.encoders: dict[Source, MaskedImageModel] = {(OWN, name): model for name, model in models.items()}
        self.encoders |= {(FRESH, name): model for name, model in fresh.items() if model is not None}
        self.losses: dict[tuple[str, str, str], list[Tensor]] = {}
        """(what is handed over, encoder, decoder) -> losses of images."""

    def run(self, other: _Every, measured: _Every, fitted_on: str) -> xr.Dataset:
        """Fit, measure, and label the numbers; the models come back as they were."""
        with _all_unchanged([*self.encoders.values()]):
            maps = self._fit(other)
            with self._bar("stitching", len(measured)) as bar:
                for positions, pixels in measured.batches(self.size):
                    self._measure(maps, pixels, positions)
                    bar.advance(len(positions))
        result = self._result(len(measured))
        result.attrs.update(
            probe="stitch", num_images=len(measured), fit_images=len(other), fitted_on=fitted_on, seed=self.seed,
            data=measured.source.name, split=measured.source.split, mask=mask_words(self.mask.model_dump()),
            definition="stitching of Lenc and Vedaldi (1411.5908); the closed form and the baselines are lcmae's own",
        )  # fmt: skip
        return result

    def _bar(self, label: str, count: int) -> ProgressBar | Silent:
        return ProgressBar(label, count) if self.show else Silent()

    def _pairs(self) -> list[tuple[Source, str]]:
        own = [((OWN, encoder), decoder) for encoder in self.models for decoder in self.models]
        return own + [((FRESH, name), name) for name in self.models if (FRESH, name) in self.encoders]

    @torch.no_grad()
    def _codes(self, pixels: Tensor, positions: range) -> tuple[dict[Source, _Code], Mask]:
        """What every encoder makes of the same visible patches, on the CPU."""
        first = next(iter(self.models.values()))
        drawn = Batch(first, first.prepare(pixels), positions.start, self.seed).masks(self.mask, 1)
        found = {}
        for source, model in self.encoders.items():
            images = model.prepare(pixels)
            with _precision_of(model):
                prefix, tokens, _ = model.encode(images, drawn.to(images.device))
            found[source] = _Code(prefix.float().cpu(), tokens.float().cpu())
        return found, drawn

    def _fit(self, images: _Every) -> dict[tuple[Source, str], _Maps]:
        pairs = self._pairs()
        # fitted and held out, of tokens and of prefix tokens
        moments = {pair: ((Moments(), Moments()), (Moments(), Moments())) for pair in pairs}
        with self._bar("fitting maps", len(images)) as bar:
            for positions, pixels in images.batches(self.size):
                codes, _ = self._codes(pixels, positions)
                held = torch.tensor([position % 5 == 4 for position in positions])
                for source, decoder in pairs:
                    mine, theirs = codes[source], codes[OWN, decoder]
                    num_prefix = self.models[decoder].num_prefix
                    for which, chosen in ((0, ~held), (1, held)):
                        if bool(chosen.any()):
                            of_tokens, of_prefix = (part[which] for part in moments[source, decoder])
                            of_tokens.add(mine.tokens[chosen].flatten(0, 1), theirs.tokens[chosen].flatten(0, 1))
                            read = mine.towards(num_prefix)
                            if read is not None:
                                of_prefix.add(read[chosen], theirs.prefix[chosen].flatten(1))
                bar.advance(len(positions))
        maps = {}
        for pair, (of_tokens, of_prefix) in moments.items():
            prefix = chosen_map(*of_prefix)[0] if self.models[pair[1]].num_prefix else None
            maps[pair] = _Maps(chosen_map(*of_tokens)[0], prefix)
        self.constants = {
            name: _Maps(
                (moments[(OWN, name), name][0][0] + moments[(OWN, name), name][0][1]).constant(),
                (moments[(OWN, name), name][1][0] + moments[(OWN, name), name][1][1]).constant()
                if model.num_prefix
                else None,
            )
            for name, model in self.models.items()
        }
        return maps

    @torch.no_grad()
    def _measure(self, maps: Mapping[tuple[Source, str], _Maps], pixels: Tensor, positions: range) -> None:
        codes, mask = self._codes(pixels, positions)
        for decoder, model in self.models.items():
            images = model.prepare(pixels)
            hidden = mask.to(images.device)
            target = take(model.targets(images), hidden.hidden)

            def loss(
                prefix: Tensor,
                tokens: Tensor,
                model: MaskedImageModel = model,
                target: Tensor = target,
                mask: Mask = hidden,
            ) -> Tensor:
                with _precision_of(model):
                    pred = model.predict_hidden(prefix.to(target.device), tokens.to(target.device), mask).float()
                return (pred - target).square().mean((1, 2)).cpu()

            own = codes[OWN, decoder]
            self._keep("loss", "", decoder, loss(own.prefix, own.tokens))
            self._keep("constant", "", decoder, loss(*self.constants[decoder](own, model.num_prefix)))
            for (kind, encoder), other in maps:
                if other == decoder:
                    code = codes[kind, encoder]
                    handed = loss(*maps[(kind, encoder), decoder](code, model.num_prefix))
                    self._keep("map" if kind == OWN else FRESH, encoder if kind == OWN else "", decoder, handed)
            for encoder in self.models:
                code = codes[OWN, encoder]
                if code.tokens.shape == own.tokens.shape and code.prefix.shape == own.prefix.shape:
                    self._keep("identity", encoder, decoder, loss(code.prefix, code.tokens))

    def _keep(self, what: str, encoder: str, decoder: str, values: Tensor) -> None:
        self.losses.setdefault((what, encoder, decoder), []).append(values)

    def _result(self, count: int) -> xr.Dataset:
        names = list(self.models)
        intact = torch.stack([torch.cat(self.losses["loss", "", name]) for name in names], dim=1).double()
        nothing = torch.full((count,), torch.nan, dtype=torch.float64)

        def of(what: str, encoder: str, decoder: str) -> Tensor:
            found = self.losses.get((what, encoder, decoder))
            return nothing if found is None else torch.cat(found).double()

        sums = GroupedSums(count)
        matrix = {
            what: torch.stack(
                [torch.stack([of(what, encoder, decoder) for decoder in names], 1) for encoder in names], 1
            )
            for what in ("map", "identity")
        }
        rows = {what: torch.stack([of(what, "", decoder) for decoder in names], 1) for what in (FRESH, "constant")}
        sums.add(
            range(count),
            loss=intact,
            count=torch.ones(count),
            **{what: values - intact[:, None] for what, values in matrix.items()},
            **{what: values - intact for what, values in rows.items()},
        )
        words = "increase of the decoder's masked loss over its own, as a share of it"
        both, one = ("encoder", "decoder"), ("decoder",)
        result: dict[str, xr.Variable] = {}

        def put(
            name: str,
            dims: tuple[str, ...],
            statistic: Callable[[dict[str, Tensor]], Tensor],
            about: str,
            units: str = "1",
        ) -> None:
            value, error = sums.estimate(statistic)
            result[name] = variable(dims, value, about, units)
            degrees = sums.degrees_of_freedom
            result[f"{name}_sem"] = error_of(dims, error, about, units, degrees=degrees, method="jackknife")

        put(
            "loss",
            one,
            lambda total: total["loss"] / total["count"],
            "masked loss of the intact model",
            "squared units of its target",
        )
        put(
            "increase",
            both,
            lambda total: total["map"] / total["loss"],
            f"{words}: tokens of the encoder by an affine map",
        )
        put("identity_increase", both, lambda total: total["identity"] / total["loss"], f"{words}: tokens as they are")
        put(
            "untrained_increase",
            one,
            lambda total: total[FRESH] / total["loss"],
            f"{words}: an untrained encoder's by a map",
        )
        put(
            "constant_increase",
            one,
            lambda total: total["constant"] / total["loss"],
            f"{words}: the mean token everywhere",
        )
        return xr.Dataset(result, {"encoder": names, "decoder": names})


def _precision_of(model: MaskedImageModel) -> torch.autocast:
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.precision == "bfloat16")


class _all_unchanged:
    """All models in evaluation mode, and back as they were."""

    def __init__(self, models: Sequence[MaskedImageModel]) -> None:
        self.each = [unchanged(model) for model in models]

    def __enter__(self) -> None:
        for one in self.each:
            one.__enter__()

    def __exit__(self, *error: object) -> None:
        for one in reversed(self.each):
            one.__exit__(*error)
