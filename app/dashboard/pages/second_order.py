"""The page of the second_order probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import second_order as figures


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Explained share, gains, where, and shared directions."""
    yield Panel(
        "What is explained, by masking ratio",
        "1 is a perfect prediction of hidden patches, 0 the mean of each position over the training images. Grey: "
        "what covariance alone reaches, fitted on the other split; the nearest visible patch may lie below the "
        "picture, and so may an untrained network (dashed, in the run's colour).",
        figures.explained(results),
    )
    yield Panel(
        "Gain over linear prediction",
        "Explained share of the network less that of the linear predictor that does not see the mask (dashed) and of the "
        "Wiener filter, the best linear predictor of each mask (solid). Above 0 the network knows more than second-order "
        "statistics; for Gaussian images nothing can lie above the Wiener filter.",
        figures.gains(results),
    )
    yield Panel(
        "Where the network gains",
        "At the run's own ratio: error of the linear predictor less the network's, as a share of the position's variance. "
        "Negative where the linear predictor is better.",
        figures.gain_maps(results),
        is_wide=True,
    )
    reaching = {name: result for name, result in results.items() if "far_gain" in result}
    if reaching:
        yield Panel(
            "How far away linear prediction looks",
            f"Explained share of the linear predictor less that of one that sees the 8 touching patches alone, on the tested "
            f"images: what covariance says about patches farther away. {figures.reach_words(reaching)}".strip(),
            figures.far(reaching),
        )
    yield Panel(
        "Directions that patches share",
        "What a linear code of the visible patches explains of all patches, direction by direction: the closed form of the "
        "loss on all pixels. A steep fall means that few directions carry what patches tell about each other.",
        figures.shared(results),
    )


PAGE = ProbePage(
    probe="second_order",
    summary="What the network learned beyond patch covariance: its masked error beside the best linear predictors of the same "
    "hidden patches. Closed forms are lcmae's own, in the family of linear masked autoencoders (Bisulco et al., 2508.15404).",
    panels=panels,
    answer=figures.answer,
    terms=("standard error",),
)
