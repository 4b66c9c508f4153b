"""How fast do we train, beside others and beside what the chip allows?

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.train --batch 64 \
        --variants eager --objectives mae
    python -m benchmarks.train --device cuda --batch 1024 4096 --out docs/gpu
    python -m benchmarks.train --device cuda --shapes base16 --batch 256 512 1024 --out docs/gpu
    python -m benchmarks.train --device cuda --objectives mae --variants graph \
        --attention flash efficient cudnn written

Whole training steps (data, masks, forward, backward, AdamW) of each way to run each objective, and
of two peers on MAE. All get the same uint8 images on the device, the same precision (bfloat16 on a
GPU unless told otherwise) and fused AdamW. Contenders take turns in rounds of random order; medians
over rounds are reported, and medians of the ratios within a round: a busy machine slows both sides.
Shares are of what a large matrix product and a large copy reach in the same run
(`benchmarks.roof`); peers are held to the operations of our own step, so that shares compare.
Memory is the most that torch held in a contender's first steps beyond what lay there before. What
does not fit in memory, or cannot be built or compiled, is listed with the reason; `--seconds` ends
the rounds early, and leaves contenders out (the last ones first) where the first steps take long.
"""

import argparse
import gc
import json
import math
import platform
import random
import shlex
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import timm
import torch
import transformers

from benchmarks.contenders import SHAPES, VARIANTS, Work, config_of, noise, ours, theirs
from benchmarks.idle import idle_share
from benchmarks.peers import PEERS
from benchmarks.roof import Rates, measure_rates, roof_seconds, seconds, step_operations, total_flops
from lcmae.config import RunConfig
from lcmae.progress import ProgressBar

OBJECTIVES = ("mae", "umae", "simmim", "lcmae")
FIRST_STEPS = 5
"""Steps that compile, record and warm up, before anything is timed."""


@dataclass
class Contender:
    """One way to take a step, and what was seen of it."""

    objective: str
    name: str
    config: RunConfig
    build: Callable[[], Work]
    work: Work | None = None
    first_steps_s: float = 0.0
    memory_bytes: int | None = None
    rounds: list[float] = field(default_factory=list)
    """Seconds a step, round by round."""

    problem: str = ""
    """Why it takes no turns."""


@dataclass(frozen=True)
class Row:
    """A line of the table. Times are medians over rounds; None where the contender took no turn,
    and `problem` says why."""

    shape: str
    batch: int
    objective: str
    name: str
    step_s: float | None = None
    fastest_step_s: float | None = None
    images_per_s: float | None = None
    share_of_matmul: float | None = None
    share_of_roof: float | None = None
    memory_bytes: int | None = None
    first_steps_s: float = 0.0
    speedup: dict[str, float] = field(default_factory=dict)
    """Over each contender of MAE and over eager of the same objective: median ratio of times within
    a round."""
    idle: float | None = None
    """Share of the time in which the GPU ran nothing, over 50 steps in a row."""

    rounds: int = 0
    """How many rounds the medians are of."""

    problem: str = ""


Keep = Callable[[dict[str, Any], list[Row]], object]
"""Called with what is known of the run and all rows so far, each time that there are more."""

OUT_OF_MEMORY = "out of memory"
FOR_FIRST_STEPS = 0.6
"""Share of the time after which no other contender is begun."""


def contenders(arguments: argparse.Namespace, shape: str, batch: int, device: torch.device) -> list[Contender]:
    """Everything that takes turns at one shape and batch."""
    base = config_of(shape, "mae", batch, precision=arguments.precision)
    source = noise(base, 2 * batch, device)
    found = []
    for objective, variant, kernel in product(arguments.objectives, arguments.variants, arguments.attention):
        options = {"precision": arguments.precision, "attention": kernel, "accumulate": arguments.accumulate}
        config = config_of(shape, objective, batch, **options, **VARIANTS[variant])
        name = variant if kernel == "auto" else f"{variant}, {kernel}"
        found.append(Contender(objective, name, config, lambda config=config: ours(config, source)))
    compiled = ["eager", "compiled"] if set(arguments.variants) - {"eager"} else ["eager"]
    ways = [way == "compiled" for way in arguments.peer_variants or compiled]
    for name, is_compiled in product(arguments.peers, ways) if "mae" in arguments.objectives else []:
        label = f"{name}, compiled" if is_compiled else name

        def build(name: str = name, is_compiled: bool = is_compiled) -> Work:
            return theirs(name, base, source, compiled=is_compiled)

        found.append(Contender("mae", label, base, build))
    return found


