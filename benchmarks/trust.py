"""Can the error bars be trusted? Independent draws of images and masks, what probes say each time,
and how far it spreads.

    python -m benchmarks.trust --out docs/trust.md      about 5 minutes on a core
    python -m benchmarks.trust --probes spectrum dense  the ratios of these alone, printed

One network (random weights, moved off their start) is probed `DRAWS` times: new images of one
population, new seed, so new masks. For every number with a standard error, the ratio of its spread
over the draws to the reported error (root mean square) should be 1. With 40 draws a spread is known
to about 11 %; a variable's ratio is the median over its numbers. The page that is written holds
each number with its definition, its reference, its error's sources and that ratio.

What an error takes as given is the same in every draw. Probes that fit to a training split fit to
the same one; where masks are no source of their error (`GIVEN`) the seed is the same, too, and with
it the order of training, fresh weights, shuffled labels and the patches that are learned from. Two
probes ask for images made of known parts (`lcmae.data.hierarchy`), of which a second network is
probed; what one of them says of masks alone is drawn apart, with few images and new seeds.
"""

import argparse
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from lcmae.data.hierarchy import Hierarchy, HierarchySettings, KnownLatents
from lcmae.models import MAE, MaskedImageModel
from lcmae.probes.base import Probe, run_probes
from lcmae.probes.registry import probe_class
from lcmae.probes.results.networks import trained
from lcmae.progress import ProgressBar
from lcmae.runs.durable import write_atomically
from lcmae.settings import parse
from lcmae.shapes import Float, Int

DRAWS = 40
MORE_DRAWS = {
    "reconstruction": 160,
    "fidelity": 160,
    "local_contrast": 120,
    "embedding_consistency": 120,
    "attribution": 120,
    "hierarchy": 120,
}
"""Among their numbers some lay outside by chance with 40 draws, as few images decide them."""

IMAGES, FEWER = 96, {"embedding_consistency": 48}
"""Of a draw, and of probes whose cost grows with pairs of images."""

LOW, HIGH = 0.8, 1.25

SETTINGS: dict[str, dict[str, object]] = {
    "reconstruction": {"baseline_images": 0, "num_pictures": 0},
    "local_contrast": {"baseline_images": 0, "num_pictures": 0},
    "decoder_attention": {"baseline_images": 0, "num_pictures": 0},
    "encoder_attention": {"baseline_images": 0},
    "spectrum": {"baseline_images": 0, "num_masks": 4, "first_rank": 2, "last_rank": 12},
    "invariance": {"baseline_images": 0, "num_masks": 4, "num_bins": 4},
    "embedding_consistency": {"baseline_images": 0, "umap": False, "num_masks": 0},
    "fidelity": {"untrained": False, "ratios": [0.75]},
    "frequency": {"set_size": 8},
    "bounds": {"num_sampled": 40, "num_bins": 4},
    "mask_graph": {"units": [1], "ratios": [0.5], "bandwidths": [0.5], "num_eigenvalues": 5},
    "receptive_field": {
        "baseline_images": 0,
        "num_images": IMAGES,
        "masks": ["random"],
        "ratios": [0.5],
        "num_layers": 2,
    },
    "attention_flow": {"baseline_images": 0, "num_pictures": 0, "flow_images": IMAGES},
    "position": {"untrained": False, "num_sampled": IMAGES},
    "pixels_by_layer": {"untrained": False, "num_sampled": IMAGES},
    "patch_retrieval": {"untrained": False, "num_sampled": 48, "num_pictures": 0},
    "knock_out": {"baseline_images": 0, "knocked_images": 32, "single_images": 32},
    "attribution": {
        "num_images": 16,
        "path_steps": 3,
        "num_parts": 3,
        "shapley_permutations": 1,
        "untrained_images": 0,
        "num_pictures": 0,
    },
    "transfer": {
        "train_images": 64,
        "neighbours": 5,
        "rates": [1.0],
        "epochs": 8,
        "seeds": 2,
        "untrained": False,
        "corruptions": ["gaussian_noise"],
        "severities": [1, 5],
        "num_corrupted": 48,
        "pooled_images": 64,
        "pooled_rates": [0.01],
        "pooled_epochs": 3,
    },
    "second_order": {"ratios": [0.5], "fit_images": 200, "components": 6, "untrained": False},
    "dense": {
        "train_images": 48,
        "num_tokens": 8,
        "neighbours": [3, 10],
        "rates": [10.0],
        "epochs": 4,
        "untrained": False,
        "num_pictures": 0,
    },
    "hierarchy": {"train_images": 100, "num_tokens": 4, "num_masks": 16, "ratios": [0.5], "units": [1]},
}
"""Every probe, small."""

