"""A graph as a module: it computes the graph, learns, and is the same graph again."""

import io
from typing import Any

import norse.torch as norse
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, Cell, ExchangeError, LearnableDelay, SequenceError, to_nir
from delayplug.exchange.graph import (
    Delay,
    Flatten,
    Geometry,
    Graph,
    Input,
    Neurons,
    Output,
    Pool,
    Scale,
    Synapses,
    Threshold,
)
from delayplug.exchange.to_module import DelayedKernel, GraphNetwork, neuron_from
from delayplug.toolkits import plugins
from tests.exchange.models import (
    KINDS,
    TOOLKITS,
    F,
    O,
    box,
    delayed,
    drive,
    from_nir,
    make,
    make_conv,
    reference,
    spikes,
)
from tests.exchange.test_graph import cell, chain


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def network(graph: Graph, backend: str = "snntorch") -> GraphNetwork:
    return GraphNetwork(graph, plugins.toolkit(backend))


def test_each_kind_of_node() -> None:
    """Numbers that are made by hand, (T=4, B=1)."""
    x = torch.arange(4.0).view(4, 1, 1).expand(4, 1, 2)
    bias, delayed = torch.tensor([0.5]), torch.tensor([[[1.0], [2.0]]])
    for node, expected in [
        (Synapses(torch.tensor([[1.0, 2.0]]), bias), [0.5, 3.5, 6.5, 9.5]),
        (Synapses(delayed, bias, None, torch.tensor([[[0], [1]]]), 3), [0.5, 1.5, 4.5, 7.5]),
        (Delay(torch.tensor([1, 2]), 2), [0, 0, 0, 0, 1, 0, 2, 1]),
        (Scale(torch.tensor([2.0, 3.0])), [0, 0, 2, 3, 4, 6, 6, 9]),
        (Threshold(number(1.0)), [0, 0, 0, 0, 1, 1, 1, 1]),
    ]:
        with torch.no_grad():
            assert network(chain((2,), node))(x).flatten().tolist() == expected, node


def test_images() -> None:
    x = torch.arange(2 * 4 * 4.0).view(2, 1, 1, 4, 4)
    pool = chain((1, 4, 4), Pool("sum", (2, 2), (2, 2), (0, 0)), Flatten())
    assert network(pool)(x)[0, 0].tolist() == [10, 18, 42, 50]
    geometry = Geometry((2, 2), (0, 0), (1, 1), 1)
    delays = torch.tensor([[0, 1], [1, 1]]).view(1, 1, 2, 2, 1)
    graph = chain((1, 4, 4), Synapses(torch.ones(1, 1, 2, 2, 1), None, geometry, delays, 1))
    net = network(graph)
    with torch.no_grad():
        y = net(x)
    assert any(isinstance(part, DelayedKernel) for part in net.parts.values())
    assert y[0, 0, 0].tolist() == [[0, 2], [8, 10]]  # the corners alone
    assert y[1, 0, 0].tolist() == [[16 + 10, 18 + 18 - 2], [24 + 42 - 8, 26 + 50 - 10]]


@pytest.mark.parametrize("backend", TOOLKITS)
@pytest.mark.parametrize("gain", [1.0, 0.5, 0.75])
def test_a_gain_that_a_toolkit_lacks_is_a_scale(backend: str, gain: float) -> None:
    node = cell(gain=gain)
    x = torch.randint(0, 9, (20, 2, 3), generator=torch.Generator().manual_seed(0)) / 4
    net = network(chain((3,), node), backend)
    with torch.no_grad():
        y = net(x)
    assert 0 < y.mean() < 1
    assert torch.equal(y, reference(node.cell, x).float())
    (again,) = [n for n in net.graph().nodes.values() if isinstance(n, Neurons)]
    assert Cell.close(again.cell.gain, gain)


