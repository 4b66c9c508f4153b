"""A page as a link opens it, and what stands on it; shared by the tests of pages."""

import json
from typing import Any

import plotly.graph_objects as go
from streamlit.testing.v1 import AppTest

from lcmae.app.figures.baselines import LABELS

ONE_PAGE = """
from lcmae.app.dashboard import main
from lcmae.app.dashboard.components import picks
from lcmae.app.dashboard.pages import PAGES
main.open_page(next(page for page in PAGES if page.name == {name!r}), picks.ask())
"""


def open_page(name: str, *runs: str, **query: str) -> AppTest:
    """A page as a link opens it (AppTest can't click through a menu of functions)."""
    app = AppTest.from_string(ONE_PAGE.format(name=name), default_timeout=60)
    if runs:
        app.query_params["runs"] = list(runs)
    for key, value in query.items():
        app.query_params[key] = value
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    """No page ever shows a traceback."""
    assert not app.exception, app.exception
    return app


def words(app: AppTest) -> str:
    """All that stands on the page."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    return "\n".join(
        [
            *(str(getattr(element, "value", "")) for kind in kinds for element in app.get(kind)),
            *commands(app),
            *own_words(app),
        ]
    )


def own_words(app: AppTest) -> list[str]:
    """Headings and captions of components, in the page's order."""
    shown = [json.loads(element.proto.json) for element in app.get("bidi_component")]
    return [str(data[name]) for data in shown for name in ("title", "caption") if data.get(name)]


def commands(app: AppTest) -> list[str]:
    """Commands to copy, in the page's order."""
    return [json.loads(proto.json)["text"] for proto in components(app, "lcmae.command")]


def components(app: AppTest, name: str) -> list[Any]:
    """What the browser is told of each component of this name."""
    return [element.proto for element in app.get("bidi_component") if element.proto.component_name == name]


def figures(app: AppTest) -> list[dict]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


def maps(app: AppTest) -> dict[str, dict]:
    """What the browser is told of each board of maps, by its name: panels, marked patch, words,
    scale."""
    protos = components(app, "lcmae.patch_maps")
    return {str(proto.id).rpartition("microscope-")[2]: json.loads(proto.json) for proto in protos}


def traces(figure: go.Figure) -> list[Any]:
    """As anything, because plotly's own types know no traces."""
    return list(figure.data)


def own(figure: go.Figure) -> list[Any]:
    """Traces but for the baselines that stand beside the runs (`lcmae.app.figures.baselines`)."""
    return [trace for trace in traces(figure) if not str(trace.name).startswith(tuple(LABELS.values()))]
