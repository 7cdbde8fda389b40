"""From a model to a graph: run it, and say what ran."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExchangeError
from ..layers.base import DelayLayer
from ..surgery.dataflow import Example, preserved
from ..surgery.find import reset_delays
from ..surgery.inventory import Network
from ..toolkits import plugins
from ..toolkits.capabilities import exchanges, streams
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode
from . import nodes as layers
from .graph import Delay, Flatten, Graph, Input, Neurons, Node, Output, Scale, Shape, Synapses
from .observe import INPUT, STATE, Followed, Mark, Run, follow
from .to_module import GraphNetwork

_MOST_DIFFERENT = 0.01  # of a neuron's spikes, for what rounding does where a batch norm is taken in

ASK_OUTPUT = "name the neurons or layers whose results are the output: outputs=['...']"


def graph_of(model: nn.Module, example: Example | None, outputs: Sequence[str] | None) -> Graph:
    """The graph of what a model computes in `eval()`, its delays rounded.

    Raises:
        ExchangeError: something in the model cannot be said as a graph; it is named.
    """
    if isinstance(model, GraphNetwork):
        return model.graph()
    network = Network(model, plugins.toolkit_of(model.modules())[1])
    with torch.random.fork_rng(devices=[]):
        return _graph_of(network, example, outputs)


def _graph_of(network: Network, example: Example | None, outputs: Sequence[str] | None) -> Graph:
    model = network.model
    modules = {name: module for name, module in network.modules.items() if _is_followed(network, name, module)}
    with preserved(model):
        model.eval()
        reset_delays(model)
        for module in network.modules.values():
            streams(network.toolkit).reset(module)
        run = follow(model, _example(network) if example is None else example, modules)
    builder = _Builder(network, run, modules)
    graph = builder.build(outputs)
    graph.shapes()
    graph = graph.simplified()
    _compare(network.toolkit, graph, builder)
    return graph


def _is_followed(network: Network, name: str, module: nn.Module) -> bool:
    """Whether a module is a node of the graph. What others do is looked at operation by operation."""
    if name in network.neurons or isinstance(module, DelayLayer):
        return not network.belongs(name) or name in network.neurons
    if network.belongs(name):
        return False
    norm = isinstance(network.weights_of(module), nn.modules.batchnorm._BatchNorm)
    return name in network.layers or norm or isinstance(network.weights_of(module), nn.AvgPool2d)


def _example(network: Network) -> Example:
    """Some steps of noise for a chain of modules that begins with a linear layer."""
    chain = all(
        network.in_order(module) or not any(module.children()) or name in network.layers or name in network.neurons
        for name, module in network.modules.items()
        if not network.belongs(name) and not any(parent in network.neurons for parent, _ in network.ancestors(name))
    )
    first = next(iter(network.layers.values()), None)
    weights: Any = None if first is None else network.weights_of(first)
    if isinstance(first, nn.Linear | DelayLayer) or isinstance(weights, nn.Linear):
        modes = {network.toolkit.mode(neuron) for neuron in network.neurons.values()}
        if chain and len(modes) == 1:
            x = (torch.rand(4, 2, weights.in_features) < 0.5).to(next(weights.parameters()))
            return x if modes == {Mode.SEQUENCE} else lambda model: _by_steps(model, x)
    raise ExchangeError(
        "the structure of the model does not show how it runs: pass example= (an input, or a function that "
        "drives the model)"
    )


def _by_steps(model: nn.Module, x: Tensor) -> None:
    state: Any = None
    passes = "state" in inspect.signature(model.forward).parameters
    for x_t in x:
        out = model(x_t, state) if passes else model(x_t)
        state = out[1] if passes else None


class _Builder:
    """Makes the graph of a run."""

    def __init__(self, network: Network, run: Run, modules: dict[str, nn.Module]) -> None:
        self.network, self.run, self.modules = network, run, modules
        self.graph = Graph()
        self.nodes: dict[str, list[Node]] = {}  # of each module, one after the other
        self.ends: dict[str, list[str]] = {}  # the names of the nodes that give a module's result
        self.shapes: dict[str, Shape] = {}  # of a module's result
        self.marks: dict[str, Mark] = {}
        self.merged: dict[str, str] = {}  # a batch norm that was taken in, and the layer

    def build(self, outputs: Sequence[str] | None) -> Graph:
        for name, call in self.run.calls.items():
            if (
                name in self.network.recurrent
                or self.network.own_weights.recurrent_layer(self.modules[name]) is not None
            ):
                kind = type(self.modules[name]).__name__
                raise ExchangeError(f"{name} ({kind}) feeds spikes back: only feed-forward networks can be exchanged")
            self.marks[name] = self._one_mark(name, call)
        order = list(self.run.calls)
        for name in order:
            late = [part for part in self.marks[name].parts if part in order and order.index(part) >= order.index(name)]
            if late:
                raise ExchangeError(
                    f"{name} is fed by {', '.join(late)}, which runs after it: a recurrent connection; only "
                    f"feed-forward "
                    "networks can be exchanged"
                )
        sources = outputs if outputs is not None else self._outputs()
        for name in sources:
            if name not in self.run.calls:
                raise ExchangeError(f"outputs: {name} is no layer or neuron that ran; those are {', '.join(order)}")
        self._add_input()
        for name, call in self.run.calls.items():
            self._add(name, call)
        shapes = {self.shapes[self.merged.get(name, name)] for name in sources}
        if len(shapes) > 1:
            raise ExchangeError(f"the outputs {', '.join(sources)} have different shapes: {ASK_OUTPUT}")
        self.graph.add("output", Output(), [end for name in sources for end in self.ends[self.merged.get(name, name)]])
        return self.graph

    # ------------------------------------------------------------------------------------------------- marks

    def _one_mark(self, name: str, call: Followed) -> Mark:
        first = call.marks[0]
        if first is None:
            raise ExchangeError(
                f"{name} is given something that does not come from the input of the model or from another of "
                f"its modules"
            )
        for mark in call.marks:
            self._check_mark(name, mark)
            if mark != first:
                raise ExchangeError(
                    f"{name} is not given the same at each of its calls: it is shared, or something flows back "
                    f"in time. Only "
                    "feed-forward networks in which every module has one place can be exchanged"
                )
        return first

    def _check_mark(self, name: str, mark: Mark | None) -> None:
        if mark is None or not mark.other:
            for part in mark.parts if mark is not None else ():
                if not self._gives(part):
                    raise ExchangeError(f"{name} is given {self._words(part)}")
            return
        raise ExchangeError(f"before {name}: {mark.other} has no counterpart in a graph")

    def _gives(self, part: str) -> bool:
        """Whether a part is what its node gives: spikes of a neuron, the membrane of a readout."""
        name = part.removeprefix(STATE)
        neuron = self.network.neurons.get(name)
        if neuron is None:
            return not part.startswith(STATE)
        # A neuron may give spikes, and the membrane that is never reset behind them.
        spikes_first = self.network.toolkit.is_spiking(neuron) and self._cell(name, neuron).cell.threshold is None
        return part.startswith(STATE) == spikes_first

    def _words(self, part: str) -> str:
        name = part.removeprefix(STATE)
        if part.startswith(STATE):
            return f"the state of {name}, such as its membrane, where a graph has the spikes of a neuron that resets"
        if name in self.network.neurons:
            return f"the spikes of {name}, which never resets, where a graph has its membrane"
        return name

    def _outputs(self) -> list[str]:
        """The modules whose results, added, the model gives back; those that feed nothing if it gives nothing back."""
        sinks = self._sinks()
        found: list[Mark] = []
        for result in self.run.results:
            for mark in result:
                if mark is not None and mark not in found:
                    found.append(mark)
        if not found:
            if len(sinks) > 1:
                raise ExchangeError(f"{', '.join(sinks)} feed nothing, and the model gives nothing back: {ASK_OUTPUT}")
            return sinks
        clean = [
            mark for mark in found if not mark.other and INPUT not in mark.parts and all(map(self._gives, mark.parts))
        ]
        if len(clean) > 1:  # such as the spikes of every layer
            clean = [mark for mark in clean if {part.removeprefix(STATE) for part in mark.parts} <= set(sinks)] or clean
        if len(clean) > 1:
            several = " and ".join(" + ".join(mark.parts) for mark in clean)
            raise ExchangeError(f"the model gives several things back, {several}: {ASK_OUTPUT}")
        if not clean:
            reasons = [m.other or " + ".join(map(self._words, m.parts)) for m in found]
            raise ExchangeError(
                f"the model gives back what a graph does not have: {'; '.join(reasons)}. Please {ASK_OUTPUT}"
            )
        if any(factor != 1 for factor in clean[0].parts.values()):
            raise ExchangeError(f"the model gives back a multiple of {' + '.join(clean[0].parts)}: {ASK_OUTPUT}")
        return [part.removeprefix(STATE) for part in clean[0].parts]

    def _sinks(self) -> list[str]:
        used = {part.removeprefix(STATE) for mark in self.marks.values() for part in mark.parts}
        return [name for name in self.run.calls if name not in used]

    # ------------------------------------------------------------------------------------------------- nodes

    def _add_input(self) -> None:
        shapes = {}
        for name, call in self.run.calls.items():
            if INPUT in self.marks[name].parts:
                shapes[name] = self._wanted(name, tuple(call.inputs[0].shape), None)
        if not shapes:
            raise ExchangeError("no layer or neuron is given the input of the model")
        if len(set(shapes.values())) > 1:
            each = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ExchangeError(f"the input comes to its layers in different shapes: {each}")
        self.shapes[INPUT] = next(iter(shapes.values()))
        self.ends[INPUT] = [self.graph.add("input", Input(self.shapes[INPUT]))]

    def _add(self, name: str, call: Followed) -> None:
        module = self.modules[name]
        parts = {self._source(part): factor for part, factor in self.marks[name].parts.items()}
        given = {self.shapes[source] for source in parts}
        if len(given) > 1:
            raise ExchangeError(f"{name} is given a sum of different shapes")
        shape = self._wanted(name, tuple(call.inputs[0].shape), next(iter(given)))
        if self._takes_in(name, module, parts):
            return
        try:
            nodes = self._nodes(name, module, shape)
        except ExchangeError as error:
            raise ExchangeError(f"{name} ({type(module).__name__}): {error}") from None
        ends = self._sources(name, parts, next(iter(given)), shape)
        names = []
        for i, node in enumerate(nodes):
            own = name if isinstance(node, Synapses) or len(nodes) == 1 else f"{name}.delay"
            behind = nodes[i + 1] if i + 1 < len(nodes) else None
            if isinstance(node, Synapses) and isinstance(behind, Delay) and node.bias is not None:
                node, apart = _without_bias(node)
                names.append(self.graph.add(f"{name}.bias", apart, ends))
            ends = [self.graph.add(own, node, ends)]
        self.nodes[name], self.ends[name] = nodes, [*ends, *names]
        behind_all = Graph({"input": Input(shape)})
        last = "input"
        for node in nodes:
            last = behind_all.add("node", node, [last])
        behind_all.add("output", Output(), [last])
        self.shapes[name] = behind_all.shapes()[last]

    def _source(self, part: str) -> str:
        name = part.removeprefix(STATE)
        return self.merged.get(name, name)

    def _sources(self, name: str, parts: dict[str, float], given: Shape, shape: Shape) -> list[str]:
        """The nodes that feed a module, with scales and a flattening on the way where these are."""
        same = len(set(parts.values())) == 1
        ends: list[str] = []
        for source, factor in parts.items():
            found = self.ends[source]
            if factor != 1 and not same:
                number = torch.tensor(factor, dtype=torch.float64)
                found = [self.graph.add(f"{name}.scale", Scale(number), found)]
            ends += found
        factor = next(iter(parts.values()))
        if same and factor != 1:
            ends = [self.graph.add(f"{name}.scale", Scale(torch.tensor(factor, dtype=torch.float64)), ends)]
        if shape != given:
            ends = [self.graph.add(f"{name}.flatten", Flatten(), ends)]
        return ends

    def _wanted(self, name: str, seen: Shape, given: Shape | None) -> Shape:
        """The shape of a sample in what a module takes; `given` is that of what it is made of, None for the input."""
        dims = self._dims(name)
        if dims is None and given is None:
            neuron = self.network.neurons.get(name)
            sequence = neuron is None or self.network.toolkit.mode(neuron) == Mode.SEQUENCE
            found = seen[2:] if sequence and len(seen) > 2 else seen[1:]
        elif dims is None:
            assert given is not None
            found = given if seen[len(seen) - len(given) :] == given else (seen[-1],)
        else:
            found = seen[max(0, len(seen) - dims) :]
        if given is not None and found not in (given, (math.prod(given),)):
            raise ExchangeError(f"{name} is given shape {found} made of {given}: only flattening can be exchanged")
        return found

    def _dims(self, name: str) -> int | None:
        """Dimensions of a sample that a module takes; None if it takes any."""
        module = self.modules[name]
        weights = self.network.weights_of(module)
        if isinstance(weights, nn.AvgPool2d):
            return 3
        if isinstance(module, DelayLayer):
            return 1 if getattr(module, "out_features", None) is not None else None
        return 1 + self.network.space_of(module) if name in self.network.layers else None

    def _takes_in(self, name: str, module: nn.Module, parts: dict[str, float]) -> bool:
        """Take a batch norm into the layer before it, if that feeds nothing else."""
        weights: Any = self.network.weights_of(module)
        if not isinstance(weights, nn.modules.batchnorm._BatchNorm):
            return False
        source = next(iter(parts))
        users = [n for n, mark in self.marks.items() if source in {self._source(part) for part in mark.parts}]
        found = [node for node in self.nodes.get(source, []) if isinstance(node, Synapses)]
        if parts != {source: 1.0} or users != [name] or not found:
            return False
        scale, shift = layers.of_norm(weights)
        new = layers.normed(found[0], scale, shift)
        dendritic = isinstance(self.nodes[source][-1], Delay)
        for end, node in list(self.graph.nodes.items()):
            if node is found[0]:
                self.graph.nodes[end] = new
        self.nodes[source] = [new if node is found[0] else node for node in self.nodes[source]]
        if dendritic:
            self._bias_apart(source, found[0], new)
        self.merged[name] = source
        return True

    def _bias_apart(self, source: str, old: Synapses, new: Synapses) -> None:
        """A layer with a delay behind it has its bias in a branch of its own."""
        before = self.graph.before(source)
        bare, apart = _without_bias(new)
        self.graph.nodes[source] = bare
        extra = [end for end in self.ends[source] if isinstance(self.graph.nodes[end], Synapses)]
        if extra:
            self.graph.nodes[extra[0]] = apart
        else:
            self.ends[source].append(self.graph.add(f"{source}.bias", apart, before))

    def _nodes(self, name: str, module: nn.Module, shape: Shape) -> list[Node]:
        network, weights = self.network, self.network.weights_of(module)
        if name in network.neurons:
            return [Neurons(exchanges(network.toolkit).describe(module))]
        if isinstance(module, DelayLayer):
            return [layers.of_delay(module)]
        if isinstance(weights, nn.modules.batchnorm._BatchNorm):
            if len(shape) != 1:
                raise ExchangeError("a batch norm over space that does not follow a layer of its own")
            scale, shift = layers.of_norm(weights)
            return [Synapses(torch.diag(scale).float(), shift.float())]
        if isinstance(weights, nn.AvgPool2d):
            return [layers.of_pool(weights)]
        if not (module.delay_place.affine if layers.is_delayed(module) else network.is_torch(module)):  # type: ignore[union-attr]
            raise ExchangeError(
                "a layer with a computation of its own: linear layers and convolutions can be exchanged"
            )
        if layers.is_delayed(module):
            return layers.of_delayed(module, weights)
        return [layers.of_weights(weights)]

    def _cell(self, name: str, neuron: nn.Module) -> Neurons:
        try:
            return Neurons(exchanges(self.network.toolkit).describe(neuron))
        except ExchangeError as error:
            raise ExchangeError(f"{name} ({type(neuron).__name__}): {error}") from None


def _without_bias(node: Synapses) -> tuple[Synapses, Synapses]:
    """The weights alone, and a layer of no weights that gives the bias."""
    weight = node.weight if node.delays is None else node.weight[..., 0]
    bare = Synapses(node.weight, None, node.geometry, node.delays, node.max_delay)
    return bare, Synapses(torch.zeros_like(weight), node.bias, node.geometry)


def _compare(toolkit: Toolkit, graph: Graph, builder: _Builder) -> None:
    """Raise ExchangeError if the graph, run on what the model was given, does not give the spikes that the model gave.

    This finds what modules do not show, such as a state that is changed between steps. Left out where the model keeps
    the time in other ways than step by step or first.
    """
    shapes = builder.shapes
    calls = builder.run.calls
    first = next((name for name, mark in builder.marks.items() if INPUT in mark.parts), "")
    x = _in_time(calls[first].inputs, shapes[INPUT])
    if x is None or builder.marks[first].parts != {INPUT: 1.0}:
        return
    try:
        values = GraphNetwork(graph, toolkit).activity(x.float())
    except ExchangeError:  # it can be said, and not be built in this toolkit
        return
    for name in builder.network.neurons:
        if name not in calls or builder.modules[name] is None or name not in values:
            continue
        node = graph.nodes[name]
        seen = _in_time(calls[name].outputs, shapes[name])
        if (
            seen is None
            or seen.shape != values[name].shape
            or not isinstance(node, Neurons)
            or node.cell.threshold is None
        ):
            continue
        different = float((seen != values[name]).float().mean())
        if different > _MOST_DIFFERENT:
            raise ExchangeError(
                f"{name} fires differently in the graph than in the model, {different:.0%} of its steps: its "
                f"state is changed "
                "between steps, or the example does not begin a new sequence"
            )


def _in_time(values: list[Tensor], shape: Shape) -> Tensor | None:
    """Values of all steps, (T, B, *shape), if the calls show them so."""
    dims = len(shape)
    if all(value.dim() == dims + 1 and tuple(value.shape[1:]) == shape for value in values):
        same = all(value.shape == values[0].shape for value in values)
        return torch.stack(values) if same else None
    if len(values) == 1 and values[0].dim() == dims + 2 and tuple(values[0].shape[2:]) == shape:
        return values[0]
    return None