def test_values_along_several_edges_are_added_and_names_may_clash() -> None:
    graph = Graph({"input": Input((2,))})
    for name, value in (("a.b", 1.0), ("a_b", 2.0), ("forward", 4.0)):
        graph.add(name, Scale(number(value)), ["input"])
    graph.add("output", Output(), ["a.b", "a_b", "forward"])
    net = network(graph)
    assert len(net.parts) == 3
    x = torch.ones(1, 1, 2)
    assert net(x).tolist() == [[[7, 7]]]
    scales = [node.factor for node in net.graph().nodes.values() if isinstance(node, Scale)]
    assert {factor.device.type for factor in scales} == {"cpu"}, "the numbers of a graph are there"
    values = net.activity(x)
    assert {name: float(value[0, 0, 0]) for name, value in values.items()} == {
        "input": 1, "a.b": 1, "a_b": 2, "forward": 4, "output": 7
    }  # fmt: skip


def test_the_same_graph_again() -> None:
    delayed = Synapses(torch.rand(2, 3, 2), torch.rand(2), None, torch.randint(0, 5, (2, 3, 2)), 6)
    graph = chain(
        (3,), Delay(torch.tensor([0, 1, 2]), 4), delayed, cell(), Synapses(torch.rand(4, 2)), cell(threshold=None)
    )
    again = network(graph).graph()
    assert sorted(again.edges) == sorted(graph.edges)
    for name, node in graph.nodes.items():
        other = again.nodes[name]
        assert type(other) is type(node)
        for word, value in vars(node).items():
            if isinstance(value, Tensor):
                assert torch.equal(getattr(other, word), value.cpu()), (name, word)
            elif word == "max_delay":
                assert other.max_delay == value  # type: ignore[union-attr]


def test_it_learns() -> None:
    delayed = Synapses(torch.rand(2, 3, 1) + 1, None, None, torch.full((2, 3, 1), 2), 6)
    net = network(chain((3,), delayed, cell())).train()
    net(torch.rand(8, 2, 3)).sum().backward()
    (layer,) = [module for module in net.modules() if isinstance(module, LearnableDelay)]
    assert layer.delays.grad is not None
    assert layer.weight is not None
    assert layer.weight.grad is not None
    assert layer.delays.grad.any()
    assert layer.weight.grad.any()


def test_a_neuron_that_the_toolkit_lacks_is_named() -> None:
    with pytest.raises(ExchangeError, match=r"^1: .*rest of zero"):
        network(chain((2,), cell(rest=0.5)))
    with pytest.raises(ExchangeError, match="expected one output"):
        network(Graph({"input": Input((2,))}))
    assert isinstance(network(chain((2,), cell(rest=0.5)), "norse"), nn.Module)


def test_initialisation_by_the_names_of_classes_finds_convolutions_only():
    weight = torch.ones(2, 1, 3, 1)
    node = Synapses(weight, None, Geometry((1,), (0,), (1,), 1), torch.ones_like(weight, dtype=torch.int64), 3)
    graph = Graph({"in": Input((1, 5)), "conv": node, "out": Output()}, [("in", "conv"), ("conv", "out")])
    net = GraphNetwork(graph, plugins.toolkit("norse"))
    found = [m for m in net.modules() if any(word in type(m).__name__ for word in ("Conv", "Linear", "Norm"))]
    assert [type(m) for m in found] == [nn.Conv1d]


def exchanged(kind: str, backend: str) -> tuple[Any, Tensor]:
    """A network that went through NIR, and an input."""
    torch.manual_seed(5)
    if kind != "convolutions":
        model = delayed(make(kind), filter_fn=["0", "2"])
        return from_nir(to_nir(model, dt=1e-3), backend=backend), spikes(14)
    example = drive("spikingjelly-s", (2, 8, 8))
    model = delayed(make_conv("spikingjelly-s"), example=example, filter_fn=["0", "3", "6"])
    return from_nir(to_nir(model, example, dt=1e-3), backend=backend), spikes(14, 2, (2, 8, 8))


