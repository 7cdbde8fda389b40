"""From NIR to a graph, whichever program wrote it: time in steps, and branches put together into layers.

Nothing in a file is trusted: every number is checked before it is used.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import ExchangeError
from ...neurons.cell import Cell, Reset
from ..graph import Delay, Flatten, Geometry, Graph, Input, Neurons, Node, Output, Pool, Scale, Synapses, Threshold
from .branches import merge_branches
from .declared import check_declared
from .firing import Integrator, doubtful
from .notes import MOST_STEPS, max_delay_of, read_notes
from .subgraphs import flat

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
        return nir.read(str(path), type_check=False)
    except Exception as error:  # h5py and nir raise errors of any kind
        raise ExchangeError(
            f"{path}: expected a NIR graph in an HDF5 file, got {type(error).__name__}: {error}"
        ) from error


def to_graph(source: object, dt: float, integrator: Integrator = "per second") -> tuple[Graph, list[str]]:
    """The graph of a `nir.NIRGraph`, checked, with subgraphs dissolved and branches put together.

    Args:
        source: the `nir.NIRGraph`.
        dt: seconds of a step.
        integrator: what r means in a neuron without a leak, see `from_nir`.

    Returns:
        The graph, and what in it can hardly be meant.

    Raises:
        ExchangeError: it is malformed, or has a node that is not supported; the node is named.
    """
    import nir

    if not isinstance(source, nir.NIRGraph):
        raise ExchangeError(f"expected a nir.NIRGraph, got {type(source).__name__}")
    found = flat(source)
    graph = Graph()
    notes: dict[str, dict[str, Any]] = {}
    for name, node in found.nodes.items():
        try:
            graph.nodes[name] = _node(node, dt, integrator)
        except ExchangeError as error:
            raise ExchangeError(f"{name} ({type(node).__name__}): {error}") from None
        except Exception as error:  # a wrong type or number of dimensions in a hand-made node can fail anywhere
            raise ExchangeError(f"{name} ({type(node).__name__}) is malformed: {error!r}") from error
        notes[name] = read_notes(node)
        if "layer" in notes[name]:  # its name in the graph that was written, which may be a subgraph now
            notes[name] = {**notes[name], "layer": f"{found.prefixes[name]}{notes[name]['layer']}"}
    graph.edges = found.edges
    _drop_batch(graph)
    check_declared(found, graph, graph.shapes())
    merge_branches(graph, notes)
    _maxima(graph)
    doubts = doubtful(graph, dt, integrator)
    graph = graph.simplified()
    graph.shapes()
    return graph, doubts


def _drop_batch(graph: Graph) -> None:
    """An input whose shape counts the batch, as Norse's exporter writes it, loses that dimension, in place."""
    for name, node in graph.nodes.items():
        if not isinstance(node, Input):
            continue
        fed = [graph.nodes[after] for after in graph.after(name)]
        wants = {1 + len(layer.kernel) for layer in fed if isinstance(layer, Synapses)}
        if wants == {len(node.shape) - 1}:
            graph.nodes[name] = Input(node.shape[1:])


def _maxima(graph: Graph) -> None:
    """A sum of spikes over windows that is above zero is their maximum, which learns, in place."""
    for name, node in list(graph.nodes.items()):
        before, after = graph.before(name), graph.after(name)
        if not isinstance(node, Pool) or node.kind != "sum" or len(before) != 1 or len(after) != 1:
            continue
        above = graph.nodes[after[0]]
        if not isinstance(above, Threshold) or graph.before(after[0]) != [name] or not graph.is_spikes(before[0]):
            continue
        if bool((above.threshold >= 0).all()) and bool((above.threshold < 1).all()):
            ends = graph.after(after[0])
            graph.remove(after)
            graph.nodes[name] = Pool("max", node.kernel, node.stride, node.padding)
            graph.edges += [(name, end) for end in ends]


# ------------------------------------------------------------------------------------------------------- nodes


def _node(node: Any, dt: float, integrator: Integrator) -> Node:
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
        nir.IF: lambda n: _if(n, dt if integrator == "per second" else 1.0),
        nir.I: lambda n: _if(n, dt if integrator == "per second" else 1.0),
        nir.CubaLIF: lambda n: _cuba(n, dt),
        nir.CubaLI: lambda n: _cuba(n, dt),
    }
    if type(node) not in readers:
        raise ExchangeError(
            "nodes of this kind are not supported; supported are " + ", ".join(kind.__name__ for kind in readers)
        )
    return readers[type(node)](node)


def _shape(value: object) -> tuple[int, ...]:
    if value is None:
        raise ExchangeError("it has no shape")
    shape = tuple(int(n) for n in np.atleast_1d(np.asarray(value)))
    if not shape or min(shape) < 1 or max(shape) > 1 << 24:
        raise ExchangeError(f"a shape of {shape}")
    return shape


