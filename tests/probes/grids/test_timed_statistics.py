"""Statistics within a time: all of them, those of one ratio where all take too long, and never
nothing."""

import pytest
import torch
import xarray as xr

from lcmae.probes.grids import image_statistics, timed_statistics


@pytest.mark.parametrize(
    ("seconds", "asked", "steps"),
    [
        (0.0, [(0.75,)], 4),  # no time: one ratio at once
        (240.0, [image_statistics.RATIOS], 25),
        (239.0, [image_statistics.RATIOS], 25),  # what ends a little late is kept
        (200.0, [image_statistics.RATIOS, (0.75,)], 25),  # might have been done in time: 21 steps, then 4
        (95.0, [image_statistics.RATIOS, (0.75,)], 9),  # after 5 steps it is clear that 25 will not be done
        (30.0, [image_statistics.RATIOS, (0.75,)], 8),
    ],
)
def test_what_takes_too_long_is_taken_of_one_ratio(
    monkeypatch: pytest.MonkeyPatch, seconds: float, asked: list[tuple[float, ...]], steps: int
) -> None:
    clock, seen, lines = [0.0], [], []

    def taken(pixels: torch.Tensor, labels: object, patch_size: int, **settings: object) -> xr.Dataset:
        seen.append((settings["ratios"], len(pixels)))
        for _ in range(image_statistics.num_steps(settings["ratios"], settings["units"])):  # type: ignore[arg-type]
            clock[0] += 9.9
            settings["advance"]()  # type: ignore[operator]
        return xr.Dataset(attrs={"ratios": settings["ratios"]})

    monkeypatch.setattr(image_statistics, "image_statistics", taken)
    monkeypatch.setattr(timed_statistics.time, "monotonic", lambda: clock[0])
    pixels = torch.zeros(1500, 1, 8, 8, dtype=torch.uint8)
    found = timed_statistics.within(seconds, pixels, None, 1, 0, say=lines.append)
    assert [ratios for ratios, _ in seen] == asked
    assert found.attrs["ratios"] == asked[-1]
    assert seen[-1][1] == (1000 if len(asked[-1]) > 1 else 200)
    assert round(clock[0] / 9.9) == steps
    assert ("those of one ratio alone" in lines[-1]) == (len(asked) > 1)
