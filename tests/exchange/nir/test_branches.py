"""A layer with a delay per synapse is one branch for each distinct delay, and branches are one layer again."""

import nir
import numpy as np
import pytest
import torch

from delayplug import LearnableDelay, nir_branches, to_nir
from delayplug.exchange.graph import Delay, Geometry, Graph, Input, Output, Synapses
from delayplug.exchange.nir.branches import branches_of, merge_branches
from tests.exchange.models import TOOLKITS, F, O, delayed, from_nir, make
from tests.exchange.nir.test_files import graph, ones, out_of, pulses

DT = 1e-3


def layer(weight: list[list[list[float]]], delays: list[list[list[int]]], bias: list[float] | None = None) -> Synapses:
    numbers = None if bias is None else torch.tensor(bias)
    return Synapses(torch.tensor(weight), numbers, None, torch.tensor(delays), 9)


def test_a_layer_is_split_by_its_delays() -> None:
    """Two inputs and two taps; a weight of zero needs no branch, and one delay twice is added."""
    synapses = layer(
        [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 0.0], [6.0, 7.0]]], [[[0, 2], [2, 2]], [[2, 8], [0, 2]]], [0.5, 1]
    )
    first, second = branches_of("fc", synapses)
    assert (first.name, first.delay, second.name, second.delay) == ("fc.d0", 0, "fc.d2", 2)
    assert first.weights.weight.tolist() == [[1, 0], [0, 6]]
    assert second.weights.weight.tolist() == [[2, 7], [5, 7]]
    assert first.weights.bias is synapses.bias
    assert second.weights.bias is None
    (only,) = branches_of("fc", layer([[[1.0]]], [[[3]]]))
    assert (only.name, only.delay) == ("fc", 3)


def between(*nodes: tuple[str, Synapses, int]) -> tuple[Graph, dict[str, dict[str, object]]]:
    """Branches (name, weights, delay) side by side from the input to the output."""
    graph = Graph({"input": Input((2,))})
    for name, weights, delay in nodes:
        source = graph.add(f"{name}.delay", Delay(torch.full((2,), delay), delay), ["input"]) if delay else "input"
        graph.add(name, weights, [source])
    graph.add("output", Output(), [name for name, _, _ in nodes])
    return graph, {name: {} for name in graph.nodes}


def plain(*rows: list[float]) -> Synapses:
    return Synapses(torch.tensor(rows))


@pytest.mark.cpu("the numbers of a graph are there")
def test_branches_are_merged_with_as_few_taps_as_possible() -> None:
    merged, notes = between(("a", plain([1.0, 0.0]), 0), ("b", plain([0.0, 2.0]), 3))
    merge_branches(merged, notes)
    assert set(merged.nodes) == {"input", "a", "output"}
    node = merged.nodes["a"]
    assert isinstance(node, Synapses)
    assert node.delays is not None
    assert (node.weight.tolist(), node.delays.tolist(), node.max_delay) == ([[[1], [2]]], [[[0], [3]]], 3)
    assert sorted(merged.edges) == [("a", "output"), ("input", "a")]


def test_what_is_no_branch_stays() -> None:
    """Layers without delays, side by side; a single one behind a delay; a delay that feeds two layers."""
    for nodes in [(("a", plain([1.0, 0.0]), 0), ("b", plain([0.0, 2.0]), 0)), (("a", plain([1.0, 0.0]), 3),)]:
        same, notes = between(*nodes)
        names = set(same.nodes)
        merge_branches(same, notes)
        assert set(same.nodes) == names
    shared, notes = between(("a", plain([1.0, 0.0]), 3))
    shared.add("b", plain([0.0, 1.0]), ["a.delay"])
    shared.edges.append(("b", "output"))
    notes["b"] = {}
    merge_branches(shared, notes)
    assert {"a", "b", "a.delay"} <= set(shared.nodes)


@pytest.mark.cpu("the numbers of a graph are there")
def test_convolutions_with_groups_or_several_delays_stay() -> None:
    kernel = torch.ones(2, 1, 1, 3)
    for groups, weight in ((2, kernel), (1, kernel.expand(2, 2, 1, 3))):
        conv = Synapses(weight, None, Geometry((1, 1), (0, 0), (1, 1), groups))
        two, notes = between(("a", conv, 0), ("b", conv, 2))
        merge_branches(two, notes)
        assert {"a", "b", "b.delay"} <= set(two.nodes)


# --------------------------------------------------------------------------------------------- through files


def test_branches_are_as_many_as_distinct_delays() -> None:
    torch.manual_seed(3)
    model = delayed(make("snntorch"), init={"0": torch.zeros(6, F, 1), "2": torch.full((O, 6, 1), 2.0)})
    model[0].delay.delays.data[0, 0] = 3.4  # rounds to 3
    model[0].delay.delays.data[1, 0] = 2.5  # halves go up
    graph = to_nir(model, dt=DT)
    assert nir_branches(graph) == {"0": 2, "2": 1}
    delays = [node for node in graph.nodes.values() if isinstance(node, nir.Delay)]
    assert sorted(float(node.delay[0]) for node in delays) == pytest.approx([0.002, 0.003])
    biased = [name for name, node in graph.nodes.items() if isinstance(node, nir.Affine)]
    assert biased == ["0.d0", "2"]
    total = sum(node.weight for name, node in graph.nodes.items() if name.startswith("0.d") and hasattr(node, "weight"))
    assert torch.equal(torch.as_tensor(total), model[0].weight.detach())


@pytest.mark.parametrize("backend", TOOLKITS)
def test_branches_of_somebody_else_become_one_layer(backend: str) -> None:
    """Delays that differ by channel within a branch, two weights of one synapse, and a bias in two places."""
    nodes = {
        "late": nir.Delay(np.array([0.002, 0.003])),
        "a": nir.Affine(ones(0.5, 2.0), np.array([0.25], dtype=np.float32)),
        "b": nir.Affine(ones(1.0, 0.0), np.array([0.125], dtype=np.float32)),
    }
    edges = [("input", "late"), ("late", "a"), ("a", "lif"), ("input", "b"), ("b", "lif")]
    net = from_nir(graph(nodes, edges), backend=backend, dt=1e-3)
    layers = [m for m in net.modules() if isinstance(m, LearnableDelay)]
    assert [(m.taps, m.max_delay) for m in layers] == [(2, 3)]
    assert layers[0].delays.tolist() == [[[0.0, 2.0], [3.0, 0.0]]]
    assert layers[0].weight is not None
    assert layers[0].weight.tolist() == [[[1.0, 0.5], [2.0, 0.0]]]
    assert layers[0].bias is not None
    assert layers[0].bias.tolist() == [0.375]
    with torch.no_grad():
        assert net(pulses((0, 1))).flatten().tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_delays_before_several_layers_and_in_a_row() -> None:
    """One delay node that two layers share, and a delay behind a delay: nothing to put together, and still right."""
    nodes = {
        "d1": nir.Delay(np.array([0.001, 0.001])),
        "d2": nir.Delay(np.array([0.002, 0.002])),
        "a": nir.Linear(ones(2.0, 0.0)),
        "b": nir.Linear(ones(0.0, 2.0)),
    }
    edges = [("input", "d1"), ("d1", "a"), ("d1", "d2"), ("d2", "b"), ("a", "lif"), ("b", "lif")]
    found = graph(nodes, edges)
    assert out_of(found, pulses((0, 0))) == [0, 1, 0, 0, 0, 0, 0, 0]
    assert out_of(found, pulses((0, 1))) == [0, 0, 0, 1, 0, 0, 0, 0]
