"""Values from elsewhere are text in Markdown: held against an independent reader of it, and against
what Streamlit adds to Markdown."""

import re

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lcmae.app.dashboard.components.plain import cells, plain, prose
from lcmae.safety.text import printable

MARKDOWN = MarkdownIt("commonmark").enable(["strikethrough", "table"])
PIECES = st.sampled_from(
    ["[", "]", "(", ")", "!", "`", "``", "\\", "*", "_", "<", ">", "&lt;", "http://evil", "www.evil.com", "a@b.c", " ",
     ":red", ":material/home:", ":", "$", "~~", "#", "1.", "-", "+", "a", "b\n", "\u202e", "\ud800", "/", "|", "{", "}"]
)  # fmt: skip
HOSTILE = st.lists(PIECES, max_size=12).map("".join)
LINK = "![p](http://evil.example/p.png) [Log in again](http://evil.example)"


def leaves(markdown: str) -> list[tuple[str, str]]:
    """Kind and text of everything that Markdown makes of it."""
    found = []
    for token in MARKDOWN.parse(markdown):
        if token.type in ("paragraph_open", "paragraph_close"):
            continue
        found += (
            [(one.type, one.content) for one in token.children or ()] if token.type == "inline" else [(token.type, "")]
        )
    return found


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@given(HOSTILE)
@example(LINK)
@example("`[a](b)`")
@example("1. a")
def test_plain_text_is_shown_as_it_is(text: str):
    shown = leaves(plain(text))
    assert {kind for kind, _ in shown} <= {"text", "code_inline"}
    assert squeezed("".join(content for _, content in shown)) == squeezed(printable(text))


@given(HOSTILE, HOSTILE)
@example("`a`", LINK)
@example("\\", LINK)
def test_prose_has_emphasis_and_code_and_no_link_or_picture(first: str, second: str):
    kinds = {kind for kind, _ in leaves(prose(f"{first} was found beside {second}"))}
    assert not kinds & {"image", "link_open", "html_inline", "html_block", "s_open"}


@given(HOSTILE)
def test_quoting_twice_takes_nothing_away(text: str):
    assert leaves(prose(f"before {plain(text)} behind")) == leaves(f"before {plain(text)} behind")


@pytest.mark.parametrize(
    "special", ["http://evil", "https://evil", "www.evil.com", "a@evil.com", ":material/home:", ":smile:"]
)
def test_what_only_streamlit_reads_is_code(special: str):
    # its links without brackets, icons and emoji are found in text, and not in code
    for shown in (plain(f"see {special} now"), prose(f"see {special} now")):
        assert [content for kind, content in leaves(shown) if kind == "code_inline"] == [special]
        assert not any(special in content for kind, content in leaves(shown) if kind == "text")


@pytest.mark.parametrize(
    ("directive", "mark"), [(":red[x]", ":"), (":blue-background[x]", ":"), ("$x$", "$"), ("~x~", "~")]
)
def test_directives_and_formulas_are_escaped(directive: str, mark: str):
    assert f"\\{mark}" in plain(directive)
    assert f"\\{mark}" in prose(directive)


def test_names_that_people_give_stay_readable():
    for name in ("mae-digits", "mae_digits/seed=0", "cifar10.2", "0.75", "L-MAE (base)"):
        assert plain(name) == name


def test_a_quoted_value_is_short():
    assert len(leaves(plain("x" * 100_000))[0][1]) == 200


def test_cells_can_be_sent_to_a_browser():
    frame = pd.DataFrame({"a\u202e": ["x\udcff", None, 10**4000, 3], "b": [1.0, 2.0, 3.0, float("nan")]}, dtype=object)
    shown = cells(frame)
    assert list(shown.columns) == ["a\\u202e", "b"]
    assert shown.iloc[0, 0] == "x\\udcff"
    assert shown.iloc[1, 0] is None
    assert "bits" in shown.iloc[2, 0]
    assert shown.iloc[3, 0] == 3
    shown.to_csv()


def test_columns_of_one_name_stay_two():
    frame = pd.DataFrame([["x", "y"]], columns=["a", "a"])
    assert cells(frame).to_numpy().tolist() == [["x", "y"]]