FITTED, MADE = ("transfer", "second_order"), ("dense", "hierarchy")
"""Probes of images with another split, and of images whose parts are known."""

GIVEN = ("transfer", "dense", "hierarchy")
"""Probes whose errors are of other images given what was trained, without masks: one seed."""

OF_MASKS = {"train_images": 20, "num_tokens": 1, "each_layer": False, "untrained": False}
"""Of `hierarchy`, where it is asked for its errors over masks alone: they are of no image."""

TRAINING, PATTERN = 256, 0.3
"""Images of the other split, and how plain their class is: neither certain nor chance."""

REFERENCES = {
    "reconstruction": "tests/reference/mae.py; MAE's own loss (published formula), equal to rounding",
    "local_contrast": "tests/reference/contrast.py (exact terms, from their pairs) and mask_pairs.py (estimates)",
    "decoder_attention": "tests/reference/attention.py; shares from rows in a table, Kelley's epsilon squared",
    "encoder_attention": "tests/reference/attention.py; Park et al. average the class token in, we leave it out as key",
    "spectrum": "tests/reference/spectrum.py; RankMe without 1e-7, LiDAR's Sb with divisor N, alpha-ReQ without null directions",
    "invariance": "tests/reference/invariance.py; lcmae's own definitions",
    "embedding_consistency": "tests/reference/similarity.py; debiased minibatch CKA of Nguyen et al.",
    "fidelity": "SSIM of Wang et al. (window 11, deviation 1.5), reflected edges; scikit-image crops them",
    "frequency": "numpy's FFT; Park and Kim's curve, whose headline is one frequency before Nyquist",
    "bounds": "loops over pairs in tests/probes/test_bounds.py; sides of theorems 3.4, 3.6, 4.2, constants unknown",
    "mask_graph": "loops in tests/probes/test_mask_graph.py; exact on the enumerated toy (`toy_error`)",
    "receptive_field": "finite differences and captum (tests/probes/test_receptive_field.py); RepLKNet's area has another centre",
    "attention_flow": "attention written out (tests/probes/test_attention_flow.py); rollout of Abnar and Zuidema, Chefer's form",
    "position": "written out in tests/probes/test_position.py; SOAP and its score of Hjelkrem-Tan et al., the floor is ours",
    "pixels_by_layer": "least squares in tests/probes/test_pixels_by_layer.py; lcmae's own definition",
    "patch_retrieval": "written out in tests/probes/test_patch_retrieval.py; lcmae's own, information adjusted for chance",
    "knock_out": "a decoder written out in tests/probes/test_knock_out.py; controls and mean replacement are lcmae's own",
    "attribution": "captum (ablation, integrated gradients, Shapley values); curves of Petsiuk et al.; what is explained is ours",
    "transfer": "torch's own modules and SGD (tests/probes/test_transfer.py); kNN of Wu et al., protocol of He et al.",
    "second_order": "closed forms against brute force (tests/probes/test_second_order.py); lcmae's own derivation",
    "dense": "written out in tests/reference/probes/dense.py; CAPI's kNN and logistic regression, choices and errors are ours",
    "hierarchy": "scikit-learn's ridge (tests/probes/test_hierarchy.py); the separator is lcmae's reading of Kong et al.",
}
"""Whose code or which equations a probe's numbers are held against, and the difference."""


