"""Stitching: what `lcmae stitch` found out about pairs of models. Imports no torch."""

import shlex
from functools import lru_cache
from pathlib import Path

import streamlit as st
import xarray as xr

from lcmae.app.dashboard.components import export, picks
from lcmae.app.dashboard.components.answer import answer
from lcmae.app.dashboard.components.command import to_copy
from lcmae.app.dashboard.components.plain import plain, prose
from lcmae.app.dashboard.components.probe_page import choose, draw, heading, in_rows
from lcmae.app.dashboard.menu import Page
from lcmae.app.dashboard.page import Panel
from lcmae.app.dashboard.stored.names import label, name_of
from lcmae.app.dashboard.stored.reading import Stamp, stamp
from lcmae.app.figures import stitch as figures
from lcmae.errors import InputError
from lcmae.probes.results import contracts
from lcmae.probes.results.store import load_result
from lcmae.safety.files import is_regular

SUMMARY = (
    "Can one model's decoder read another model's tokens? An affine map carries the tokens of each encoder to each decoder, "
    "and a cell says by how much that decoder's masked loss rises. Stitching is by Lenc and Vedaldi (arXiv 1411.5908) and "
    "Bansal et al. (arXiv 2106.07682); the closed form of the map and the baselines are lcmae's own."
)
TERMS = ("stitching", "loss", "standard error")
FILES = "stitch*.nc"
"""Files of `lcmae stitch --out` that the page finds."""


def show(page: Page, picked: picks.Picks) -> None:
    """The matrix of one file below the root, its sentence, and the baselines."""
    heading(page.title, SUMMARY, TERMS)
    found = files_below(picked.root)
    if not found:
        st.info(f"There is no file of `lcmae stitch` below {picked.where} yet. This makes one, in a minute or so:")
        some = list(picked.paths.values()) if len(picked.names) > 1 else list(picked.runs.values())[:4]
        some += [Path("RUN")] * (2 - len(some))  # it takes two
        to_copy(f"lcmae stitch {shlex.join(map(str, some))} --out {shlex.quote(str(picked.root / 'stitch.nc'))}")
        return
    file = found[choose("file", list(found))]
    try:
        result = result_of(stamp(file))
    except InputError as error:
        st.warning(prose(str(error), 400), icon=":material/link_off:")
        return
    answer(figures.answer(result), "stitch")
    how = choose("tokens", list(figures.HANDED.values()))
    variable = next(name for name, words in figures.HANDED.items() if words == how)
    for (one, area), key in zip(
        in_rows(iter([matrix(result, variable), baselines(result)])), ("stitch", "stitch-baselines"), strict=True
    ):
        with area:
            draw(one, key)
    st.caption(plain(condition(result)))
    frame = (
        result[["increase", "increase_sem", "identity_increase", "identity_increase_sem"]].to_dataframe().reset_index()
    )
    export.table_files(frame, "stitch")
    export.link()


def matrix(result: xr.Dataset, variable: str) -> Panel:
    """Encoders and decoders, with tokens handed over in one way."""
    return Panel(
        f"Tokens handed over {figures.HANDED[variable]}",
        "Rows are encoders, columns decoders; a cell is the increase of the decoder's masked loss as a share of its own, in "
        "percent, with half of its 95 % interval over images; red where the loss rises, blue where it falls. The diagonal is "
        "each model with itself, by a map of the same kind. Empty: widths differ, so tokens cannot be passed without a map.",
        figures.matrix(result, variable),
    )


def baselines(result: xr.Dataset) -> Panel:
    """Each decoder's baselines."""
    return Panel(
        "Compared with an untrained encoder, and with no information",
        "By decoder: every encoder's tokens by an affine map of their own; grey: those of an untrained encoder, and the "
        "decoder's mean token everywhere, the score of a map that carries nothing.",
        figures.beside_baselines(result),
    )


def condition(result: xr.Dataset) -> str:
    """What it was measured on."""
    about = {name: result.attrs.get(name, "?") for name in ("num_images", "data", "fit_images", "fitted_on", "mask")}
    return "{num_images} images of {data}; maps fitted on {fit_images} ({fitted_on}); masks {mask}.".format_map(about)


def files_below(root: Path, *, deep: bool = True) -> dict[str, Path]:
    """Every such file at or below the root (two folders deep), or in it alone, by its path."""
    depths = ("", "*/", "*/*/") if deep else ("",)
    files = [file for depth in depths for file in sorted(root.glob(f"{depth}{FILES}"))]
    return {f"{name_of(file.parent, root)}/{label(file.name)}": file for file in files if is_regular(file)}


@lru_cache(maxsize=16)  # not Streamlit's: a report imports this page, and that would warn there of a missing server
def result_of(key: Stamp) -> xr.Dataset:
    """`read` of the file as it is now."""
    return read(Path(key[0]))


def read(file: Path) -> xr.Dataset:
    """A file, with names that can be shown; `InputError` for one of another kind."""
    result = load_result(file)
    problem = contracts.problem(result, "stitch")
    if problem:
        raise InputError(f"expected a file of lcmae stitch at {file}, got {problem}")
    names = {axis: [label(name) for name in result[axis].values] for axis in ("encoder", "decoder")}
    return result.assign_coords(names)
