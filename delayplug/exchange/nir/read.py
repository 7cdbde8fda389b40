"""From NIR to a graph: whoever wrote it, with branches of delays put together into layers again.

Nothing in a file is trusted: every number is looked at before it is used.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import ExchangeError
from ...neurons.cell import Cell, Reset
from ..graph import (
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
    Synapses,
    Threshold,
    snapped,
)
from .write import KEY

_MOST_STEPS = 1 << 16  # of a delay: more is a mistake in units, and would be allocated
_OFF = 1e-3  # of a step: how far a delay may be from a whole one, besides float32's rounding of it


def read_file(path: str | Path) -> Any:
    """The `nir.NIRGraph` in a file.

    Raises:
        ExchangeError: it is not there, truncated, or not a NIR graph.
    """
    import nir

    if not Path(path).is_file():
        raise ExchangeError(f"{path}: there is no such file")
    try:
        found = nir.read(str(path), type_check=False)
    except Exception as error:  # h5py and nir raise whatever comes
        raise ExchangeError(
            f"{path}: expected a NIR graph in an HDF5 file, got {type(error).__name__}: {error}"
        ) from error
    return found


def to_graph(found: Any, dt: float) -> Graph:
    """The graph of a `nir.NIRGraph`, checked, with subgraphs dissolved and branches put together.

    Raises:
        ExchangeError: it is not in order, or has something that cannot be said; the node is named.
    """
    import nir

    if not isinstance(found, nir.NIRGraph):
        raise ExchangeError(f"expected a nir.NIRGraph, got {type(found).__name__}")
    nodes, edges = _flat(found)
    graph = Graph()
    notes: dict[str, dict[str, Any]] = {}
    for name, node in nodes.items():
        try:
            graph.nodes[name] = _node(node, dt)
        except ExchangeError as error:
            raise ExchangeError(f"{name} ({type(node).__name__}): {error}") from None
        except Exception as error:  # a wrong type or number of dimensions in a hand-made node can fail anywhere
            raise ExchangeError(f"{name} ({type(node).__name__}) is malformed: {error!r}") from error
        notes[name] = _notes(node)
    graph.edges = edges
    _drop_batch(graph)
    graph.shapes()
    _merge(graph, notes)
    graph = graph.simplified()
    graph.shapes()
    return graph


# --------------------------------------------------------------------------------------------------- structure


def _flat(graph: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Nodes and edges, those of subgraphs included; the inputs and outputs of subgraphs are dissolved."""
    nodes, edges, dissolved = _expanded(graph, "", set())
    for name in dissolved:
        before, after = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        edges = [edge for edge in edges if name not in edge] + [(a, b) for a in before for b in after]
        del nodes[name]
    return nodes, edges


def _expanded(graph: Any, prefix: str, around: set[int]) -> tuple[dict[str, Any], list[tuple[str, str]], list[str]]:
    import nir

    if id(graph) in around:
        raise ExchangeError(f"the subgraph {prefix.rstrip('.')} contains itself")
    if not isinstance(graph.nodes, dict):
        raise ExchangeError("the nodes of the graph are not a dictionary")
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    dissolved: list[str] = []
    doors: dict[str, tuple[list[str], list[str]]] = {}  # of each node: where edges to it lead, and those from it begin
    for name, node in graph.nodes.items():
        own = prefix + str(name)
        if isinstance(node, nir.NIRGraph):
            inner, inner_edges, gone = _expanded(node, own + ".", around | {id(graph)})
            ins = [n for n in inner if isinstance(inner[n], nir.Input) and n not in gone]
            outs = [n for n in inner if isinstance(inner[n], nir.Output) and n not in gone]
            if len(ins) != 1 or len(outs) != 1:
                raise ExchangeError(
                    f"the subgraph {own} has {len(ins)} inputs and {len(outs)} outputs: expected one of each"
                )
            nodes |= inner
            edges += inner_edges
            dissolved += [*gone, *ins, *outs]
            doors[str(name)] = (ins, outs)
        else:
            nodes[own] = node
            doors[str(name)] = ([own], [own])
    seen = set()
    for edge in graph.edges:
        try:
            a, b = (str(end) for end in edge)
        except (TypeError, ValueError):
            raise ExchangeError(f"an edge is a pair of names, got {edge!r}") from None
        for end in (a, b):
            if end not in doors:
                raise ExchangeError(f"the edge {prefix}{a} -> {prefix}{b} is dangling: there is no node {prefix}{end}")
        if (a, b) in seen:
            raise ExchangeError(f"the edge {prefix}{a} -> {prefix}{b} is there twice")
        seen.add((a, b))
        edges += [(start, end) for start in doors[a][1] for end in doors[b][0]]
    return nodes, edges, dissolved


