r"""What do probes cost, beside what they must do, and beside their definitions written out?

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.probes --images 64 --rounds 3
    python -m benchmarks.probes --device cuda --out docs/gpu/probes.md
    python -m benchmarks.probes --probes dense stitch --images 32 --rounds 1 --cpu-seconds \
        --first-table

Three tables. Each probe (and `lcmae.stitch`) alone, with its default settings: seconds for 1,000
images, and what that takes as counted work (rows of forward passes, bytes; `benchmarks.work_done`).
The probes that have a plain slow form (`benchmarks.slow_probes`), without baselines and on fewer
images, each and all five in one pass, and the means over pairs of 4,096 vectors by moments. And
whether time is linear in masks an image, and memory flat in masks and images.

A network with initial weights looks at images of `--data`: what they show costs nothing. Fast and
slow take turns in rounds of random order; times are medians over rounds, ratios medians of the
ratios within a round, since a busy machine slows both sides.
"""

import argparse
import platform
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from benchmarks.contenders import SHAPES, config_of
from benchmarks.roof import seconds
from benchmarks.slow_probes import SLOW, comparable, mean_squared_cosine, mean_squared_cosine_by_distances, pair_spread
from benchmarks.work_done import Cost, cost_of
from lcmae.models import MaskedImageModel
from lcmae.objectives.base import uniformity
from lcmae.probes.base import Probe, ProbeError, Results, run_probes
from lcmae.probes.local_contrast import LocalContrast
from lcmae.probes.registry import PROBES, probe_class
from lcmae.probes.stitching.stitch import stitch
from lcmae.probes.watching.views import View, open_view
from lcmae.progress import ProgressBar
from lcmae.training.train import build_model

SEED = 0
PAIRED_VECTORS = 4096
STITCH = "stitch"
"""No probe: two models, and the images are also carried from one to the other."""

MASKS = (4, 8, 16)
"""Masks an image, each twice the one before."""

Work = Callable[[], object]


@dataclass(frozen=True)
class Alone:
    """One probe on all images, with its defaults. None where it could not run, and `problem` says
    why."""

    probe: str
    seconds: float | None
    cost: Cost | None
    problem: str = ""


@dataclass(frozen=True)
class Beside:
    """A fast and a slow way to the same numbers."""

    name: str
    fast_s: float
    slow_s: float
    ratio: float
    difference: float
    """Largest difference of two numbers, over the largest number of that variable."""


@dataclass(frozen=True)
class Growth:
    """Local contrast under K masks an image, a fixed number of rows in a forward pass."""

    num_masks: int
    seconds: float
    of_linear: float | None
    """Time over that under half as many masks, over two: 1 is linear."""
    peak_bytes: int
    peak_of_half: int
    """The same for half of the images."""


Clock = Callable[[Work, torch.device], float]
"""Seconds that work takes."""


