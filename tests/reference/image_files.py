"""Image files, folders and tables of them, out of numbered pictures, for tests of sources."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lcmae.data import open_source
from lcmae.errors import InputError


def picture(number: int, size: tuple[int, int] = (10, 8)) -> Image.Image:
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def png(number: int) -> bytes:
    file = BytesIO()
    picture(number).save(file, "PNG")
    return file.getvalue()


def write_folder(root: Path, classes: dict[str, int]) -> Path:
    number = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            picture(number).save(root / name / f"{number:03}.png")
            number += 1
    return root


def write_parquet(
    file: Path,
    cells: list[Any],
    labels: list[Any] | None,
    *,
    metadata: dict[str, str] | None = None,
    image: str = "image",
    group: int = 4,
) -> Path:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": cell, "path": f"{row}.png"} for row, cell in enumerate(cells)]
    columns: dict[str, Any] = {image: pa.array(images, kind)}
    if labels is not None:
        columns["label"] = pa.array(labels)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file, row_group_size=group)
    return file


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def refused(match: str, name: str, **arguments: Any) -> None:
    with pytest.raises(InputError, match=match) as error:
        open_source(name, **arguments)
    one_line(error)
