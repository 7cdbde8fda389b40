"""From a model to a graph: the model is run, and what ran becomes nodes and edges.

Shapes of a sample are those of one sample at one step.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ExchangeError
from ..layers.base import DelayLayer
from ..neurons.fused import fused_neurons
from ..running.loop import call, reset_states, step_by_step
from ..surgery.classes import as_plain
from ..surgery.dataflow import Example, preserved
from ..surgery.delayed import Delayed
from ..surgery.inventory import Network
from ..surgery.through import Through
from ..toolkits import plugins
from ..toolkits.capabilities import exchanges
from ..toolkits.vocabulary import Mode
from . import nodes as layers
from .graph import Delay, Flatten, Graph, Input, Neurons, Node, Output, Scale, Shape, Synapses, shape_after
from .observe import INPUT, Followed, Mark, Run, follow
from .sources import ASK_OUTPUT, input_marks, module_of, output_names
from .to_module import GraphNetwork
from .verify import verify


def graph_of(model: nn.Module, example: Example | None, outputs: Sequence[str] | None) -> Graph:
    """The graph of what a model computes in `eval()`, its delays rounded.

    Args:
        model: it is left as it was.
        example: what to run it on; None for noise, if its structure shows how it runs.
        outputs: the modules whose results, added, are the output; None for what the model returns.

    Raises:
        ExchangeError: a graph has no node for something in the model; it is named.
    """
    if isinstance(model, GraphNetwork):
        return model.graph()
    network = Network(model, plugins.toolkit_of(model.modules())[1])
    modules = {name: module for name, module in network.modules.items() if _is_followed(network, name, module)}
    with torch.random.fork_rng(devices=[]):
        with preserved(model), fused_neurons(False):  # whose kernels have no counterpart in a graph
            model.eval()
            reset_states(network)
            spiking = [name for name, neuron in network.neurons.items() if network.toolkit.is_spiking(neuron)]
            run = follow(model, _noise(network) if example is None else example, modules, spiking)
            network.modules |= run.operations
            # Within the block: hooks of weight norm and pruning made the weights of this run.
            builder = _Builder(network, run)
            graph = builder.build(outputs)
        graph.shapes()
        graph = graph.simplified()
        verify(graph, network, run, builder.marks, builder.shapes)
    return graph


def _is_followed(network: Network, name: str, module: nn.Module) -> bool:
    """Whether a module is a node of the graph. Operations of the others are looked at one by one."""
    if name in network.neurons:
        return True
    if network.belongs(name):
        return False
    weights = network.weights_of(module)
    return name in network.layers or isinstance(module, DelayLayer) or isinstance(weights, (_BatchNorm, *layers.POOLS))


def _noise(network: Network) -> Example:
    """Some steps of noise for a chain of modules that begins with a linear layer."""
    chain = all(
        network.in_order(module) or not any(module.children()) or name in network.layers or name in network.neurons
        for name, module in network.modules.items()
        if not network.belongs(name) and not any(parent in network.neurons for parent, _ in network.ancestors(name))
    )
    first = next(iter(network.layers.values()), None)
    weights = None if first is None else network.weights_of(first)
    before = itertools.takewhile(lambda module: module is not first, network.modules.values())
    if chain and any(isinstance(network.weights_of(module), nn.Flatten) for module in before):
        raise ExchangeError("the model flattens its input, whose shape its structure does not show: pass example=")
    modes = {network.toolkit.mode(neuron) for neuron in network.neurons.values()}
    if isinstance(weights, nn.Linear) and chain and len(modes) == 1:
        x = (torch.rand(4, 2, weights.in_features) < 0.5).to(weights.weight)
        return x if modes == {Mode.SEQUENCE} else lambda model: step_by_step(functools.partial(call, model), x)
    raise ExchangeError(
        "the structure of the model does not show how it runs: pass example= (an input, or a function that "
        "drives the model)"
    )


_PART = {Delay: "delay", Synapses: "weights"}  # behind the name of a module that is several nodes


class _Builder:
    """Makes the graph of a run."""

    def __init__(self, network: Network, run: Run) -> None:
        self.network, self.run = network, run
        self.graph = Graph()
        self.nodes: dict[str, list[Node]] = {}  # of each module, one after the other
        self.names: dict[str, list[str]] = {}  # of these in the graph
        self.ends: dict[str, list[str]] = {}  # the names of the nodes that compute a module's result
        self.shapes: dict[str, Shape] = {}  # of a sample of a module's result
        self.marks: dict[str, Mark] = {}  # what a module's input is made of
        self.absorbed: dict[str, str] = {}  # a batch norm that is part of a layer's weights, and the layer

    def build(self, outputs: Sequence[str] | None) -> Graph:
        self.marks = input_marks(self.network, self.run)
        names = output_names(self.network, self.run, self.marks, outputs)
        self._add_input()
        for name, calls in self.run.calls.items():
            self._add(name, calls)
        sources = [self.absorbed.get(name, name) for name in names]
        if len({self.shapes[source] for source in sources}) > 1:
            raise ExchangeError(f"the outputs {', '.join(names)} have different shapes: {ASK_OUTPUT}")
        self.graph.add("output", Output(), [end for source in sources for end in self.ends[source]])
        return self.graph

    def _add_input(self) -> None:
        shapes = {
            name: self._own_shape(calls, self._sample_shape(name, calls.inputs[0].shape, None))
            for name, calls in self.run.calls.items()
            if INPUT in self.marks[name].parts
        }
        if not shapes:
            raise ExchangeError("no layer or neuron takes the input of the model")
        if len(set(shapes.values())) > 1:
            each = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ExchangeError(f"the input comes to its layers in different shapes: {each}")
        self.shapes[INPUT] = next(iter(shapes.values()))
        self.ends[INPUT] = [self.graph.add("input", Input(self.shapes[INPUT]))]

    def _add(self, name: str, calls: Followed) -> None:
        """Add the nodes of a module behind those that feed it."""
        module = self.network.modules[name]
        parts = {self._source(part): factor for part, factor in self.marks[name].parts.items()}
        shapes = {self.shapes[source] for source in parts}
        if len(shapes) > 1:
            raise ExchangeError(f"the input of {name} is a sum of different shapes")
        (source_shape,) = shapes
        shape = self._sample_shape(name, calls.inputs[0].shape, source_shape)
        if self._absorb(name, parts):
            return
        try:
            nodes = self._nodes(name, module, shape)
        except ExchangeError as error:
            raise ExchangeError(f"{name} ({type(module).__name__}): {error}") from None
        ends = self._scaled(name, parts)
        if shape != source_shape:
            ends = [self.graph.add(f"{name}.flatten", Flatten(), ends)]
        names, biases = [], []
        main = Neurons if name in self.network.neurons else Synapses
        for node in nodes:
            own = name if len(nodes) == 1 or isinstance(node, main) else f"{name}.{_PART[type(node)]}"
            if isinstance(node, Synapses) and node.bias is not None and isinstance(nodes[-1], Delay):
                node, bias = _without_bias(node)  # which the delay behind the weights does not delay
                biases.append(self.graph.add(f"{name}.bias", bias, ends))
            names.append(self.graph.add(own, node, ends))
            ends = [names[-1]]
        self.nodes[name], self.names[name], self.ends[name] = nodes, names, [*ends, *biases]
        for own, node in zip(names, nodes, strict=True):
            shape = shape_after(own, node, shape)
        self.shapes[name] = shape

    def _source(self, part: str) -> str:
        name = module_of(part)
        return self.absorbed.get(name, name)

    def _scaled(self, name: str, parts: Mapping[str, float]) -> list[str]:
        """The nodes that feed a module, behind a scale each, or one for all, where they have a factor."""
        factors = set(parts.values())
        ends: list[str] = []
        for source, factor in parts.items():
            scaled = len(factors) > 1 and factor != 1
            ends += [self._scale(name, factor, self.ends[source])] if scaled else self.ends[source]
        return ends if len(factors) > 1 or factors == {1.0} else [self._scale(name, factors.pop(), ends)]

    def _scale(self, name: str, factor: float, ends: Sequence[str]) -> str:
        return self.graph.add(f"{name}.scale", Scale(torch.tensor(factor, dtype=torch.float64, device="cpu")), ends)

    # ------------------------------------------------------------------------------------------------- shapes

    def _sample_shape(self, name: str, size: torch.Size, source: Shape | None) -> Shape:
        """The shape of a sample in the input of a module.

        Args:
            name: of the module.
            size: of its input, with batch and perhaps time.
            source: the shape of a sample of what the input is made of; None for the input of the model.
        """
        dims, seen = self._dims(name), tuple(size)
        if dims is not None:
            shape = seen[max(0, len(seen) - dims) :]
        elif source is not None:
            shape = source if seen[len(seen) - len(source) :] == source else (seen[-1],)
        else:
            neuron = self.network.neurons.get(name)
            is_sequence = neuron is None or self.network.toolkit.mode(neuron) == Mode.SEQUENCE
            shape = seen[2:] if is_sequence and len(seen) > 2 else seen[1:]
        is_average = isinstance(self.network.weights_of(self.network.modules[name]), nn.AvgPool2d)
        if is_average and source is not None and len(source) == 1 and shape == (1, 1, *source):
            return source  # the features, as one row of one channel
        if source is not None and shape not in (source, (math.prod(source),)):
            raise ExchangeError(f"{name} takes shape {shape} made of {source}: only flattening can be exchanged")
        return shape

    def _own_shape(self, calls: Followed, seen: Shape) -> Shape:
        """The shape of a sample in the input of the model, before it was flattened for the module that takes it.

        Args:
            calls: of that module.
            seen: the shape of a sample that it sees.
        """
        if self.run.input is None or len(seen) > 1:
            return seen
        whole, times = tuple(self.run.input), len(self.run.results)
        toolkit = self.network.toolkit
        loops = any(len(other.inputs) > times for other in self.run.calls.values()) or any(
            toolkit.mode(neuron) == Mode.SEQUENCE for neuron in self.network.neurons.values()
        )
        if tuple(calls.inputs[0].shape) in ((whole, whole[1:]) if loops else (whole,)):
            return seen
        is_repeated = sum(x.numel() for x in calls.inputs) > times * math.prod(whole)  # over the steps
        leading = 2 if loops and not is_repeated else 1
        splits = [n for n in range(1, len(whole)) if whole[n:] and math.prod(whole[n:]) == math.prod(seen)]
        start = next((n for n in splits if n >= leading), splits[-1] if splits else None)
        return seen if start is None else whole[start:]

    def _dims(self, name: str) -> int | None:
        """Dimensions of a sample that a module takes; None if it takes any."""
        module = self.network.modules[name]
        if isinstance(self.network.weights_of(module), layers.POOLS):
            return 3
        if isinstance(module, DelayLayer):
            return 1 if getattr(module, "out_features", None) is not None else None
        return 1 + self.network.space_of(module) if name in self.network.layers else None

    # ------------------------------------------------------------------------------------------------- nodes

    def _nodes(self, name: str, module: nn.Module, shape: Shape) -> list[Node]:
        """The nodes of a module, one after the other, for samples of a shape."""
        network, weights = self.network, self.network.weights_of(module)
        if name in network.neurons:
            return self._neuron_nodes(module)
        if isinstance(module, DelayLayer):
            return [layers.of_delay(module)]
        if isinstance(weights, _BatchNorm):
            return [layers.norm_alone(*layers.of_norm(weights), len(shape) - 1)]
        if isinstance(weights, layers.POOLS):
            return [layers.of_pool(weights, shape) if len(shape) == 3 else layers.of_groups(weights, shape[0])]
        if isinstance(module, Delayed) and isinstance(module, Through):
            return [layers.of_own_input(module)]
        if network.has_own_delays(module):
            raise ExchangeError(
                "it has delays of its own: delayplug.convert_delays(model, round_in_eval=True) comes first"
            )
        if not (module.delay_place.affine if isinstance(module, Delayed) else network.is_torch(module)):
            raise ExchangeError(
                "a layer with a computation of its own: linear layers and convolutions can be exchanged"
            )
        return layers.of_delayed(module) if isinstance(module, Delayed) else [layers.of_weights(weights)]

    def _neuron_nodes(self, neuron: nn.Module) -> list[Node]:
        """A neuron, behind the weights that it has for its input, behind the delays of that."""
        describes, plain = exchanges(self.network.toolkit), as_plain(neuron) if isinstance(neuron, Delayed) else neuron
        nodes: list[Node] = [Neurons(describes.describe(plain))]
        weight = describes.input_weight(plain)
        if weight is not None:
            nodes.insert(0, Synapses(weight.detach().cpu().float()))
        if isinstance(neuron, Delayed):
            nodes.insert(0, layers.of_own_input(neuron))
        return nodes

    def _absorb(self, name: str, parts: Mapping[str, float]) -> bool:
        """Make a batch norm part of the weights of the layer before it, if that feeds nothing else."""
        norm = self.network.weights_of(self.network.modules[name])
        source = next(iter(parts))
        users = [n for n, mark in self.marks.items() if source in {self._source(part) for part in mark.parts}]
        if (
            not isinstance(norm, _BatchNorm)
            or source in self.network.neurons
            or parts != {source: 1.0}
            or users != [name]
        ):
            return False
        for i, node in enumerate(self.nodes.get(source, [])):
            if isinstance(node, Synapses):
                self._set_weights(source, i, layers.normed(node, *layers.of_norm(norm)))
                self.absorbed[name] = source
                return True
        return False

    def _set_weights(self, name: str, i: int, new: Synapses) -> None:
        """Exchange the i-th node of a module."""
        nodes, own = self.nodes[name], self.names[name][i]
        nodes[i] = self.graph.nodes[own] = new
        if not isinstance(nodes[-1], Delay):
            return
        self.graph.nodes[own], bias = _without_bias(new)  # which has a node of its own, if there is one yet
        biases = [end for end in self.ends[name] if isinstance(self.graph.nodes[end], Synapses)]
        if biases:
            self.graph.nodes[biases[0]] = bias
        else:
            self.ends[name].append(self.graph.add(f"{name}.bias", bias, self.graph.before(own)))


def _without_bias(node: Synapses) -> tuple[Synapses, Synapses]:
    """The weights alone, and a layer of zero weights with the bias."""
    weight = node.weight if node.delays is None else node.weight[..., 0]
    bare = Synapses(node.weight, None, node.geometry, node.delays, node.max_delay)
    return bare, Synapses(torch.zeros_like(weight), node.bias, node.geometry)
