"""Figures of the gallery that belong to no single probe: masks, training, comparisons, pairs, maps
of embeddings, the microscope, claims, and the advice on a mask; and the files that their code
reads.

The code of a page runs in its order, in one namespace, in the folder that `gallery.made_up` makes;
each piece ends in the figure.
"""

from pathlib import Path
from typing import NamedTuple

from lcmae.app import zoo_models
from lcmae.app.commands.zoo import copy
from lcmae.probes.results.store import save_result
from tests.app.dashboard.pages.test_claims_page import OUTCOMES, record
from tests.app.dashboard.pages.test_stitch_page import stitch_result
from tests.app.synthetic import RESULTS
from tests.probes.grids.matrices import synthetic
from tests.probes.grids.test_grid_verdict import table

MADE_UP = "The numbers are invented (the tests' synthetic runs)."
OF_THE_ZOO = "The model is the zoo's small MAE, and the photographs come with lcmae: these numbers are real."


class Others(NamedTuple):
    """A page of figures."""

    title: str
    summary: str
    figures: dict[str, str]
    """Heading -> code that ends in the figure."""

    numbers: str = MADE_UP


def write(folder: Path) -> None:
    """What the code reads beside the two runs: a comparison's table, a matrix of ratios, stitched
    models, a record of claims, an earlier step's results, and the zoo's model."""
    (folder / "comparison").mkdir()
    table(folder / "comparison")
    levels = {0.25: [0.8, 0.6, 0.4], 0.5: [0.7, 0.8, 0.6], 0.75: [0.5, 0.7, 0.75]}
    save_result(synthetic(levels), folder / "comparison" / "matrix.nc")
    save_result(stitch_result(), folder / "stitch.nc")
    record(folder / "claims", *OUTCOMES)
    for name in ("mae", "umae"):
        run = folder / "runs" / name
        for probe in ("spectrum", "local_contrast"):
            save_result(RESULTS[probe](seed=9), run / "probes" / "000020" / f"{probe}.nc")
    copy(zoo_models.models()["mae-cifar10-small"], folder / "zoo")


