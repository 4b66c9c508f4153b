"""Which stored result a page cannot show although it has the form of its probe
(`lcmae.probes.results.contracts`), as with words for labels that no probe knows: found when a page
fails, so that such a file costs its own run one sentence, and the others nothing."""

from importlib import import_module

from lcmae.app.dashboard.page import take_first
from lcmae.app.dashboard.pages import PAGES
from lcmae.app.dashboard.stored import reading
from lcmae.app.figures import through_training
from lcmae.probes.results import tables
from lcmae.safety.text import printable


def refuse_unfit(since: float) -> bool:
    """Draw every result that was read since then (`time.monotonic`) by itself; those that cannot be
    drawn are refused from now on (`reading.refuse`). Whether there was one."""
    found = False
    for key, probe, result in reading.recent_results(since):
        if not any(page.is_probe and page.name == probe for page in PAGES):
            continue
        page = import_module(f"lcmae.app.dashboard.pages.{probe}").PAGE
        try:
            tables.scalars({"run": result})
            through_training.numbers({("run", 0): result})
            page.answer({"run": result})
            for _ in page.panels({"run": result}, take_first):
                pass
        # whatever a figure makes of numbers that are not its probe's
        except Exception as error:
            why = printable(f"{type(error).__name__}: {error}", 80)
            reading.refuse(
                key, f"expected a result as {probe} writes it at {printable(key[0])}, got another one ({why})"
            )
            found = True
    return found
