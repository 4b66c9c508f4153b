"""Can the error bars be trusted? Independent draws of images and masks, what probes say each time,
and how far it spreads.

    python -m benchmarks.trust --out docs/trust.md      about 8 minutes on a core

One network (random weights, moved off their start) is probed `DRAWS` times: new images of one
population, new seed, so new masks. For every number with a standard error, the ratio of its spread
over the draws to the reported error (root mean square) should be 1. With 40 draws a spread is known
to about 11 %; a variable's ratio is the median over its numbers. The page that is written holds
each number with its definition, its reference, its error's sources and that ratio.
"""

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from lcmae.models import MAE, MaskedImageModel
from lcmae.probes.base import Probe, run_probes
from lcmae.probes.registry import probe_class
from lcmae.probes.results.networks import trained
from lcmae.progress import ProgressBar
from lcmae.runs.durable import write_atomically
from lcmae.settings import parse

DRAWS = 40
MORE_DRAWS = {"reconstruction": 160, "fidelity": 160, "local_contrast": 120, "embedding_consistency": 120}
"""Of probes that are quick: among their numbers some lay just outside by chance with 40 draws."""

IMAGES = 96
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
    "pixels_by_layer": {"untrained": False, "num_sampled": IMAGES, "components": 8},
    "patch_retrieval": {"untrained": False, "num_sampled": 48, "num_pictures": 0},
    "knock_out": {"baseline_images": 0, "knocked_images": 32, "single_images": 32},
}
"""The probes whose errors are measured, small. The others: `LEFT_OUT`."""

LEFT_OUT = (
    "`hierarchy`, `transfer`, `dense` and `second_order` fit to a training split, and their errors are over test images given "
    "that fit (binomial, Wilson's interval, or per image); `attribution` takes a hundred passes an image and was measured once, "
    "24 draws of 24 images on 2026-11-29: 0.88 to 1.13, but for `change`, 1.34."
)

_TWICE = "the interaction of images and masks is in both variances (never too small)"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("decoder_attention", "positional_share_over_masks"): _TWICE,
    ("decoder_attention", "positional_share_over_masks_pooled"): _TWICE,
    ("decoder_attention", "positional_share_over_masks_rise"): _TWICE,
    (
        "spectrum",
        "intrinsic_dimension",
    ): "made of nearest neighbours, which change when images are left out: the jackknife is wide",
    ("mask_graph", "edges"): f"{_TWICE}; the share of the bootstrap in it was not looked into",
    ("mask_graph", "label_error"): "0 in every draw of this population, but not in every resample",
    (
        "mask_graph",
        "model_eigenvalue",
    ): "held-out canonical correlations of halves, which are no smooth function of the images",
    (
        "mask_graph",
        "model_tail",
    ): "held-out canonical correlations of halves, which are no smooth function of the images",
    ("pixels_by_layer", "own"): "given the regression, which another half of the images would change",
    ("pixels_by_layer", "gathered"): "given the regression, which another half of the images would change",
    (
        "knock_out",
        "skip_mean_increase",
    ): "the mean that replaces a block is of the same images; not looked into further",
}
"""(probe, variable) -> why the ratio lies outside `LOW` to `HIGH`."""

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
}
"""Whose code or which equations a probe's numbers are held against, and the difference."""


@dataclass(frozen=True)
class Labelled:
    """Images of a population: a pattern whose sign is the class, a few shapes at chance, noise."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Tensor:
        return self.images[index]


def population(draw: int) -> Labelled:
    """`IMAGES` independent images; what they have in common is the same in every draw."""
    fixed, rng = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1000 + draw)
    shapes = torch.randn(6, 3, 8, 12, generator=fixed)
    labels = torch.randint(2, (IMAGES,), generator=rng)
    weights = torch.randn(IMAGES, 5, generator=rng)
    images = 0.7 * shapes[0] * (2 * labels - 1)[:, None, None, None]
    images = images + 0.4 * torch.einsum("bk, kchw -> bchw", weights, shapes[1:])
    return Labelled(images + 0.5 * torch.randn(IMAGES, 3, 8, 12, generator=rng), labels)


def network() -> MaskedImageModel:
    """A small MAE off its initial weights, so that attention is far from uniform."""
    torch.manual_seed(0)
    model = MAE(
        image_size=(8, 12), patch_size=2, width=16, depth=2, heads=2, decoder_width=12, decoder_depth=2, decoder_heads=3
    ).eval()
    rng = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn(parameter.shape, generator=rng)
    return model


def probes() -> list[Probe]:
    return [parse(probe_class(name), settings) for name, settings in SETTINGS.items()]


def draws(most: int | None = None) -> Iterator[Mapping[str, xr.Dataset]]:
    """What the probes say of each draw, or of the first few; behind `DRAWS` those of `MORE_DRAWS`
    alone."""
    model, chosen = network(), probes()
    for draw in range(count_draws() if most is None else most):
        asked = [probe for probe in chosen if draw < MORE_DRAWS.get(probe.name, DRAWS)]
        found = run_probes(asked, model, population(draw), draw, show_progress=False)
        assert not found.failures, found.failures
        yield {name: trained(result) for name, result in found.datasets.items()}


def count_draws() -> int:
    """Of the probe that has the most."""
    return max(DRAWS, *MORE_DRAWS.values())


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
        f"and of all masks, over the error that the probe reports, one small network. 1 is right; from {DRAWS} "
        f"draws a single ratio is known to about 11 %. Between {LOW} and {HIGH} nothing is remarked; what lies outside is named "
        "below. A dash: nothing varies, or no error is stored.",
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
    beyond = outside(rows)
    if beyond:
        lines += ["", f"## Outside {LOW} to {HIGH}", ""]
        lines += [
            f"- `{probe}.{variable}`, {ratio:.2f}: {EXCEPTIONS.get((probe, variable), 'not explained')}."
            for (probe, variable), ratio in beyond.items()
        ]
    lines += [
        "",
        f"Not measured here: {LEFT_OUT}",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/trust.md"))
    options = parser.parse_args()
    results = []
    with ProgressBar("draws", count_draws()) as bar:
        for one in draws():
            results.append(one)
            bar.advance()
    rows = measure(results)
    write_atomically(options.out, document(rows, results[0]).encode())
    for (probe, variable), ratio in outside(rows).items():
        print(f"{probe}.{variable}: {ratio:.2f}")


if __name__ == "__main__":
    main()