OTHERS = {
    "masks": Others(
        "Mask strategies",
        "What a strategy hides: no model, no images.",
        {
            "Samples of four strategies": """
from lcmae.app.figures import masks

rng = torch.Generator().manual_seed(0)
kinds = {
    "random": lcmae.masking.Random(),
    "block": lcmae.masking.Block(),
    "grid": lcmae.masking.Grid(),
    "window": lcmae.masking.Window(),
}
samples = {
    name: strategy(4, (14, 14), rng).is_hidden.reshape(4, 14, 14).numpy() for name, strategy in kinds.items()
}
masks.gallery(samples)
""",
            "How often each patch is hidden": """
maps = {
    name: strategy(512, (14, 14), rng).is_hidden.float().mean(0).reshape(14, 14).numpy()
    for name, strategy in kinds.items()
}
masks.coverage(maps)
""",
        },
        "Drawn by the strategies themselves.",
    ),
    "training": Others(
        "Training",
        "What a run logs while it trains, from its metrics.jsonl.",
        {
            "Losses": """
from lcmae.app.figures import training

lines = {name: lcmae.Run.open(f"runs/{name}").metrics() for name in ("mae", "umae")}
curves = {name: training.dataset(one, "squared input units") for name, one in lines.items()}
training.loss(curves)
""",
            "What the monitor measures": """
training.curves(curves, ["mean_knn", "mean_linear", "mean_effective_rank", "grad_norm"])
""",
        },
    ),
    "through_training": Others(
        "Through training",
        "Stored numbers against the step, of runs that were probed with --every-step.",
        {
            "A panel a number": """
from lcmae.app.figures import through_training

results = lcmae.results("runs")
measured = {(one.run, one.step): one.dataset for one in results.entries if one.probe == "local_contrast"}
numbers = through_training.numbers(measured)
through_training.against_steps(numbers, through_training.usual(numbers), runs=["mae", "umae"])
""",
        },
    ),
    "comparison": Others(
        "Comparison of masks and ratios",
        "A grid of runs, `lcmae compare`, from its table.parquet: a row a run.",
        {
            "Accuracy against the masking ratio": """
from lcmae.app.figures import grid
from lcmae.probes.grids.table import read_table, summarise


def interval(values):
    found = summarise(values)
    return found.mean, found.half_width


table = read_table("comparison/table.parquet")
grid.against_ratio(table, "mean_knn", interval)
""",
            "Which may be best": """
from lcmae.app.figures import grid_verdict
from lcmae.probes.grids.verdict import labelled, verdict, with_seconds

cells = with_seconds(labelled(verdict(table, "mean_knn")), table)
grid_verdict.bands(cells)
""",
            "What each costs": """
grid_verdict.cost(cells)
""",
            "How many seeds would decide": """
grid_verdict.power(cells)
""",
            "Any column against any other": """
grid.scatter(table, "spectrum.effective_rank", "mean_knn")
""",
            "Trained at one ratio, tested at another": """
from lcmae.app.figures import ratio_matrix
from lcmae.probes.grids.ratio_verdict import read_matrix

matrix = read_matrix("comparison/matrix.nc")  # lcmae compare --matrix
ratio_matrix.heat_map(matrix, "mean_knn")
""",
        },
    ),
    "pair": Others(
        "Checkpoint A against checkpoint B",
        "Every stored number with the interval of its difference, and one image through both.",
        {
            "What differs": """
from lcmae.app.figures import pair

results = lcmae.results("runs")
differences = results.compare("mae", "umae")
told = differences[differences["low"].notna() & (differences["says"] != "equal")]
pair.differences(told, list(told["quantity"].unique())[:8])
""",
            "Numbers of all runs": """
from lcmae.probes.results import tables

numbers = tables.scalars(results["reconstruction"])
quantities = list(dict.fromkeys(numbers["quantity"]))[:4]
pair.of_runs(numbers, quantities, list(results.runs))
""",
            "One image under one mask through two models": """
from lcmae.probes.watching import microscope

models = [lcmae.load("zoo"), lcmae.probes.baselines.untrained.untrained(lcmae.load("zoo"), 0)]
pixels = lcmae.images("photographs").at((32, 32))[:1]
batches = [microscope.batch_of(model, pixels, 0, 0) for model in models]
mask = microscope.mask_of(batches[0], lcmae.masking.Random(ratio=0.5))
shown = [microscope.pictures(microscope.forward(batch, mask)) for batch in batches]
pair.pictures(*shown, ("the zoo's MAE", "untrained"))
""",
        },
        "The stored numbers are invented (the tests' synthetic runs); the image went through the zoo's MAE, and through the "
        "same network untrained.",
    ),
    "embedding_map": Others(
        "Embedding map",
        "Patches, or whole images, by what the model makes of them (left) and by their raw pixels (right).",
        {
            "Patches": """
from lcmae.app.figures import embedding_map

result = lcmae.results("runs")["embedding_consistency"]["mae"]
embedding_map.maps(result, "patches", "pca", "row")
""",
            "Images": """
embedding_map.maps(result, "images", "pca", "label")
""",
        },
    ),
    "microscope": Others(
        "Microscope",
        "One image under one mask, and everything that belongs to one patch of it.",
        {
            "Image, mask, reconstruction, error": """
from lcmae.app.figures import microscope as figures
from lcmae.probes.watching import microscope

model = lcmae.load("zoo")
pixels = lcmae.images("photographs").at(model.config.image_size)[:1]
strategy = lcmae.masking.Random(ratio=0.5)
batch = microscope.batch_of(model, pixels, 0, 0)
mask = microscope.mask_of(batch, strategy)
patch = int(mask.visible[0, 9])
whole, masked = microscope.forward(batch), microscope.forward(batch, mask)
figures.pictures(microscope.pictures(masked), patch)
""",
            "Attention from the patch": """
attention = microscope.attention(whole, masked, patch)
figures.attention(attention["encoder"].sel(view="masked", layer=4), patch, head=None).figure()
""",
            "Attention of the decoder": """
figures.attention(attention["decoder"].isel(decoder_layer=-1), patch, head=None).figure()
""",
            "Effective receptive field": """
field = microscope.receptive_field(whole, masked, patch, layer=4)
figures.receptive_field(field, patch, model.grid).figure()
""",
            "Contrast terms of each patch": """
figures.contrast(microscope.contrast(batch, strategy, num_masks=8), patch).figure()
""",
        },
        OF_THE_ZOO,
    ),
    "stitch": Others(
        "Stitching",
        "One model's encoder into another's decoder, `lcmae stitch`: what the masked loss rises by.",
        {
            "Encoders down, decoders across": """
from lcmae.app.figures import stitch
from lcmae.probes.results.store import load_result

stitched = load_result("stitch.nc")
stitch.matrix(stitched)
""",
            "Beside an untrained encoder": """
stitch.beside_baselines(stitched)
""",
        },
    ),
    "claims": Others(
        "Claims",
        "Published claims tested on runs, `lcmae claims`: numbers and the levels that decide.",
        {
            "Numbers and the levels that decide": """
from lcmae.app.figures import claims
from lcmae.probes.claims.record import SYMBOLS, interval, read_record

record = read_record("claims/claims.json")
claims.forest(record.outcomes, SYMBOLS, interval)
""",
        },
    ),
    "advice": Others(
        "Advice on a mask",
        "What the images themselves say of a mask, on the page that `lcmae advise` writes.",
        {
            "How far pixels agree": """
from lcmae.app.figures import advice
from lcmae.probes.grids.image_statistics import image_statistics

digits = lcmae.images("digits", limit=200)
ratios, units = (0.25, 0.5, 0.75), (1, 2)
statistics = image_statistics(digits.pixels, digits.labels, 4, ratios=ratios, units=units, seed=0)
advice.correlation(statistics)
""",
            "What a linear predictor knows of hidden patches": """
advice.explained(statistics)
""",
            "Which images masking joins": """
advice.joined(statistics)
""",
        },
        "Of 200 handwritten digits: these numbers are real.",
    ),
}
"""Name of the page -> its figures."""
