"""Commands to copy: what the browser is told, and that equal ones at two places of a page are
two. What empty pages suggest writes below the folder that they show."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lcmae.app.dashboard.components.command import writing_below
from tests.app.pages import checked, commands, components, open_page

PAGE = """
from lcmae.app.dashboard.components.command import to_copy
to_copy("lcmae probe spectrum --checkpoint 'runs/<b>'")
to_copy("one\\ntwo", key="A")
to_copy("one\\ntwo", key="B")
"""


def test_commands_come_as_they_are_and_in_order():
    app = checked(AppTest.from_string(PAGE, default_timeout=60).run())
    assert commands(app) == ["lcmae probe spectrum --checkpoint 'runs/<b>'", "one\ntwo", "one\ntwo"]
    # what they say is data, and never part of the page
    assert all("<b>" not in proto.html_content + proto.js_content for proto in components(app, "lcmae.command"))


@pytest.mark.parametrize(
    ("page", "out"),
    [
        ("reconstruction", "mae-digits-s0"),
        ("runs", "mae-digits-s0"),
        ("microscope", "mae-digits-s0"),
        ("masks", "compare"),
        ("claims", "claims"),
        ("stitch", "stitch.nc"),
    ],
)
def test_what_an_empty_page_suggests_writes_below_the_folder_that_it_shows(root: Path, page: str, out: str):
    assert [one.endswith(f" --out {root}/{out}") for one in commands(open_page(page))[:1]] == [True]


def test_the_usual_folder_is_not_named_and_others_are_quoted():
    assert writing_below(Path("runs"), "compare", "lcmae compare") == "lcmae compare"
    assert writing_below(Path("my runs"), "a", "lcmae train x") == "lcmae train x --out 'my runs/a'"