def _notes(node: Any) -> dict[str, Any]:
    """What we wrote into the metadata of a node, if we did."""
    metadata = getattr(node, "metadata", None)
    found = metadata.get(KEY) if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


# ------------------------------------------------------------------------------------------------------- nodes


def _node(node: Any, dt: float) -> Node:
    import nir

    readers: dict[type, Callable[[Any], Node]] = {
        nir.Input: lambda n: Input(_shape(n.input_type["input"])),
        nir.Output: lambda n: Output(),
        nir.Linear: lambda n: Synapses(_matrix(n.weight)),
        nir.Affine: lambda n: Synapses(_matrix(n.weight), _weights("bias", n.bias).flatten()),
        nir.Conv1d: lambda n: _convolution(n, 1),
        nir.Conv2d: lambda n: _convolution(n, 2),
        nir.Delay: lambda n: _delay(n, dt),
        nir.Scale: lambda n: Scale(_number("scale", n.scale)),
        nir.Threshold: lambda n: Threshold(_number("threshold", n.threshold)),
        nir.Flatten: _flatten,
        nir.AvgPool2d: lambda n: _pool(n, "average"),
        nir.SumPool2d: lambda n: _pool(n, "sum"),
        nir.LIF: lambda n: _lif(n, dt),
        nir.LI: lambda n: _lif(n, dt),
        nir.IF: lambda n: _if(n, dt),
        nir.I: lambda n: _if(n, dt),
        nir.CubaLIF: lambda n: _cuba(n, dt),
        nir.CubaLI: lambda n: _cuba(n, dt),
    }
    if type(node) not in readers:
        raise ExchangeError(
            "a node of this kind is not known; known are " + ", ".join(kind.__name__ for kind in readers)
        )
    return readers[type(node)](node)


def _shape(value: Any) -> tuple[int, ...]:
    if value is None:
        raise ExchangeError("its shape is not given")
    shape = tuple(int(n) for n in np.atleast_1d(np.asarray(value)))
    if not shape or min(shape) < 1 or max(shape) > 1 << 24:
        raise ExchangeError(f"a shape of {shape}")
    return shape


