"""`lcmae stitch RUN RUN ... --out FILE.nc`: one model's encoder into another's decoder by an affine
map, and what the masked loss rises by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from pydantic import Field

from lcmae.app.command_line.arguments import check_device, parse_arguments
from lcmae.app.command_line.image_options import ImageOptions, source_name
from lcmae.app.command_line.tables import number, print_table
from lcmae.errors import InputError


class StitchArguments(ImageOptions):
    """Can one model's decoder read another model's tokens? An affine map carries tokens from each
    encoder to each decoder; a table says by how much each decoder's masked loss rises."""

    checkpoints: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Two or more runs (their newest step), steps, or supported checkpoints, of one grid of
    patches."""

    data: str | None = None
    """Images: a path (folder, Parquet, .npy, ...), digits, cifar10, ...; by default what the first
    run was trained on."""

    out: Path | None = None
    """File to write, stitch.nc or the like; the dashboard's page shows those below its folder."""

    overwrite: bool = False
    """Replace a file that exists."""

    images: int | None = Field(default=500, ge=1)
    """How many images to measure on, of a fixed, class-balanced choice."""

    fit_images: int = Field(default=1000, ge=10)
    """Most images to fit maps on, from the other split; for data without splits, every second
    image."""

    ratio: float | None = Field(default=None, gt=0, lt=1)
    """Masking ratio of random masks; by default the masks that all were trained with, otherwise
    random at 0.75."""

    seed: int = 0
    """Decides the masks."""

    batch_size: int = Field(default=64, ge=1)
    """Images of one forward pass."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default a GPU where there is one."""


def run(arguments: Sequence[str]) -> int:
    """Stitch every pair, print the matrix, and write it where a file is named."""
    options = parse_arguments(StitchArguments, arguments, command="stitch")
    if len(options.checkpoints) < 2:
        raise InputError(f"expected at least two checkpoints to stitch, got {len(options.checkpoints)}")

    import torch

    import lcmae
    from lcmae.masking import Random
    from lcmae.probes.jobs.batch import default_data
    from lcmae.probes.results.store import save_new, save_result
    from lcmae.runs.durable import check_writable, sweep_strays
    from lcmae.safety.text import printable, show

    check_device(options.device)
    if options.out is not None:
        if options.out.parent.is_dir():
            sweep_strays(options.out.parent)  # what a killed one left, also where its result is there
        _refuse(options.out, options.overwrite)
        check_writable(options.out.parent)
    data = source_name(options.data, options.value_range, options.bands) or default_data(str(options.checkpoints[0]))
    found = lcmae.stitch(
        [str(path) for path in options.checkpoints],
        lcmae.images(data, limit=options.images, resident_limit=1 << 30),
        mask=None if options.ratio is None else Random(ratio=options.ratio),
        fit_images=options.fit_images,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        show_progress=True,
    )
    names = [str(name) for name in found["decoder"].values]
    rows = [[name, *_cells(found, "increase", encoder=name)] for name in names]
    rows += [[f"{name}, as it is", *_cells(found, "identity_increase", encoder=name)] for name in names]
    rows += [["untrained encoder", *_cells(found, "untrained_increase")]]
    rows += [["mean token", *_cells(found, "constant_increase")], ["intact loss", *_cells(found, "loss")]]
    print_table(
        "increase of each decoder's masked loss, as a share of its own",
        ["encoder", *(printable(name, 40) for name in names)],
        [[printable(row[0], 40), *row[1:]] for row in rows],
        note=f"± standard error over {found.attrs['num_images']} images; maps fitted on {found.attrs['fit_images']} "
        f"({printable(str(found.attrs['fitted_on']), 60)}); masks {found.attrs['mask']}",
    )
    if options.out is not None:
        if options.overwrite:
            save_result(found, options.out)
        elif not save_new(found, options.out):
            _refuse(options.out, overwrite=False)
        print(show(options.out))
    return 0


def _cells(found: Any, name: str, **at: str) -> list[str]:
    """Numbers by decoder, with their standard errors."""
    values, errors = found[name].sel(at).values, found[f"{name}_sem"].sel(at).values
    return [number(float(value), float(error)) for value, error in zip(values, errors, strict=True)]


def _refuse(out: Path, overwrite: bool) -> None:
    import os

    from lcmae.safety.text import show

    if out.suffix != ".nc":
        raise InputError(f"expected --out FILE.nc, got {show(out)}")
    if os.path.lexists(out) and not (overwrite and out.is_file()):
        raise InputError(f"expected a new file (--overwrite replaces one), got one that exists: {show(out)}")
    if not out.parent.is_dir():
        raise InputError(f"expected --out in a folder that exists, got {show(out)}")
