"""Commands that draw pages say nothing of a server."""

from lcmae.processes import python, run

IMPORT = "from lcmae.app.dashboard.pages import masks"
QUIET = "from lcmae.app.command_line.without_server import expect_no_server; expect_no_server()"


def test_pages_are_drawn_without_a_word_of_streamlits() -> None:
    # the warning is there to be kept away: without this the test could not fail
    assert "No runtime found" in run(python("-c", IMPORT), capture_output=True, text=True).stderr
    found = run(python("-c", f"{QUIET}; {IMPORT}"), capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
