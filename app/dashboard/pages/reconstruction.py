"""The page of the reconstruction probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import reconstruction as figures
from lcmae.app.figures import style
from lcmae.app.figures.baselines import caption as of_baselines


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Errors with baselines, pictures, errors by position; runs with other targets apart."""
    for unit, group in style.by_units(results, "error"):
        yield Panel(
            f"Error of hidden patches{unit}",
            "Dot: the model, in the colour of its run, with its 95 % interval over images. Grey, without learning: a bar for a "
            "copy of the nearest visible patch, a diamond for the mean patch of each position, a cross for the best constant "
            "patch, which is the level of full collapse, and a triangle for the best linear predictor (fitted on the other "
            "split; it does not see the mask). "
            "Only runs with the same targets share an axis." + of_baselines(group, "error"),
            figures.errors(group),
            is_wide=True,
        )
    pictures = {name: result for name, result in results.items() if "original" in result}
    number = max((result.sizes["picture"] for result in pictures.values()), default=0)
    first = choose("first picture", list(range(0, number, 4)) or [0])
    for unit, group in style.by_units(
        {name: r for name, r in pictures.items() if r.sizes["picture"] > first}, "picture_error"
    ):
        leaky = any("reconstruction_leaky" in result for result in group.values())
        yield Panel(
            f"Pictures{unit}",
            "Visible patches are pasted into the reconstruction; the error is in target space, hidden patches only."
            + (
                " With normalised targets a picture needs a mean and deviation for each hidden patch: they are those of the "
                "nearest visible patch, or, in the column headed LEAKY, the true ones, which give the answer away."
                if leaky
                else ""
            ),
            figures.pictures(group, first),
            is_wide=True,
        )
    for unit, group in style.by_units(results, "error_map"):
        yield Panel(
            f"Where errors lie{unit}",
            "Mean squared error by position on the grid, over the images in which the patch was hidden.",
            figures.error_maps(group),
            is_wide=True,
        )


PAGE = ProbePage(
    probe="reconstruction",
    summary="Hidden patches of test images are predicted from the visible ones; what matters is the distance to predictions that "
    "need no network, and where errors lie. "
    "The error is MAE's own (He et al., arXiv 2111.06377), over hidden patches, in the space of the training targets; the "
    "baselines are lcmae's.",
    panels=panels,
    answer=figures.answer,
    terms=(
        "error",
        "nearest-patch baseline",
        "collapse level",
        "normalised targets",
        "leaky picture",
        "standard error",
    ),
)
