"""The page of the knock_out probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import knock_out as figures


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Kinds of attention in all blocks and in one, whole blocks, single heads."""
    words = choose("taken out", figures.choices(results))
    hows = figures.hows_of(results, words)
    known = {name: result for name, result in results.items() if bool(result["increase"].notnull().any())}
    if known:
        yield Panel(
            f"Without attention in all blocks{_of_many(results, words)}",
            "What hidden patches no longer attend to (for the class token: no patch attends to it), and by how much the "
            "masked loss rises. Rows that lose entries are renormalised. Controls: as many random entries of the same rows; "
            "and attention that stays but brings the mean value of each position instead of the image's own. The axis is "
            "linear below 1 % and logarithmic above. Grey: an untrained network.",
            figures.by_kind(known, hows),
            is_wide=True,
        )
    single = {name: result for name, result in known.items() if "block_increase" in result}
    if single:
        kinds = [figures.KEYS[str(what)] for what in next(iter(single.values()))["what"].values]
        kind = choose("attention", [kinds[2], *kinds[:2], *kinds[3:]])
        yield Panel(
            f"Without attention {kind}, in one block{_of_many(results, words)}",
            "The same in one block alone: the others stay as trained.",
            figures.by_block(single, next(what for what, name in figures.KEYS.items() if name == kind), hows),
        )
    skipping = {name: result for name, result in results.items() if "skip_increase" in result}
    if skipping:
        yield Panel(
            "Without whole blocks",
            "The block passes on its input; or it adds its mean over images at each position, which keeps what it says about "
            "position.",
            figures.skipped(skipping),
        )
    headed = {name: result for name, result in single.items() if "head_increase" in result}
    if headed:
        run = choose("heads of", list(headed))
        yield Panel(
            f"Without single heads: {run}, {words}",
            "A head's output is set to 0 or to its mean. The random control removes as many entries as a head has from the "
            "whole block, the same for all its heads. Without a blue head the loss falls.",
            figures.heads(figures.own_numbers({run: headed[run]})[run], hows[0] if len(hows) == 1 else _how(words)),
        )


def _of_many(results: Results, words: str) -> str:
    return f": {words}" if len(results) > 1 else ""


def _how(words: str) -> str:
    return next(how for how, name in figures.HOWS.items() if name == words)


PAGE = ProbePage(
    probe="knock_out",
    summary="Which attention, heads and blocks a prediction needs: parts are removed, and the masked loss is measured again "
    "on the same images. CrossMAE (Fu et al., arXiv 2401.14391) says that mask tokens need not attend to each other. The "
    "controls beside each number, random entries and means, are lcmae's own: they are needed because the network never "
    "met such input in training.",
    panels=panels,
    answer=figures.answer,
    terms=("knock-out", "loss", "standard error"),
)
