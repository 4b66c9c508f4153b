"""The page Claims in every state: no record, one, two, torn, without numbers, runs that are gone;
and its forest plot."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lcmae.app.dashboard.pages.claims import SHOWN, link, records_below, tint
from lcmae.app.figures.claims import COLOURS, MARKERS, forest
from lcmae.probes.claims.claim import VERDICTS
from lcmae.probes.claims.record import SYMBOLS, Outcome, Record, interval, write_record
from tests.app import synthetic
from tests.app.pages import checked, figures, open_page, traces, words


def outcome(name: str, **changes: Any) -> Outcome:
    values = {
        "id": name, "says": f"{name} is so.", "source": "Zhang et al., How Mask Matters, 2210.08344, theorem 3.4",
        "quantity": "effective rank, ours less theirs", "units": "dimensions", "expected": "above 0", "side": "above",
        "level": 0.0, "over": "seeds", "effect": 0.5, "low": 0.25, "high": 0.75, "values": (0.4, 0.6),
        "reads": ("spectrum.effective_rank[cls, full] of mae",), "verdict": "reproduced",
        "reason": "the whole interval lies above 0", "leaves_open": "Much.", "page": "local_contrast",
        "runs": ("mae/a-s0", "mae/a-s1"), "command": f"lcmae claims --claims {name}", **changes,
    }  # fmt: skip
    return Outcome.model_validate(values)


NOWHERE: dict[str, Any] = {
    "effect": None, "low": None, "high": None, "values": (), "reads": (), "runs": (), "verdict": "not decidable",
    "reason": "needs 1,281,167 training images (there are 1,437)", "expected": "", "quantity": "", "page": "runs",
}  # fmt: skip
OUTCOMES = (
    outcome("rank"),
    outcome("reverse", verdict="contradicted", effect=-0.5, low=-0.6, high=-0.4),
    outcome("same", units="share of test images", side="within", level=0.02, expected="within ±0.02",
            verdict="not decidable", reason="the interval reaches beyond ±0.02"),
    outcome("exact", low=None, high=None, values=(0.5,), over="everything", units="1"),
    outcome("large", **NOWHERE),
)  # fmt: skip


def record(folder: Path, *outcomes: Outcome) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    about = {"command": "lcmae claims", "written": "2026-11-21T15:00:00+00:00", "machine": "2 CPU cores"}
    return write_record(Record(outcomes=outcomes, versions="lcmae 0", train_minutes=21.5, **about), folder)


def test_without_a_record_the_page_says_how_to_get_one(root: Path) -> None:
    app = open_page("claims")
    assert "There is no record of `lcmae claims`" in words(app)
    assert f"lcmae claims --out {root}/claims" in words(app)
    assert figures(app) == []


def test_a_record_is_shown_with_links_into_its_runs(root: Path) -> None:
    for seed in (0, 1):
        synthetic.run(root / "claims" / "mae" / f"a-s{seed}")
    record(root / "claims", *OUTCOMES)
    app = open_page("claims")
    text = words(app)
    assert ":green-badge[✓ 2 reproduced] :red-badge[✗ 1 contradicted] :gray-badge[– 2 not decidable]" in text
    (shown,) = figures(app)
    assert {"rank", "reverse", "same", "exact"} <= {trace.get("name") for trace in shown["data"]}
    table: Any = app.dataframe[0].value
    assert table["claim"].tolist() == [one.id for one in OUTCOMES]
    words_of = {"reproduced": "✓ reproduced", "contradicted": "✗ contradicted", "not decidable": "– not decidable"}
    assert table["verdict"].tolist() == [words_of[one.verdict] for one in OUTCOMES]
    assert table["number [95 % interval]"][0] == "+0.5 [+0.25, +0.75] dimensions"
    assert table["runs"][0] == "local_contrast?runs=claims%2Fmae%2Fa-s0&runs=claims%2Fmae%2Fa-s1"
    assert table["runs"].isna().tolist() == [False, False, False, False, True]
    assert "rank is so." in text  # the first claim, in full
    assert "each seed: 0.4, 0.6" in text
    assert f"lcmae claims --claims rank --out {root}/claims" in text
    checked(app.selectbox(key="claim").select("large").run())
    assert "needs 1,281,167 training images" in words(app)
    assert "--claims large" not in words(app)  # nothing to run again


def test_a_link_shows_one_claim(root: Path) -> None:
    record(root / "claims", *OUTCOMES)
    assert "reverse is so." in words(open_page("claims", claim="reverse"))


def test_runs_that_are_gone_are_said(root: Path) -> None:
    record(root / "claims", *OUTCOMES)
    app = open_page("claims")
    assert f"Its runs are no longer below `{root}`." in words(app)
    table: Any = app.dataframe[0].value
    assert bool(table["runs"].isna().all())


@pytest.mark.parametrize("content", [b'{"outcomes": [', b"[]", b'{"outcomes": 3}', b""])
def test_a_torn_record_is_named(root: Path, content: bytes) -> None:
    record(root, *OUTCOMES).write_bytes(content)
    app = open_page("claims")
    assert "expected the record of `lcmae claims`" in app.warning[0].value
    assert figures(app) == []


def test_a_record_without_numbers_has_a_table_and_no_figure(root: Path) -> None:
    record(root, outcome("large", **NOWHERE))
    app = open_page("claims")
    assert figures(app) == []
    assert app.dataframe[0].value["verdict"].tolist() == ["– not decidable"]
    record(root)
    assert "holds no claim" in words(open_page("claims"))


def test_one_of_two_records_is_picked(root: Path) -> None:
    record(root / "one", *OUTCOMES[:1])
    record(root / "two", *OUTCOMES[1:])
    assert list(records_below(root)) == ["one", "two"]
    app = open_page("claims", record="two")
    assert app.dataframe[0].value["claim"].tolist() == [one.id for one in OUTCOMES[1:]]


def test_a_page_that_does_not_exist_is_not_linked_to(root: Path) -> None:
    from lcmae.app.dashboard.components import picks

    folder = synthetic.run(root / "mae" / "a-s0").path
    picked = picks.Picks(root, {"mae/a-s0": folder}, [], None)
    assert link(outcome("x", page="unheard"), root, picked) == "runs?runs=mae%2Fa-s0"


def test_verdicts_differ_by_more_than_colour() -> None:
    assert list(SHOWN.values()) == list(VERDICTS)
    assert len({tint(shown) for shown in SHOWN}) == len(set(MARKERS.values())) == len(set(COLOURS.values())) == 3


def test_units_have_panels_of_their_own() -> None:
    shown = forest(OUTCOMES, SYMBOLS, interval)
    titles = [axis.title.text for axis in shown.select_xaxes()]
    assert titles == ["number [dimensions]", "number [share of test images]", "number"]
    rows = {trace.name: trace for trace in traces(shown) if trace.showlegend is False}
    assert (rows["rank"].x[0], rows["rank"].error_x.array[0], rows["rank"].error_x.arrayminus[0]) == (0.5, 0.25, 0.25)
    assert rows["exact"].error_x.array is None
    assert rows["reverse"].marker.symbol == MARKERS["contradicted"]
    assert (-0.02, 0.02) in [tuple(trace.x) for trace in traces(shown) if trace.name is None]
    domains = sorted(axis.domain for axis in shown.select_yaxes())
    assert all(low[1] < high[0] for low, high in pairwise(domains)), "panels lie apart"
    assert domains[0][0] >= 0
    with pytest.raises(ValueError, match="at least one claim with a number"):
        forest([outcome("large", **NOWHERE)], SYMBOLS, interval)


def test_the_page_imports_no_torch() -> None:
    code = "import sys, lcmae.app.dashboard.pages.claims, lcmae.app.commands.claims; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
