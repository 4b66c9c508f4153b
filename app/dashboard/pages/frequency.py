"""The page of the frequency probe."""

from collections.abc import Iterator

from lcmae.app.dashboard.page import Choose, Panel, ProbePage, Results
from lcmae.app.figures import frequency as figures


def panels(results: Results, choose: Choose) -> Iterator[Panel]:
    """The highest frequency through the layers of every run; spectra and CKA of one."""
    yield Panel(
        "High frequencies through the layers",
        "Log amplitude of the grid's highest frequency (Nyquist, in both directions) over that of frequency 0: falling lines "
        "smooth the tokens over the grid. Dashed: the same network with fresh weights. 95 % intervals over images.",
        figures.by_layer(results),
    )
    name = choose("spectra of", list(results))
    network = choose("network", results[name]["network"].values.tolist())
    yield Panel(
        f"Amplitude by frequency: {name}, {network}",
        "Mean over channels and images of log amplitude along the diagonal of the Fourier plane, minus its value at frequency "
        "0. Grey and dotted: the image's own patches. Dashed: the decoder, which here gets unmasked images.",
        figures.by_frequency(results[name], network),
    )
    yield Panel(
        f"How alike layers are: {name}, {network}",
        "Debiased linear CKA of all patch tokens of an image, over minibatches: 1 for layers that differ by a rotation and a "
        "scale, about 0 for unrelated ones. Blank below 4 images and for constant features.",
        figures.likeness(results[name], network),
    )


PAGE = ProbePage(
    probe="frequency",
    summary="Which spatial frequencies the tokens carry from layer to layer, and which layers are alike. "
    "Amplitudes are in the form of Park et al. (arXiv 2305.00729), with the highest frequency kept; similarity is debiased "
    "linear CKA over minibatches (Nguyen et al., arXiv 2010.15327).",
    panels=panels,
    answer=figures.answer,
    terms=("Fourier amplitude", "CKA", "standard error"),
)