def _array(word: str, value: Any) -> Tensor:
    """Numbers, finite, in float64."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.size == 0:
        raise ExchangeError(f"{word}: expected numbers, got {array.dtype} of shape {array.shape}")
    if not np.isfinite(array.astype(np.float64)).all():
        raise ExchangeError(f"{word}: expected finite numbers, got NaN or infinity")
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _number(word: str, value: Any) -> Tensor:
    """(), or one for each neuron; one written as a vector of one counts as ()."""
    found = _array(word, value)
    return found.flatten()[0] if found.numel() == 1 or bool((found == found.flatten()[0]).all()) else found


def _weights(word: str, value: Any) -> Tensor:
    return _array(word, value).to(torch.get_default_dtype())


def _matrix(value: Any) -> Tensor:
    weight = _weights("weight", value)
    if weight.dim() != 2:
        raise ExchangeError(f"weight: expected a matrix (outputs, inputs), got shape {tuple(weight.shape)}")
    return weight


def _convolution(node: Any, dims: int) -> Synapses:
    weight = _weights("weight", node.weight)
    if weight.dim() != 2 + dims:
        raise ExchangeError(f"weight: expected {2 + dims} dimensions, got shape {tuple(weight.shape)}")
    bias = None if node.bias is None else _weights("bias", node.bias).flatten()
    bias = None if bias is None or not bool(bias.any()) else bias
    stride, dilation = _each("stride", node.stride, dims, 1), _each("dilation", node.dilation, dims, 1)
    padding: Any = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(n % 2 for n in total) or padding not in ("same", "valid"):
            raise ExchangeError(f"padding {padding!r} with a kernel of shape {tuple(weight.shape[2:])}")
        padding = [n // 2 for n in total]
    (groups,) = _each("groups", node.groups, 1, 1)
    return Synapses(weight, bias, Geometry(stride, _each("padding", padding, dims, 0), dilation, groups))


def _each(word: str, value: Any, dims: int, least: int) -> tuple[int, ...]:
    array = np.asarray(value).flatten()
    found = tuple(int(n) for n in (array if array.size == dims else np.repeat(array, dims)))
    if len(found) != dims or min(found) < least or not np.array_equal(array, array.astype(int)):
        raise ExchangeError(f"{word}: expected {dims} whole numbers >= {least}, got {array.tolist()}")
    return found


def _pool(node: Any, kind: Any) -> Pool:
    return Pool(
        kind,
        _each("kernel_size", node.kernel_size, 2, 1),
        _each("stride", node.stride, 2, 1),
        _each("padding", node.padding, 2, 0),
    )


def _flatten(node: Any) -> Flatten:
    shape = node.input_type.get("input") if isinstance(node.input_type, dict) else None
    start, end = int(node.start_dim), int(node.end_dim)
    dims = None if shape is None else len(_shape(shape))
    # Writers do not agree on whether the batch counts as the first dimension.
    if start not in (0, 1) or (end != -1 and (dims is None or end not in (dims - 1, dims))):
        raise ExchangeError(f"start_dim={start}, end_dim={end}: only the flattening of all dimensions can be read")
    if start == 1 and dims is not None and dims > 1 and end == dims - 1:
        raise ExchangeError(f"start_dim={start}, end_dim={end}: only the flattening of all dimensions can be read")
    return Flatten()


def _delay(node: Any, dt: float) -> Delay:
    """Delays of (C, *space) in seconds as whole steps, one for each channel."""
    seconds = _array("delay", node.delay)
    steps = seconds / dt
    if bool((steps < 0).any()):
        raise ExchangeError(f"delay: expected 0 or more, got {float(seconds.min())} s")
    if bool((steps > _MOST_STEPS).any()):
        raise ExchangeError(
            f"delay: {float(seconds.max()):g} s are {float(steps.max()):g} steps of dt = {dt:g} s, more than "
            f"{_MOST_STEPS}: "
            "nir.Delay is in seconds; is dt the one of the network?"
        )
    whole = (steps + 0.5).floor()
    off = (steps - whole).abs() - 1e-6 * steps
    if bool((off > _OFF).any()):
        worst = int(off.flatten().argmax())
        raise ExchangeError(
            f"delay: {float(seconds.flatten()[worst]):g} s are {float(steps.flatten()[worst]):.4f} steps of dt "
            f"= {dt:g} s, not a whole "
            "number: pass the dt of the network, or one that divides its delays"
        )
    rows = whole.long().reshape(len(whole) if whole.dim() else 1, -1)
    if bool((rows != rows[:, :1]).any()):
        raise ExchangeError("delay: different delays within one channel; one for each channel can be read")
    delays = rows[:, 0].clone()
    noted = _notes(node).get("max_delay")
    return Delay(delays, _most(noted, int(delays.max())))


def _most(noted: Any, least: int) -> int:
    """The largest delay to train within: what was noted, if that makes sense."""
    try:
        most = int(noted)
    except (TypeError, ValueError):
        return least
    return most if least <= most <= _MOST_STEPS else least


def _time(word: str, value: Any, dt: float) -> Tensor:
    """dt / tau."""
    tau = _number(word, value)
    if bool((tau <= 0).any()):
        raise ExchangeError(f"{word}: expected a time constant above zero, got {float(tau.min())} s")
    leak = dt / tau
    if bool((leak > 1 + 1e-6).any()):
        raise ExchangeError(
            f"{word}: a time constant of {float(tau.min()):g} s is shorter than dt = {dt:g} s: pass a smaller dt"
        )
    return leak.clamp(max=1.0)


def _fire(node: Any) -> dict[str, Any]:
    """Threshold and reset of a node that fires."""
    if not hasattr(node, "v_threshold"):
        return {"threshold": None}
    word = _notes(node).get("reset") or Reset.VALUE
    try:
        rule = Reset(word)
    except ValueError as error:
        expected = ", ".join(Reset)
        raise ExchangeError(f"the reset in the metadata: expected one of {expected}, got {word!r}") from error
    reset = 0.0 if node.v_reset is None else _number("v_reset", node.v_reset)
    return {"threshold": _number("v_threshold", node.v_threshold), "reset": reset, "rule": rule}


def _lif(node: Any, dt: float) -> Neurons:
    leak, r = _time("tau", node.tau, dt), _number("r", node.r)
    return Neurons(Cell.of(leak=leak, gain=_gain(r, leak), rest=_number("v_leak", node.v_leak), **_fire(node)))


def _if(node: Any, dt: float) -> Neurons:
    gain = _number("r", node.r) * dt
    fire = _fire(node)
    rest = fire.get("reset", 0.0)  # where a membrane that does not leak begins
    return Neurons(Cell.of(leak=0.0, gain=snapped(gain, torch.zeros_like(gain)), rest=rest, **fire))


def _cuba(node: Any, dt: float) -> Neurons:
    leak, synapse = _time("tau_mem", node.tau_mem, dt), _time("tau_syn", node.tau_syn, dt)
    # The current is linear in its input, so what scales that may as well scale the membrane's.
    drive = _number("w_in", node.w_in) * synapse
    gain = snapped(_gain(_number("r", node.r), leak) * drive, leak)
    rest = _number("v_leak", node.v_leak)
    return Neurons(Cell.of(leak=leak, gain=gain, rest=rest, synapse=synapse, **_fire(node)))


def _gain(r: Tensor, leak: Tensor) -> Tensor:
    if Cell.close(r, torch.ones_like(r)):
        return leak
    return snapped(r * leak, leak)


# --------------------------------------------------------------------------------------------------- branches


def _drop_batch(graph: Graph) -> None:
    """An input whose shape counts the batch, as Norse's exporter writes it, loses that dimension, in place."""
    for name, node in graph.nodes.items():
        if not isinstance(node, Input):
            continue
        fed = [graph.nodes[after] for after in graph.after(name)]
        wants = {1 + len(layer.kernel) for layer in fed if isinstance(layer, Synapses)}
        if wants == {len(node.shape) - 1}:
            graph.nodes[name] = Input(node.shape[1:])