@dataclass(frozen=True)
class Labelled:
    """Images of a population: a pattern whose sign is the class, a few shapes at chance, noise."""

    images: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Tensor:
        return self.images[index]


@dataclass(frozen=True)
class Split(Labelled):
    """Images whose class is hard to tell, and others to train on: the same in every draw."""

    def other_split(self, limit: int | None) -> Labelled:
        others = population(-1, TRAINING, pattern=PATTERN)
        return Labelled(others.images[:limit], others.labels[:limit])


@dataclass(frozen=True)
class Made:
    """Rows of a hierarchy as one network sees them, and others to train on: the same in every
    draw."""

    model: MaskedImageModel
    known_latents: KnownLatents

    def __len__(self) -> int:
        return len(self.known_latents.rows)

    def __getitem__(self, index: slice) -> Tensor:
        return self.model.prepare(self.known_latents.hierarchy.pixels(self.known_latents.rows[index]))

    def class_maps(self, index: slice) -> Int[Tensor, "b h w"]:
        return self.known_latents.hierarchy.pixel_classes(self.known_latents.rows[index])

    def other_split(self, limit: int | None) -> "Made":
        return made(self.model, torch.arange(TRAINING)[:limit], "train")


def population(draw: int, count: int = IMAGES, pattern: float = 0.7) -> Labelled:
    """Independent images; what they have in common is the same in every draw."""
    fixed, rng = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1000 + draw)
    shapes = torch.randn(6, 3, 8, 12, generator=fixed)
    labels = torch.randint(2, (count,), generator=rng)
    weights = torch.randn(count, 5, generator=rng)
    images = pattern * shapes[0] * (2 * labels - 1)[:, None, None, None]
    images = images + 0.4 * torch.einsum("bk, kchw -> bchw", weights, shapes[1:])
    return Labelled(images + 0.5 * torch.randn(count, 3, 8, 12, generator=rng), labels)


def split(draw: int) -> Split:
    """Images for probes that train on others."""
    images = population(draw, pattern=PATTERN)
    return Split(images.images, images.labels)


def made(model: MaskedImageModel, rows: Int[Tensor, " b"], split: str) -> Made:
    """Images of a small tree: three classes, four kinds of parts."""
    settings = HierarchySettings(classes=3, layouts=4)
    return Made(model, KnownLatents(Hierarchy(settings, split, 16, 16, 1), rows))


def made_draw(model: MaskedImageModel, draw: int, count: int = IMAGES) -> Made:
    """Rows at random: rows one after another would hold each class as often."""
    rows = torch.randint(2**31, (count,), generator=torch.Generator().manual_seed(1000 + draw))
    return made(model, rows, "test")


def network(image_size: tuple[int, int] = (8, 12), patch_size: int = 2, channels: int = 3) -> MaskedImageModel:
    """A small MAE off its initial weights, so that attention is far from uniform."""
    torch.manual_seed(0)
    model = MAE(
        image_size=image_size,
        patch_size=patch_size,
        channels=channels,
        width=16,
        depth=2,
        heads=2,
        decoder_width=12,
        decoder_depth=2,
        decoder_heads=3,
    ).eval()
    rng = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn(parameter.shape, generator=rng)
    return model


