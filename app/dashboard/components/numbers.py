"""A small table to read, drawn at once. Streamlit's own is a grid to scroll and to sort, and takes
a browser 35 ms each time."""

from pathlib import Path

import pandas as pd
from streamlit.components.v2 import component

from lcmae.app.dashboard.components.typography import WORDS

_TABLE = component(
    "lcmae.numbers",
    html='<h3 class="title"></h3><p class="caption"></p>'
    '<div class="room" tabindex="0" role="region" aria-label="numbers"><table><thead></thead><tbody></tbody></table></div>',
    css=WORDS + Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)


def numbers_table(frame: pd.DataFrame, title: str, caption: str, key: str) -> None:
    """The frame's rows, in four digits (all of them on hover); what is not a number is a dash."""
    rows = [[None if pd.isna(value) else value for value in row] for row in frame.itertuples(index=False, name=None)]
    _TABLE(key=key, data={"title": title, "caption": caption, "columns": list(frame.columns), "rows": rows})
