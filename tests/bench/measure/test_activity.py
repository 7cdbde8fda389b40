"""`activity`: what a GPU does during a run."""

import pytest
import torch

from delayplug.bench.measure.activity import activity_of, busy_share


@pytest.mark.parametrize(
    ("intervals", "share"),
    [
        ([], 0.0),
        ([(0, 1)], 1.0),
        ([(0, 1), (3, 4)], 0.5),
        ([(3, 4), (0, 1)], 0.5),
        ([(0, 4), (1, 2), (7, 8)], 5 / 8),
        ([(0, 2), (1, 3)], 1.0),
        ([(1, 1)], 0.0),
    ],
)
def test_the_share_of_the_time_in_which_something_runs(intervals: list[tuple[float, float]], share: float) -> None:
    assert busy_share(intervals) == share


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_kernels_are_counted() -> None:
    x = torch.ones(1000, device="cuda")
    activity = activity_of(lambda: x.add_(1).mul_(0.5))
    assert activity.kernels == 2
    assert 0 < activity.busy <= 1
