"""Do two models say the same of the same images? Linear CKA and shared neighbours of two tables of
`lcmae.embed`, joined by their ids.

CKA: Kornblith et al. (1905.00414), linear kernel, and its debiased form with the unbiased HSIC_1 of
Song et al. (JMLR 13 (2012), equation 5), both from d x d products, so that memory and time are
linear in the images. The plain form rises towards 1 where there are few images for the width.
Neighbours: the share of each vector's k nearest by cosine that both have in common (mutual
k-nearest neighbours, Huh et al., 2405.07987), beside its chance level k / (rows - 1). Standard
errors: the jackknife over groups of images.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lcmae.errors import InputError
from lcmae.probes.statistics.jackknife import NUM_GROUPS, standard_error
from lcmae.safety.text import printable, reason, show
from lcmae.shapes import Bool, Float, Int

MOST_ROWS = 4000
"""Shared rows that are compared: neighbours need every pair of them."""

NUM_NEIGHBOURS = 10

COLUMNS = ("a", "b", "quantity", "value", "sem", "chance", "num_images", "num_rows")


@dataclass(frozen=True)
class Embeddings:
    """One table: the key of each row (id, and patch for tokens), and how to get at vectors."""

    name: str
    keys: pd.MultiIndex
    about: Mapping[str, Any]
    source: pd.DataFrame | Path

    def vectors(self, rows: np.ndarray) -> Float[Tensor, "r d"]:
        """float64 vectors of these rows, in their order; of a file only these stay in memory."""
        if isinstance(self.source, pd.DataFrame):
            found = _stacked(self.name, self.source["embedding"].to_numpy()[rows])
        else:
            found = self._read(self.source, rows)
        if not np.isfinite(found).all():
            raise InputError(f"{self.name}: expected finite vectors, got NaN or infinity")
        return torch.from_numpy(found)

    def _read(self, path: Path, rows: np.ndarray) -> np.ndarray:
        wanted, order = np.unique(rows, return_inverse=True)
        parts, first = [], 0
        for batch in _parquet(path).iter_batches(batch_size=1024, columns=["embedding"]):
            mine = wanted[(wanted >= first) & (wanted < first + len(batch))] - first
            values = batch.column(0).take(_indices(mine)).to_numpy(zero_copy_only=False)
            parts += list(values)
            first += len(batch)
        return _stacked(self.name, parts)[order]


def compare_embeddings(
    tables: Mapping[str, pd.DataFrame | Path | str],
    *,
    num_neighbours: int = NUM_NEIGHBOURS,
    most_rows: int = MOST_ROWS,
) -> pd.DataFrame:
    """Every pair of tables, {name: DataFrame of `lcmae.embed` or Parquet file}, on the ids that the
    pair shares: a row for `cka_debiased`, `cka` and `shared_neighbours`, with standard errors.

    At most `most_rows` shared rows are compared, whole images evenly spaced among the sorted ids.
    `InputError` for tables that share fewer than 4 images, hold an id twice, or are no embeddings.
    """
    opened = [_open(str(name), table) for name, table in tables.items()]
    if len(opened) < 2:
        raise InputError(f"expected at least two tables of embeddings to compare, got {len(opened)}")
    if num_neighbours < 1 or most_rows < 4:
        raise InputError(
            f"expected num_neighbours of at least 1 and most_rows of at least 4, got {num_neighbours} and {most_rows}"
        )
    return pd.DataFrame(
        [row for a, b in combinations(opened, 2) for row in _pair(a, b, num_neighbours, most_rows)],
        columns=list(COLUMNS),
    )


def conditions_of(tables: Mapping[str, pd.DataFrame | Path | str]) -> dict[str, Mapping[str, Any]]:
    """What each table states of itself: checkpoint, data, feature, layer and so on."""
    return {str(name): _open(str(name), table).about for name, table in tables.items()}


def _pair(a: Embeddings, b: Embeddings, num_neighbours: int, most_rows: int) -> list[tuple[Any, ...]]:
    if a.keys.nlevels != b.keys.nlevels:
        raise InputError(f"expected tokens in both tables or in none, got {a.name} and {b.name} of different kinds")
    shared = a.keys.intersection(b.keys, sort=False).sort_values()
    images, image_of_row = np.unique(shared.get_level_values(0).to_numpy(), return_inverse=True)
    if len(images) < 4:
        raise InputError(f"expected at least 4 images that {a.name} and {b.name} share, got {len(images)}")
    per_image = -(-len(shared) // len(images))
    most = max(4, most_rows // per_image)
    if len(images) > most:
        picked = np.linspace(0, len(images) - 1, most).astype(int)
        is_picked = np.isin(image_of_row, picked)
        shared = shared[is_picked]
        image_of_row = np.unique(image_of_row[is_picked], return_inverse=True)[1]
    num_images = int(image_of_row.max()) + 1
    first, second = (table.vectors(table.keys.get_indexer(shared)) for table in (a, b))
    groups = torch.from_numpy(image_of_row % min(NUM_GROUPS, num_images))
    counts = (num_images, len(shared))
    rows = []
    for name, statistic in (("cka_debiased", debiased_cka), ("cka", cka)):
        rows.append((a.name, b.name, name, *_estimated(statistic, first, second, groups), math.nan, *counts))
    k = min(num_neighbours, len(shared) - 2)
    overlap = shared_neighbours(first, second, groups, k)
    rows.append((a.name, b.name, f"shared_neighbours_{k}", *overlap, k / (len(shared) - 1), *counts))
    return rows


def _estimated(
    statistic: Any, first: Float[Tensor, "r d"], second: Float[Tensor, "r e"], groups: Int[Tensor, " r"]
) -> tuple[float, float]:
    """A statistic, and its standard error by leaving a group of images out."""
    whole = statistic(first, second)
    present = groups.unique()
    without = torch.stack([statistic(first[groups != group], second[groups != group]) for group in present])
    sizes = torch.stack([(groups == group).sum() for group in present]).double()
    return float(whole), float(standard_error(whole, without, sizes))


def cka(first: Float[Tensor, "r d"], second: Float[Tensor, "r e"]) -> Float[Tensor, ""]:
    """Linear CKA: |X^T Y|^2 / (|X^T X| |Y^T Y|) of centred vectors (1905.00414, equation 3). NaN
    for constant vectors."""
    x, y = first - first.mean(0), second - second.mean(0)
    own = (x.T @ x).norm() * (y.T @ y).norm()
    return (x.T @ y).square().sum() / torch.where(own > 0, own, math.nan)


def debiased_cka(first: Float[Tensor, "r d"], second: Float[Tensor, "r e"]) -> Float[Tensor, ""]:
    """The same with unbiased HSIC_1 in each place of HSIC: 0 on average for independent vectors.
    NaN for constant vectors, and below 4 rows."""
    x, y = first - first.mean(0), second - second.mean(0)
    own = _hsic(x, x).clamp(min=0).sqrt() * _hsic(y, y).clamp(min=0).sqrt()
    return _hsic(x, y) / torch.where(own > 0, own, math.nan)


def _hsic(x: Float[Tensor, "r d"], y: Float[Tensor, "r e"]) -> Float[Tensor, ""]:
    """HSIC_1 (Song et al., equation 5) of linear kernels K = X X^T, L = Y Y^T whose diagonals are
    0, without forming them: tr K L = |X^T Y|^2 - sum_i |x_i|^2 |y_i|^2, and row i of K sums to
    x_i . sum_j x_j - |x_i|^2."""
    count = len(x)
    if count < 4:
        return x.new_full((), math.nan)
    squares, others = x.square().sum(1), y.square().sum(1)
    trace = (x.T @ y).square().sum() - (squares * others).sum()
    rows, columns = x @ x.sum(0) - squares, y @ y.sum(0) - others
    both = rows.sum() * columns.sum() / ((count - 1) * (count - 2))
    cross = 2 / (count - 2) * (rows * columns).sum()
    return (trace + both - cross) / (count * (count - 3))


def shared_neighbours(
    first: Float[Tensor, "r d"], second: Float[Tensor, "r e"], groups: Int[Tensor, " r"], k: int, block: int = 512
) -> tuple[float, float]:
    """Share of the k nearest others by cosine that both have in common, mean over rows, and its
    standard error; similarities are held for `block` rows at a time. NaN for constant vectors."""
    if any(bool((points == points[0]).all()) for points in (first, second)):
        return math.nan, math.nan
    unit = [torch.nn.functional.normalize(points, dim=1) for points in (first, second)]
    present = [int(group) for group in groups.unique()]
    left_out: list[Bool[Tensor, " r"]] = [torch.zeros_like(groups, dtype=torch.bool)]
    left_out += [groups == group for group in present]
    sums, counts = torch.zeros(len(left_out), dtype=torch.float64), torch.zeros(len(left_out), dtype=torch.float64)
    for start in range(0, len(first), block):
        rows = torch.arange(start, min(start + block, len(first)))
        similar = [points[rows] @ points.T for points in unit]
        for values in similar:
            values[torch.arange(len(rows)), rows] = -math.inf  # a vector is no neighbour of itself
        for position, out in enumerate(left_out):
            near = [values.masked_fill(out, -math.inf).topk(k, dim=1).indices for values in similar]
            common = (near[0][:, :, None] == near[1][:, None, :]).sum((1, 2)).double() / k
            sums[position] += common[~out[rows]].sum()
            counts[position] += (~out[rows]).sum()
    estimates = sums / counts
    sizes = counts[0] - counts[1:]
    return float(estimates[0]), float(standard_error(estimates[0], estimates[1:], sizes))


def _open(name: str, table: pd.DataFrame | Path | str) -> Embeddings:
    if isinstance(table, pd.DataFrame):
        missing = [column for column in ("id", "embedding") if column not in table]
        if missing:
            raise InputError(f"{name}: expected a table of lcmae.embed, got one without {', '.join(missing)}")
        frame, about, source = table, table.attrs.get("lcmae", {}), table
    else:
        source = Path(table)
        frame, about = _keys_of_file(source)
    levels = [frame["id"].astype(str), *([frame["patch"]] if "patch" in frame else [])]
    keys = pd.MultiIndex.from_arrays(levels)
    if not keys.is_unique:
        twice = printable(str(keys[keys.duplicated()][0][0]), 60)
        raise InputError(f"{name}: expected every id once, got {twice!r} twice")
    return Embeddings(name, keys, about, source)


def _keys_of_file(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    file = _parquet(path)
    names = set(file.schema_arrow.names)
    if not {"id", "embedding"} <= names:
        raise InputError(
            f"expected a Parquet file of lcmae embed (columns id and embedding), got {printable(', '.join(names), 120)} "
            f"in {show(path)}"
        )
    with _readable(path):
        frame = file.read(columns=[name for name in ("id", "patch") if name in names]).to_pandas()
    try:
        about = json.loads((file.schema_arrow.metadata or {}).get(b"lcmae", b"{}"))
    except ValueError:
        about = {}
    return frame, about if isinstance(about, dict) else {}


class _readable:
    """What reading a foreign file fails with, as one sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import pyarrow as pa

        if error is not None and isinstance(error, OSError | pa.ArrowException):
            raise InputError(f"expected a Parquet file at {show(self.path)}, got none: {reason(error)}") from error


def _parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    with _readable(path):
        return pq.ParquetFile(path)


def _indices(rows: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.array(rows, pa.int64())


def _stacked(name: str, values: Any) -> np.ndarray:
    rows = [np.asarray(value) for value in values]
    if len({row.shape for row in rows}) != 1 or rows[0].ndim != 1 or rows[0].dtype.kind not in "fiu":
        raise InputError(f"{name}: expected vectors of one width under embedding, got something else")
    return np.stack(rows).astype(np.float64)
