"""Parquet files in Hugging Face's layout: a column `image` of {bytes, path}, and a column `label`.

A folder's files are sorted into splits by the word train, or test (validation, val, valid), in
their names; where only one split is there, and for a single file whatever its name, one image in
five is held out for tests.
"""

import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcmae.data.collection import Collection, in_order
from lcmae.data.decode import Unreadable
from lcmae.data.folder import TEST_NAMES
from lcmae.data.large import check_unpacked
from lcmae.errors import InputError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")

CACHED_BYTES = 1 << 30
"""Encoded row groups kept in memory by each process that reads."""


class ParquetImages:
    """Row numbers to encoded bytes. Whole row groups are read, and the last ones used are kept."""

    def __init__(self, files: list[Path], column: str, groups: np.ndarray) -> None:
        self.files, self.column = files, column
        self.groups = groups  # [g 3]: first row of each row group over all files, its file, its number there
        self._begin()

    def _begin(self) -> None:
        self._lock = Lock()
        self._cached: OrderedDict[int, Any] = OrderedDict()
        self._bytes = 0
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "column": self.column, "groups": self.groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __call__(self, row: int) -> bytes:
        group = int(np.searchsorted(self.groups[:, 0], row, side="right")) - 1
        cell = self._group(group)[row - int(self.groups[group, 0])].as_py()
        if cell is None:
            raise Unreadable("the row has no bytes")
        return cell

    def _group(self, group: int) -> Any:
        if self._process != os.getpid():
            self._begin()  # forked: a lock held by a thread of the parent would never be released here
        with self._lock:
            if group not in self._cached:
                self._cached[group] = self._load(group)
                self._bytes += self._cached[group].nbytes
                while self._bytes > CACHED_BYTES and len(self._cached) > 1:
                    self._bytes -= self._cached.popitem(last=False)[1].nbytes
            self._cached.move_to_end(group)
            return self._cached[group]

    def _load(self, group: int) -> Any:
        import pyarrow as pa

        _, file, number = self.groups[group].tolist()
        with _opened(self.files[file]) as parquet:
            _check_unpacked(self.files[file], parquet.metadata.row_group(number), self.column)
            column = parquet.read_row_group(number, columns=[self.column], use_threads=False).column(0)
        # one chunk or several; a struct {bytes, path}, or the bytes themselves
        array = pa.concat_arrays(column.chunks)
        return array.field("bytes") if pa.types.is_struct(array.type) else array


def parquet_images(path: Path, split: str, masks: str | None = None) -> Collection:
    """The images of one split of a file, or of a folder of files; `masks`: a column of segmentation
    masks."""
    if path.is_file():
        return _collection([path], [path], path.parent, masks).split(split)
    if not path.is_dir():
        raise InputError(f"expected a Parquet file or a folder of them, got {path}, which does not exist")
    files = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith(".") and file.is_file())
    if not files:
        raise InputError(f"expected *.parquet files in {path}, found none")
    named = {
        word: [file for file in files if word in _words(file.relative_to(path))] for word in ("train", *TEST_NAMES)
    }
    train, test = named["train"], next((named[word] for word in TEST_NAMES if named[word]), [])
    if train and test:
        part = "test" if split == "own" else split
        chosen = {"train": train, "test": test, "all": train + test}[part]
        return _collection(chosen, train + test, path, masks).replaced(part=part)
    only = train or test or files
    return _collection(only, only, path, masks).split(split)


def _words(path: Path) -> list[str]:
    return re.split("[^a-z]+", path.as_posix().lower())