def cpu_seconds(work: Work, device: torch.device) -> float:
    """Seconds of the processors, all threads together: what other work beside it does not
    lengthen."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rounds_of(
    work: Mapping[str, Work], num_rounds: int, device: torch.device, label: str, clock: Clock = seconds
) -> dict[str, list[float]]:
    """Seconds of each, round by round; once before, untimed."""
    times: dict[str, list[float]] = {name: [] for name in work}
    order = random.Random(0)
    with ProgressBar(label, (1 + num_rounds) * len(work)) as bar:
        for number in range(1 + num_rounds):
            for name in order.sample(list(work), len(work)):
                taken = clock(work[name], device)
                if number:
                    times[name].append(taken)
                bar.advance(note=name)
    return times


def alone(
    names: list[str],
    model: MaskedImageModel,
    images: View,
    num_rounds: int,
    device: torch.device,
    clock: Clock = seconds,
) -> list[Alone]:
    """Every probe on its own, all of them in one pass, and the stitching of two models, which is no
    probe."""
    is_stitched, names = STITCH in names, [name for name in names if name != STITCH]
    rows, costs, able = [], {}, {}
    with ProgressBar("counting", len(names)) as bar:  # several times slower than the work itself
        for name in names:
            probe = probe_class(name)()
            # the counted run also tells which probes lack what they need
            results: list[Results] = []
            cost = cost_of(
                lambda probe=probe, results=results: results.append(run_probes([probe], model, images, SEED)), model
            )
            if (problem := results[0].failures.get(name)) is None:
                costs[name], able[name] = cost, probe
            else:
                rows.append(Alone(name, None, None, str(problem)))
            bar.advance(note=name)
    work: dict[str, Work] = {
        name: lambda probe=probe: run_probes([probe], model, images, SEED) for name, probe in able.items()
    }
    if able:
        work["all in one pass"] = together = lambda: run_probes(list(able.values()), model, images, SEED)
        costs["all in one pass"] = cost_of(together, model)
    if is_stitched:
        pair = {"first": model, "second": model.fresh()}
        work[STITCH] = stitched = lambda: stitch(pair, images.source, seed=SEED, device=str(device))
        costs[STITCH] = cost_of(stitched, model)
    times = rounds_of(work, num_rounds, device, "probes", clock)
    return [Alone(name, statistics.median(times[name]), costs[name]) for name in work] + rows


def against_slow(model: MaskedImageModel, images: torch.Tensor, num_rounds: int, device: torch.device) -> list[Beside]:
    """Probes that have a slow form, one by one and together."""
    probes = [kind.model_validate({"baseline_images": 0}) for kind in SLOW]
    work: dict[str, Work] = {}
    for probe in probes:
        work[f"fast {probe.name}"] = lambda probe=probe: run_probes([probe], model, images, SEED)
        work[f"slow {probe.name}"] = lambda probe=probe: SLOW[type(probe)](probe, model, images, SEED)
    work["fast battery"] = lambda: run_probes(probes, model, images, SEED)
    times = rounds_of(work, num_rounds, device, "fast and slow")
    by_round = zip(*(times[f"slow {probe.name}"] for probe in probes), strict=True)
    times["slow battery"] = [sum(each) for each in by_round]
    differences = {probe.name: difference(probe, model, images) for probe in probes}
    differences["battery"] = max(differences.values())
    return [beside(name, times, found) for name, found in differences.items()]


def beside(name: str, times: Mapping[str, list[float]], largest: float) -> Beside:
    fast, slow = times[f"fast {name}"], times[f"slow {name}"]
    ratio = statistics.median(one / other for one, other in zip(slow, fast, strict=True))
    return Beside(name, statistics.median(fast), statistics.median(slow), ratio, largest)


def difference(probe: Probe, model: MaskedImageModel, images: torch.Tensor) -> float:
    """Between a probe and its slow form; `ProbeError` where the probe cannot run."""
    results = run_probes([probe], model, images, SEED)
    for error in results.failures.values():
        raise ProbeError(str(error))
    found = []
    for name, values in SLOW[type(probe)](probe, model, images, SEED).items():
        fast, slow = comparable(results.datasets[probe.name], name), values.cpu().numpy()
        found.append(float(np.nanmax(np.abs(fast - slow)) / np.nanmax(np.abs(slow))))
    return max(found)


def paired_terms(num_vectors: int, num_rounds: int, device: torch.device, width: int = 192) -> list[Beside]:
    """Two means over pairs: the squared distance (consistency terms) and the squared cosine
    (uniformity), of float64 vectors.

    The slow forms go by all distances; the cosine also by products of one vector with all, which is
    quicker.
    """
    rng = torch.Generator().manual_seed(SEED)
    vectors = torch.randn(num_vectors, width, generator=rng, dtype=torch.float64).to(device)
    weight = torch.ones(num_vectors, dtype=torch.float64, device=device)
    forms: dict[str, tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]] = {
        "squared distance": (
            lambda: (vectors - vectors.mean(0)).square().sum(),
            lambda: pair_spread(vectors, weight),
        ),
        "squared cosine": (lambda: uniformity(vectors), lambda: mean_squared_cosine_by_distances(vectors)),
        "squared cosine, by products": (lambda: uniformity(vectors), lambda: mean_squared_cosine(vectors)),
    }
    work: dict[str, Work] = {}
    for name, (fast, slow) in forms.items():
        work |= {f"fast {name}": fast, f"slow {name}": slow}
    times = rounds_of(work, num_rounds, device, f"pairs of {num_vectors}")
    found = []
    for name, (fast, slow) in forms.items():
        largest = float((fast() - slow()).abs() / slow().abs())
        found.append(beside(name, times, largest))
    return found


def growth(
    model: MaskedImageModel, images: torch.Tensor, rows: int, num_rounds: int, device: torch.device
) -> list[Growth]:
    """Local contrast under 4, 8, 16 masks an image, `rows` image-mask pairs a forward pass."""
    probes = {
        count: LocalContrast(num_masks=count, batch_size=max(1, rows // count), baseline_images=0) for count in MASKS
    }
    work: dict[str, Work] = {
        str(count): lambda probe=probe: run_probes([probe], model, images, SEED) for count, probe in probes.items()
    }
    times = rounds_of(work, num_rounds, device, "masks an image")
    found = []
    for count, probe in probes.items():
        mine, half = times[str(count)], times.get(str(count // 2))
        of_linear = None if half is None else statistics.median(b / (2 * a) for a, b in zip(half, mine, strict=True))
        peaks = [
            cost_of(lambda probe=probe, part=part: run_probes([probe], model, part, SEED), model).peak_bytes
            for part in (images, images[: len(images) // 2])
        ]
        found.append(Growth(count, statistics.median(mine), of_linear, *peaks))
    return found


@dataclass
class Measured:
    """All that was measured, or as much of it as there is yet."""

    num_images: int
    alone: list[Alone] = field(default_factory=list)
    slow: dict[str, list[Beside]] = field(default_factory=dict)
    """By title."""
    growth: list[Growth] = field(default_factory=list)


Keep = Callable[[dict[str, str], Measured], object]
"""Called with what is known of the run and what was measured, each time that there is more."""


def markdown(about: Mapping[str, str], found: Measured) -> str:
    """The three tables, with what is needed to repeat them."""
    num_images = found.num_images
    lines = [
        f"# Probes: {about['device']}, {about['date']}",
        "",
        f"    {about['command']}",
        "",
        f"{about['versions']}; {about['model']}; {about['images']}. Medians of {about['rounds']} rounds, interleaved.",
        "",
        f"## Each probe, with its default settings, on {num_images} images",
        "",
        "Rows are images (times masks) that went through an encoder or a decoder, those of untrained baselines included;",
        "written: all tensors that were made; at most: what they held at one time, without weights and kernels' scratch space.",
        "",
        "| probe | s / 1,000 images | encoder rows an image | decoder rows an image | MB written an image | MB at most |",
        "|---|---|---|---|---|---|",
    ]
    for row in found.alone:
        if row.seconds is None or row.cost is None:
            lines.append(f"| {row.probe} | {row.problem} | | | | |")
            continue
        cost = row.cost
        cells = [f"{row.seconds * 1000 / num_images:.3g}", f"{cost.encoder_rows / num_images:.3g}"]
        cells += [f"{cost.decoder_rows / num_images:.3g}", f"{cost.bytes_written / num_images / 1e6:.3g}"]
        lines.append(f"| {row.probe} | {' | '.join([*cells, f'{cost.peak_bytes / 1e6:.3g}'])} |")
    for title, besides in found.slow.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| | fast, ms | slow, ms | slow / fast | largest difference |",
            "|---|---|---|---|---|",
        ]
        for row in besides:
            times = f"{row.fast_s * 1e3:.3g} | {row.slow_s * 1e3:.3g} | {row.ratio:.1f}"
            lines.append(f"| {row.name} | {times} | {row.difference:.1e} |")
    if found.growth:
        lines += ["", "## Local contrast by masks an image, as many rows a forward pass", ""]
        lines += [
            "| masks | ms | time / linear | MB at most | of that with half of the images |",
            "|---|---|---|---|---|",
        ]
    for row in found.growth:
        linear = "-" if row.of_linear is None else f"{row.of_linear:.3f}"
        memory = f"{row.peak_bytes / 1e6:.4g} | {row.peak_of_half / row.peak_bytes:.3f}"
        lines.append(f"| {row.num_masks} | {row.seconds * 1e3:.3g} | {linear} | {memory} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None, keep: Keep = lambda about, found: None) -> str:
    """The tables. `keep`: for a program that must not lose what was measured when it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny4", help="model and image size")
    parser.add_argument("--data", default="hierarchy", help="hierarchy has all that every probe needs")
    names = [*PROBES, STITCH]
    parser.add_argument("--probes", nargs="*", choices=names, default=names, help="of the first table")
    parser.add_argument("--images", type=int, default=1000, help="images of the first table")
    parser.add_argument("--slow-images", type=int, default=32, help="images of the second and third table")
    parser.add_argument("--pairs", type=int, default=PAIRED_VECTORS, help="vectors of the means over pairs")
    parser.add_argument("--rows", type=int, default=128, help="image-mask pairs of a forward pass, third table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--cpu-seconds", action="store_true", help="time of the processors, for the first table")
    parser.add_argument("--first-table", action="store_true", help="leave the others out")
    parser.add_argument("--out", type=Path, default=None, help="file for the tables (.md)")
    arguments = parser.parse_args(argv)
    device, rounds = torch.device(arguments.device), arguments.rounds
    model = build_model(config_of(arguments.shape, "mae", 1)).to(device).eval()
    view = open_view(model, arguments.data, limit=arguments.images)
    few = view[: arguments.slow_images]

    on_gpu = device.type == "cuda"
    about = {
        "command": shlex.join(["python", "-m", "benchmarks.probes", *(sys.argv[1:] if argv is None else argv)]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device)
        if on_gpu
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "versions": f"torch {torch.__version__}, numpy {np.__version__}"
        + (f", CUDA {torch.version.cuda}" if on_gpu else ""),
        "model": f"MAE, shape {arguments.shape}, initial weights, float32",
        "images": f"data {arguments.data}",
        "rounds": str(rounds),
    }
    found = Measured(len(view))
    clock = cpu_seconds if arguments.cpu_seconds else seconds
    found.alone = alone(arguments.probes, model, view, rounds, device, clock)
    keep(about, found)
    if arguments.first_table:
        return written(about, found, arguments.out)
    found.slow[f"The same numbers by their definitions, on {len(few)} images"] = against_slow(
        model, few, rounds, device
    )
    keep(about, found)
    found.slow[f"Means over all pairs of {arguments.pairs} vectors"] = paired_terms(arguments.pairs, rounds, device)
    keep(about, found)
    found.growth = growth(model, few, arguments.rows, rounds, device)
    keep(about, found)
    return written(about, found, arguments.out)


def written(about: Mapping[str, str], found: Measured, out: Path | None) -> str:
    """The tables, printed, and in a file where one is asked for."""
    text = markdown(about, found)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
    return text


if __name__ == "__main__":
    main()
