"""What a GPU does during a run: how many kernels it launches, and for which share of the time they run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

_RUNS = 3


@dataclass(frozen=True)
class Activity:
    """Of one run.

    Attributes:
        kernels: launched, those of a CUDA graph and copies of memory included.
        busy: share of the time, from the first kernel's start to the last one's end, in which some kernel ran.
    """

    kernels: float
    busy: float


def activity_of(run: Callable[[], object]) -> Activity:
    """The activity of a run that is warm, by torch's profiler: that of some runs, one after the other."""
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(_RUNS):
            run()
        torch.cuda.synchronize()
    intervals = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA" and not event.is_user_annotation  # such as optimizers'
    ]
    return Activity(len(intervals) / _RUNS, busy_share(intervals))


def busy_share(intervals: Iterable[tuple[float, float]]) -> float:
    """The share of the time between the first start and the last end that is in one of the intervals at least."""
    ordered = sorted(intervals)
    if not ordered:
        return 0.0
    begin, covered, reached = ordered[0][0], 0.0, ordered[0][0]
    for start, end in ordered:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered / (reached - begin) if reached > begin else 0.0
