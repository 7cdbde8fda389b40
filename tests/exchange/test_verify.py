"""A graph that fires differently from the model is not returned."""

import pytest
import torch
from torch import Tensor

from delayplug import ExchangeError, to_nir
from tests.exchange.models import F, Net, O, spikes

DT = 1e-3


def test_a_state_that_is_changed_between_steps() -> None:
    """Nothing of this is in a module: only the spikes tell."""

    class Forgetful(Net):
        def forward(self, x: Tensor) -> Tensor:
            out = []
            for x_t in x:
                spk, _ = self.lif1(self.fc1(x_t), torch.zeros(x.shape[1], F))
                out.append(self.lif2(self.fc2(spk), torch.zeros(x.shape[1], O))[0])
            return torch.stack(out)

    with pytest.raises(ExchangeError, match="lif1 fires differently in the graph than in the model"):
        to_nir(Forgetful(), spikes(12), dt=DT)
