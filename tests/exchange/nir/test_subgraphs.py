"""Subgraphs become a part of the graph around them, whatever is in them: random graphs, whole and nested."""

from typing import Any

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from delayplug import Cell, ExchangeError, LearnableDelay, add_delays, to_nir
from delayplug.exchange.graph import Delay, Graph, Input, Neurons, Output, Synapses
from delayplug.exchange.nir.subgraphs import flat
from delayplug.exchange.nir.write import to_nodes
from delayplug.exchange.to_module import GraphNetwork
from delayplug.toolkits import plugins
from tests.devices import DEVICE
from tests.exchange.models import from_nir, run
from tests.profiles import examples

DT = 1e-3


def nested(graph: Any, inputs: int, outputs: int, name: str = "net") -> nir.NIRGraph:
    """A graph whose one node is another graph."""
    ends = {"input": nir.Input(np.array([inputs])), "output": nir.Output(np.array([outputs]))}
    return nir.NIRGraph({**ends, name: graph}, [("input", name), (name, "output")], type_check=False)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Layers with and without delays, delays per channel, neurons and shortcuts, in any order."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 16)))
    width = draw(st.integers(1, 3))
    graph = Graph({"input": Input((width,))})
    last, widths = ["input"], {"input": width}
    for i in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["delayed", "delayed", "plain", "channels", "neurons"]))
        if kind in ("delayed", "plain"):
            new, taps = draw(st.integers(1, 3)), draw(st.integers(1, 2))
            shape = (new, width, taps) if kind == "delayed" else (new, width)
            weight = torch.randint(-4, 9, shape, generator=generator, device="cpu") / 8
            bias = torch.randint(-2, 3, (new,), generator=generator, device="cpu") / 8 if draw(st.booleans()) else None
            delays = torch.randint(0, 4, shape, generator=generator, device="cpu") if kind == "delayed" else None
            node: Any = Synapses(weight, bias, None, delays, 3 if kind == "delayed" else 0)
            width = new
        elif kind == "channels":
            node = Delay(torch.randint(0, 4, (width,), generator=generator, device="cpu"), 3)
        else:
            node = Neurons(Cell.of(leak=0.5, gain=1.0, threshold=0.5))
        name = graph.add(f"n{i}", node, last)
        widths[name] = width
        earlier = [other for other in widths if widths[other] == width and other != name]
        last = [name, draw(st.sampled_from(earlier))] if earlier and draw(st.booleans()) else [name]
    graph.add("output", Output(), last)
    for name in [name for name in graph.nodes if not graph.after(name) and name != "output"]:
        graph.edges.append((name, "output")) if widths[name] == width else None
    return graph


def complete(graph: Graph) -> bool:
    return all(graph.after(name) or name == "output" for name in graph.nodes)


@settings(max_examples=examples(60))
@given(graph=graphs().filter(complete), seed=st.integers(0, 99))
def test_random_graphs_are_the_same_whole_and_nested(graph: Graph, seed: int) -> None:
    shapes = graph.shapes()
    inputs, outputs = shapes["input"][0], shapes["output"][0]
    x = (torch.rand(8, 2, inputs, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
    expected = GraphNetwork(graph, plugins.toolkit("norse")).to(DEVICE)(x)
    written = to_nodes(graph, DT)
    layers = {str(name) for name, node in graph.nodes.items() if isinstance(node, Synapses) and node.delays is not None}
    for source, prefix in (
        (written, ""),
        (nested(nested(written, inputs, outputs), inputs, outputs, "outer"), "outer.net."),
    ):
        network = from_nir(source, backend="norse", dt=DT)
        with torch.no_grad():
            assert torch.equal(network(x), expected)
        found = {name for name, _, _ in network.steps}
        assert {prefix + name for name in layers} <= found  # each layer is one layer again, under its own name


def test_layers_in_a_row_with_several_delays_are_two_layers_again() -> None:
    torch.manual_seed(0)
    leaky = snn.Leaky(beta=0.5, init_hidden=True, reset_mechanism="zero")
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), leaky)
    x = (torch.rand(12, 2, 3) < 0.5).float() * 3
    add_delays(model, 5, filter_fn=["0", "1"], example=lambda m: run("snntorch", m, x))
    model.eval()
    written = to_nir(model, dt=DT, example=lambda m: run("snntorch", m, x))
    for source in (written, nested(written, 3, 2)):
        network = from_nir(source, backend="snntorch", dt=DT)
        assert sum(isinstance(m, LearnableDelay) for m in network.modules()) == 2
        torch.testing.assert_close(network(x), run("snntorch", model, x))


