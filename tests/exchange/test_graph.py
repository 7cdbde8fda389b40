"""A graph by itself: names, order, shapes, and what is equal to what."""

from typing import Any

import pytest
import torch
from torch import Tensor

from delayplug import Cell, ExchangeError
from delayplug.exchange.graph import (
    Delay,
    Flatten,
    Geometry,
    Graph,
    Input,
    Neurons,
    Node,
    Output,
    Pool,
    Scale,
    Shape,
    Synapses,
)


def chain(shape: Shape, *nodes: Node) -> Graph:
    """Nodes "1", "2", ... one after the other."""
    graph = Graph({"input": Input(shape)})
    last = "input"
    for i, node in enumerate(nodes):
        last = graph.add(str(i + 1), node, [last])
    graph.add("output", Output(), [last])
    return graph


def cell(**numbers: Any) -> Neurons:
    return Neurons(Cell.of(**{"leak": 0.5, "threshold": 1.0, **numbers}))


def test_names_are_free() -> None:
    graph = Graph()
    assert [graph.add(name, Output()) for name in ("a", "a", "a", "", "b/c")] == ["a", "a_2", "a_3", "model", "b_c"]


def test_nodes_come_after_those_that_feed_them() -> None:
    graph = Graph({"out": Output(), "b": Flatten(), "a": Flatten(), "in": Input((2,))})
    graph.edges = [("in", "a"), ("a", "b"), ("a", "out"), ("b", "out")]
    assert [name for name, _, _ in graph.walk()] == ["in", "a", "b", "out"]
    assert (graph.before("out"), graph.after("a")) == (["a", "b"], ["b", "out"])
    graph.remove(["b"])
    assert graph.edges == [("in", "a"), ("a", "out")]
    graph.edges.append(("a", "a"))
    with pytest.raises(ExchangeError, match="cycle, a -> a: recurrent"):
        graph.order()


def test_shapes() -> None:
    geometry = Geometry((2, 2), (1, 1), (1, 1), 1)
    conv = Synapses(torch.ones(3, 2, 3, 3), None, geometry)
    graph = chain((2, 8, 8), conv, Pool("sum", (2, 2), (2, 2), (0, 0)), Flatten(), Synapses(torch.ones(5, 12)), cell())
    assert [*graph.shapes().values()] == [(2, 8, 8), (3, 4, 4), (3, 2, 2), (12,), *[(5,)] * 3]
    one = Synapses(torch.ones(4, 2, 3), None, Geometry((1,), (0,), (2,), 1))
    assert chain((2, 9), one).shapes()["1"] == (4, 5)


@pytest.mark.parametrize(
    ("shape", "node", "reason"),
    [
        ((3,), Synapses(torch.ones(2, 4)), "1 has weights for 4 inputs, and is fed with shape .3,."),
        ((4,), Synapses(torch.ones(2, 4), torch.ones(3)), r"1: expected a bias of shape \(2,\), got \(3,\)"),
        ((3,), Delay(torch.tensor([1, 2]), 2), "1 has 2 delays"),
        ((3,), cell(leak=torch.tensor([0.5, 0.25])), "1: expected a leak of shape .3,., as it is fed with"),
        ((3,), Pool("average", (2, 2), (2, 2), (0, 0)), "1 pools over two dimensions"),
        ((1, 2, 2), Pool("average", (3, 3), (1, 1), (0, 0)), r"1: its kernel \(3, 3\) is larger"),
    ],
)
def test_shapes_that_do_not_fit(shape: Shape, node: Node, reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        chain(shape, node).shapes()


def test_a_scale_before_neurons_is_a_part_of_their_gain() -> None:
    half, other = torch.tensor(0.5, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    graph = chain((2,), Scale(half), cell(gain=2.0)).simplified()
    assert set(graph.nodes) == {"input", "2", "output"}
    node = graph.nodes["2"]
    assert isinstance(node, Neurons)
    assert float(node.cell.gain) == 1
    # A scale before something else, or before two, stays.
    graph = chain((2,), Scale(other), Flatten())
    assert graph.simplified().nodes == graph.nodes
    graph = chain((2,), Scale(other), cell())
    graph.edges.append(("1", "output"))
    assert graph.simplified().nodes == graph.nodes


def test_gains_of_one_or_of_the_leak() -> None:
    leak = torch.tensor([0.25, 0.5], dtype=torch.float64)
    assert Neurons.snapped(leak * (1 + 1e-9), leak) is leak
    assert Neurons.snapped(torch.full((2,), 1 + 1e-9, dtype=torch.float64), leak).item() == 1
    gain = torch.tensor([0.3, 0.4], dtype=torch.float64)
    assert Neurons.snapped(gain, leak) is gain


def by_delay(weight: list[float], delays: list[int] | None) -> dict[int, Any]:
    numbers: Tensor | None = None if delays is None else torch.tensor([[delays]])
    node = Synapses(torch.tensor([weight] if delays is None else [[weight]]), None, None, numbers)
    return {delay: part.tolist() for delay, part in node.by_delay().items()}


def test_weights_by_delay() -> None:
    assert by_delay([1.0, 2.0], None) == {0: [[1, 2]]}
    assert by_delay([1.0, 2.0, 4.0, 0.0], [3, 0, 3, 7]) == {0: [[2]], 3: [[5]]}
    assert by_delay([0.0, 0.0], [3, 5]) == {0: [[0]]}


def test_numbers_that_float32_does_not_have() -> None:
    large = torch.tensor([1e38, -1e39], dtype=torch.float64)
    graph = chain((1,), Scale(large[0]), cell(gain=large[0]))
    graph.check_range()
    graph.nodes["1"] = Scale(large[1])
    with pytest.raises(ExchangeError, match=r"1: its factor is beyond what float32 has, 1e\+39"):
        graph.check_range()
    graph = chain((1,), cell(gain=-large[1]))
    with pytest.raises(ExchangeError, match="1: its gain is beyond"):
        graph.check_range()


def test_sums_that_float32_does_not_have() -> None:
    large = torch.tensor(1e30, dtype=torch.float64)
    chain((1,), Scale(large), cell(gain=large / 1e29), Scale(large), cell()).check_sums()  # of spikes again
    with pytest.raises(ExchangeError, match=r"2: its sums of weighted spikes may be 1e\+60, beyond"):
        chain((1,), Scale(large), cell(gain=large)).check_sums()
    many = Synapses(torch.full((2, 4), 3e38), torch.zeros(2))
    with pytest.raises(ExchangeError, match=r"1: its sums of weighted spikes may be 1.2e\+39, beyond"):
        chain((4,), many, cell()).check_sums()


def test_what_is_zeros_and_ones() -> None:
    pool = Pool("max", (1, 1), (1, 1), (0, 0))
    graph = chain((2,), cell(), Delay(torch.tensor([0, 1]), 1), pool, Flatten(), Synapses(torch.ones(2, 2)), cell())
    assert [name for name in graph.nodes if graph.is_spikes(name)] == ["1", "2", "3", "4", "6"]
    graph.edges.append(("1", "3"))  # a sum of spikes may be two
    assert not graph.is_spikes("3")
    assert not graph.is_spikes("4")
    graph.nodes["3"] = Pool("sum", (1, 1), (1, 1), (0, 0))
    assert not chain((2,), cell(), graph.nodes["3"]).is_spikes("2")
