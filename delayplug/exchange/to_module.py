"""A graph as a module that runs it, with the neurons of a toolkit and delays that can be trained.

Shapes: T steps, B batch; a sample at one step has the shape of the graph's input.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, ExchangeError, SequenceError
from ..layers.conv import KernelDelay
from ..layers.engines.convolve import Engine
from ..layers.linear import LearnableDelay
from ..layers.state import DelayState
from ..layers.taps import SIGMA_FLOOR, Interpolation
from ..neurons.cell import Cell
from ..neurons.recurrence import in_steps
from ..running.loop import Continuing, Step, over_time, step_by_step
from ..toolkits.capabilities import dynamics, exchanges, streams
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode
from . import nodes as layers
from .graph import Delay, Flatten, Graph, Input, Neurons, Node, Output, Pool, Scale, Synapses, Threshold, unused

Layer = TypeVar("Layer", bound=nn.Module)
State = dict[str, Any]  # of each part that remembers something, by its key


class GraphNetwork(Continuing):
    """A feed-forward graph as a module: (T, B, *input) to (T, B, *output), each call a sequence of its own.

    `chunk` and `step` run it from a state, which `stream` does, too.

    It is made in `eval()`, where delays count as whole steps and it computes the graph exactly; in `train()` weights
    and delays learn like those of any `LearnableDelay`. `parts` holds a module for every node that has numbers.
    """

    def __init__(
        self, graph: Graph, toolkit: Toolkit, *, interpolation: Interpolation = "gauss", engine: Engine = "direct"
    ) -> None:
        """
        Args:
            graph: what to compute.
            toolkit: whose neurons to use.
            interpolation: of the delays; widths are the smallest, so that training begins with what the graph computes.
            engine: of the delays per synapse; "direct" adds exactly where weights have few bits.

        Raises:
            ExchangeError: the graph is malformed, or the toolkit has no neuron like one of its; it is named.
        """
        super().__init__()
        graph = _with_gains(graph, toolkit)
        graph.check_range()
        self.shape = next(node.shape for node in graph.nodes.values() if isinstance(node, Input))
        graph.shapes()
        graph.check_sums()
        self.toolkit = toolkit
        self.parts = nn.ModuleDict()
        self.steps: list[tuple[str, str, list[str]]] = []  # (name of the node, key of its part or "", sources)
        for name, node, sources in graph.walk():
            try:
                part = _part(node, toolkit, interpolation, engine)
            except ExchangeError as error:
                raise ExchangeError(f"{name}: {error}") from None
            key = ""
            if part is not None:
                key = unused(name.replace(".", "_"), partial(hasattr, self.parts))
                self.parts[key] = part
            self.steps.append((name, key, sources))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """x (T, B, *input) to (T, B, *output): spikes, or the membrane of a readout."""
        return self.activity(x)[self.steps[-1][0]]

    def activity(self, x: Tensor) -> dict[str, Tensor]:
        """The result of every node of the graph, by name, (T, B, *its shape)."""
        return self._results(x, lambda key, part, x: self._run(part, x))

    def _results(self, x: Tensor, run: Callable[[str, nn.Module, Tensor], Tensor]) -> dict[str, Tensor]:
        """The result of every node by name; `run` gives that of a part from its key, itself and its input."""
        if not isinstance(x, Tensor) or tuple(x.shape[2:]) != self.shape or x.dim() < 2 or x.shape[0] == 0:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            advice = "For one step at a time use step, or delayplug.stream"
            raise ArgumentError("x", f"a sequence (T, B, {', '.join(map(str, self.shape))})", got, advice)
        values: dict[str, Tensor] = {}
        for name, key, sources in self.steps:
            total = x if not sources else values[sources[0]]
            for source in sources[1:]:
                total = total + values[source]
            values[name] = run(key, self.parts[key], total) if key else total
        return values

    def chunk(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """A part of a sequence: `forward` from a state, None for the beginning, and the next state.

        Args:
            x: (T, B, *input).
            state: what the part before returned; it is not changed.

        Raises:
            ArgumentError: x is no such part, or the state is not one of this network.
        """
        remembering = {key for key, part in self.parts.items() if self._remembers(part)}
        if state is not None and (not isinstance(state, dict) or set(state) != remembering):
            raise ArgumentError("state", "what chunk or step of this network returned", type(state).__name__)
        before, after = state or {}, State()

        def run(key: str, part: nn.Module, x: Tensor) -> Tensor:
            if key not in remembering:
                return self._run(part, x)
            if isinstance(part, LearnableDelay | DelayedKernel):
                y, after[key] = part.chunk(x, before.get(key))
            else:
                y, after[key] = neuron_from(self.toolkit, part, x, before.get(key))
            return y

        return self._results(x, run)[self.steps[-1][0]], after

    def step(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step (B, *input) from a state, None for the beginning: (B, *output), and the next state."""
        if not isinstance(x, Tensor):
            raise ArgumentError("x", f"a step (B, {', '.join(map(str, self.shape))})", type(x).__name__)
        y, state = self.chunk(x.unsqueeze(0), state)
        return y.squeeze(0), state

    def _remembers(self, part: nn.Module) -> bool:
        return self.toolkit.is_neuron(part) or isinstance(part, LearnableDelay | DelayedKernel)

    def _run(self, part: nn.Module, x: Tensor) -> Tensor:
        if self.toolkit.is_neuron(part):
            return run_neuron(self.toolkit, part, x)
        takes_time = isinstance(part, LearnableDelay | DelayedKernel | nn.Linear | Scaling | Above)
        y: Tensor = part(x) if takes_time else part(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return y

    def graph(self) -> Graph:
        """The graph of what the module computes now, with its delays rounded."""
        graph = Graph()
        for name, key, sources in self.steps:
            node = self._node(self.parts[key]) if key else (Output() if sources else Input(self.shape))
            graph.nodes[name] = node
            graph.edges += [(source, name) for source in sources]
        return graph.simplified()

    def _node(self, part: nn.Module) -> Node:
        if self.toolkit.is_neuron(part):
            return Neurons(exchanges(self.toolkit).describe(part))
        if isinstance(part, LearnableDelay):
            return layers.of_delay(part)
        if isinstance(part, DelayedKernel):
            plain, delays = layers.of_weights(part.conv), layers.whole_delays(part.delay)
            return Synapses(plain.weight.unsqueeze(-1), plain.bias, plain.geometry, delays, part.delay.max_delay)
        if isinstance(part, layers.POOLS):
            if getattr(part, "divisor_override", None) is None:
                return layers.of_pool(part, ())
            assert isinstance(part, nn.AvgPool2d)
            return Pool("sum", layers.pair(part.kernel_size), layers.pair(part.stride), layers.pair(part.padding))
        if isinstance(part, Scaling):
            return Scale(part.factor.cpu())
        if isinstance(part, Above):
            return Threshold(part.threshold.cpu())
        return Flatten() if isinstance(part, nn.Flatten) else layers.of_weights(part)


class DelayedKernel(nn.Module):
    """A convolution with a delay for each element of its kernel: (T, B, C, *space) to (T, B, O, *space).

    Weight initialisation that goes by names of classes is to see the convolution in it, and not it.
    """

    def __init__(self, conv: nn.Conv1d | nn.Conv2d, delay: KernelDelay) -> None:
        super().__init__()
        self.conv, self.delay = conv, delay

    def forward(self, x: Tensor) -> Tensor:
        """A whole sequence from a fresh state; the bias is not delayed."""
        return self._with_bias(self.delay(x, weight=self.conv.weight))

    def chunk(self, x: Tensor, state: DelayState | None) -> tuple[Tensor, DelayState]:
        """A part of a sequence from a state, None for a fresh one, and the next state."""
        y, after = self.delay.chunk(x, state, self.conv.weight)
        return self._with_bias(y), after

    def _with_bias(self, y: Tensor) -> Tensor:
        bias = self.conv.bias
        return y if bias is None else y + bias.view(-1, *(1,) * self.delay.dims)


DelayedConvolution = DelayedKernel  # its name in models that delayplug 0.1 saved


class Scaling(nn.Module):
    """Every value times a number that is not trained."""

    factor: Tensor

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor.to(torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape and dtype of x."""
        return x * self.factor.to(x.dtype)


class Above(nn.Module):
    """One where a value is above a threshold, else zero; without a surrogate, so that nothing learns through it."""

    threshold: Tensor

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.to(torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape and dtype of x."""
        return (x > self.threshold.to(x.dtype)).to(x.dtype)


def run_neuron(toolkit: Toolkit, neuron: nn.Module, x: Tensor) -> Tensor:
    """A neuron over a whole sequence (T, B, ...) from a fresh state; it is reset afterwards."""
    streams(toolkit).reset(neuron)
    try:
        out = neuron(x) if toolkit.mode(neuron) == Mode.SEQUENCE else over_time(toolkit, neuron, neuron, x)
    finally:
        streams(toolkit).reset(neuron)
    first = out[0] if isinstance(out, tuple) else out
    result: Tensor = torch.stack(first) if isinstance(first, list) else first
    return result


def neuron_from(toolkit: Toolkit, neuron: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """A neuron over a part of a sequence (T, B, ...) from a state, None for a fresh one, and the next state.

    What the neuron holds itself is in the state, too; it is reset afterwards.
    """
    held, is_sequence = streams(toolkit), toolkit.mode(neuron) == Mode.SEQUENCE
    if not held.kept_state(neuron):
        if toolkit.held_state(neuron):
            kind = type(neuron).__name__
            raise SequenceError(f"{kind} keeps a state that its backend does not give out: it needs kept_state")
        if is_sequence:  # which begins at each call
            return _by_its_dynamics(toolkit, neuron, x, state or ())
        # It takes its state and returns the next one.
        return step_by_step(_with_its_state(neuron), x, state or ())
    held.reset(neuron)
    try:
        if state is not None:
            held.put_state(neuron, state)
        if is_sequence:
            out = neuron(x)
        else:
            out, _ = step_by_step(lambda x_t, _: (neuron(x_t), ()), x)
        after = held.kept_state(neuron)
    finally:
        held.reset(neuron)
    return out[0] if isinstance(out, tuple) else out, after


def _by_its_dynamics(
    toolkit: Toolkit, neuron: nn.Module, x: Tensor, state: tuple[Tensor | None, ...]
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    known = dynamics(toolkit, neuron)
    if known is None:
        raise SequenceError(
            f"{type(neuron).__name__} begins at each call, and its backend does not say what a step does"
        )
    activity = in_steps(known, x, *state)
    return activity.output, (activity.membrane, activity.current, activity.adaptation)


def _with_its_state(neuron: nn.Module) -> Step:
    def step(x: Tensor, state: Any) -> tuple[Any, Any]:
        out = neuron(x, *state)
        return out[0], out[1:]

    return step


def _with_gains(graph: Graph, toolkit: Toolkit) -> Graph:
    """The graph with a scale before each neuron whose gain the toolkit does not have."""
    graph = Graph(dict(graph.nodes), list(graph.edges))
    for name, node in list(graph.nodes.items()):
        if not isinstance(node, Neurons):
            continue
        cell, gains = node.cell, exchanges(toolkit).gains(node.cell)
        if any(Cell.close(cell.gain, gain) for gain in gains):
            continue
        sources = graph.before(name)
        graph.edges = [(a, b) for a, b in graph.edges if b != name]
        scale = graph.add(f"{name}.gain", Scale(cell.gain / gains[0]), sources)
        graph.edges.append((scale, name))
        graph.nodes[name] = Neurons(replace(cell, gain=gains[0]))
    return graph


def _part(node: Node, toolkit: Toolkit, interpolation: Interpolation, engine: Engine) -> nn.Module | None:
    sigma = SIGMA_FLOOR.get(interpolation)
    options: dict[str, Any] = {"interpolation": interpolation, "sigma": sigma, "init": 0.0}
    match node:
        case Synapses(delays=None, geometry=None):
            linear = nn.Linear(node.weight.shape[1], node.weight.shape[0], bias=node.bias is not None)
            return _filled(linear, weight=node.weight, bias=node.bias)
        case Synapses(delays=None):
            return _convolution(node, node.weight)
        case Synapses(geometry=None):
            outputs, inputs, taps = node.weight.shape
            options |= {"bias": node.bias is not None, "taps": taps, "max_delay": node.max_delay, "engine": engine}
            layer = LearnableDelay(inputs, outputs, **options)
            return _filled(layer, weight=node.weight, bias=node.bias, delays=node.delays)
        case Synapses():
            conv = _convolution(node, node.weight[..., 0])
            kernel = KernelDelay(conv, max_delay=node.max_delay, **options).to(conv.weight.dtype)
            return DelayedKernel(conv, _filled(kernel, delays=node.delays))
        case Delay():
            channels = LearnableDelay(len(node.delays), max_delay=node.max_delay, **options)
            return _filled(channels, delays=node.delays)
        case Neurons():
            return exchanges(toolkit).build(node.cell)
        case Pool(kind="max"):
            return nn.MaxPool2d(node.kernel, node.stride, node.padding, node.dilation)
        case Pool():
            divisor = 1 if node.kind == "sum" else None
            return nn.AvgPool2d(node.kernel, node.stride, node.padding, divisor_override=divisor)
        case Flatten():
            return nn.Flatten(1)
        case Scale():
            return Scaling(node.factor)
        case Threshold():
            return Above(node.threshold)
    return None


def _convolution(node: Synapses, weight: Tensor) -> nn.Conv1d | nn.Conv2d:
    """A convolution with this weight, (O, I, *), and the bias of the node."""
    assert node.geometry is not None
    geometry = node.geometry
    kind: Any = nn.Conv1d if len(node.kernel) == 1 else nn.Conv2d
    conv: nn.Conv1d | nn.Conv2d = kind(
        weight.shape[1] * geometry.groups,
        weight.shape[0],
        node.kernel,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
        bias=node.bias is not None,
    )
    return _filled(conv, weight=weight, bias=node.bias)


@torch.no_grad()
def _filled(layer: Layer, **numbers: Tensor | None) -> Layer:
    """The layer with these numbers in its Parameters of these names."""
    for name, values in numbers.items():
        if values is not None:
            layer.get_parameter(name).copy_(values)
    return layer
