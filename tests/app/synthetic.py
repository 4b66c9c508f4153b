"""Made-up runs and results with the variables, dims and units of the probes: what a page can meet,
without a model."""

import atexit
import json
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from lcmae.probes.registry import PROBES
from lcmae.probes.results.store import save_result
from lcmae.runs.run import Run

PARTS = ("invariance", "local_consistency", "global_consistency", "offset")
ATTRS = {
    "question": "?",
    "settings": json.dumps({"num_pictures": 2}),
    "num_images": 7,
    "seed": 3,
    "versions": "lcmae 0",
    "data": "digits",
}


def var(dims, values, long_name: str, units: str = "1") -> xr.Variable:
    return xr.Variable(dims, np.asarray(values), {"long_name": long_name, "units": units})


def reconstruction(*, seed: int = 0, normalised: bool = False, pictures: int = 6, channels: int = 1) -> xr.Dataset:
    """A result of the reconstruction probe on a grid of 3 x 4 patches of 2 pixels; a patch was
    never hidden (NaN)."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(0)  # the images are the same, whatever the seed of the model
    units = "variance of a patch" if normalised else "squared input units"
    error_map = rng.random((3, 4))
    error_map[0, 0] = np.nan
    values = {
        "error": var((), 0.3 + 0.1 * rng.random(), "mean squared error of hidden patches", units),
        "error_sem": var((), 0.02, "standard error over images: mean squared error of hidden patches", units),
        "error_nearest": var((), 0.5, "mean squared error of hidden patches, copying the nearest visible patch", units),
        "error_nearest_sem": var((), 0.03, "standard error over images: the same", units),
        "error_constant": var((), 0.7, "mean squared error of hidden patches, by the best constant patch", units),
        "error_position": var(
            (), 0.6, "mean squared error of hidden patches, by the mean patch of each position", units
        ),
        "error_linear": var(
            (), 0.4, "mean squared error of hidden patches, by the best linear predictor of the visible patches", units
        ),
        "error_linear_sem": var((), 0.02, "standard error over images: the same", units),
        "error_map": var(("row", "column"), error_map, "mean squared error where the patch was hidden", units),
    }
    own = np.random.default_rng(seed).gamma(4, 0.1, 40)
    small = np.random.default_rng(0).integers(0, 256, (40, 6, 8, channels), np.uint8)
    values |= {
        "image_error": var("image", own, "mean squared error of an image's hidden patches", units),
        "image_error_nearest": var("image", np.full(40, 0.5), "an image's error, nearest patch copied", units),
        "image_class": var("image", np.arange(40) % 3, "class of the image (-1: unknown)"),
        "image_thumbnail": var(
            ("thumbnail", "thumbnail_y", "thumbnail_x", "channel"), small, "a small picture of the image", "pixel value"
        ),
    }
    image, position = ("picture", "y", "x", "channel"), ("picture", "row", "column")
    shape = (pictures, 6, 8, channels)
    if pictures:
        values |= {
            "original": var(image, shared.integers(0, 256, shape, np.uint8), "image", "pixel value"),
            "hidden": var(position, shared.integers(0, 2, (pictures, 3, 4), np.uint8), "whether the patch was hidden"),
            "reconstruction": var(image, rng.integers(0, 256, shape, np.uint8), "pasted", "pixel value"),
            "picture_error": var(position, rng.random((pictures, 3, 4)), "mean squared error of the patch", units),
        }
    if pictures and normalised:
        leaky = rng.integers(0, 256, shape, np.uint8)
        values["reconstruction_leaky"] = var(image, leaky, "the same (leaks the answer)", "pixel value")
    attrs = {**ATTRS, "probe": "reconstruction", "normalised_targets": int(normalised), "patch_size": 2}
    return xr.Dataset(values, attrs=attrs)


def local_contrast(
    *, seed: int = 0, normalised: bool = False, pictures: int = 6, one_image: bool = False
) -> xr.Dataset:
    """A result of the local_contrast probe on a grid of 3 x 4; with one image its standard errors
    are NaN."""
    rng = np.random.default_rng(seed)
    units = "variance of a patch" if normalised else "squared input units"
    terms = np.array([0.05, 0.2, 0.1, 0.01]) * (1 + rng.random())
    share = rng.dirichlet([1, 3, 2])
    sem = np.full(4, np.nan) if one_image else terms / 10
    values = {
        "loss": var((), terms.sum(), "masked loss (squared error)", units),
        "loss_sem": var((), np.nan if one_image else 0.01, "standard error over images: masked loss", units),
        "term": var("part", terms, "part of the masked loss", units),
        "term_sem": var("part", sem, "standard error over images: part of the loss", units),
        "collapse": var("part", [0, 0.4, 0.3, 0], "part of the masked loss of the best constant prediction", units),
        "invariance_unbiased": var((), 0.06, "invariance, corrected for the number of masks", units),
        "token_share": var("source", share, "share of the encoder tokens' variance"),
        "position_share": var("quantity", [0.5, np.nan, 0.3], "share of the variance that position alone explains"),
    }
    for name in ("loss", "invariance", "local_consistency"):
        grid = rng.random((3, 4))
        values[f"{name}_map"] = var(("row", "column"), grid, f"{name.replace('_', ' ')} where hidden", units)
        if pictures:
            maps = rng.random((pictures, 3, 4))
            values[f"picture_{name}"] = var(("picture", "row", "column"), maps, name.replace("_", " "), units)
    if pictures:
        pixels = rng.integers(0, 256, (pictures, 6, 8, 1), np.uint8)
        values["original"] = var(("picture", "y", "x", "channel"), pixels, "image", "pixel value")
    coordinates = {"part": list(PARTS), "source": ["mask", "patch", "image"]}
    coordinates["quantity"] = ["target", "prediction", "token"]
    return xr.Dataset(values, coordinates, {**ATTRS, "probe": "local_contrast"})


def mask_graph(*, seed: int = 0, normalised: bool = False, pictures: int = 0) -> xr.Dataset:
    """A result of the mask_graph probe: two mask units, three ratios, three bandwidths, three
    ranks; the toy has gaps (NaN)."""
    rng = np.random.default_rng(seed)
    swept, sizes = ("mask", "ratio", "bandwidth"), (2, 3, 3)

    def both(name: str, dims: tuple[str, ...], values: np.ndarray, words: str) -> dict[str, xr.Variable]:
        return {
            name: var(dims, values, words),
            f"{name}_sem": var(dims, values / 20, f"standard error over images: {words}"),
        }

    spectrum = np.sort(rng.random((*sizes, 3)))[..., ::-1]
    toy = rng.random((2, 3))
    toy[1, [0, 2]] = np.nan
    toy_spectrum = np.where(np.isnan(toy)[..., None], np.nan, rng.random((2, 3, 3)))
    toy_edges = np.where(np.isnan(toy)[..., None, None], np.nan, rng.dirichlet([1, 2, 1], (2, 3, 2)))
    error = rng.random((2, 2, 2))
    error[1, 0] = np.nan
    values = {
        **both("edges", (*swept, "side", "edge"), rng.dirichlet([2, 2, 1], (*sizes, 2)), "share of edge weight"),
        **both("label_error", swept, rng.random(sizes), "label error alpha"),
        **both("components", swept, np.ones(sizes), "eigenvalues above 0.99"),
        **both("eigenvalue", (*swept, "rank"), spectrum, "eigenvalue"),
        **both("tail", (*swept, "rank"), spectrum**2, "tail beyond rank k"),
        **both("model_eigenvalue", ("mask", "ratio", "rank"), spectrum[:, :, 0], "eigenvalue, from below"),
        **both("model_tail", ("mask", "ratio", "rank"), spectrum[:, :, 0] ** 2, "tail, from below"),
        "chance": var((), 0.9, "share of pairs of images of different classes"),
        "label_chance": var((), 0.88, "label error of naming the commonest class"),
        "toy_edges": var(("toy_unit", "toy_ratio", "side", "edge"), toy_edges, "share of edge weight, exact toy"),
        "toy_label_error": var(("toy_unit", "toy_ratio"), toy, "label error alpha, exact toy"),
        "toy_eigenvalue": var(("toy_unit", "toy_ratio", "rank"), toy_spectrum, "eigenvalue, exact toy"),
        "toy_tail": var(("toy_unit", "toy_ratio", "rank"), toy_spectrum**2, "tail, exact toy"),
        "toy_error": var(("toy_estimator", "toy_quantity", "toy_size"), error, "root mean square error on the toy"),
    }
    coordinates = {
        "mask": ["unit 1", "unit 2"],
        "ratio": ("ratio", [0.25, 0.5, 0.75], {"long_name": "masking ratio", "units": "1"}),
        "bandwidth": ("bandwidth", [0.35, 0.5, 0.7], {"long_name": "kernel bandwidth", "units": "1"}),
        "rank": ("rank", [1, 2, 3], {"long_name": "rank k", "units": "1"}),
        "side": ["share_hidden", "share_visible"],
        "edge": ["same_image", "intra_class", "inter_class"],
        "toy_unit": [1, 2],
        "toy_ratio": [0.25, 0.5, 0.75],
        "toy_estimator": ["kernel", "model"],
        "toy_quantity": ["inter_class", "tail"],
        "toy_size": [100, 300],
    }
    return xr.Dataset(values, coordinates, {**ATTRS, "probe": "mask_graph", "num_sampled": 7})


def bounds(*, seed: int = 0, normalised: bool = False, pictures: int = 0) -> xr.Dataset:
    """A result of the bounds probe, of step 40; the tail ends in a zero, and a bin of overlap has
    no pair (NaN)."""
    rng = np.random.default_rng(seed)
    units = "variance of a patch" if normalised else "squared input units"
    values = {}
    for name in ("loss", "pair_loss", "half_alignment", "half_length", "pair_bound", "autoencoding", "umae_loss"):
        values[name] = var((), rng.random(), name.replace("_", " "), units)
        values[f"{name}_sem"] = var((), 0.01, f"standard error over images: {name}", units)
    for name, unit in (("variance", units), ("share_of_variance", "1")):
        values[name] = var("level", rng.random(3), name.replace("_", " "), unit)
        values[f"{name}_sem"] = var("level", [0.01, 0.02, 0.03], f"standard error over images: {name}", unit)
    alignment = rng.random((2, 2, 2, 3))
    alignment[..., 0] = np.nan
    dims = ("quantity", "pair", "centring")
    for name, axes, numbers in (
        ("alignment", dims, rng.random((2, 2, 2))),
        ("alignment_by_overlap", (*dims, "overlap"), alignment),
    ):
        values[name] = var(axes, numbers, name.replace("_", " "))
        values[f"{name}_sem"] = var(axes, numbers / 10, f"standard error over images: {name}")
    values["uniformity"] = var((), 0.3, "L_unif")
    values["uniformity_sem"] = var((), 0.01, "standard error over images: L_unif")
    values["tail"] = var(("bandwidth", "rank"), [[3.0, 2, 1], [2, 1, 0.5], [1, 0.1, 0]], "tail beyond rank k")
    values["tail_at_width"] = var("bandwidth", [1.0, 0.5, 0], "tail beyond rank 3")
    coordinates = {
        "level": ["global", "position", "image"],
        "quantity": ["prediction", "mean"],
        "pair": ["same_image", "other_image"],
        "centring": ["raw", "centred"],
        "overlap": ("overlap", [1 / 6, 0.5, 5 / 6], {"long_name": "overlap", "units": "1"}),
        "bandwidth": ("bandwidth", [0.35, 0.5, 0.7], {"long_name": "kernel bandwidth", "units": "1"}),
        "rank": ("rank", [1, 2, 3], {"long_name": "rank k", "units": "1"}),
    }
    return xr.Dataset(values, coordinates, {**ATTRS, "probe": "bounds", "weight": 0.01, "step": "40"})


def hierarchy(
    *, seed: int = 0, normalised: bool = False, pictures: int = 0, ratio: float = 0.5, unit: int = 1, bare: bool = False
) -> xr.Dataset:
    """A result of the hierarchy probe: four levels, of which patches know three; `bare` has neither
    fresh weights nor blocks."""
    rng = np.random.default_rng(seed)
    levels, names = ["class", "layout", "part", "texture"], ["cls", "mean", "patch"]
    networks = ["trained", *([] if bare else ["untrained"]), "pixels"]
    known = np.where([[name == "patch" and level == "texture" for level in levels] for name in names], np.nan, 1.0)
    axes, shape = ("network", "feature", "level"), (len(networks), len(names), len(levels))
    words, over = "decodability: 0 is chance, 1 is perfect", "standard error over images: decodability"
    share = rng.random((2, 2, 3, 4))
    share[0, 1, 2] = np.nan  # a ratio that the grid cannot have in this unit
    values = {
        "score": var(axes, known * rng.random(shape), "accuracy of kinds, R2 of attributes"),
        "skill": var(axes, known * rng.random(shape), words),
        "skill_sem": var(axes, known * np.full(shape, 0.02), over),
        "own_share": var(("end", "level"), rng.random((2, 4)), "share of a level's latents that are shared, own mask"),
        "predicted_level": var(("end", "unit", "ratio"), 1 + 3 * share.mean(-1), "mean level of the shared latents"),
        "predicted_level_sem": var(
            ("end", "unit", "ratio"), 0.1 * share.mean(-1), "standard error over masks: mean level"
        ),
        "predicted_share": var(("end", "unit", "ratio", "level"), share, "share of a level's latents that are shared"),
    }
    if not bare:
        blocks = np.array([1, 1, np.nan])[:, None, None]  # pixels have none
        values["gain"] = var(
            ("feature", "level"), known * (rng.random((3, 4)) - 0.5), "decodability beyond fresh weights"
        )
        values["gain_sem"] = var(("feature", "level"), known * 0.02, over)
        values["layer_skill"] = var(
            ("network", "layer", "level"), blocks * rng.random((3, 3, 4)), "decodability from the mean token"
        )
        values["layer_skill_sem"] = var(("network", "layer", "level"), blocks * np.full((3, 3, 4), 0.02), over)
    coordinates = {
        "feature": names, "network": networks, "layer": [1, 2, 3], "level": levels,
        "height": ("level", [4, 3, 2, 1]), "end": ["highest", "lowest"],
        "unit": ("unit", [1, 2], {"long_name": "side of the mask unit", "units": "patches"}),
        "ratio": ("ratio", [0.1, 0.5, 0.9], {"long_name": "masking ratio", "units": "1"}),
    }  # fmt: skip
    used = {dim for part in values.values() for dim in part.dims} | {"height"}
    attrs = {**ATTRS, "probe": "hierarchy", "mask_ratio": ratio, "mask_unit": unit, "mask_kind": "random", "tree": "{}"}
    return xr.Dataset(values, {name: part for name, part in coordinates.items() if name in used}, attrs)


def _computed(name: str, *, seed: int = 0, normalised: bool = False, pictures: int = 0) -> xr.Dataset:
    """Computed for real on a tiny model: the same whatever the seed, and without pictures."""
    from tests.app import computed

    return computed.result(name, normalised=normalised)


_SYNTHETIC = {
    "reconstruction": reconstruction,
    "local_contrast": local_contrast,
    "mask_graph": mask_graph,
    "bounds": bounds,
    "hierarchy": hierarchy,
}

RESULTS = {probe: _SYNTHETIC.get(probe, partial(_computed, probe)) for probe in PROBES}
"""Every probe -> a function that makes a result; each takes `seed`, `normalised` and `pictures`.
What has no synthetic result is computed by the probe itself on a tiny model."""


def lines(*, kind: str = "mae", every: int = 10, last: int = 40) -> list[dict[str, float]]:
    """Metric lines of a short training, with a look of the monitor at its middle and end."""
    found: list[dict[str, float]] = []
    for step in range(every, last + 1, every):
        line = {"step": step, "loss": 1 / step, "collapse": 0.4, "lr": 1e-3 / step, "grad_norm": 2.0}
        line |= {"seconds_per_step": 0.01, "reconstruction": 1 / step}
        found.append(line | ({"uniformity": 0.3} if kind == "umae" else {}))
        if step in (last // 2, last):
            monitor = {"cls_knn": 0.8, "cls_linear": 0.9, "cls_effective_rank": 5.0, "mean_knn": 0.7}
            found.append({"step": step, **monitor, "mean_linear": 0.85, "mean_effective_rank": 6.0})
    return found


def run(
    path: Path, *, kind: str = "mae", normalised: bool = False, steps: tuple[int, ...] = (20, 40), results: bool = True
) -> Run:
    """A run folder with published steps, metrics, and results of every probe at the last step;
    written once, then copied."""
    shutil.copytree(_written(kind, normalised, steps, results, len(path.name)), path)
    return Run.open(path)


@cache
def _written(kind: str, normalised: bool, steps: tuple[int, ...], results: bool, seed: int) -> Path:
    path = _folder() / f"{kind}-{normalised}-{steps}-{results}-{seed}"
    config = {
        "data": "digits",
        "seed": 0,
        "model": {"kind": "mae", "normalize_targets": normalised},
        "objective": {"kind": kind, "mask": {"kind": "random", "ratio": 0.75}},
    }
    created = Run.create(path, config)
    for line in lines(kind=kind, last=max(steps, default=40)):
        created.log_metrics(line)
    for step in steps:
        created.publish(step, {"w": torch.zeros(1)}, config=config, resume=None)
    if results and steps:
        for probe, make in RESULTS.items():
            save_result(make(seed=seed, normalised=normalised), created.result_path(steps[-1], probe))
    return path


@cache
def _folder() -> Path:
    """Of what is written once; goes when the tests end."""
    folder = tempfile.TemporaryDirectory(prefix="lcmae-made-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
