"""From a graph to NIR: a branch of one delay for each distinct delay of a layer, and time in seconds.

A branch is a `nir.Delay` (none where it is zero) with one delay for all channels, then the weights that have this
delay, the others being zero; the branches are added where they meet. There are as many as the layer has distinct
delays, which is the least for branches of one delay each.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ExchangeError
from ...neurons.cell import Cell, Reset
from ..graph import (
    Delay,
    Flatten,
    Graph,
    Input,
    Neurons,
    Node,
    Output,
    Pool,
    Scale,
    Shape,
    Synapses,
    Threshold,
    distinct,
)

KEY = "delayplug"  # of what we keep in the metadata of a node


def to_nodes(graph: Graph, dt: float) -> Any:
    """The `nir.NIRGraph` of a graph, checked by nir."""
    import nir

    shapes = graph.shapes()
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    ends: dict[str, list[str]] = {}
    for name in graph.order():
        node, sources = graph.nodes[name], [end for source in graph.before(name) for end in ends[source]]
        given = next((shapes[source] for source in graph.before(name)), ())
        try:
            if isinstance(node, Synapses) and node.delays is not None:
                ends[name] = _branches(name, node, given, dt, sources, nodes, edges)
                continue
            nodes[name] = _single(node, given, dt)
        except ExchangeError as error:
            raise ExchangeError(f"{name}: {error}") from None
        edges += [(source, name) for source in sources]
        ends[name] = [name]
    try:
        return nir.NIRGraph(nodes=nodes, edges=edges)
    except Exception as error:
        raise ExchangeError(f"nir does not accept the graph: {error}") from error


def _branches(
    name: str,
    node: Synapses,
    given: Shape,
    dt: float,
    sources: list[str],
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
) -> list[str]:
    """Add the branches of a layer; returns the names of their ends."""
    assert node.delays is not None
    ends = []
    values = distinct(node)
    taps = node.weight.shape[-1]
    for delay in values:
        own = name if len(values) == 1 else f"{name}.d{delay}"
        weight = torch.where(node.delays == delay, node.weight, 0).sum(-1)
        plain = Synapses(weight, node.bias if delay == values[0] else None, node.geometry)
        nodes[own] = _single(plain, given, dt)
        nodes[own].metadata[KEY] = {"layer": name, "max_delay": node.max_delay, "taps": taps}
        before = sources
        if delay:
            behind = f"{own}.delay"
            nodes[behind] = _delay(torch.full((1,), delay), given, dt)
            edges += [(source, behind) for source in sources]
            before = [behind]
        edges += [(source, own) for source in before]
        ends.append(own)
    return ends


def _single(node: Node, given: Shape, dt: float) -> Any:
    import nir

    match node:
        case Input():
            return nir.Input(input_type=np.array(node.shape))
        case Output():
            return nir.Output(output_type=np.array(given))
        case Synapses(geometry=None):
            weight = node.weight.numpy()
            return nir.Linear(weight) if node.bias is None else nir.Affine(weight, node.bias.numpy())
        case Synapses():
            return _convolution(node, given)
        case Delay():
            made = _delay(node.delays, given, dt)
            made.metadata[KEY] = {"max_delay": node.max_delay}
            return made
        case Neurons():
            return _neurons(node.cell, given, dt)
        case Pool():
            kind = nir.AvgPool2d if node.kind == "average" else nir.SumPool2d
            return kind(np.array(node.kernel), np.array(node.stride), np.array(node.padding))
        case Flatten():
            return nir.Flatten({"input": np.array(given)}, start_dim=0, end_dim=-1)
        case Scale():
            return nir.Scale(_full(node.factor, given))
        case Threshold():
            return nir.Threshold(_full(node.threshold, given))


def _delay(delays: Tensor, given: Shape, dt: float) -> Any:
    import nir

    spread = delays.double().view(-1, *(1,) * (len(given) - 1)).expand(given)
    return nir.Delay((spread * dt).numpy().copy())


def _convolution(node: Synapses, given: Shape) -> Any:
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
        return nir.Conv1d(input_shape=given[1], stride=stride, padding=padding, dilation=dilation, **numbers)
    moves = {"stride": geometry.stride, "padding": geometry.padding, "dilation": geometry.dilation}
    return nir.Conv2d(input_shape=tuple(given[1:]), **moves, **numbers)


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """The same convolution without groups: zero weights between them."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    whole = weight.new_zeros((len(weight), inputs * groups, *weight.shape[2:]))
    for g in range(groups):
        rows = slice(g * outputs, (g + 1) * outputs)
        whole[rows, g * inputs : (g + 1) * inputs] = weight[rows]
    return whole


def _neurons(cell: Cell, given: Shape, dt: float) -> Any:
    """The neuron of NIR with these numbers: time constants dt / leak, resistances gain / leak."""
    import nir

    full: dict[str, Any] = {"v_leak": _full(cell.rest, given)}
    if cell.threshold is not None:
        full |= {"v_threshold": _full(cell.threshold, given), "v_reset": _full(cell.reset, given)}
    if bool((cell.leak == 0).all()):
        if cell.synapse is not None:
            raise ExchangeError("a neuron with a current and no leak: its time constant would be infinite")
        r = _full(cell.gain / dt, given)
        made = (
            nir.I(r)
            if cell.threshold is None
            else nir.IF(r=r, v_threshold=full["v_threshold"], v_reset=full["v_reset"])
        )
    else:
        if bool((cell.leak == 0).any()):
            raise ExchangeError("neurons of which some leak and others do not")
        tau, full["r"] = _full(dt / cell.leak, given), _full(cell.gain / cell.leak, given)
        if cell.synapse is None:
            made = nir.LI(tau=tau, **full) if cell.threshold is None else nir.LIF(tau=tau, **full)
        else:
            if bool((cell.synapse == 0).any()):
                raise ExchangeError("a neuron whose current does not decay: its time constant would be infinite")
            full |= {"tau_mem": tau, "tau_syn": _full(dt / cell.synapse, given), "w_in": _full(1 / cell.synapse, given)}
            made = nir.CubaLI(**full) if cell.threshold is None else nir.CubaLIF(**full)
    if cell.rule is not Reset.VALUE and cell.threshold is not None:
        made.metadata[KEY] = {"reset": cell.rule.value}
    return made


def beyond(graph: Graph) -> list[str]:
    """What of a graph NIR has no words for, so that it goes into the metadata, which other programs do not read."""
    found = []
    for name, node in graph.nodes.items():
        if isinstance(node, Neurons) and node.cell.threshold is not None and node.cell.rule is not Reset.VALUE:
            found.append(f"{name} resets by the rule {node.cell.rule.value!r}, where NIR resets to a value")
    return found


def _full(value: Tensor, given: Iterable[int]) -> np.ndarray[Any, Any]:
    return value.double().expand(tuple(given)).numpy().copy()
