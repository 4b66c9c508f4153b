"""That the benchmark of linear layers runs whole, and says what it measured."""

import re

from benchmarks import linear


def test_every_product_and_a_step_have_a_line() -> None:
    lines = linear.main(["--rounds", "1", "--batch", "2"]).splitlines()
    rows = [re.fullmatch(r"\| (.+) \| (\S+) \| (\S+) \| (\S+)x \|", line) for line in lines[4:]]
    assert len(rows) == 2 * len(linear.SHAPES) + 1
    assert all(found is not None and min(float(found[part]) for part in (2, 3, 4)) > 0 for found in rows)
