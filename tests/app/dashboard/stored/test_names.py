"""Names of runs: different for different folders, and nothing but text wherever they are shown."""

import os
from pathlib import Path

import numpy as np
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st

from lcmae.app.dashboard.stored.names import MOST, label, labelled, name_of

ROOT = Path("/runs")
PARTS = st.binary(min_size=1, max_size=12).map(lambda raw: os.fsdecode(raw.replace(b"/", b"[").replace(b"\0", b"%5B")))
FOLDERS = st.lists(PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3).map(
    lambda parts: ROOT.joinpath(*parts)
)


@given(FOLDERS, FOLDERS)
def test_different_folders_have_different_names(one: Path, other: Path):
    assume(one != other)
    assert name_of(one, ROOT) != name_of(other, ROOT)


@given(FOLDERS)
def test_a_name_is_printable_and_has_no_mark_of_markdown_or_html(folder: Path):
    name = name_of(folder, ROOT)
    assert name.isprintable()
    assert not set("<>[]`*$&\\|~@") & set(name)
    name.encode()


def test_usual_names_stay_as_they_are():
    for name in (
        "mae-digits",
        "sweep/mae_0.75/seed=0",
        "L-MAE (base)",
        "été",
        "a:b c" if os.name == "nt" else "a b",
        "100%",
    ):
        assert name_of(ROOT / name, ROOT) == name


def test_a_long_name_is_cut_and_still_its_own():
    one, other = ROOT / ("x" * 200) / ("y" * 200), ROOT / ("x" * 200) / ("y" * 199 + "z")
    assert len(name_of(one, ROOT)) == MOST
    assert name_of(one, ROOT) != name_of(other, ROOT)


def test_labels_of_a_result_are_text_and_its_numbers_the_same():
    values = xr.Dataset(
        {
            "a": (
                "kind",
                [1.0, 2.0],
                {"units": '<a href="http://evil">x</a>', "long_name": "a < b", "convention": "x\ud800"},
            )
        },
        {"kind": ["<img src=x>", "plain"]},
        {"data": "<b>"},
    )
    shown = labelled(values)
    assert shown["kind"].values.tolist() == ["‹img src=x>", "plain"]
    assert shown["a"].attrs == {"units": '‹a href="http://evil">x‹/a>', "long_name": "a < b", "convention": "x\\ud800"}
    np.testing.assert_array_equal(shown["a"].values, [1.0, 2.0])
    fine = xr.Dataset({"a": ("kind", [1.0], {"units": "1", "long_name": "a"})}, {"kind": ["x"]})
    assert labelled(fine) is fine


def test_a_label_is_one_short_line():
    assert label("a\nb" + "c" * 1000).startswith("a\\nb")
    assert len(label("c" * 1000)) == MOST
