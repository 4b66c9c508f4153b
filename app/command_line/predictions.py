"""`lcmae compare --predict`: the answer, then a table of numbers with their correlations and what
choosing by them costs."""

import math
from typing import TYPE_CHECKING

from lcmae.app.command_line.tables import print_table

if TYPE_CHECKING:
    from lcmae.probes.grids.prediction import Predictions

MOST_ROWS = 25
"""Numbers that are printed."""


def print_predictions(found: "Predictions") -> None:
    """Sentence, tables that were used and skipped, numbers."""
    print(found.sentence())
    for name, data, cells, seeds in zip(found.tables, found.data, found.cells, found.seeds, strict=True):
        print(f"  {name}: {data}, {cells} cells, {seeds} seeds")
    for reason in found.skipped:
        print(f"  left out: {reason}")
    if found.chosen:
        names = ", ".join(dict.fromkeys(found.chosen))
        print(
            f"Choosing the number, too, on the other data sets ({names}) has a regret of {found.of_chosen.points()} points; "
            f"always random 0.75 one of {found.rule.points()}."
        )
    header = ["number", *(f"rank corr. {name}" for name in found.tables), "regret", "less the rule's", "p, Holm"]
    rows = []
    for one in found.predictors[:MOST_ROWS]:
        cells = [
            "-" if math.isnan(rho) else f"{rho:+.2f} (p {p:.2g})"
            for rho, p in zip(one.correlation, one.p_value, strict=True)
        ]
        p_value = "-" if math.isnan(one.p_over_rule) else f"{one.p_over_rule:.2g}"
        rows.append([one.measure, *cells, one.regret.points(), one.over_rule.points(), p_value])
    left = len(found.predictors) - len(rows)
    print_table(
        f"What predicts {found.target}",
        header,
        rows,
        note="Rank correlation over cells (means over seeds), p by permutation, for one number alone. Regret: points of "
        "accuracy lost against the best cell, 95 % intervals over seeds (if all seeds agree there is no interval and no "
        f"verdict); the direction of each number is that of the other data "
        f"sets.{f' {left} more numbers are not shown.' if left > 0 else ''}",
    )