def _array(word: str, value: object) -> Tensor:
    """Numbers, finite also in float32, in float64."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.size == 0:
        raise ExchangeError(f"{word}: expected numbers, got {array.dtype} of shape {array.shape}")
    if not np.isfinite(array.astype(np.float64)).all():
        raise ExchangeError(f"{word}: expected finite numbers, got NaN or infinity")
    numbers = torch.from_numpy(np.array(array, dtype=np.float64))
    largest = float(numbers.abs().max())
    if largest > torch.finfo(torch.float32).max:
        raise ExchangeError(f"{word}: expected numbers that float32 has, got {largest:g}, which would be infinite")
    return numbers


def _number(word: str, value: object) -> Tensor:
    """(), or one for each neuron if they differ."""
    numbers = _array(word, value)
    first = numbers.flatten()[0]
    return first if bool((numbers == first).all()) else numbers


def _weights(word: str, value: object) -> Tensor:
    return _array(word, value).to(torch.get_default_dtype())


def _matrix(value: object) -> Tensor:
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
        known = Geometry.padding_of(padding, weight.shape[2:], dilation) if padding in ("same", "valid") else None
        if known is None:
            raise ExchangeError(f"padding {padding!r} with a kernel of shape {tuple(weight.shape[2:])}")
        padding = known
    (groups,) = _each("groups", node.groups, 1, 1)
    return Synapses(weight, bias, Geometry(stride, _each("padding", padding, dims, 0), dilation, groups))


def _each(word: str, value: object, dims: int, least: int) -> tuple[int, ...]:
    """A whole number for each dimension, of which one may stand for all."""
    array = np.asarray(value).flatten()
    numbers = tuple(int(n) for n in (array if array.size == dims else np.repeat(array, dims)))
    if len(numbers) != dims or min(numbers) < least or not np.array_equal(array, array.astype(int)):
        raise ExchangeError(f"{word}: expected {dims} whole numbers >= {least}, got {array.tolist()}")
    return numbers


def _pool(node: Any, kind: Literal["average", "sum"]) -> Pool:
    kernel, stride = _pair("kernel_size", node.kernel_size, 1), _pair("stride", node.stride, 1)
    return Pool(kind, kernel, stride, _pair("padding", node.padding, 0))


def _pair(word: str, value: object, least: int) -> tuple[int, int]:
    first, second = _each(word, value, 2, least)
    return first, second


def _flatten(node: Any) -> Flatten:
    shape = node.input_type.get("input") if isinstance(node.input_type, dict) else None
    start, end = int(node.start_dim), int(node.end_dim)
    dims = None if shape is None else len(_shape(shape))
    # Writers do not agree on whether the batch counts as the first dimension.
    outside = start not in (0, 1) or (end != -1 and (dims is None or end not in (dims - 1, dims)))
    if outside or (start == 1 and dims is not None and dims > 1 and end == dims - 1):
        raise ExchangeError(f"start_dim={start}, end_dim={end}: only the flattening of all dimensions can be read")
    return Flatten()


def _delay(node: Any, dt: float) -> Delay:
    """Delays of (C, *space) in seconds as whole steps, one for each channel."""
    seconds = _array("delay", node.delay)
    steps = seconds / dt
    if bool((steps < 0).any()):
        raise ExchangeError(f"delay: expected 0 or more, got {float(seconds.min())} s")
    if bool((steps > MOST_STEPS).any()):
        raise ExchangeError(
            f"delay: {float(seconds.max()):g} s are {float(steps.max()):g} steps of dt = {dt:g} s, more than "
            f"{MOST_STEPS}: nir.Delay is in seconds; is dt that of the network?"
        )
    whole = (steps + 0.5).floor()
    off = (steps - whole).abs() - 1e-6 * steps
    if bool((off > _OFF).any()):
        worst = int(off.flatten().argmax())
        raise ExchangeError(
            f"delay: {float(seconds.flatten()[worst]):g} s are {float(steps.flatten()[worst]):.4f} steps of dt = "
            f"{dt:g} s, not a whole number: pass the dt of the network, or one that divides its delays"
        )
    rows = whole.long().reshape(len(whole) if whole.dim() else 1, -1)
    if bool((rows != rows[:, :1]).any()):
        raise ExchangeError("delay: different delays within one channel; one for each channel can be read")
    delays = rows[:, 0].clone()
    return Delay(delays, max_delay_of(read_notes(node), int(delays.max())))


def _time(word: str, value: object, dt: float) -> Tensor:
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


def _neurons(node: Any, leak: Tensor, gain: Tensor, synapse: Tensor | None = None) -> Neurons:
    """Neurons of this leak and gain, with the threshold and the reset of the node, if it has any."""
    threshold, reset, rule = None, torch.zeros((), device="cpu"), Reset.VALUE
    if hasattr(node, "v_threshold"):
        word = read_notes(node).get("reset") or Reset.VALUE
        try:
            rule = Reset(word)
        except ValueError as error:
            expected = ", ".join(Reset)
            raise ExchangeError(f"the reset in the metadata: expected one of {expected}, got {word!r}") from error
        threshold = _number("v_threshold", node.v_threshold)
        reset = reset if node.v_reset is None else _number("v_reset", node.v_reset)
    # A membrane that does not leak begins where a spike leaves it.
    rest = _number("v_leak", node.v_leak) if hasattr(node, "v_leak") else reset
    cell = Cell.of(leak=leak, gain=gain, rest=rest, threshold=threshold, reset=reset, rule=rule, synapse=synapse)
    return Neurons(cell)


def _lif(node: Any, dt: float) -> Neurons:
    leak = _time("tau", node.tau, dt)
    return _neurons(node, leak, _gain(_number("r", node.r), leak))


def _if(node: Any, dt: float) -> Neurons:
    """`dt` is what a step is in the unit of time of its r."""
    gain = _number("r", node.r) * dt
    leak = torch.zeros_like(gain)
    return _neurons(node, leak, Neurons.snapped(gain, leak))


def _cuba(node: Any, dt: float) -> Neurons:
    leak, synapse = _time("tau_mem", node.tau_mem, dt), _time("tau_syn", node.tau_syn, dt)
    # The current is linear in its input, so a factor of that is one of the membrane's input.
    drive = _number("w_in", node.w_in) * synapse
    gain = Neurons.snapped(_gain(_number("r", node.r), leak) * drive, leak)
    return _neurons(node, leak, gain, synapse)


def _gain(r: Tensor, leak: Tensor) -> Tensor:
    if Cell.close(r, torch.ones_like(r)):
        return leak
    return Neurons.snapped(r * leak, leak)