def _collection(files: list[Path], both: list[Path], root: Path, masks: str | None) -> Collection:
    """The rows of `files`. `both` are the files of both splits, over which classes are numbered if
    they are names."""
    schema = _schema(both)
    image, label = _columns(both[0], schema)
    groups, paths, labels = [], [], []
    for number, file in enumerate(files):
        with _opened(file) as parquet:
            name = file.relative_to(root).as_posix()
            first = len(paths)
            for group in range(parquet.num_row_groups):
                groups.append((first, number, group))
                first += parquet.metadata.row_group(group).num_rows
            paths += [f"{name}#{row}" for row in range(parquet.metadata.num_rows)]
        labels += _label_column(file, label) if label else []
    if not paths:
        raise InputError(f"expected images in {', '.join(map(str, files))}, got tables without rows")
    names = _names(schema, label)
    if labels and isinstance(labels[0], str):
        others = [value for file in both if file not in files for value in _label_column(file, label or "")]
        names = tuple(sorted({*labels, *others}))
        number_of = {name: number for number, name in enumerate(names)}
        labels = [number_of[value] for value in labels]
    read = ParquetImages(files, image, np.array(groups))
    if masks is not None and masks not in schema.names:
        raise InputError(f"{files[0]}: expected masks in one of the columns {', '.join(schema.names)}, got {masks!r}")
    return Collection(
        paths,
        _numbers(files[0], labels, names),
        names,
        in_order(len(paths)),
        read,
        files=files,
        container="parquet",
        read_mask=None if masks is None else ParquetImages(files, masks, np.array(groups)),
    )


def _schema(files: list[Path]) -> Any:
    schemas = []
    for file in files:
        with _opened(file) as parquet:
            schemas.append(parquet.schema_arrow)
        if not schemas[-1].equals(schemas[0]):
            raise InputError(f"{file}: expected the same columns as {files[0]}")
    return schemas[0]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A file that is open; what its reader trips over meanwhile is said of the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:  # a name that is no UTF-8 is a ValueError
        raise _damaged(file, error) from error


def _check_unpacked(file: Path, group: Any, name: str) -> None:
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema.partition(".")[0] == name:
            check_unpacked(chunk.total_compressed_size, chunk.total_uncompressed_size, f"{file}: column {name}")


def _damaged(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: expected a complete Parquet file, got one that cannot be read ({_one_line(error)})")


def _columns(file: Path, schema: Any) -> tuple[str, str | None]:
    import pyarrow as pa

    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    if image is None:
        raise InputError(f"{file}: expected a column named image, got {', '.join(schema.names) or 'no columns'}")
    kind = schema.field(image).type
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else None
    if kind is None or not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(f"{file}: expected column {image} to hold {{bytes, path}}, got {schema.field(image).type}")
    return image, next((name for name in LABEL_COLUMNS if name in schema.names), None)


def _label_column(file: Path, label: str) -> list[Any]:
    import pyarrow as pa

    with _opened(file) as parquet:
        kind = parquet.schema_arrow.field(label).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise InputError(f"{file}: expected column {label} to hold whole numbers or names, got {kind}")
        for number in range(parquet.num_row_groups):
            _check_unpacked(file, parquet.metadata.row_group(number), label)
        column = parquet.read(columns=[label], use_threads=False).column(0)
    if column.null_count:
        raise InputError(f"{file}: expected a label in every row, got {column.null_count} rows without")
    return column.to_pylist()


def _numbers(file: Path, labels: list[int], names: tuple[str, ...] | None) -> Tensor | None:
    """Labels as int64, checked against their names; None where Hugging Face marks every image as
    unlabelled (-1)."""
    if not labels or set(labels) == {-1}:
        return None
    most = max(labels) if names is None else len(names) - 1
    if min(labels) < 0 or max(labels) > most:
        raise InputError(f"{file}: expected labels from 0 to {most}, got {min(labels)} to {max(labels)}")
    return torch.tensor(labels, dtype=torch.int64)


def _names(schema: Any, label: str | None) -> tuple[str, ...] | None:
    """Class names from the file's metadata: Hugging Face's description of the columns, or a plain
    JSON list."""
    metadata = schema.metadata or {}
    if label is None:
        return None
    try:
        if b"label_names" in metadata:
            names = json.loads(metadata[b"label_names"])
        else:
            described = json.loads(metadata.get(b"huggingface", b"{}"))
            names = described.get("info", {}).get("features", {}).get(label, {}).get("names")
    except (ValueError, AttributeError):
        return None  # metadata of somebody else's shape says nothing about names
    return tuple(map(str, names)) if isinstance(names, list) else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
