"""Views of small models are computed in two threads: the numbers are the same, whoever asks at
once, and nobody waits for ever."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lcmae.app.dashboard.components.picks import Picks
from lcmae.app.dashboard.live import inspection, models
from lcmae.app.dashboard.live.selection import Selection, pack
from lcmae.app.dashboard.pages.microscope import compute_views
from lcmae.app.dashboard.stored.reading import runs_below
from lcmae.probes.watching import microscope
from lcmae.probes.watching.batch import Batch
from tests.app.trained import published


@pytest.fixture
def loaded(tmp_path: Path) -> models.Loaded:
    published(tmp_path / "a", steps=(7,))
    picked = Picks(tmp_path, runs_below(tmp_path), [], None)
    found = models.load(models.locate(picked, "a"))
    assert found.is_small
    return found


def selections(num_patches: int) -> list[Selection]:
    edited = [patch % 2 == 0 for patch in range(num_patches)]
    chosen = [Selection(seed=seed, image=image, patch=1) for seed in (3, 4) for image in (0, 1, 2)]
    return [*chosen, Selection(seed=3, patch=1, hidden=pack(edited)), Selection(seed=3, patch=1, ratio=0.5)]


def assert_numbers(found: inspection.Inspection) -> None:
    """Those of passes made here, one after the other."""
    chosen, model = found.chosen, found.loaded.model
    batch = microscope.batch_of(model, found.picture.pixels, found.picture.index, chosen.seed)
    strategy = models.strategy(chosen.mask, chosen.ratio, model.grid)
    hidden = None if not chosen.hidden else [patch % 2 == 0 for patch in range(model.num_patches)]
    whole, masked = microscope.forward(batch), microscope.forward(batch, microscope.mask_of(batch, strategy, hidden))
    field = microscope.receptive_field(whole, masked, found.patch, found.encoder_layer)
    for expected, own in (
        (microscope.pictures(masked), found.pictures()),
        (field, found.receptive_field()),
        (microscope.contrast(batch, strategy, inspection.NUM_MASKS), found.contrast()),
    ):
        assert set(expected) == set(own)
        for name, values in expected.items():
            # a pass on one core adds in another order
            np.testing.assert_allclose(own[name], values, rtol=1e-4, atol=1e-6, err_msg=str(name))


def test_many_sessions_at_once_get_their_own_numbers(loaded: models.Loaded) -> None:
    asked = selections(loaded.model.num_patches)

    def session(number: int) -> list[inspection.Inspection]:
        order = np.random.default_rng(number).permutation(len(asked))
        inspected = [inspection.inspect(loaded, asked[which]) for which in order]
        for one in inspected:
            compute_views(one)
        return inspected

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(session, number) for number in range(6)]
        sessions = [future.result(timeout=120) for future in futures]
    for one in sessions[0]:
        assert_numbers(one)


def test_an_edited_mask_keeps_the_gradient_of_the_whole_image(
    loaded: models.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    differentiated: list[bool] = []
    of_token = microscope.token_field

    def counted(seen: microscope.CachedForward, batch: Batch, patch: int, layer: int) -> object:
        differentiated.append(bool(seen.mask.is_hidden.any()))
        return of_token(seen, batch, patch, layer)

    monkeypatch.setattr(microscope, "token_field", counted)
    drawn = Selection(seed=9, patch=2)
    edited = drawn.changed(hidden=pack([patch < 3 for patch in range(loaded.model.num_patches)]))
    fields = [inspection.inspect(loaded, chosen).receptive_field()["field"] for chosen in (drawn, edited)]
    assert differentiated == [False, True, True]
    whole = [field.sel(target="token, full image") for field in fields]
    xr.testing.assert_identical(*whole)
    inspection.inspect(loaded, drawn.changed(seed=10)).receptive_field()  # other random signs
    assert differentiated == [False, True, True, False, True]
