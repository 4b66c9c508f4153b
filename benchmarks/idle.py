"""The share of the time in which the GPU runs nothing, from the profiler's record of its kernels
and copies."""

from collections.abc import Callable, Iterable

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile


def idle_share(work: Callable[[], object], times: int) -> float:
    """1 - (time in which at least one kernel or copy ran) / (first begin to last end), over so many
    calls in a row."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        for _ in range(times):
            work()
        torch.cuda.synchronize()
    events = [event.time_range for event in seen.events() or [] if event.device_type == DeviceType.CUDA]
    return gaps((event.start, event.end) for event in events)


def gaps(spans: Iterable[tuple[float, float]]) -> float:
    """The share of the time from the first begin to the last end that no span covers."""
    ordered = sorted(spans)
    if not ordered:
        raise RuntimeError("expected kernels in the profiler's record, got none")
    busy, end = 0.0, ordered[0][0]
    for start, stop in ordered:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return 1 - busy / (end - ordered[0][0])