@pytest.mark.parametrize("backend", TOOLKITS)
@pytest.mark.parametrize("kind", [*KINDS, "convolutions"])
def test_step_by_step_is_the_sequence(kind: str, backend: str) -> None:
    network, x = exchanged(kind, backend)
    with torch.no_grad():
        wanted = network(x)
        assert 0 < wanted.mean() < 1
        stream = delayplug.stream(network)
        assert torch.equal(torch.stack([stream.push(x_t) for x_t in x]), wanted)
        stream.reset()
        assert torch.equal(torch.cat([stream.push_chunk(part) for part in x.split([1, 6, 2, 5])]), wanted)
        state, outputs = None, []
        for x_t in x:
            y, state = network.step(x_t, state)
            outputs.append(y)
        assert torch.equal(torch.stack(outputs), wanted)
        assert torch.equal(network(x), wanted)  # nothing of that is left on it
        assert torch.equal(delayplug.unroll(network, x), wanted)


@pytest.mark.parametrize("backend", TOOLKITS)
def test_streams_take_turns_and_are_saved(backend: str) -> None:
    network, x = exchanged("norse", backend)
    other = x.roll(3, 0)
    with torch.no_grad():
        wanted, wanted_other = network(x), network(other)
    first, second = delayplug.stream(network), delayplug.stream(network)
    outputs = [(first.push(x[t]), second.push(other[t])) for t in range(7)]
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    restored = delayplug.stream(exchanged("norse", backend)[0])
    restored.restore(torch.load(file, weights_only=True))
    outputs += [(restored.push(x[t]), second.push(other[t])) for t in range(7, len(x))]
    assert torch.equal(torch.stack([y for y, _ in outputs]), wanted)
    assert torch.equal(torch.stack([y for _, y in outputs]), wanted_other)


@pytest.mark.parametrize("backend", TOOLKITS)
@pytest.mark.parametrize("current", [False, True])
def test_readouts_step_by_step(current: bool, backend: str) -> None:
    torch.manual_seed(2)
    leak, synapse = torch.tensor(0.5), torch.tensor(0.25)
    parameters = norse.LIParameters(tau_mem_inv=leak, tau_syn_inv=synapse)
    readout = norse.LICell(parameters, dt=1.0) if current else norse.LIBoxCell(norse.LIBoxParameters(leak), dt=1.0)
    model = delayed(norse.SequentialState(nn.Linear(F, F), box(0.5, 0.125), nn.Linear(F, O), readout))
    graph, x = to_nir(model, dt=1e-3), spikes(14)
    if current and backend == "spikingjelly":
        with pytest.raises(ExchangeError, match="a readout of SpikingJelly's needs no current"):
            from_nir(graph, backend=backend)
        return
    network = from_nir(graph, backend=backend)
    with torch.no_grad():
        wanted = network(x)
    assert wanted.std() > 0.01
    stream = delayplug.stream(network)
    torch.testing.assert_close(torch.stack([stream.push(x_t) for x_t in x]), wanted)
    stream.reset()
    torch.testing.assert_close(torch.cat([stream.push_chunk(part) for part in x.split([1, 6, 7])]), wanted)


def test_what_a_step_takes() -> None:
    network, x = exchanged("norse", "snntorch")
    _, state = network.step(x[0])
    state.popitem()
    with pytest.raises(ArgumentError, match="state: expected what chunk or step of this network returned, got dict"):
        network.step(x[1], state)
    with pytest.raises(ArgumentError, match="x: expected a step"):
        network.step(None)
    with pytest.raises(ArgumentError, match=r"x: expected a sequence .*got \(3, 5\).*use step, or delayplug.stream"):
        network(torch.zeros(3, F))


def test_a_neuron_that_does_not_give_its_state_out(monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit = plugins.toolkit("snntorch")
    monkeypatch.setattr(type(toolkit), "kept_state", lambda self, module: {})
    monkeypatch.setattr(type(toolkit), "held_state", lambda self, neuron: (neuron.mem,))
    with pytest.raises(SequenceError, match="Leaky keeps a state that its backend does not give out"):
        neuron_from(toolkit, snn.Leaky(0.5), torch.zeros(2, 1, 3), None)
    monkeypatch.setattr(type(toolkit), "held_state", lambda self, neuron: ())
    with pytest.raises(SequenceError, match="StateLeaky begins at each call, and its backend does not say"):
        neuron_from(toolkit, snn.StateLeaky(0.5, 3), torch.zeros(2, 1, 3), None)
