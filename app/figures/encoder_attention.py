"""Pictures of the encoder_attention probe: five measures by layer and head, on whole or on masked
images."""

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from lcmae.app.figures import answers
from lcmae.app.figures.answers import Answer, Headline, against, beside, exactly, number
from lcmae.app.figures.attention import by_layer

BASELINES = {"distance": "distance_uniform", "entropy": "entropy_uniform"}


def measure(results: Mapping[str, xr.Dataset], variable: str, view: str) -> go.Figure:
    """One measure by layer of every run; distance and entropy beside what uniform attention
    scores."""
    return by_layer(
        {name: result.sel(view=view) for name, result in results.items()}, variable, BASELINES.get(variable)
    )


HEADLINE = Headline("mean_distance", "attention distance on whole images", "highest", lambda result: {"view": "full"})


def answer(results: Mapping[str, xr.Dataset]) -> Answer:
    """How far heads look on whole images, beside uniform attention and fresh weights."""
    if len(results) > 1:
        return answers.of_runs(results, HEADLINE)
    [result] = results.values()
    distance, untrained = (
        number(result, "mean_distance", view="full", network=network) for network in ("trained", "untrained")
    )
    uniform = exactly(number(result, "distance_uniform", view="full"))
    relation = against(distance, {"uniform attention": uniform, "an untrained network": untrained}, ", which ")
    sentence = f"On whole images the attention distance is {distance}{relation}."
    words = {"mean_distance": "attention distance", "mean_entropy": "attention entropy"}
    words |= {"mean_mutual_information": "how much the query decides", "mean_head_divergence": "how heads differ"}
    tiles = []
    for variable, label in words.items():
        fresh = number(result, variable, view="full", network="untrained")
        words_beside = beside("untrained", fresh)
        tiles.append(number(result, variable, view="full").tile(label, words_beside))
    return Answer(sentence, answers.known(tiles))
