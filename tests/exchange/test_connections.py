"""Lists of synapses for PyNN."""

import numpy as np
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import delayplug
from delayplug import ArgumentError, ExchangeError, connections


def network(granularity: str = "synaptic") -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 3),
        snn.Leaky(beta=0.9, init_hidden=True),
        nn.Linear(3, 2, bias=False),
        snn.Leaky(beta=0.9, init_hidden=True),
    )
    return delayplug.add_delays(net, granularity=granularity, max_delay=9).eval()


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
def test_each_synapse_once_with_its_weight_and_delay(granularity: str) -> None:
    net = network(granularity)
    first, second = connections(net, dt_ms=0.5)
    assert (first.name, first.pre, first.post, second.pre, second.post) == ("1", 4, 3, 3, 2)
    assert first.synapses.shape == (12, 4)
    whole = net[0].delay.delays.detach().round()
    for pre, post, weight, delay in first.synapses:
        i, o = int(pre), int(post)
        place = {"synaptic": (o, i, 0), "axonal": (i,), "dendritic": (o,)}[granularity]
        assert weight == float(net[0].weight[o, i])
        assert delay == pytest.approx((float(whole[place]) + 1) * 0.5)
    assert first.bias is not None
    np.testing.assert_allclose(first.bias, net[0].bias.detach().cpu())
    assert second.bias is None
    assert float(first.cell.leak) == pytest.approx(0.1)


def test_weights_of_zero_are_no_synapses() -> None:
    net = network()
    with torch.no_grad():
        net[0].weight[1] = 0
    assert set(connections(net, dt_ms=1.0)[0].synapses[:, 1]) == {0, 2}


def test_min_delay() -> None:
    net = network()
    with torch.no_grad():
        net[0].delay.delays.zero_()
    assert set(connections(net, dt_ms=2.0)[0].synapses[:, 3]) == {2.0}
    assert set(connections(net, dt_ms=2.0, min_delay=0)[0].synapses[:, 3]) == {0.0}


def test_what_cannot_be_listed() -> None:
    for wrong in (0.0, -1.0, float("inf"), "1"):
        with pytest.raises(ArgumentError, match="dt_ms"):
            connections(network(), dt_ms=wrong)
    with pytest.raises(ArgumentError, match="min_delay"):
        connections(network(), dt_ms=1.0, min_delay=-1)
    net = nn.Sequential(layer.Conv2d(1, 2, 3), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    with pytest.raises(ExchangeError, match="a convolution"):
        connections(net, dt_ms=1.0, example=torch.rand(4, 1, 1, 6, 6).round())
