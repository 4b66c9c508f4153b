"""The page of the receptive_field probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import receptive_field as figures
from lcmae.app.figures.baselines import caption as of_baselines

TARGETS = {"token": "the centre's token", "prediction": "the centre's reconstruction"}


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """Radius and area against ratio and depth for every run, then the fields of one."""
    # half of the mass first: a report takes the first option
    masses = {mass for result in results.values() for mass in result["mass"].values.tolist()}
    mass = choose("share of the mass", sorted(masses, key=lambda value: (value != 0.5, value)))
    results = {name: result for name, result in results.items() if mass in result["mass"].values}
    for target, words in TARGETS.items():
        available = {name: r for name, r in results.items() if not bool(r["radius"].sel(target=target).isnull().all())}
        if available:
            yield Panel(
                f"Radius against masking: {words}",
                f"The smallest disc around the centre that holds {mass:.0%} of an image's gradient, mean over images with 95 % "
                "intervals. Masks keep the centre "
                + ("visible." if target == "token" else "hidden; there is no prediction of a full image.")
                + of_baselines(available, "image_radius", "Lines without marks"),
                figures.radius_by_ratio(available, target, mass),
            )
    yield Panel(
        "Radius against depth",
        "The same for the centre's token after each block, on full images."
        + of_baselines(results, "depth_image_radius"),
        figures.radius_by_depth(results, mass),
    )
    form = choose("form", ["raw", "log"])
    yield Panel(
        f"Area ratio against masking, {form} form",
        f"Share of the image in the smallest centred square that holds {mass:.0%} of the mean map (RepLKNet's measure; its log "
        "form flattens peaks and so enlarges areas)." + of_baselines(results, "area_ratio", "Lines without marks"),
        figures.area_by_ratio(results, "token", mass, form),
    )
    name = choose("fields of", list(results))
    result = results[name]
    strategies = [kind for kind in dict.fromkeys(result["strategy"].values.tolist()) if kind != "none"]
    strategy = choose("masks", strategies or ["none"])
    for target, words in TARGETS.items():
        if not bool(result["field"].sel(target=target).isnull().all()):
            yield Panel(
                f"Receptive field of {words}: {name}",
                f"Mean gradient by pixel ({form} form), each map scaled to its own maximum, under {strategy} masks.",
                figures.fields(result, target, strategy, form),
                is_wide=True,
            )
    yield Panel(
        f"Receptive field by depth: {name}",
        f"Mean gradient by pixel ({form} form) of the centre's token on full images, each map scaled to its own maximum.",
        figures.depth_fields(result, form),
        is_wide=True,
    )


PAGE = ProbePage(
    probe="receptive_field",
    summary="The gradient of one token, or of one reconstructed patch, with respect to every pixel shows which part of the "
    "image it depends on, and how masking limits it. "
    "Effective receptive fields are those of Luo et al. (arXiv 1701.04128), the log form and area ratio RepLKNet's "
    "(2203.06717); the radius is lcmae's own, and tokens are taken before the final norm.",
    panels=panels,
    answer=figures.answer,
    terms=("receptive field", "area ratio", "masking ratio", "standard error"),
)