class _Between(NamedTuple):
    """What branches have in common that are one layer: where they begin and end, and their shape."""

    source: str
    after: tuple[str, ...]
    label: str | None
    geometry: Geometry | None
    shape: tuple[int, ...]


def _merge(graph: Graph, notes: dict[str, dict[str, Any]]) -> None:
    """Put branches of delays between the same two nodes together into one layer, in place."""
    groups: dict[_Between, list[str]] = {}
    for name, node in graph.nodes.items():
        before = graph.before(name)
        if not isinstance(node, Synapses) or len(before) != 1:
            continue
        source = before[0]
        if isinstance(graph.nodes[source], Delay) and graph.after(source) == [name] and len(graph.before(source)) == 1:
            source = graph.before(source)[0]
        label = notes[name].get("layer")
        after = tuple(sorted(graph.after(name)))
        between = _Between(source, after, label and str(label), node.geometry, tuple(node.weight.shape))
        groups.setdefault(between, []).append(name)
    for between, group in groups.items():
        delayed = any(graph.before(name) != [between.source] for name in group)
        if between.label is not None or (len(group) > 1 and delayed):
            _together(graph, notes, between, group)


def _together(graph: Graph, notes: dict[str, dict[str, Any]], between: _Between, group: list[str]) -> None:
    weights, delays, biases, delay_nodes = [], [], [], []
    for name in group:
        node: Any = graph.nodes[name]
        (before,) = graph.before(name)
        own: Any = graph.nodes[before] if before != between.source else None
        rows = torch.zeros(1, dtype=torch.int64) if own is None else own.delays
        inputs = node.weight.shape[1]
        if own is not None:
            delay_nodes.append(before)
            if node.geometry is not None and node.geometry.groups > 1:
                return
        spread = rows.expand(inputs) if len(rows) == 1 else rows
        weights.append(node.weight)
        delays.append(spread.view(1, -1, *(1,) * (node.weight.dim() - 2)).expand(node.weight.shape))
        biases += [] if node.bias is None else [node.bias]
    weight, whole = _packed(torch.stack(weights, -1), torch.stack(delays, -1))
    first: Any = graph.nodes[group[0]]
    if first.geometry is not None and weight.shape[-1] > 1:
        return  # a convolution has one delay for each element of its kernel
    noted = notes[group[0]]
    bias = None if not biases else torch.stack(biases).sum(0)
    merged = Synapses(weight, bias, first.geometry, whole, _most(noted.get("max_delay"), int(whole.max())))
    graph.remove([*group, *delay_nodes])
    name = graph.add(between.label or group[0], merged, [between.source])
    graph.edges += [(name, end) for end in between.after]


def _packed(weight: Tensor, delays: Tensor) -> tuple[Tensor, Tensor]:
    """As few taps as the synapses need: (*S, N) of each from one of each branch, in the order of their delays."""
    delays, order = delays.sort(dim=-1, stable=True)
    weight = weight.gather(-1, order)
    used = weight != 0
    taps = max(1, int(used.sum(-1).max()))
    first = used.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :taps]
    weight, delays, used = weight.gather(-1, first), delays.gather(-1, first), used.gather(-1, first)
    return weight.contiguous(), torch.where(used, delays, 0).contiguous()
