"""What came of holding claims against runs: claims.json and the page that people read."""

from pathlib import Path
from typing import Any

import pytest

from lcmae.errors import InputError
from lcmae.probes.claims.catalogue import CLAIMS
from lcmae.probes.claims.record import (
    Outcome,
    Record,
    interval,
    merged,
    paper,
    read_record,
    to_markdown,
    write_record,
)


def an_outcome(name: str = "umae-rank", **changes: Any) -> Outcome:
    claim = CLAIMS[name]
    values = {
        "id": name, "says": claim.says, "source": claim.source, "quantity": claim.quantity, "units": claim.units,
        "expected": str(claim.rule), "side": claim.rule.side, "level": claim.rule.level, "over": claim.over, "effect": 0.5,
        "low": 0.25, "high": 0.75, "values": (0.4, 0.6), "reads": ("spectrum.effective_rank[cls, full] of mae",),
        "verdict": "reproduced", "reason": "the whole interval lies above 0", "leaves_open": claim.leaves_open,
        "page": claim.page, "runs": ("mae/mae-random-0.5-s0",), "command": f"lcmae claims --claims {name}", **changes,
    }  # fmt: skip
    return Outcome.model_validate(values)


def a_record(*outcomes: Outcome) -> Record:
    about = {"command": "lcmae claims", "written": "2026-11-21T15:00:00+00:00", "machine": "2 CPU cores"}
    return Record(outcomes=outcomes, versions="lcmae 0", train_minutes=21.5, **about)


def test_a_record_comes_back_and_a_torn_one_says_so(tmp_path: Path) -> None:
    record = a_record(an_outcome(), an_outcome("umae-imagenet", effect=None, low=None, high=None, values=(), runs=()))
    file = write_record(record, tmp_path)
    assert read_record(file) == record
    for content in (b'{"outcomes": [', b"[]", b'{"outcomes": [{"id": "x"}]}', b"\xff"):
        file.write_bytes(content)
        with pytest.raises(InputError, match="expected the record of `lcmae claims`") as caught:
            read_record(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="got none"):
        read_record(tmp_path / "none.json")


def test_a_part_keeps_what_was_known_of_the_others() -> None:
    old, new = an_outcome(effect=0.1), an_outcome(effect=0.9)
    other = an_outcome("mae-learns")
    found = merged(a_record(old, other), [new], list(CLAIMS))
    assert [(one.id, one.effect) for one in found] == [("mae-learns", 0.5), ("umae-rank", 0.9)]
    assert merged(None, [new], list(CLAIMS)) == (new,)


def test_the_page_tells_all(tmp_path: Path) -> None:
    outcomes = [
        an_outcome("mae-learns", says="A | B"),
        an_outcome("umae-linear", verdict="contradicted", effect=-0.1234, low=-0.2, high=-0.1),
        an_outcome("umae-imagenet", verdict="not decidable", reason="needs a GPU", effect=None, low=None, high=None,
                   values=(), reads=(), quantity="", expected=""),
    ]  # fmt: skip
    text = to_markdown(a_record(*outcomes))
    assert "1 reproduced, 1 contradicted, 1 not decidable" in text
    assert "-0.123 [-0.2, -0.1] share of test images" in text
    assert "A \\| B" in text
    assert "– not decidable: needs a GPU" in text
    assert text.count("\n## ") == 3  # two papers, and where the numbers come from
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}
    assert "nan" not in text


def test_papers_and_intervals_in_words() -> None:
    assert {paper(an_outcome(name)) for name in CLAIMS} == {
        "He et al., Masked Autoencoders, 2111.06377",
        "Zhang et al., How Mask Matters, 2210.08344",
        "Yue et al., local contrastive perspective, 2310.01994",
        "Kong et al., hierarchical latent variables, 2306.04898",
    }
    assert interval(an_outcome()) == "+0.5 [+0.25, +0.75] dimensions"
    assert interval(an_outcome("theorem-3.6", low=None, high=None)) == "+0.5"
    assert interval(an_outcome(effect=None)) == "-"
