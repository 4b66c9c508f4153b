"""What can be taken away: figures as PNG, SVG, PDF and HTML, as on screen or at the width of a
paper's column, with caption and sources; tables as CSV and Parquet, results as netCDF, the page's
address.

Pictures are drawn by the person's own browser out of the figure that it shows, so the server needs
no browser of its own. Files of the server are made when they are asked for, not when the page is
drawn.
"""

import io
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from plotly.io.json import to_json_plotly
from streamlit.components.v2 import component

from lcmae.app.dashboard.components.plain import cells, plain
from lcmae.app.figures.sources import bibtex
from lcmae.safety.files import read_regular
from lcmae.safety.text import printable

BUTTONS = component(
    "lcmae.take_away",
    html='<div class="row"></div><output role="status"></output>',
    css=Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)

FONTS = "Helvetica, Arial, sans-serif"

NOTHING = "–"
"""What a table shows of a number that is not there."""

MOST = 2 << 30
"""Bytes of a stored result, as its reader takes it."""

DOWNLOAD: dict[str, Any] = {"type": "tertiary", "icon": ":material/download:", "on_click": "ignore"}


def figure_files(figure: go.Figure, key: str, *, caption: str = "", sources: str = "") -> None:
    """PNG, SVG, PDF and HTML of the figure that `st.plotly_chart` has drawn with the key
    `figure-KEY`; its caption, and BibTeX of the papers that `sources` names, to copy."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        BUTTONS(
            key=f"pictures-{key}",
            data={
                "figure": f"figure-{key}",
                "name": key,
                "layout": layout_on_paper(figure),
                "caption": printable(caption, 2000),
                "bibtex": bibtex(sources),
                "otherwise": "This browser or version of Streamlit gives no picture here: try the camera above the figure.",
            },
            width="content",
        )
        st.download_button(
            "HTML",
            partial(figure.to_html, include_plotlyjs=True, full_html=True),
            f"{key}.html",
            "text/html",
            key=f"html-{key}",
            help="The figure as a page of its own: it can be hovered over, and needs no network.",
            **DOWNLOAD,
        )


def layout_on_paper(figure: go.Figure) -> dict[str, Any]:
    """The figure's own layout as JSON, in fonts of the system: a picture cannot use those that the
    page has loaded, and would break the lines that were measured with them."""
    layout = json.loads(to_json_plotly(figure.layout) or "{}")
    return {**layout, "font": {**layout.get("font", {}), "family": FONTS}}


def table(frame: pd.DataFrame, key: str, *, parquet: Callable[[], bytes] | None = None, **shown: Any) -> None:
    """A table and its files, every digit in them; `parquet` gives the stored file where there is
    one."""
    st.dataframe(cells(frame), hide_index=True, placeholder=NOTHING, **shown)
    table_files(frame, key, parquet=parquet)


def table_files(frame: pd.DataFrame, key: str, *, parquet: Callable[[], bytes] | None = None) -> None:
    """A table as CSV and Parquet."""
    frame = cells(frame)
    files: dict[str, tuple[Callable[[], Any], str]] = {
        "csv": (partial(frame.to_csv, index=False), "text/csv"),
        "parquet": (parquet or partial(to_parquet, frame), "application/vnd.apache.parquet"),
    }
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        for suffix, (content, kind) in files.items():
            label = {"csv": "CSV", "parquet": "Parquet"}[suffix]
            st.download_button(label, content, f"{key}.{suffix}", kind, key=f"{suffix}-{key}", **DOWNLOAD)


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A table as Parquet; a column of mixed kinds, as a foreign config gives, is text there."""
    file = io.BytesIO()
    texts = {str(name): column.map(str, na_action="ignore") for name, column in frame.items() if column.dtype == object}
    frame.assign(**texts).to_parquet(file, index=False)
    return file.getvalue()


def result_files(files: Mapping[str, Path], probe: str) -> None:
    """The stored netCDF file of each run, as it lies on the disk."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        for name, path in files.items():
            st.download_button(
                f"{probe}.nc of {plain(name)}",
                partial(read_regular, path, MOST),
                f"{name.replace('/', '-')}-{path.parent.name}-{probe}.nc",
                "application/x-netcdf",
                key=f"netcdf-{probe}-{name}",
                help="Every number and picture of this result, with units: `xarray.open_dataset` reads it.",
                **DOWNLOAD,
            )


def link(**query: str) -> None:
    """The full address of the present view, to copy; `query` pins what the address leaves open."""
    otherwise = "This browser gives no access to its clipboard; the address is selected, so Ctrl-C copies it."
    BUTTONS(key="link", data={"query": query, "otherwise": otherwise})
