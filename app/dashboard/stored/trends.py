"""The results of one probe at every step of a run as one dataset, for pages that show trends. No
torch."""

from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from lcmae.app.dashboard.stored import reading
from lcmae.errors import InputError
from lcmae.probes.results.conditions import Condition, in_words
from lcmae.probes.results.differences import differing


def along_steps(path: Path, probe: str, like: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """Results along `step` that were measured as `like` was, with its attributes; and a sentence
    for each that is left out."""
    found, left_out = {}, []
    wanted = Condition.of(like.attrs).apart_from_checkpoint
    for step in reading.result_steps(path, probe):
        try:
            result = reading.result_of(path, step, probe, wanted)
        except InputError as error:
            left_out.append(f"step {step}: {error}")
            continue
        if other := differing(result, like):
            left_out.append(f"step {step}: measured with other {in_words(other)}")
        else:
            found[step] = result
    joined = xr.concat(
        list(found.values()),
        xr.Variable("step", list(found)),
        combine_attrs="override",
        coords="minimal",
        compat="override",
    )
    return joined.assign_attrs(like.attrs), left_out


def all_along_steps(
    paths: Mapping[str, Path], probe: str, results: Mapping[str, xr.Dataset]
) -> tuple[dict[str, xr.Dataset], list[str]]:
    """The same for runs by name, and what is left out of which."""
    joined, sentences = {}, []
    for name, result in results.items():
        joined[name], left_out = along_steps(paths[name], probe, result)
        sentences += [f"{name}, {sentence}" for sentence in left_out]
    return joined, sentences
