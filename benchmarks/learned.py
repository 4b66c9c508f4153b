"""Does training beat the untrained network of the same shape, and how far are raw pixels?

    python -m benchmarks.learned mae-digits --seeds 3
    python -m benchmarks.learned mae-cifar10 --seeds 1 --limit 4000 --epochs 40 \
        --model.width 96 --model.depth 4

Prints kNN and linear accuracy of unmasked test images (the training monitor's: 20 neighbours;
ridge), means and 95 % intervals over seeds (Student's t), and the wall time of training.
"""

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import t

from lcmae.app.command_line.arguments import parse_arguments
from lcmae.app.command_line.tables import number, print_table
from lcmae.config import RunConfig
from lcmae.errors import InputError
from lcmae.recipes import recipe
from lcmae.runs.run import Run
from lcmae.training.train import build_model, open_monitor, open_training_data, train

COLUMNS = ("cls_knn", "cls_linear", "mean_knn", "mean_linear", "mean_effective_rank")


def main() -> int:
    """Train every seed, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=3)
    options, fields = parser.parse_known_args()
    try:
        config = parse_arguments(RunConfig, fields, command="learned", default=recipe(options.recipe))
    except InputError as error:
        parser.error(str(error))

    trained, untrained, seconds = [], [], []
    monitor = open_monitor(config, open_training_data(config))
    if monitor is None:
        parser.error(f"expected labelled images, got {config.data} without labels")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            seeded = config.model_copy(update={"seed": seed})
            untrained.append(monitor(build_model(seeded)))
            run = Run.create(Path(folder) / f"s{seed}", seeded.model_dump(mode="json"))
            begin = time.monotonic()
            train(run, label=f"seed {seed}")
            seconds.append(time.monotonic() - begin)
            trained.append([line for line in run.metrics() if "mean_knn" in line][-1])
    pixels = {f"mean_{name}": value for name, value in monitor.raw_pixels().items()}

    print_table(
        f"{options.recipe} {' '.join(fields)}: {options.seeds} seeds, {mean(seconds):.0f} s of training a seed",
        ["", *(column.replace("_", " ") for column in COLUMNS)],
        [_row("trained", trained), _row("untrained", untrained), _row("raw pixels", [pixels])],
        note="accuracies in % of test images, ± 95 % over seeds",
    )
    return 0


def _row(title: str, judged: list[dict[str, float]]) -> list[str]:
    cells = [title]
    for column in COLUMNS:
        values = [one[column] * (1 if "rank" in column else 100) for one in judged if column in one]
        if not values:
            cells.append("-")
        elif len(values) == 1:
            cells.append(number(values[0], digits=3))
        else:
            reach = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
            cells.append(number(mean(values), reach, digits=3))
    return cells


if __name__ == "__main__":
    sys.exit(main())
