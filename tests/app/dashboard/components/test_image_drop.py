"""A file in parts, as a browser sends it, or as somebody does who is none."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcmae.app.dashboard.components.image_drop import MAX_PART, Incoming

MOST = 100


def part(content: bytes, position: int, size: int, **other: Any) -> dict[str, Any]:
    """A stretch of a file of transfer 7."""
    data = base64.b64encode(content[position : position + size]).decode()
    return {"id": 7, "at": position, "total": len(content), "data": data, **other}


@given(content=st.binary(min_size=1, max_size=MOST), size=st.integers(1, MOST), junk=st.data())
def test_parts_make_the_file_whatever_comes_between_them(content: bytes, size: int, junk: st.DataObject):
    incoming = Incoming()
    positions = range(0, len(content), size)
    for at in positions:
        for _ in range(junk.draw(st.integers(0, 2))):
            strange = [None, {}, part(content, at, size, id=8, at=1), part(content, at, size, at=at + 1)]
            strange += [
                part(content, 0, size, id=8, total=MOST + 1),
                part(content + b"x", 0, MOST + 1, id=8, total=len(content)),
            ]
            other = junk.draw(st.sampled_from(strange))
            assert incoming.add(other, MOST) is None
        whole = incoming.add(part(content, at, size), MOST)
        assert whole == (content if at == positions[-1] else None)
        assert incoming.size == min(at + size, len(content))
    assert incoming.content == b"", "kept once"
    assert incoming.add(part(content, positions[-1], size), MOST) in (
        None,
        content,
    )  # a file of one part may come again


@pytest.mark.parametrize(
    "message",
    [
        "",
        [1],
        {"id": 7},
        part(b"abc", 0, 3, total=MOST + 1),
        part(b"abc", 0, 3, total=0),
        part(b"abc", 0, 3, total=2),
        part(b"abc", 0, 3, at=-1),
        part(b"abc", 0, 3, data="ab c"),
        part(b"abc", 0, 3, data="\u20ac"),
        part(b"abc", 0, 3, data=5),
        part(b"abc", 0, 3, data="A" * (MAX_PART + 1)),
        part(b"abc", 0, 3, more=1),
        part(b"abc", 0, 3, id="x"),
    ],
)
def test_what_no_browser_sends_is_ignored(message: Any):
    incoming = Incoming()
    assert incoming.add(message, MOST) is None
    assert not incoming.content
    assert incoming.add(part(b"abc", 0, 3), MOST) == b"abc"


def test_another_file_takes_the_place_of_one_that_broke_off():
    incoming = Incoming()
    assert incoming.add(part(b"abc", 0, 2), MOST) is None
    assert incoming.add(part(b"defg", 0, 2, id=9), MOST) is None
    assert incoming.add(part(b"abc", 2, 2), MOST) is None
    assert incoming.add(part(b"defg", 2, 2, id=9), MOST) == b"defg"