def measure(
    arguments: argparse.Namespace,
    shape: str,
    batch: int,
    device: torch.device,
    rates: Rates,
    keep: Callable[[list[Row]], object] = lambda rows: None,
) -> list[Row]:
    """Rows of one shape and batch. `keep` gets them after each round, too, without idle shares."""
    start = time.monotonic()
    everyone = contenders(arguments, shape, batch, device)
    with ProgressBar(f"{shape}, batch {batch}: first steps", len(everyone)) as bar:
        # MAE and the peers, which all the others are held against, come first
        for number, each in enumerate(sorted(everyone, key=lambda each: each.objective != "mae")):
            if number and time.monotonic() - start > FOR_FIRST_STEPS * arguments.seconds:
                each.problem = "no time left"
            else:
                begin(each, device)
            bar.advance(note=f"{each.objective} {each.name}")
    running = [each for each in everyone if each.work is not None]
    order = random.Random(0)
    with ProgressBar(f"{shape}, batch {batch}: rounds", arguments.rounds) as bar:
        for number in range(arguments.rounds):
            if number and time.monotonic() - start > arguments.seconds:
                break
            for each in order.sample(running, len(running)):
                each.rounds.append(seconds(repeated(each.work, arguments.steps), device) / arguments.steps)
            bar.advance()
            keep([row(each, running, shape, batch, rates) for each in everyone])
    rows = [row(each, running, shape, batch, rates) for each in everyone]
    if device.type == "cuda":
        rows = [
            each if one.work is None else replace(each, idle=idle_share(one.work, 50))
            for each, one in zip(rows, everyone, strict=True)
        ]
    return rows


def begin(each: Contender, device: torch.device) -> None:
    """Build it and take its first steps; `work` stays None where that fails, and `problem` says
    why."""
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)

    def first_steps() -> None:
        each.work = each.build()
        repeated(each.work, FIRST_STEPS)()

    try:
        each.first_steps_s = seconds(first_steps, device)
    except Exception as error:  # a compiler's, a kernel's: the others can still be measured
        each.work, each.problem = None, _reason(error)
        traceback.print_exc()
    if each.work is None:
        gc.collect()
        if each.problem == OUT_OF_MEMORY:
            torch.compiler.reset()
            torch.cuda.empty_cache()
        return
    if device.type == "cuda":
        each.memory_bytes = torch.cuda.max_memory_allocated(device) - before


def _reason(error: Exception) -> str:
    """A few words that fit a table; the whole is on standard error."""
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    first = (str(error).strip().splitlines() or [""])[0].replace("|", "/")
    return f"failed: {type(error).__name__} {first}"[:120].rstrip()


def repeated(work: Work | None, times: int) -> Callable[[], None]:
    assert work is not None

    def run() -> None:
        for _ in range(times):
            work()

    return run


def row(each: Contender, running: list[Contender], shape: str, batch: int, rates: Rates) -> Row:
    if each.work is None:
        return Row(shape, batch, each.objective, each.name, problem=each.problem)
    step = statistics.median(each.rounds)
    operations = step_operations(each.config)
    roof = roof_seconds(operations, rates, 2 if each.config.precision == "bfloat16" else 4)
    speedup = {
        f"{other.objective} {other.name}": statistics.median(
            their / mine for their, mine in zip(other.rounds, each.rounds, strict=True)
        )
        for other in running
        if other is not each
        and (other.objective == "mae" or (other.objective, other.name) == (each.objective, "eager"))
    }
    return Row(
        shape=shape,
        batch=batch,
        objective=each.objective,
        name=each.name,
        step_s=step,
        fastest_step_s=min(each.rounds),
        images_per_s=batch / step,
        share_of_matmul=total_flops(operations) * batch / step / rates.flops,
        share_of_roof=roof * batch / step,
        memory_bytes=each.memory_bytes,
        first_steps_s=each.first_steps_s,
        speedup=speedup,
        rounds=len(each.rounds),
    )


