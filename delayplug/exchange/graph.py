"""A network whose delays are whole steps as a graph of few kinds of nodes: between models and files.

Values that come into a node along several edges are added. Shapes are those of one sample at one step, such as
(features,) or (channels, height, width). O outputs, I inputs or channels, * the kernel of a convolution, N taps of a
synapse.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Literal

import torch
from torch import Tensor

from ..errors import ExchangeError
from ..neurons.cell import Cell

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Input:
    """The input of the network, of a shape."""

    shape: Shape


@dataclass(frozen=True)
class Output:
    """The output of the network."""


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over space: one number for each of its dimensions."""

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int

    @staticmethod
    def padding_of(padding: str | Shape, kernel: Shape, dilation: Shape) -> Shape | None:
        """Padding in numbers, where it is "same" or "valid", too; None for "same" where one side has one more."""
        if not isinstance(padding, str):
            return padding
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        return None if any(n % 2 for n in total) else tuple(n // 2 for n in total)


@dataclass(frozen=True)
class Synapses:
    """Weights, each perhaps with delays of its own; the bias is not delayed.

    Attributes:
        weight: (O, I, *), or (O, I, *, N) with delays.
        bias: (O,) or None.
        geometry: of a convolution; None for a linear layer.
        delays: whole steps, int64, of the shape of the weight; None for a layer without.
        max_delay: the largest delay that training may reach.
    """

    weight: Tensor
    bias: Tensor | None = None
    geometry: Geometry | None = None
    delays: Tensor | None = None
    max_delay: int = 0

    @property
    def kernel(self) -> Shape:
        """Size of the kernel, () for a linear layer."""
        return tuple(self.weight.shape[2 : self.weight.dim() - (self.delays is not None)])

    def by_delay(self) -> dict[int, Tensor]:
        """For each delay of weights that are not zero, in order: the weights (O, I, *) with that delay, else zero.

        Without delays, and if all weights are zero, {0: weights}.
        """
        if self.delays is None:
            return {0: self.weight}
        delays: list[int] = self.delays[self.weight != 0].unique().tolist()
        return {d: torch.where(self.delays == d, self.weight, 0).sum(-1) for d in delays or [0]}


@dataclass(frozen=True)
class Delay:
    """A delay for each channel, the first dimension of the shape; (C,) whole steps, int64."""

    delays: Tensor
    max_delay: int


@dataclass(frozen=True)
class Neurons:
    """A layer of neurons."""

    cell: Cell

    @staticmethod
    def snapped(gain: Tensor, leak: Tensor) -> Tensor:
        """A gain that is one, or the leak, to float32, as exactly that."""
        one = torch.ones_like(gain)
        if Cell.close(gain, one):
            return one.flatten()[0]
        return leak if Cell.close(gain, leak) else gain


@dataclass(frozen=True)
class Pool:
    """Average, sum or maximum over windows of the last two dimensions; padding is never the maximum."""

    kind: Literal["average", "sum", "max"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)  # of "max"


@dataclass(frozen=True)
class Flatten:
    """All dimensions become one."""


@dataclass(frozen=True)
class Scale:
    """Every value times a number, () or one for each of them."""

    factor: Tensor


@dataclass(frozen=True)
class Threshold:
    """One where a value is above the threshold, else zero."""

    threshold: Tensor


Node = Input | Output | Synapses | Delay | Neurons | Pool | Flatten | Scale | Threshold


@dataclass
class Graph:
    """Nodes by name, and edges from name to name."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, node: Node, sources: Iterable[str] = ()) -> str:
        """Add a node behind others; returns its name, which has a number behind it if the name is in use."""
        # "/" would be a group in an HDF5 file.
        name = unused(name.replace("/", "_") or "model", self.nodes.__contains__)
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def before(self, name: str) -> list[str]:
        """The nodes that feed a node."""
        return [a for a, b in self.edges if b == name]

    def after(self, name: str) -> list[str]:
        """The nodes that a node feeds."""
        return [b for a, b in self.edges if a == name]

    def is_spikes(self, name: str) -> bool:
        """Whether the results of a node are zeros and ones, as its kind and those before it say."""
        node, before = self.nodes[name], self.before(name)
        if isinstance(node, Threshold) or (isinstance(node, Neurons) and node.cell.threshold is not None):
            return True
        passes = isinstance(node, Delay | Flatten) or (isinstance(node, Pool) and node.kind == "max")
        return passes and len(before) == 1 and self.is_spikes(before[0])

    def remove(self, names: Iterable[str]) -> None:
        """Remove nodes, with their edges."""
        removed = set(names)
        self.nodes = {name: node for name, node in self.nodes.items() if name not in removed}
        self.edges = [(a, b) for a, b in self.edges if a not in removed and b not in removed]

    def order(self) -> list[str]:
        """The names of the nodes, each after those that feed it.

        Raises:
            ExchangeError: there is a cycle; its nodes are named.
        """
        try:
            return list(TopologicalSorter({name: self.before(name) for name in self.nodes}).static_order())
        except CycleError as error:
            path = " -> ".join(reversed(error.args[1]))
            raise ExchangeError(
                f"the graph has a cycle, {path}: recurrent connections cannot be exchanged, only feed-forward networks"
            ) from None

    def walk(self) -> Iterator[tuple[str, Node, list[str]]]:
        """(name, node, names of the nodes that feed it), each node after those."""
        return ((name, self.nodes[name], self.before(name)) for name in self.order())

    def shapes(self) -> dict[str, Shape]:
        """The shape of the result of each node.

        Raises:
            ExchangeError: there is not one input and one output, a node is fed by nothing or feeds nothing, there is a
                cycle, or shapes do not fit.
        """
        for kind in (Input, Output):
            names = [name for name, node in self.nodes.items() if isinstance(node, kind)]
            if len(names) != 1:
                word = kind.__name__.lower()
                raise ExchangeError(f"expected one {word} in the graph, got {', '.join(names) or 'none'}")
        shapes: dict[str, Shape] = {}
        for name, node, sources in self.walk():
            if not sources and not isinstance(node, Input):
                raise ExchangeError(f"{name} is dangling: nothing feeds it")
            if sources and isinstance(node, Input):
                raise ExchangeError(f"{name} is an input, and {', '.join(sources)} feeds it")
            if not self.after(name) and not isinstance(node, Output):
                raise ExchangeError(f"{name} is dangling: it feeds nothing")
            if self.after(name) and isinstance(node, Output):
                raise ExchangeError(f"{name} is an output, and feeds {', '.join(self.after(name))}")
            fed = {shapes[source] for source in sources}
            if len(fed) > 1:
                each = ", ".join(f"{source} {shapes[source]}" for source in sources)
                raise ExchangeError(f"{name} is fed with different shapes: {each}")
            shapes[name] = shape_after(name, node, next(iter(fed), ()))
        return shapes

    def check_range(self) -> None:
        """Raise ExchangeError for a node with a number that float32, in which networks compute, does not have."""
        for name, node in self.nodes.items():
            owner = node.cell if isinstance(node, Neurons) else node
            for word, value in vars(owner).items():
                if isinstance(value, Tensor) and not bool(value.float().isfinite().all()):
                    raise ExchangeError(f"{name}: its {word} is beyond what float32 has, {float(value.abs().max()):g}")

    def check_sums(self) -> None:
        """Raise ExchangeError for a node whose sums of weighted spikes may be beyond what float32 has."""
        reached: dict[str, float] = {}
        for name, node, sources in self.walk():
            fed = sum(reached[source] for source in sources) if sources else 1.0
            reached[name] = _largest(node, fed)
            if reached[name] > torch.finfo(torch.float32).max:
                raise ExchangeError(
                    f"{name}: its sums of weighted spikes may be {reached[name]:.3g}, beyond what float32 has: make "
                    "the weights or the gain smaller"
                )
            if isinstance(node, Neurons) and node.cell.threshold is not None:
                reached[name] = 1.0

    def simplified(self) -> "Graph":
        """The same graph with scales in front of neurons made part of their gain."""
        graph = Graph(dict(self.nodes), list(self.edges))
        for name, node in list(graph.nodes.items()):
            after, before = graph.after(name), graph.before(name)
            if not isinstance(node, Scale) or len(after) != 1 or graph.before(after[0]) != [name]:
                continue
            neurons = graph.nodes[after[0]]
            if isinstance(neurons, Neurons):
                cell = neurons.cell
                graph.nodes[after[0]] = Neurons(replace(cell, gain=Neurons.snapped(cell.gain * node.factor, cell.leak)))
                graph.remove([name])
                graph.edges += [(source, after[0]) for source in before]
        return graph


def _largest(node: Node, fed: float) -> float:
    """The largest size of what a node computes in a step from inputs of a size, without what it remembers."""
    match node:
        case Synapses():
            total = node.weight.double().abs().flatten(1).sum(1) * fed
            return float((total if node.bias is None else total + node.bias.double().abs()).max())
        case Scale():
            return float(node.factor.double().abs().max()) * fed
        case Neurons():
            return float(node.cell.gain.double().abs().max()) * fed
        case Pool(kind="sum"):
            return math.prod(node.kernel) * fed
        case Threshold():
            return 1.0
    return fed


def unused(name: str, is_used: Callable[[str], bool]) -> str:
    """The name, with the first number behind it that makes it one not in use."""
    numbered = (f"{name}_{i}" for i in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if not is_used(free))


def shape_after(name: str, node: Node, fed: Shape) -> Shape:
    """The shape of a node's result; `fed` is that of its input."""
    match node:
        case Input():
            return node.shape
        case Synapses():
            return _through(name, node, fed)
        case Flatten():
            return (math.prod(fed),)
        case Pool():
            if len(fed) != 3:
                raise ExchangeError(f"{name} pools over two dimensions of space, and is fed with shape {fed}")
            return fed[0], *_windows(name, fed[1:], node.kernel, node.stride, node.padding, node.dilation)
        case Delay():
            if len(node.delays) != (fed[0] if fed else 1):
                raise ExchangeError(f"{name} has {len(node.delays)} delays, and is fed with shape {fed}")
        case Neurons():
            for word in ("leak", "gain", "rest", "threshold", "reset", "synapse"):
                _fits(name, word, getattr(node.cell, word), fed)
        case Scale():
            _fits(name, "factor", node.factor, fed)
        case Threshold():
            _fits(name, "threshold", node.threshold, fed)
    return fed


def _fits(name: str, word: str, value: Tensor | None, fed: Shape) -> None:
    if value is not None and value.dim() and value.shape != fed:
        raise ExchangeError(f"{name}: expected a {word} of shape {fed}, as it is fed with, got {tuple(value.shape)}")


def _through(name: str, node: Synapses, fed: Shape) -> Shape:
    outputs, inputs = node.weight.shape[:2]
    if node.bias is not None and node.bias.shape != (outputs,):
        raise ExchangeError(f"{name}: expected a bias of shape {(outputs,)}, got {tuple(node.bias.shape)}")
    if node.geometry is None:
        if fed != (inputs,):
            raise ExchangeError(f"{name} has weights for {inputs} inputs, and is fed with shape {fed}")
        return (outputs,)
    geometry = node.geometry
    if len(fed) != 1 + len(node.kernel) or fed[0] != inputs * geometry.groups or outputs % geometry.groups:
        raise ExchangeError(
            f"{name} takes {inputs * geometry.groups} channels and {len(node.kernel)} dimensions of space, "
            f"and is fed with shape {fed}"
        )
    return outputs, *_windows(name, fed[1:], node.kernel, geometry.stride, geometry.padding, geometry.dilation)


def _windows(name: str, size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape:
    each = zip(size, kernel, stride, padding, dilation, strict=True)
    shape = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each)
    if min(shape) < 1:
        raise ExchangeError(f"{name}: its kernel {kernel} is larger than what it is fed with, {size}")
    return shape
