"""What `lcmae.images` does with each kind of input: the tests' kinds, each written, opened and held
against the values that it was made of.

    python -m benchmarks.inputs --out docs/inputs.md

writes the tables between the page's marks, in some seconds. A pixel that is not the expected one,
or an input that should be refused and is not, stops the command.
"""

import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import lcmae
from benchmarks import marked
from lcmae.data.survey import ImagesWarning
from lcmae.errors import InputError
from tests.lcmae.data.test_images_table import RIGHT, WRONG

BEGIN, END = "<!-- benchmarks.inputs: begin -->", "<!-- benchmarks.inputs: end -->"
HASHED = re.compile(r"\b(array|list|dataset):[0-9a-f]{12}\b")


def table() -> str:
    """Both tables as Markdown."""
    lines = ["| input | options | read as | said besides |", "|---|---|---|---|"]
    lines += [row(kind, *taken(kind)) for kind in RIGHT]
    lines += ["", f"{len(RIGHT)} kinds, every pixel as expected.", ""]
    lines += ["| input | options | answer |", "|---|---|---|"]
    lines += [row(kind, *refused(kind)) for kind in WRONG]
    return "\n".join([*lines, "", f"{len(WRONG)} kinds, each refused in one sentence."])


def taken(kind: str) -> tuple[str, str, str]:
    """Options, what the images were taken for, and notes, of a kind whose pixels are right."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ImagesWarning)  # its words are in the notes
        given, options, expected = RIGHT[kind](Path(folder))
        source = lcmae.images(given, **options)
        found = source[:].permute(0, 2, 3, 1).numpy()
        if found.shape != expected.shape or not np.array_equal(found, expected):
            raise RuntimeError(f"{kind}: expected other pixels")
        words = str(source.description).replace(" 1 bands;", " 1 band;")
        return named(options), words, short("; ".join(source.description.notes), folder)


def refused(kind: str) -> tuple[str, str]:
    """Options, and the sentence."""
    with tempfile.TemporaryDirectory() as folder:
        given, options = WRONG[kind][0](Path(folder))
        try:
            lcmae.images(given, **options)
        except InputError as error:
            return named(options), short(str(error), folder)
    raise RuntimeError(f"{kind}: expected an error, got images")


def named(options: dict[str, Any]) -> str:
    """Options as code."""
    return "`" + ", ".join(f"{name}={value!r}" for name, value in options.items()) + "`" if options else ""


def short(text: str, folder: str) -> str:
    """Words without the folder of the day, and without the hash that names what has no name."""
    return HASHED.sub(r"\1:HASH", text.replace(folder, "FOLDER"))


def row(*cells: str) -> str:
    """A row of Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def main() -> None:
    marked.write(__doc__, table, BEGIN, END)


if __name__ == "__main__":
    main()