def linear(*rows: list[float]) -> nir.Linear:
    return nir.Linear(np.array(rows, dtype=np.float32))


def test_names_prefixes_and_ports() -> None:
    inner = nir.NIRGraph(
        {"in": nir.Input(np.array([2])), "fc": linear([1.0, 1.0]), "out": nir.Output(np.array([1]))},
        [("in", "fc"), ("fc", "out")],
    )
    found = flat(nested(inner, 2, 1, "a"))
    assert set(found.nodes) == {"input", "a.fc", "output"}
    assert sorted(found.edges) == [("a.fc", "output"), ("input", "a.fc")]
    assert found.prefixes == {"input": "", "a.fc": "a.", "output": ""}
    assert {name: before for name, (_, before) in found.ports.items()} == {"a.in": ["input"], "a.out": ["a.fc"]}


def test_subgraphs_that_feed_each_other_directly() -> None:
    """The output of one is the input of the other; one of them passes on what it gets."""

    def passing() -> nir.NIRGraph:
        ends = {"in": nir.Input(np.array([1])), "out": nir.Output(np.array([1]))}
        return nir.NIRGraph(ends, [("in", "out")], type_check=False)

    ends = {"input": nir.Input(np.array([2])), "output": nir.Output(np.array([1]))}
    nodes = {**ends, "fc": linear([2.0, 3.0]), "a": passing(), "b": passing()}
    edges = [("input", "fc"), ("fc", "a"), ("a", "b"), ("fc", "b"), ("b", "output")]
    network = from_nir(nir.NIRGraph(nodes, edges, type_check=False), backend="norse", dt=DT)
    x = torch.tensor([[[1.0, 0.0]]])
    assert network(x).tolist() == [[[4.0]]]  # along two ways


def refused(graph: Any, match: str) -> None:
    with pytest.raises(ExchangeError, match=match):
        from_nir(graph, backend="norse", dt=DT)


def test_graphs_that_are_refused() -> None:
    ends = {"in": nir.Input(np.array([2])), "out": nir.Output(np.array([2]))}
    passing = nir.NIRGraph(ends, [("in", "out")], type_check=False)
    itself = nested(passing, 2, 2)
    itself.edges.append(("net", "net"))
    refused(itself, r"net\.(in|out) feeds itself")
    twice = nested(passing, 2, 2, "net")
    twice.nodes["net.in"] = linear([1.0, 0.0], [0.0, 1.0])
    refused(twice, r"two nodes have the name net\.in")
    endless = nested(passing, 2, 2)
    endless.nodes["net"] = endless
    refused(endless, "the subgraph net contains itself")
    two = nir.NIRGraph({**ends, "more": nir.Input(np.array([2]))}, [("in", "out"), ("more", "out")], type_check=False)
    refused(nested(two, 2, 2), "the subgraph net has 2 inputs and 1 outputs")


def test_the_shape_of_a_port_is_that_of_what_goes_through_it() -> None:
    def graph(inputs: int, outputs: int) -> nir.NIRGraph:
        ends = {"in": nir.Input(np.array([inputs])), "out": nir.Output(np.array([outputs]))}
        inner = nir.NIRGraph({**ends, "fc": linear([1.0, 1.0])}, [("in", "fc"), ("fc", "out")], type_check=False)
        return nested(inner, 2, 1)

    x: Tensor = torch.ones(1, 1, 2)
    assert from_nir(graph(2, 1), backend="norse", dt=DT)(x).tolist() == [[[2.0]]]
    refused(graph(5, 1), r"net\.in \(Input\): input_type has the shape \(5,\), and is fed with \(2,\)")
    refused(graph(2, 4), r"net\.out \(Output\): input_type has the shape \(4,\), and is fed with \(1,\)")
