"""`lcmae check CHECKPOINT --data PHOTOS`: is my loading right? What was assumed is tried the other
way on one's own images."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from lcmae.app.command_line.arguments import check_device, parse_arguments
from lcmae.app.command_line.checkpoint_options import Overrides
from lcmae.app.command_line.image_options import ImageOptions, source_name
from lcmae.app.command_line.tables import print_table
from lcmae.safety.text import printable


class CheckArguments(ImageOptions, Overrides):
    """Is my loading right? Every setting that had to be assumed (pixel normalisation, heads,
    targets) is tested against its alternatives on your images; the verdict says which reading
    fits."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Any supported checkpoint, or a name on the hub."""

    data: str
    """Images, best like those of its training: a path (folder, Parquet, .npy, ...), digits,
    cifar10, ...; at least 8."""

    images: int = Field(default=64, ge=8)
    """How many of them."""

    seed: int = 0
    """Decides the masks, the same for all readings."""

    batch_size: int = Field(default=16, ge=1)
    """Images of one forward pass."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default a GPU where there is one."""

    json_: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON instead of tables."""


def run(arguments: Sequence[str]) -> int:
    """Print the verdict, its reasons, and all readings. 0 whatever the verdict is."""
    options = parse_arguments(CheckArguments, arguments, command="check")

    import torch

    from lcmae.probes.loading.check import check

    check_device(options.device)
    found = check(
        options.checkpoint,
        source_name(options.data, options.value_range, options.bands),
        limit=options.images,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        show_progress=True,
        **options.given(),
    )
    if options.json_:
        print(json.dumps(found.to_json(), indent=2))
        return 0
    print(f"{found.verdict.upper()}: {found.sentence}.")
    for one in found.findings:
        print(f"  {one.verdict.upper():11}  {one.question} {printable(one.reason, 400)}")
        if one.do:
            print(f"{'':13}  set {one.do}")
    lines = []
    for one in found.readings:
        difference = "" if math.isnan(one.low) else f"{one.low:+.3f} to {one.high:+.3f}"
        lines.append([str(one.round), one.label, f"{one.value:.3f}", difference, one.option])
    print_table(
        f"{found.measure} on {found.num_images} images, by reading",
        ["round", "reading", "value", "difference", "option"],
        lines,
    )
    return 0