def draws(most: int | None = None, names: Collection[str] = SETTINGS.keys()) -> Iterator[Mapping[str, xr.Dataset]]:
    """What the probes say of each draw, or of the first few; behind `DRAWS` those of `MORE_DRAWS`
    alone."""
    model, of_parts = network(), network((16, 16), 4, 1)
    chosen = [parse(probe_class(name), SETTINGS[name]) for name in SETTINGS if name in names]
    for draw in range(count_draws(names) if most is None else most):
        left = [probe for probe in chosen if draw < MORE_DRAWS.get(probe.name, DRAWS)]
        found: dict[str, xr.Dataset] = {}
        for network_of, seed, images, of_these in (
            (model, draw, population(draw), SETTINGS.keys() - FEWER.keys() - {*FITTED, *MADE}),
            *((model, draw, population(draw, count), {name}) for name, count in FEWER.items()),
            (model, draw, split(draw), {*FITTED} - {*GIVEN}),
            (model, 0, split(draw), {*FITTED} & {*GIVEN}),
            (of_parts, 0, made_draw(of_parts, draw), {*MADE}),
        ):
            found |= _probed([probe for probe in left if probe.name in of_these], network_of, images, seed)
        if "hierarchy" in found:
            alone = parse(probe_class("hierarchy"), {**SETTINGS["hierarchy"], **OF_MASKS})
            of_masks = _probed([alone], of_parts, made_draw(of_parts, draw, 2), draw)
            found["hierarchy"] = over_masks(found["hierarchy"], of_masks["hierarchy"])
        yield {name: trained(found[name]) for name in SETTINGS if name in found}


def _probed(
    probes: list[Probe], network_of: MaskedImageModel, images: Labelled | Made, seed: int
) -> dict[str, xr.Dataset]:
    if not probes:
        return {}
    found = run_probes(probes, network_of, images, seed, show_progress=False)
    assert not found.failures, found.failures
    return dict(found.datasets)


def over_masks(result: xr.Dataset, of_masks: xr.Dataset) -> xr.Dataset:
    """A result whose numbers with an error over masks alone are those of another one."""
    names = [str(name) for name, values in of_masks.data_vars.items() if values.attrs.get("error_sources") == "masks"]
    return result.assign({one: of_masks[one] for name in names for one in (name, name.removesuffix("_sem"))})


def count_draws(names: Collection[str] = SETTINGS.keys()) -> int:
    """Of the probe that has the most."""
    return max(MORE_DRAWS.get(name, DRAWS) for name in names)


@dataclass(frozen=True)
class Measured:
    """A number's error bar as it was measured."""

    probe: str
    variable: str
    long_name: str
    units: str
    sources: str
    degrees: str
    ratio: float
    """Spread over draws / reported error, median over the variable's numbers; NaN where none has an
    error."""


def measure(results: list[Mapping[str, xr.Dataset]]) -> list[Measured]:
    """Every variable that has a standard error."""
    found = []
    for probe, first in results[0].items():
        for key in map(str, first.data_vars):
            name = key.removesuffix("_sem")
            if name == key or name not in first:
                continue
            of_probe = [one[probe] for one in results if probe in one]
            values = np.stack([one[name].values for one in of_probe]).astype(float)
            errors = np.stack([one[key].values for one in of_probe]).astype(float)
            spread, reported = values.std(0, ddof=1), np.sqrt((errors**2).mean(0))
            # what does not vary beyond rounding has no ratio
            usable = np.isfinite(reported) & (reported > 1e-6 * np.abs(values).mean(0)) & (reported > 1e-9)
            with np.errstate(invalid="ignore"):
                ratio = (
                    float(np.median((spread / np.where(usable, reported, np.nan))[usable]))
                    if usable.any()
                    else math.nan
                )
            masks = first.get(f"{name}_masks_sem")
            degrees = f"{first[key].attrs['degrees_of_freedom']}"
            degrees += "" if masks is None else f" and {masks.attrs['degrees_of_freedom']}"
            about = first[name].attrs
            found.append(
                Measured(
                    probe, name, about["long_name"], about["units"], first[key].attrs["error_sources"], degrees, ratio
                )
            )
    return found


def outside(rows: list[Measured]) -> dict[tuple[str, str], float]:
    """The ratios beyond `LOW` to `HIGH`."""
    return {
        (row.probe, row.variable): row.ratio
        for row in rows
        if not math.isnan(row.ratio) and not LOW <= row.ratio <= HIGH
    }


