"""`lcmae embed CHECKPOINT --data DATA --out FILE.parquet`, and `--compare FILE FILE`: vectors of
images, and how alike those of two models are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from lcmae.app.command_line.arguments import check_device, parse_arguments
from lcmae.app.command_line.checkpoint_options import Overrides
from lcmae.app.command_line.image_options import ImageOptions, source_name
from lcmae.app.command_line.tables import number, print_table
from lcmae.errors import InputError


class EmbedArguments(ImageOptions, Overrides):
    """Write a vector for every image, with stable ids, to a Parquet file; or compare such files."""

    checkpoint: Annotated[Path | None, tyro.conf.Positional] = None
    """A run (its newest step), one of its steps, or any supported checkpoint."""

    data: str | None = None
    """Images: a path (folder, Parquet, .npy, .tif, zarr, .tar, DICOM), digits, cifar10, ...; by
    default what the run was trained on."""

    out: Path | None = None
    """Parquet file to write."""

    overwrite: bool = False
    """Replace a file that exists."""

    feature: Literal["cls", "mean", "tokens"] | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """Class token, mean of the patch tokens, or a row for every patch; by default the class token
    if there is one."""

    layer: int | None = None
    """Encoder block, counted from 1, before the final norm; 0: what enters the first; negative:
    from the end. By default the encoder's output."""

    split: str | None = None
    """train, test or all; by default test where the data has splits of its own, else all."""

    images: int | None = Field(default=None, ge=1)
    """How many images, of a fixed, class-balanced choice; by default all."""

    batch_size: int = Field(default=64, ge=1)
    """Images of one forward pass."""

    device: str | None = None
    """cpu, cuda or cuda:N; by default a GPU where there is one."""

    compare: tuple[Path, ...] = ()
    """Write nothing: compare these files, each pair on the ids that both have."""

    neighbours: int = Field(default=10, ge=1)
    """Nearest neighbours that are compared."""

    def given(self) -> dict[str, Any]:
        """What is said of the checkpoint; the feature is what is asked for here."""
        return {name: value for name, value in super().given().items() if name != "feature"}


def run(arguments: Sequence[str]) -> int:
    """Embed, and print the file; or compare, and print two tables."""
    options = parse_arguments(EmbedArguments, arguments, command="embed")
    if options.compare:
        return _compare(options)
    if options.checkpoint is None or options.out is None:
        raise InputError("expected CHECKPOINT and --out FILE.parquet (or --compare FILE FILE), got no such words")

    import torch

    import lcmae
    from lcmae.probes.embeddings.embed import embed, refuse_existing
    from lcmae.probes.jobs.batch import default_data

    refuse_existing(options.out, options.overwrite)
    check_device(options.device)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = lcmae.load(options.checkpoint, device=device, **options.given())
    data = source_name(options.data, options.value_range, options.bands) or default_data(str(options.checkpoint))
    config = model.config
    images = lcmae.images(
        data, limit=options.images, split=options.split, image_size=config.image_size, channels=config.channels
    )
    written = embed(
        model, images, options.feature, options.layer, out=options.out, overwrite=options.overwrite,
        batch_size=options.batch_size, show_progress=True,
    )  # fmt: skip
    print(written)
    return 0


CONDITIONS = ("checkpoint", "step", "data", "split", "num_images", "feature", "layer")


def _compare(options: EmbedArguments) -> int:
    from lcmae.probes.embeddings.compare import compare_embeddings, conditions_of
    from lcmae.safety.text import printable

    if len(options.compare) < 2:
        raise InputError(f"expected at least two files with --compare, got {len(options.compare)}")
    tables = {str(path): path for path in options.compare}
    if len(tables) < len(options.compare):
        raise InputError("expected different files with --compare, got one of them twice")
    found = compare_embeddings(tables, num_neighbours=options.neighbours)
    conditions = conditions_of(tables)
    rows = [
        [name, *(printable(str(about.get(part, "")), 60) for part in CONDITIONS)] for name, about in conditions.items()
    ]
    print_table("what is compared", ["file", *CONDITIONS], rows)
    lines = [
        [
            f"{row['a']} | {row['b']}",
            str(row["quantity"]),
            number(row["value"], row["sem"]),
            number(row["chance"]),
            str(row["num_images"]),
            str(row["num_rows"]),
        ]
        for row in found.to_dict("records")
    ]
    note = "± standard error over images; cka without debiasing is too high where images are few"
    print_table("how alike", ["pair", "quantity", "value", "chance", "images", "rows"], lines, note=note)
    return 0
