"""Where the input of a module and the output of a model come from; what goes round in circles is refused."""

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from delayplug import ExchangeError, to_nir
from tests.exchange.models import F, Net, O, X, from_nir, spikes

DT = 1e-3


def test_what_the_model_returns() -> None:
    net = Net(last=lambda spk, mem: mem)
    with pytest.raises(ExchangeError, match=r"returns.*the state of lif2, such as its membrane.*outputs="):
        to_nir(net, X, dt=DT)
    graph = to_nir(net, X, dt=DT, outputs=["lif2"])
    assert ("lif2", "output") in graph.edges
    with pytest.raises(
        ExchangeError, match="outputs: lif3 is no layer or neuron that ran; those are fc1, lif1, fc2, lif2"
    ):
        to_nir(net, X, dt=DT, outputs=["lif3"])
    with pytest.raises(ExchangeError, match=r"returns.*the operation exp"):
        to_nir(Net(last=lambda spk, mem: spk.exp()), X, dt=DT)
    readout = Net(last=lambda spk, mem: mem, reset_mechanism="none", beta=0.5)
    with pytest.raises(ExchangeError, match="fc2 takes the spikes of lif1, which never resets"):
        to_nir(readout, X, dt=DT)
    readout.lif1 = snn.Leaky(0.5, reset_mechanism="zero")
    x = spikes(12)
    with torch.no_grad():
        back = from_nir(to_nir(readout, X, dt=DT), backend="norse", dt=DT)
        torch.testing.assert_close(back(x), readout(x))


def test_recurrence() -> None:
    class Loop(Net):
        def forward(self, x: Tensor) -> Tensor:
            mem, spk, out = self.lif1.reset_mem(), torch.zeros(x.shape[1], F), []
            for x_t in x:
                spk, mem = self.lif1(self.fc1(x_t + spk), mem)
                out.append(spk)
            return torch.stack(out)

    with pytest.raises(ExchangeError, match=r"fc1.*(flows back in time|the operation add)"):
        to_nir(Loop(), X, dt=DT)
    rleaky = nn.Sequential(nn.Linear(F, O), snn.RLeaky(0.5, linear_features=O, init_hidden=True))
    with pytest.raises(ExchangeError, match=r"1 \(RLeaky\) feeds spikes back"):
        to_nir(rleaky, dt=DT)
    cell = norse.SequentialState(nn.Linear(F, O), norse.LIFRecurrentCell(O, O))
    with pytest.raises(ExchangeError, match=r"1 \(LIFRecurrentCell\) feeds spikes back"):
        to_nir(cell, dt=DT)
