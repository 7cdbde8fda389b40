"""Why a layer can or cannot have a delay.

Reasons that follow from the layer and from what the user asked for are here, and those that follow from the neuron that
it feeds. Which neuron that is, `by_structure` and `by_example` tell.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import ArgumentError, did_you_mean
from ..toolkits.capabilities import streams
from ..toolkits.vocabulary import Granularity, Mode, TimeAxis, TimeInside, Turns
from .delayed import Delayed
from .inventory import OTHER, Network, is_lazy

Filter = Callable[[nn.Module, str], bool] | str | Iterable[str]

ASK = "pass example= (an input, or a function that drives the model)"
BY_NAME = "name it in filter_fn=[...] to delay it"
HAS_DELAYS = "it has delays already"


@dataclass(frozen=True)
class Skipped:
    """A layer that gets no delays, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class Target:
    """The neuron that a layer feeds, and how they lie in time.

    Attributes:
        neuron: its name.
        turns: how their calls follow each other.
        time: where the time is in the input of the layer.
        fold: name of the module whose input still has the time that the layer sees folded into its batch.
        in_shape, out_shape: of the input and of the output of the layer, if a run showed them.
        leading: dimensions of time and batch that these begin with, at least.
        mode: in which the neuron was called, if a run showed it.
        note: for the user.
    """

    neuron: str
    turns: Turns = Turns.TOGETHER
    time: TimeAxis = TimeAxis.FIRST
    fold: str | None = None
    in_shape: torch.Size | None = None
    out_shape: torch.Size | None = None
    leading: int = 0
    mode: Mode | None = None
    note: str = ""


class Request:
    """What the user asked for.

    Attributes:
        by_name: names of the layers to delay, if `filter_fn` is names; else empty.
        granularity: of the delays.
        recurrent: delay connections through which neurons feed their own spikes back, too.
    """

    def __init__(self, network: Network, filter_fn: Filter | None, granularity: Granularity, recurrent: bool) -> None:
        self.granularity, self.recurrent = granularity, recurrent
        self.by_name: frozenset[str] = frozenset()
        self._predicate: Callable[[nn.Module, str], bool] | None = None
        if callable(filter_fn):
            self._predicate = filter_fn
        elif filter_fn is not None:
            self.by_name = _checked_names(network, [filter_fn] if isinstance(filter_fn, str) else list(filter_fn))
            self._predicate = lambda module, name: name in self.by_name

    def selects(self, module: nn.Module, name: str) -> bool:
        """Whether `filter_fn` leaves a layer in."""
        return self._predicate is None or bool(self._predicate(module, name))


def _checked_names(network: Network, names: list[str]) -> frozenset[str]:
    own = {name for name, neuron in network.neurons.items() if network.own_weights.own_input(neuron)}
    known = [*network.layers, *own]
    for name in names:
        if name not in known:
            advice = did_you_mean(name, known) or "plan_delays(model) lists them"
            raise ArgumentError("filter_fn", f"names among {', '.join(known) or 'no layers'}", repr(name), advice)
    return frozenset(names)


def reason_against_layer(network: Network, name: str, request: Request) -> str | None:
    """Why a layer gets no delay, whatever it feeds; None if nothing speaks against it."""
    layer = network.layers[name]
    weights = network.weights_of(layer)
    kind = type(weights).__name__
    if not request.selects(layer, name):
        return "filter_fn leaves it out"
    if isinstance(layer, Delayed):
        return HAS_DELAYS
    inside = network.holds(name)
    if inside is not None:
        return f"{kind} holds a neuron of its own, {inside}: make them two modules"
    if name in network.recurrent and not request.recurrent:
        return f"the recurrent connection of {network.recurrent[name] or 'the model'}: pass recurrent=True"
    if "forward" in vars(layer) or "forward" in vars(weights):
        return (
            f"the forward of this {kind} was replaced on the object, which hides what a delay would do: undo that first"
        )
    if is_lazy(weights):
        return "its size is not known yet: run the model once first"
    if isinstance(weights, OTHER):
        return f"{kind}: of torch's modules only linear layers and convolutions can have delays"
    return _reason_against_granularity(network, layer, request.granularity) or _reason_against_place(network, name)


def _reason_against_granularity(network: Network, layer: nn.Module, granularity: Granularity) -> str | None:
    if network.is_torch(layer) or granularity is Granularity.AXONAL:
        return None
    kind = type(network.weights_of(layer)).__name__
    if granularity is Granularity.SYNAPTIC:
        return f"{kind} has a forward of its own: use granularity='axonal' or 'dendritic'"
    if streams(network.toolkit).remembers(layer):
        return f"{kind} has a memory of its own: use granularity='axonal'"
    return None


def _reason_against_place(network: Network, name: str) -> str | None:
    for parent, module in network.ancestors(name):
        if network.containers.time_inside(module) == TimeInside.HIDDEN:
            return f"it is inside of {parent or 'the model'} ({type(module).__name__}), which hides the time from it"
    return None


def reason_against_own_input(network: Network, name: str, request: Request) -> str | None:
    """Why a delay in front of the weights that a neuron has for its input is not possible; None if it is.

    For a neuron without such weights: why the recurrent connection that was asked for cannot have delays, if so.
    """
    neuron = network.neurons[name]
    kind = type(neuron).__name__
    if network.own_weights.own_input(neuron) is None:
        inside = request.recurrent and feeds_back_inside(network, neuron)
        return f"{kind} feeds its spikes back inside of one step: nothing of that can be delayed" if inside else None
    if not request.selects(neuron, name):
        return "filter_fn leaves it out"
    if isinstance(neuron, Delayed):
        return HAS_DELAYS
    more = beyond_own_input(network, neuron, request)
    if not network.toolkit.is_spiking(neuron) and name not in request.by_name:
        return f"{kind}, a readout{more}"
    if request.granularity is not Granularity.AXONAL:
        return f"{kind} has weights of its own for its input: granularity='axonal' delays that input{more}"
    return None


def feeds_back_inside(network: Network, neuron: nn.Module) -> bool:
    """Whether a neuron feeds its spikes back through weights that are no layer of their own."""
    return network.own_weights.recurrent_layer(neuron) == ""


def beyond_own_input(network: Network, neuron: nn.Module, request: Request) -> str:
    """The end of a sentence about a neuron's own input: what else was asked for and is not possible."""
    impossible = request.recurrent and feeds_back_inside(network, neuron)
    return ", and its recurrent weights cannot be delayed" if impossible else ""


def accepts(network: Network, layer: str, target: Target, request: Request) -> Target | Skipped:
    """The target, unless its neuron is of a kind that gets no delays."""
    module = network.neurons[target.neuron]
    kind = type(module).__name__
    if layer in request.by_name:
        return target
    if network.own_weights.own_input(module):
        return Skipped(
            layer, f"it feeds {target.neuron} ({kind}), another layer of weights before any neuron; {BY_NAME}"
        )
    if not network.toolkit.is_spiking(module):
        return Skipped(layer, f"it feeds {target.neuron} ({kind}), a readout; {BY_NAME}")
    return target


def weights_outside_layers(network: Network) -> list[Skipped]:
    """The weight matrices that containers of neurons hold themselves."""
    skipped = []
    for name, module in network.modules.items():
        known = name in network.neurons or name in network.layers or network.belongs(name)
        if not known and any(map(network.toolkit.is_neuron, module.children())):
            for key, parameter in module.named_parameters(recurse=False):
                if parameter.dim() > 1:
                    path = f"{name}.{key}" if name else key
                    skipped.append(Skipped(path, "a Parameter that the network uses directly: put it into a layer"))
    return skipped
