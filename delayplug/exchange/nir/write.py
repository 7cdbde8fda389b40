"""From a graph to NIR: layers with a delay per synapse as branches, and time in seconds."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ExchangeError
from ...neurons.cell import Cell, Reset
from ..graph import Delay, Flatten, Graph, Input, Neurons, Node, Output, Pool, Scale, Shape, Synapses, Threshold
from .branches import branches_of
from .notes import write_dt, write_notes


def to_nodes(graph: Graph, dt: float) -> Any:
    """The `nir.NIRGraph` of a graph, checked by nir, for steps of dt seconds.

    Raises:
        ExchangeError: NIR has no node for one of the graph, or nir does not accept the graph.
    """
    import nir

    graph = _without_max(graph)
    shapes = graph.shapes()
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    ends: dict[str, list[str]] = {}  # of each node of the graph: those of NIR that compute its result

    def add(name: str, node: Any, sources: list[str]) -> list[str]:
        nodes[name] = node
        edges.extend((source, name) for source in sources)
        return [name]

    for name, node, before in graph.walk():
        sources = [end for source in before for end in ends[source]]
        shape = next((shapes[source] for source in before), ())
        try:
            if not isinstance(node, Synapses) or node.delays is None:
                ends[name] = add(name, _single(node, shape, dt), sources)
                continue
            ends[name] = []
            for own, delay, weights in branches_of(name, node):
                branch, behind = _single(weights, shape, dt), sources
                write_notes(branch, {"layer": name, "max_delay": node.max_delay, "taps": node.weight.shape[-1]})
                if delay:
                    behind = add(f"{own}.delay", _delay(torch.full((1,), delay, device="cpu"), shape, dt), sources)
                ends[name] += add(own, branch, behind)
        except ExchangeError as error:
            raise ExchangeError(f"{name}: {error}") from None
    try:
        written = nir.NIRGraph(nodes=nodes, edges=edges)
    except Exception as error:
        raise ExchangeError(f"nir does not accept the graph: {error}") from error
    write_dt(written, dt)
    return written


def _without_max(graph: Graph) -> Graph:
    """The graph with the maximum of spikes over windows, which NIR does not have, as a sum that is above zero."""
    written = Graph(dict(graph.nodes), list(graph.edges))
    for name, node in graph.nodes.items():
        if not isinstance(node, Pool) or node.kind != "max":
            continue
        if not graph.is_spikes(name) or node.dilation != (1, 1):
            raise ExchangeError(
                f"{name}: NIR has no maximum over windows, other than of spikes: pool behind the neuron in place of "
                "before it, or take an nn.AvgPool2d; delayplug.to_onnx writes this as it is"
            )
        after = written.after(name)
        written.edges = [(a, b) for a, b in written.edges if a != name]
        written.nodes[name] = Pool("sum", node.kernel, node.stride, node.padding)
        above = written.add(f"{name}.any", Threshold(torch.tensor(0.5, dtype=torch.float64, device="cpu")), [name])
        written.edges += [(above, end) for end in after]
    return written


def _single(node: Node, shape: Shape, dt: float) -> Any:
    """The NIR node of a node whose input has a shape."""
    import nir

    match node:
        case Input():
            return nir.Input(input_type=np.array(node.shape))
        case Output():
            return nir.Output(output_type=np.array(shape))
        case Synapses(geometry=None):
            weight = node.weight.numpy()
            return nir.Linear(weight) if node.bias is None else nir.Affine(weight, node.bias.numpy())
        case Synapses():
            return _convolution(node, shape)
        case Delay():
            delay = _delay(node.delays, shape, dt)
            write_notes(delay, {"max_delay": node.max_delay})
            return delay
        case Neurons():
            return _neurons(node.cell, shape, dt)
        case Pool():
            kind = nir.AvgPool2d if node.kind == "average" else nir.SumPool2d
            return kind(np.array(node.kernel), np.array(node.stride), np.array(node.padding))
        case Flatten():
            return nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
        case Scale():
            return nir.Scale(_full(node.factor, shape))
        case Threshold():
            return nir.Threshold(_full(node.threshold, shape))


def _delay(delays: Tensor, shape: Shape, dt: float) -> Any:
    import nir

    spread = delays.double().view(-1, *(1,) * (len(shape) - 1)).expand(shape)
    return nir.Delay((spread * dt).numpy().copy())


def _convolution(node: Synapses, shape: Shape) -> Any:
    import nir

    assert node.geometry is not None
    geometry, weight, kernel = node.geometry, node.weight, node.kernel
    if len(set(kernel)) > 1:
        raise ExchangeError(f"a convolution with a kernel of {kernel}: nir's own check takes kernels for square")
    if geometry.groups > 1:  # nir's own check takes the inputs of one group for all of them
        weight = _ungrouped(weight, geometry.groups)
    bias = np.zeros(len(weight), dtype=weight.numpy().dtype) if node.bias is None else node.bias.numpy()
    numbers = {"weight": weight.numpy(), "groups": 1, "bias": bias}
    if len(kernel) == 1:
        (stride,), (padding,), (dilation,) = geometry.stride, geometry.padding, geometry.dilation
        return nir.Conv1d(input_shape=shape[1], stride=stride, padding=padding, dilation=dilation, **numbers)
    moves = {"stride": geometry.stride, "padding": geometry.padding, "dilation": geometry.dilation}
    return nir.Conv2d(input_shape=tuple(shape[1:]), **moves, **numbers)


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """The same convolution without groups: zero weights between them."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    whole = weight.new_zeros((len(weight), inputs * groups, *weight.shape[2:]))
    for g in range(groups):
        rows = slice(g * outputs, (g + 1) * outputs)
        whole[rows, g * inputs : (g + 1) * inputs] = weight[rows]
    return whole


