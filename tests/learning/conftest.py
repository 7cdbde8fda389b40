import pytest
import torch
from torch import Tensor, nn

try:
    from tests.learning.models import MODELS
except ModuleNotFoundError:  # a toolkit that is not installed
    MODELS = {}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return MODELS[request.param]()


@pytest.fixture
def x() -> Tensor:
    """Spikes (T, B, F)."""
    from tests.learning.models import B, F, T

    return (torch.rand(T, B, F, generator=torch.Generator().manual_seed(1)) < 0.5).float()