def document(rows: list[Measured], first: Mapping[str, xr.Dataset]) -> str:
    """The page docs/trust.md."""
    lines = [
        "# What each number is, and how far its error can be trusted",
        "",
        "    python -m benchmarks.trust --out docs/trust.md",
        "",
        f"Written by this command. *Spread / error* is measured: the standard deviation of a number over {DRAWS} independent draws "
        f"({', '.join(f'{count} of {probe}' for probe, count in MORE_DRAWS.items())}) of {IMAGES} images "
        f"({', '.join(f'{count} of {probe}' for probe, count in FEWER.items())}) and of all masks, over the error that "
        f"the probe reports, one small network. 1 is right; from {DRAWS} "
        f"draws a single ratio is known to about 11 %. What lies outside {LOW} to {HIGH} is named at the end. A dash: nothing "
        "varies, or no error is stored.",
        "",
        "*Given the fit*: the error is of other test images, and what was fitted to training images (classifiers, their order of "
        "training, shuffled labels, the patches that were drawn to learn from, fresh weights) is taken as it is; it is the same in "
        "every draw here. A result does not say how far it would move with another one. Numbers of an untrained network beside "
        "a trained one are, too, given its one draw of fresh weights.",
        "",
        "Half of a 95 % interval is Student's t of the degrees of freedom times the error; with two (images and masks), "
        "sqrt(t(G-1)^2 v_images + t(K-1)^2 v_masks) (`probes/statistics/intervals.py`). Results that were stored before degrees of "
        "freedom were keep 1.96. Errors speak of other images (and masks) of the same kind: not of another training seed, not of "
        "other data. Images that are shown in another order get other masks, because masks belong to positions in the order; the "
        "size of batches changes results by at most 5e-7.",
    ]
    by_probe: dict[str, list[Measured]] = {}
    for row in rows:
        by_probe.setdefault(row.probe, []).append(row)
    for probe, mine in by_probe.items():
        result = first[probe]
        lines += ["", f"## {probe}", "", f"{probe_class(probe).question}", "", f"Reference: {REFERENCES[probe]}."]
        said = {key: value for key, value in result.attrs.items() if key == "definition" or key.endswith("_convention")}
        lines += [f"{key.replace('_', ' ').capitalize()}: {value}." for key, value in said.items()]
        lines += [
            "",
            "| number | is | unit | error over | degrees of freedom | spread / error |",
            "|---|---|---|---|---|---|",
        ]
        for row in mine:
            ratio = "-" if math.isnan(row.ratio) else f"{row.ratio:.2f}"
            cells = (f"`{row.variable}`", row.long_name, row.units, row.sources, row.degrees, ratio)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        without = [
            (name, result[name].attrs["long_name"], result[name].attrs["units"])
            for name in map(str, result.data_vars)
            if f"{name}_sem" not in result and not name.endswith(("_sem", "_groups", "_without", "_interval"))
        ]
        if without:
            lines += [
                "",
                "Without an error: " + "; ".join(f"`{name}` ({words} [{unit}])" for name, words, unit in without) + ".",
            ]
    beyond = [f"`{probe}.{variable}`, {ratio:.2f}" for (probe, variable), ratio in outside(rows).items()]
    lines += ["", f"## Outside {LOW} to {HIGH}", "", f"{'; '.join(beyond) or 'None'}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/trust.md"))
    parser.add_argument("--probes", nargs="+", choices=tuple(SETTINGS), help="print the ratios of these, write no page")
    options = parser.parse_args()
    names = options.probes or tuple(SETTINGS)
    results = []
    with ProgressBar("draws", count_draws(names)) as bar:
        for one in draws(names=names):
            results.append(one)
            bar.advance()
    rows = measure(results)
    if options.probes:
        for row in rows:
            print(f"{row.probe}.{row.variable}: {row.ratio:.2f}")
        return
    write_atomically(options.out, document(rows, results[0]).encode())
    for (probe, variable), ratio in outside(rows).items():
        print(f"{probe}.{variable}: {ratio:.2f}")


if __name__ == "__main__":
    main()
