"""An entry of the dashboard's menu. Imports nothing."""

from dataclasses import dataclass

IS_SAME_PAGE = "page-is-same"
"""In the session: whether the page that runs is the one that ran before (`main.open_page`)."""

GO = "find-page"
"""In the session: name of the page that the frame is to open next."""

WITH = "find-page-with"
"""In the session: words of the address that go with it, by their names."""


@dataclass(frozen=True)
class Page:
    """One page: `app/dashboard/pages/<name>.py`, one module."""

    name: str
    """Module in app/dashboard/pages and path in the address bar; of a probe, its name."""

    title: str
    """Words in the menu."""

    icon: str
    """A Material symbol, ":material/name:"."""

    section: str = "How?"
    """Heading in the menu: the question that the page answers (`lcmae.app.dashboard.pages`)."""

    is_probe: bool = True
    """Whether the module has a `PAGE` (which the report prints, too) or a function `show`."""