def _neurons(cell: Cell, shape: Shape, dt: float) -> Any:
    """The neuron of NIR with these numbers: time constants dt / leak, resistances gain / leak."""
    import nir

    fires, numbers = cell.threshold is not None, dict[str, Any]()
    if cell.threshold is not None:
        numbers |= {"v_threshold": _full(cell.threshold, shape), "v_reset": _full(cell.reset, shape)}
    if bool((cell.leak == 0).all()):
        if cell.synapse is not None:
            raise ExchangeError("a neuron with a current and no leak: its time constant would be infinite")
        kind, r = nir.IF if fires else nir.I, cell.gain / dt
    else:
        if bool((cell.leak == 0).any()):
            raise ExchangeError("neurons of which some leak and others do not")
        kind, r = nir.LIF if fires else nir.LI, cell.gain / cell.leak
        numbers["v_leak"] = _full(cell.rest, shape)
        numbers["tau" if cell.synapse is None else "tau_mem"] = _full(dt / cell.leak, shape)
    if cell.synapse is not None:
        if bool((cell.synapse == 0).any()):
            raise ExchangeError("a neuron whose current does not decay: its time constant would be infinite")
        kind = nir.CubaLIF if fires else nir.CubaLI
        numbers |= {"tau_syn": _full(dt / cell.synapse, shape), "w_in": _full(1 / cell.synapse, shape)}
    neurons = kind(r=_full(r, shape), **numbers)
    if cell.rule is not Reset.VALUE and cell.threshold is not None:
        write_notes(neurons, {"reset": cell.rule.value})
    return neurons


def not_in_nir(graph: Graph) -> list[str]:
    """What NIR has no node for, so that it is written into the metadata: a reason for each node of the graph."""
    return [
        f"{name} resets by the rule {node.cell.rule.value!r}, where NIR resets to a value"
        for name, node in graph.nodes.items()
        if isinstance(node, Neurons) and node.cell.threshold is not None and node.cell.rule is not Reset.VALUE
    ]


def _full(value: Tensor, shape: Iterable[int]) -> np.ndarray[Any, Any]:
    return value.double().expand(tuple(shape)).numpy().copy()
