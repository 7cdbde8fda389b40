from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _on_the_cpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of kernels say what goes to a GPU (see `kernels`), and compare on the CPU, wherever other tests run."""
    with torch.device("cpu") if hasattr(request.module, "running") else nullcontext():
        yield
