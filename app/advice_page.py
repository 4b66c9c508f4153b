"""What `lcmae advise` found: one HTML page that needs nothing else, and lines for a terminal."""

import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from lcmae.app.dashboard.page import Panel
from lcmae.app.figures import advice as figures
from lcmae.app.report import closing, opening, to_figure, to_table
from lcmae.probes.grids.advice import of_statistics, pictured, words

if TYPE_CHECKING:
    from lcmae.probes.grids.advising import Answer

OWN_CSS = """
.answer { font-size: 22px; line-height: 1.35; border-left: 4px solid #0072B2; padding: .3rem 1rem;
margin: 1.5rem 0 } pre { background: #f3f4f7; padding: .8rem 1rem; white-space: pre-wrap;
overflow-wrap: anywhere; font-size: 14px } li { margin: .3rem 0 } """


def document(answer: "Answer") -> str:
    """The page."""
    return "".join(_parts(answer))


def _parts(answer: "Answer") -> Iterator[str]:
    yield opening(f"lcmae advise: {answer.question.data}", f"Which mask for {answer.question.data}?", OWN_CSS)
    yield (
        f"<p>{answer.num_images} training images, {answer.seconds / 60:.1f} minutes of work, of at most "
        f"{answer.question.minutes:g}.</p>"
    )
    yield f'<p class="answer">{escape(answer.advice.headline)}</p>'
    yield f"<p>Train with it:</p><pre>{escape(answer.command)}</pre>"
    yield _listed(answer.advice.reasons)
    if answer.advice.alternatives:
        yield "<h2>Cannot be told apart from it</h2>"
        yield _listed([words(key) for key in answer.advice.alternatives])
    yield "<h2>Not known</h2>" + _listed(answer.advice.unknown)
    if answer.tested is not None:
        yield "<h2>What was tested</h2>"
        yield to_figure(
            Panel(
                "Tested masks",
                "Means over seeds with 95 % intervals; filled points may be the best, for all masks together. Lines: "
                "networks without training, and raw pixels.",
                figures.tested_masks(pictured(answer.tested)),
            )
        )
        yield to_table(_table(answer))
    yield "<h2>Statistics of the images</h2>" + _listed(of_statistics(answer.statistics))
    for panel in panels(answer):
        yield to_figure(panel)
    yield closing()


def panels(answer: "Answer") -> Iterator[Panel]:
    """Figures of the statistics."""
    statistics = answer.statistics
    yield Panel(
        "How far pixels agree",
        "Correlation of two pixels about the mean image by their distance, 95 % intervals over images. A mask that hides less "
        "than this reach can be filled in from its surroundings.",
        figures.correlation(statistics),
    )
    yield Panel(
        "What a linear predictor knows of hidden patches",
        "Share of the variance about the position mean, fitted on one half of the images and measured on the other; 95 % "
        "intervals over images. A high share does not mean a good or a bad mask: it is what a network need not learn. With "
        "few images the 8 neighbours can predict more than all patches do, because they need fewer weights.",
        figures.explained(statistics),
    )
    has_classes = "label_error" in statistics
    yield Panel(
        "Which images masking joins",
        "How often visible parts that look alike vote for the wrong class (lcmae's own kernel estimate of the alpha of How "
        "Mask Matters, 2210.08344)."
        if has_classes
        else "How often a similar hidden part leads to another image (lcmae's own kernel estimate); without classes it is "
        "not known whether to one of the same class.",
        figures.joined(statistics),
    )


def _table(answer: "Answer") -> pd.DataFrame:
    assert answer.tested is not None
    rows = []
    for cell in answer.tested.verdict.cells:
        change = [] if cell.word == "baseline" else [cell.change, cell.change_low, cell.change_high]
        rows.append(
            {
                "mask": words(cell.key),
                "seeds": str(cell.num_seeds),
                answer.tested.verdict.long_name: f"{cell.mean:.1%}",
                "95 % interval": _range(cell.low, cell.high),
                "difference to the published mask": f"{change[0]:+.1%}" if change else "",
                "its 95 % interval": _range(change[1], change[2]) if change else "",
                "may be best": "yes" if cell.may_be_best else "no",
            }
        )
    return pd.DataFrame(rows)


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:.1%} to {high:.1%}"


def _listed(lines: "list[str] | tuple[str, ...]") -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def terminal(answer: "Answer") -> str:
    """The same in words."""
    advice = answer.advice
    parts = [advice.headline, "", *(f"  {line}" for line in advice.reasons)]
    if advice.alternatives:
        parts += ["", "Cannot be told apart from it:", *(f"  {words(key)}" for key in advice.alternatives)]
    parts += ["", "Statistics of the images:", *(f"  {line}" for line in of_statistics(answer.statistics))]
    parts += ["", "Not known:", *(f"  {line}" for line in advice.unknown)]
    return "\n".join([*parts, "", "Train with it:", f"  {answer.command}"])
