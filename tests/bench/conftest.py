"""Frames to test on: recorded digits where they are at hand, made-up ones everywhere."""

import pytest
import torch
from torch import Tensor

from delayplug.data import bin_recordings, read_recordings
from tests.recordings import recorded_digits


def recorded_frames() -> Tensor:
    """(T, 32, 140) counts of spoken digits."""
    return bin_recordings(read_recordings(recorded_digits() / "sfsd_test.h5.gz")).batch(list(range(32)))[0]


def random_frames() -> Tensor:
    """(80, 32, 140) counts as sparse as those of speech."""
    return torch.poisson(torch.full((80, 32, 140), 0.3), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session", params=["recorded", "random"])
def frames(request: pytest.FixtureRequest) -> Tensor:
    """Input (T, B, C) of 140 channels, to read only."""
    return recorded_frames() if request.param == "recorded" else random_frames()