def markdown(about: dict[str, Any], rows: list[Row]) -> str:
    """A table with what it needs to be repeated."""
    rates = about["rates"]
    lines = [
        f"# Training steps: {about['device']}, {about['date']}",
        "",
        f"    {about['command']}",
        "",
        f"torch {about['torch']}, timm {about['timm']}, transformers {about['transformers']}, CUDA {about['cuda']}; "
        f"{about['precision']}; {_rounds(rows)} rounds of {about['steps']} steps, medians. Large matrix product "
        f"{rates['flops'] / 1e12:.3g} TFLOP/s, large copy {rates['bytes'] / 1e12:.3g} TB/s.",
        "",
        "| shape | batch | objective | way | ms a step | images/s | of matrix peak | of roof | over the timm loop "
        "| over Hugging Face | idle | GB | first steps, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        cells = [each.shape, str(each.batch), each.objective, each.name]
        if each.step_s is None:
            cells += [each.problem, *["-"] * 8]
        else:
            cells += [f"{each.step_s * 1e3:.3g}", _or_dash(each.images_per_s, ",.0f")]
            cells += [_or_dash(each.share_of_matmul, ".1%"), _or_dash(each.share_of_roof, ".1%")]
            cells += [_or_dash(each.speedup.get(f"mae {peer}"), ".2f") for peer in PEERS]
            cells += [_or_dash(each.idle, ".1%")]
            cells += [_or_dash(each.memory_bytes and each.memory_bytes / 1e9, ".2f"), f"{each.first_steps_s:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rounds(rows: list[Row]) -> str:
    """How many rounds there were, at each shape and batch where `--seconds` made them differ."""
    return " to ".join(str(count) for count in sorted({each.rounds for each in rows if each.rounds})) or "0"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def main(argv: list[str] | None = None, keep: Keep = lambda about, rows: None) -> list[Row]:
    """The table. `keep`: for a program that must not lose what was measured when it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["tiny4"], help="models and image sizes")
    parser.add_argument("--batch", nargs="+", type=int, default=[1024], help="images a step")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches of our steps (1: none)")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=None, help="ways to run ours")
    parser.add_argument(
        "--attention", nargs="+", default=["auto"], help="kernels to compare, as --attention of training"
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument(
        "--peer-variants", nargs="+", choices=["eager", "compiled"], help="ways to run them (as ours are run)"
    )
    parser.add_argument("--rounds", type=int, default=12, help="turns of each contender")
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="about how long each shape and batch may take (one round at least)",
    )
    parser.add_argument("--steps", type=int, default=None, help="steps of a turn (20 on a GPU, 2 on a CPU)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default=None)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--out", type=Path, default=None, help="folder for the table (.md) and everything measured (.json)"
    )
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    arguments.precision = arguments.precision or ("bfloat16" if on_gpu else "float32")
    arguments.steps = arguments.steps or (20 if on_gpu else 2)
    arguments.variants = arguments.variants or (list(VARIANTS) if on_gpu else ["eager", "compiled"])
    if not on_gpu and "graph" in arguments.variants:
        parser.error("expected eager or compiled on a CPU, got graph")
    torch_kernels = set(arguments.attention) - {"written"}
    if len(torch_kernels) > 1 and set(arguments.variants) - {"eager"}:
        # torch.compile does not ask again which kernel is chosen: all would run the first one's
        parser.error(f"expected one of torch's attention kernels at a time where ours is compiled, got {torch_kernels}")

    dtype = torch.bfloat16 if arguments.precision == "bfloat16" else torch.float32
    rates = measure_rates(device, dtype, side=8192 if on_gpu else 1024, copy_bytes=1 << (30 if on_gpu else 26))
    about = {
        "command": shlex.join(["python", "-m", "benchmarks.train", *(sys.argv[1:] if argv is None else argv)]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name()
        if on_gpu
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "timm": timm.__version__,
        "transformers": transformers.__version__,
        "cuda": torch.version.cuda if on_gpu else "not used",
        "precision": arguments.precision,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "rates": asdict(rates),
    }
    rows: list[Row] = []
    for shape, batch in product(arguments.shapes, arguments.batch):
        before = list(rows)
        rows += measure(
            arguments, shape, batch, device, rates, lambda found, before=before: keep(about, [*before, *found])
        )
        keep(about, rows)
        torch.compiler.reset()
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()
    table = markdown(about, rows)
    print(table)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        stem = f"train-{'-'.join(arguments.shapes)}-{device.type}-{about['date'][:19].replace(':', '')}"
        (arguments.out / f"{stem}.md").write_text(table)
        (arguments.out / f"{stem}.json").write_text(
            json.dumps({**about, "rows": [asdict(each) for each in rows]}, indent=1)
        )
    return rows


if __name__ == "__main__":
    main()
