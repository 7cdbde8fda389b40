"""Frames to test on, recorded digits where there are some, random ones everywhere; and a small comparison."""

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from delayplug.bench.resources import Resources
from delayplug.data import bin_recordings, read_recordings
from tests.recordings import recorded_digits

if TYPE_CHECKING:
    from tests.bench.runs import Comparison


def recorded_frames() -> Tensor:
    """(T, 32, 140) counts of spoken digits."""
    return bin_recordings(read_recordings(recorded_digits() / "sfsd_test.h5.gz")).batch(list(range(32)))[0]


def random_frames() -> Tensor:
    """(80, 32, 140) counts as sparse as those of speech."""
    rates = torch.full((80, 32, 140), 0.3, device="cpu")
    return torch.poisson(rates, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session", params=["recorded", "random"])
def frames(request: pytest.FixtureRequest) -> Tensor:
    """Input (T, B, C) of 140 channels, to read only."""
    return recorded_frames() if request.param == "recorded" else random_frames()


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> "Comparison":
    """Three finished runs of two epochs: without delays, with fixed and with learned ones."""
    from delayplug.bench.comparison.compare import compare, configurations
    from tests.bench.runs import TINY, Comparison

    out = tmp_path_factory.mktemp("runs")
    configs = configurations("quick", backends=["spikingjelly"], delays=["none", "fixed", "learned"], **TINY)
    return Comparison(configs, out, compare(configs, out, resources=Resources("cpu")))
