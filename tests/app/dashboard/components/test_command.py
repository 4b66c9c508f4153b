"""Commands to copy: what the browser is told, and that equal ones at two places of a page are
two."""

from streamlit.testing.v1 import AppTest

from tests.app.pages import checked, commands, components

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
