"""`lcmae.embed`: vectors of images as a table with stable ids, in memory or streamed to Parquet.

A row is an image, or with "tokens" a patch of one: `id` (its file, or file and row), `index` (its
row in the data as they are stored), `label` (missing where none is known), `patch` (tokens alone:
raster order) and `embedding` (float32, d values). `frame.attrs["lcmae"]`, and the file's metadata
under the key `lcmae`, say which model, images, feature and layer.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import lcmae
from lcmae.data.images import images as open_images
from lcmae.data.source import ImageSource
from lcmae.errors import InputError
from lcmae.models import MaskedImageModel
from lcmae.probes.base import unchanged
from lcmae.probes.embeddings.vectors import Choice, batches_of_vectors, chosen
from lcmae.probes.jobs.direct import loaded_model, provenance_of
from lcmae.progress import ProgressBar, Silent
from lcmae.runs.durable import home, write_atomically
from lcmae.safety.text import show

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_SIZE = 64

ROW_GROUP_VALUES = 1 << 22
"""Numbers in a row group of the file, 16 MiB: the most that waits in memory."""


@overload
def embed(
    model: Any,
    images: Any,
    feature: str | None = None,
    layer: int | None = None,
    *,
    out: None = None,
    overwrite: bool = False,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    show_progress: bool = False,
) -> pd.DataFrame: ...


@overload
def embed(
    model: Any,
    images: Any,
    feature: str | None = None,
    layer: int | None = None,
    *,
    out: Path | str,
    overwrite: bool = False,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    show_progress: bool = False,
) -> Path: ...


def embed(
    model: Any,
    images: Any,
    feature: str | None = None,
    layer: int | None = None,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    show_progress: bool = False,
) -> pd.DataFrame | Path:
    """Vectors of whole images with stable ids, one row per image (or, with "tokens", per patch).

    `model`: a loaded one, a path, or a name on the hub. `images`: whatever `lcmae.images` takes.
    `feature`: "cls" (default where there is a class token), "mean" or "tokens". `layer`: encoder
    block from 1 on, before the final norm; 0 is the input of the first; negative counts from the
    end; None is the encoder's output. With `out` the rows are streamed to that Parquet file,
    written whole or not at all, and its path is returned; memory does not grow with the images.
    `InputError` for a bad choice, or a file that exists.
    """
    if batch_size < 1:
        raise InputError(f"expected a batch_size of at least 1, got {batch_size}")
    target = None if out is None else home(out)
    if target is not None:
        refuse_existing(target, overwrite)
    loaded = loaded_model(model, device)
    choice = chosen(loaded, feature, layer)
    source = open_images(images).at(loaded.config.image_size, loaded.config.channels)
    if not len(source):
        raise InputError("expected at least one image to embed, got none")
    about = _about(loaded, source, choice)
    with unchanged(loaded), ProgressBar("embedding", len(source)) if show_progress else Silent() as bar:
        batches = _found(loaded, source, choice, batch_size, bar)
        if target is None:
            frame = pd.concat([_table(source, *batch) for batch in batches], ignore_index=True)
            frame.attrs["lcmae"] = about
            return frame
        write_atomically(target, lambda path: _write(path, source, batches, about))
    return target


def refuse_existing(target: Path, overwrite: bool) -> None:
    """`InputError` for a file that exists, unless it may be replaced."""
    if os.path.lexists(target) and not (overwrite and target.is_file()):
        more = "" if overwrite else " (overwrite=True, or --overwrite, replaces a file)"
        raise InputError(f"expected a new file for the vectors, got one that exists{more}: {show(target)}")


def _about(model: MaskedImageModel, source: ImageSource, choice: Choice) -> dict[str, Any]:
    return {
        **provenance_of(model, source),
        "feature": choice.feature,
        "layer": choice.layer,
        "num_images": len(source),
        "precision": model.precision,
        "versions": f"lcmae {lcmae.__version__}, torch {torch.__version__}",
    }


def _found(
    model: MaskedImageModel, source: ImageSource, choice: Choice, batch_size: int, bar: ProgressBar | Silent
) -> Iterator[tuple[range, Tensor]]:
    """Positions and their vectors, batch after batch."""
    for positions, found in batches_of_vectors(model, source, choice, batch_size):
        yield positions, found
        bar.advance(len(positions))


def _table(source: ImageSource, positions: range, found: Tensor) -> pd.DataFrame:
    chosen_rows = slice(positions.start, positions.stop)
    labels = source.labels
    num_patches = found.shape[1] if found.ndim == 3 else 1
    columns: dict[str, Any] = {
        "id": np.repeat(np.asarray([_text(path) for path in source.paths[chosen_rows]], object), num_patches),
        "index": np.repeat(source.images.rows[chosen_rows].numpy(), num_patches),
        "label": pd.array(
            [pd.NA] * len(positions) * num_patches if labels is None else
            np.repeat(labels[chosen_rows].numpy(), num_patches),
            dtype="Int64",
        ),
    }  # fmt: skip
    if found.ndim == 3:
        columns["patch"] = np.tile(np.arange(num_patches), len(positions))
    columns["embedding"] = list(found.reshape(-1, found.shape[-1]).numpy())
    return pd.DataFrame(columns)


def _text(name: str) -> str:
    """A file's name as Unicode text, whatever bytes it has."""
    return name.encode("utf-8", "backslashreplace").decode()


def _write(path: Path, source: ImageSource, batches: Iterator[tuple[range, Tensor]], about: dict[str, Any]) -> None:
    """A row group at a time, which waits in one block of memory: many small tables that wait would
    break up the memory in which the model computes, and the process would grow with the images."""
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    block = np.empty((0, 0), np.float32)
    first = filled = 0
    shape: tuple[int, ...] = ()

    def flush() -> None:
        nonlocal writer, first, filled
        found = torch.from_numpy(block[:filled]).reshape(filled, *shape)
        table = _arrow(_table(source, range(first, first + filled), found), about)
        writer = writer or pq.ParquetWriter(path, table.schema, use_dictionary=["id", "label"])  # pyright: ignore[reportArgumentType]
        writer.write_table(table)
        first, filled = first + filled, 0

    try:
        for positions, found in batches:
            if not block.size:
                shape, width = tuple(found.shape[1:]), found[0].numel()
                block = np.empty((max(ROW_GROUP_VALUES // width, len(positions)), width), np.float32)
            if filled + len(positions) > len(block):
                flush()
            block[filled : filled + len(positions)] = found.flatten(1).numpy()
            filled += len(positions)
        flush()
    finally:
        if writer is not None:
            writer.close()


def _arrow(frame: pd.DataFrame, about: dict[str, Any]) -> "pa.Table":
    """The same columns; a vector is a list of fixed length."""
    import pyarrow as pa

    values = np.concatenate(frame["embedding"].to_list())
    width = len(values) // len(frame)
    arrays = {
        "id": pa.array(frame["id"].to_list(), pa.string()),
        "index": pa.array(frame["index"].to_numpy(), pa.int64()),
        "label": pa.array(frame["label"], pa.int64()),
    }
    if "patch" in frame:
        arrays["patch"] = pa.array(frame["patch"].to_numpy(), pa.int32())
    arrays["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), width)
    return pa.table(arrays).replace_schema_metadata({"lcmae": json.dumps(about)})
