"""A graph as a chain of weights and neurons, with a delay for each synapse."""

import pytest
import snntorch as snn
import torch
from torch import nn

import delayplug
from delayplug import ExchangeError
from delayplug.exchange.chain import stages_of
from delayplug.exchange.from_model import graph_of
from delayplug.exchange.graph import Delay, Flatten, Geometry, Graph, Input, Neurons, Output, Pool, Synapses
from delayplug.neurons.cell import Cell

CELL = Neurons(Cell.of(leak=0.1, threshold=1.0))


def chain(*nodes: object, shape: tuple[int, ...] = (3,)) -> Graph:
    graph = Graph()
    last = graph.add("input", Input(shape))
    for i, node in enumerate(nodes):
        last = graph.add(f"n{i}", node, [last])
    graph.add("output", Output(), [last])
    return graph


def test_delays_before_and_behind_add_up() -> None:
    own = torch.tensor([[[1], [2], [3]], [[4], [5], [6]]])
    weights = Synapses(torch.randn(2, 3, 1), torch.ones(2), None, own, 9)
    before, behind = Delay(torch.tensor([10, 20, 30]), 30), Delay(torch.tensor([100, 200]), 200)
    (stage,) = stages_of(chain(before, weights, behind, CELL))
    assert stage.delays is not None
    assert stage.delays.tolist() == [[111, 122, 133], [214, 225, 236]]
    assert stage.weight.shape == (2, 3)
    assert (stage.name, stage.kind, stage.taps, stage.kernel) == ("n3", "dense", 1, ())


def test_several_taps_stay() -> None:
    weights = Synapses(torch.randn(2, 3, 4), None, None, torch.zeros(2, 3, 4, dtype=torch.int64), 9)
    (stage,) = stages_of(chain(weights, CELL))
    assert (stage.taps, stage.weight.shape) == (4, (2, 3, 4))


def test_a_flatten_and_delays_of_channels_over_space() -> None:
    weights, delays = Synapses(torch.randn(2, 6)), Delay(torch.tensor([1, 5]), 5)
    for nodes in (
        (delays, Flatten(), weights, CELL),
        (Flatten(), Delay(torch.tensor([1, 1, 1, 5, 5, 5]), 5), weights, CELL),
    ):
        (stage,) = stages_of(chain(*nodes, shape=(2, 3)))
        assert stage.flattens
        assert stage.delays is not None
        assert stage.delays.tolist() == [[1, 1, 1, 5, 5, 5]] * 2


def test_delays_of_channels_before_a_convolution_with_groups() -> None:
    geometry = Geometry((1, 1), (0, 0), (1, 1), groups=2)
    weights = Synapses(torch.randn(4, 1, 2, 2), None, geometry)
    (stage,) = stages_of(chain(Delay(torch.tensor([3, 7]), 9), weights, CELL, shape=(2, 5, 5)))
    assert stage.delays is not None
    assert stage.delays[:, 0, 0, 0].tolist() == [3, 3, 7, 7]
    assert (stage.kind, stage.kernel, stage.shape) == ("conv", (2, 2), (4, 4, 4))


def test_a_bias_beside_dendritic_delays_is_the_bias_of_the_layer() -> None:
    net = nn.Sequential(nn.Linear(4, 3), snn.Leaky(beta=0.9, init_hidden=True, reset_mechanism="zero"))
    delayplug.add_delays(net, granularity="dendritic", max_delay=5).eval()
    (stage,) = stages_of(graph_of(net, None, None))
    assert stage.bias is not None
    torch.testing.assert_close(stage.bias, net[0].bias.detach().cpu())
    assert stage.delays is not None
    assert torch.equal(stage.delays[:, 0], net[0].delay.delays.detach().cpu().round().long())


def test_what_is_no_chain_is_refused_by_name() -> None:
    weights = Synapses(torch.randn(3, 3))
    with pytest.raises(ExchangeError, match="n0: a node of kind Neurons"):
        stages_of(chain(CELL))
    with pytest.raises(ExchangeError, match="n1: a node of kind Synapses"):
        stages_of(chain(weights, weights, CELL))
    with pytest.raises(ExchangeError, match="output: a node of kind Output"):
        stages_of(chain(weights))
    with pytest.raises(ExchangeError, match="n0: a node of kind Pool"):
        stages_of(chain(Pool("average", (2, 2), (2, 2), (0, 0)), shape=(1, 4, 4)))
    graph = chain(weights, CELL, weights, CELL)
    graph.edges.append(("n1", "output"))
    with pytest.raises(ExchangeError, match="n1 feeds n2, output"):
        stages_of(graph)
