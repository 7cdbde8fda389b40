"""A graph as a chain of stages, each some weights and the neurons that they feed: what simulators and chips take.

Delays of channels, before or behind the weights, become delays of each synapse.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ExchangeError
from ..neurons.cell import Cell
from .graph import Delay, Flatten, Geometry, Graph, Input, Neurons, Node, Output, Shape, Synapses


@dataclass(frozen=True)
class Stage:
    """Weights and the neurons behind them.

    Attributes:
        name: of the neurons.
        number: 0 for the first stage.
        weight: (O, I, *), and with several taps (O, I, *, N).
        delays: whole steps, int64, of the shape of the weight; None for a stage without.
        taps: N.
        bias: (O,) or None; not delayed.
        geometry: of a convolution, or None.
        cell: the neurons.
        fed, shape: of one sample at one step, of what feeds the stage and of its result.
        flattens: whether what feeds a linear layer is flattened first.
    """

    name: str
    number: int
    weight: Tensor
    delays: Tensor | None
    taps: int
    bias: Tensor | None
    geometry: Geometry | None
    cell: Cell
    fed: Shape
    shape: Shape
    flattens: bool

    @property
    def kind(self) -> str:
        """What it is in one word."""
        return "dense" if self.geometry is None else "conv"

    @property
    def kernel(self) -> Shape:
        """Size of the kernel, () for a linear layer."""
        return tuple(self.weight.shape[2:4]) if self.taps == 1 else tuple(self.weight.shape[2:-1])


def stages_of(graph: Graph) -> tuple[Stage, ...]:
    """The stages of a graph, from its input on.

    Raises:
        ExchangeError: the graph is not such a chain; the node that is in the way is named.
    """
    return tuple(_stages(graph, graph.shapes()))


def _stages(graph: Graph, shapes: dict[str, Shape]) -> Iterator[Stage]:
    place = next(name for name, node in graph.nodes.items() if isinstance(node, Input))
    number, parts = 0, _Parts(shapes[place])
    while True:
        aside, name = _next(graph, place)
        node = graph.nodes[name]
        parts.biases |= aside
        joins = {other for other in graph.before(name) if other != place}
        if joins != (set(parts.biases) if isinstance(node, Neurons) else set()):
            raise ExchangeError(f"{name} adds the results of several layers: only chains, without branches")
        try:
            if isinstance(node, Output) and parts.is_empty and number:
                return
            if isinstance(node, Neurons) and parts.synapses is not None:
                yield parts.stage(name, number, node.cell, shapes[name])
                number, parts = number + 1, _Parts(shapes[name])
            else:
                parts.add(node)
        except ExchangeError as error:
            raise ExchangeError(f"{name}: {error}") from None
        place = name


def _next(graph: Graph, place: str) -> tuple[dict[str, Tensor], str]:
    """Biases that have a node of their own beside delayed weights, and the one node that a node feeds besides."""
    after = {name: graph.nodes[name] for name in graph.after(place)}
    biases = {name: bias for name, node in after.items() if (bias := _only_bias(node)) is not None}
    others = [name for name in after if name not in biases]
    if len(others) != 1:
        raise ExchangeError(f"{place} feeds {', '.join(others) or 'nothing'}: only chains, without branches")
    return biases, others[0]


def _only_bias(node: Node) -> Tensor | None:
    is_one = isinstance(node, Synapses) and node.delays is None and not bool(node.weight.any())
    return node.bias if is_one and isinstance(node, Synapses) else None


@dataclass
class _Parts:
    """What has come since the last neurons."""

    fed: Shape
    before: Tensor | None = None  # delays of what comes in, of the shape of a sample
    synapses: Synapses | None = None
    behind: Tensor | None = None  # delays of the outputs (O,)
    biases: dict[str, Tensor] = field(default_factory=dict)
    flattens: bool = False

    @property
    def is_empty(self) -> bool:
        return self.before is None and self.synapses is None and not self.flattens

    def add(self, node: Node) -> None:
        match node:
            case Flatten() if self.synapses is None:
                self.flattens = True
                self.before = None if self.before is None else self.before.flatten()
            case Delay() if self.synapses is None:
                shape = (math.prod(self.fed),) if self.flattens else self.fed
                delays = node.delays.view(-1, *(1,) * (len(shape) - 1)).expand(shape)
                self.before = delays if self.before is None else self.before + delays
            case Synapses() if self.synapses is None:
                self.synapses = node
            case Delay():
                self.behind = node.delays if self.behind is None else self.behind + node.delays
            case _:
                kind = type(node).__name__
                raise ExchangeError(f"a node of kind {kind}, where weights, with neurons behind them, were expected")

    def stage(self, name: str, number: int, cell: Cell, shape: Shape) -> Stage:
        synapses = self.synapses
        assert synapses is not None
        weight, delays, taps = synapses.weight, synapses.delays, 1
        if delays is not None:
            taps = delays.shape[-1]
            weight, delays = (weight.squeeze(-1), delays.squeeze(-1)) if taps == 1 else (weight, delays)
        for more in (self._of_inputs(weight), self._of_outputs(weight)):
            if more is not None:
                delays = more.expand(weight.shape) if delays is None else delays + more
        biases = [bias for bias in (synapses.bias, *self.biases.values()) if bias is not None]
        bias = torch.stack(biases).sum(0) if biases else None
        return Stage(name, number, weight, delays, taps, bias, synapses.geometry, cell, self.fed, shape, self.flattens)

    def _of_inputs(self, weight: Tensor) -> Tensor | None:
        """Delays of the inputs, such that they broadcast over the weight."""
        if self.before is None or self.synapses is None:
            return None
        geometry = self.synapses.geometry
        if geometry is None:
            return self.before.view(1, -1, *(1,) * (weight.dim() - 2))
        channels = self.before.flatten(1)[:, 0].view(geometry.groups, 1, -1)  # the same at all places
        each = channels.expand(-1, len(weight) // geometry.groups, -1).flatten(0, 1)  # (O, I)
        return each.view(*each.shape, *(1,) * (weight.dim() - 2))

    def _of_outputs(self, weight: Tensor) -> Tensor | None:
        return None if self.behind is None else self.behind.view(-1, *(1,) * (weight.dim() - 1))
