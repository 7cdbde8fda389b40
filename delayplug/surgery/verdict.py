"""Why a layer can or cannot have a delay.

Reasons that follow from the layer and from what the user asked for are here, and those that follow from the neuron that
it feeds. Which neuron that is, `by_structure` and `by_example` tell.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from ..errors import ArgumentError, WiringError, did_you_mean
from ..toolkits.capabilities import streams
from ..toolkits.vocabulary import Granularity, Mode, TimeAxis, TimeInside, Turns
from .delayed import Delayed
from .inventory import OTHER, Network, is_lazy

Filter = Callable[[nn.Module, str], bool] | str | Iterable[str]

ASK = "pass example= (an input, or a function that drives the model)"
BY_NAME = "name it in filter_fn=[...] to delay it"
IN_A_ROW = f"{BY_NAME}, or pass neurons=[...] if a neuron of a class of your own is between them"
HAS_DELAYS = "it has delays already"
FILTERED = "filter_fn leaves it out"


@dataclass(frozen=True)
class Skipped:
    """A layer that gets no delays, and why.

    Attributes:
        layer: its dotted name.
        reason: why, and what to do about it, as text.
        by_rule: it is left out by default, such as a shortcut or the layer in front of a readout, or as the user asked
            for; else `add_delays` warns.
        at_readout: it could have delays, and is left out only since it is in front of a readout.
    """

    layer: str
    reason: str
    by_rule: bool = field(default=False, compare=False)
    at_readout: bool = field(default=False, compare=False)


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
        by_name: names of the layers that `filter_fn` selects, as names or as a function; empty without `filter_fn`.
        granularity: of the delays.
        recurrent: delay connections through which neurons feed their own spikes back, too.
    """

    def __init__(self, network: Network, filter_fn: Filter | None, granularity: Granularity, recurrent: bool) -> None:
        self.granularity, self.recurrent = granularity, recurrent
        self.by_name: frozenset[str] = frozenset()
        self._names: frozenset[str] = frozenset()
        self._everything = filter_fn is None
        if callable(filter_fn):
            found = _candidates(network).items()
            self.by_name = frozenset(name for name, module in found if filter_fn(module, name))
        elif filter_fn is not None:
            names = [filter_fn] if isinstance(filter_fn, str) else list(filter_fn)
            self._names = self.by_name = _checked_names(network, names)

    def selects(self, name: str) -> bool:
        """Whether `filter_fn` leaves a layer in."""
        return self._everything or name in self.by_name

    def delays_recurrent(self, name: str) -> bool:
        """Whether a layer may be delayed through which neurons feed their own spikes back."""
        return self.recurrent or name in self._names

    def check(self, skipped: Iterable[Skipped]) -> None:
        """Raise WiringError if a layer that `filter_fn` selects gets no delays, unless it has some already."""
        refused = [s for s in skipped if s.layer in self.by_name and s.reason != HAS_DELAYS]
        if refused:
            reasons = "\n".join(f"  {s.layer or 'the model'}: {s.reason}" for s in refused)
            layers = "a layer that gets" if len(refused) == 1 else f"{len(refused)} layers that get"
            raise WiringError(
                f"filter_fn selects {layers} no delays: do what the reason says, or change filter_fn\n{reasons}"
            )


def _candidates(network: Network) -> dict[str, nn.Module]:
    """By name, what `filter_fn` can select: layers, and neurons that weigh their input themselves."""
    own = {name: n for name, n in network.neurons.items() if network.own_weights.own_input(n)}
    found = network.layers | own
    return {name: found[name] for name in network.modules if name in found}


def _checked_names(network: Network, names: list[str]) -> frozenset[str]:
    known = [*_candidates(network)]
    for name in names:
        if name not in known:
            advice = did_you_mean(name, known) or "plan_delays(model) lists them"
            raise ArgumentError("filter_fn", f"names among {', '.join(known) or 'no layers'}", repr(name), advice)
    return frozenset(names)


def against_layer(network: Network, name: str, request: Request) -> Skipped | None:
    """Why a layer gets no delay, whatever it feeds; None if nothing speaks against it."""
    if not request.selects(name):
        return Skipped(name, FILTERED, by_rule=True)
    if isinstance(network.layers[name], Delayed):
        return Skipped(name, HAS_DELAYS, by_rule=True)
    if network.has_own_delays(network.layers[name]):
        kind = type(network.weights_of(network.layers[name])).__name__
        own = f"{kind} has delays of its own: delayplug.convert_delays(model) makes them delayplug's"
        return Skipped(name, own, by_rule=True)
    reason = _reason_against_layer(network, name, request)
    if reason is None and name in network.recurrent and not request.delays_recurrent(name):
        fed = network.recurrent[name] or "the model"
        return Skipped(name, f"the recurrent connection of {fed}: pass recurrent=True to delay it", by_rule=True)
    return None if reason is None else Skipped(name, reason)


def _reason_against_layer(network: Network, name: str, request: Request) -> str | None:
    layer = network.layers[name]
    weights = network.weights_of(layer)
    kind = type(weights).__name__
    inside = network.holds(name)
    if inside is not None:
        return f"{kind} holds a neuron of its own, {inside}: make them two modules"
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
            where = f"{parent or 'the model'} ({type(module).__name__})"
            advice = network.containers.instead_of(module)
            return f"it is inside of {where}, which hides the time from it{advice and f'. {advice}'}"
    return None


def against_own_input(network: Network, name: str, request: Request) -> Skipped | None:
    """Why a delay in front of the weights that a neuron has for its input is not possible; None if it is.

    For a neuron without such weights: why the recurrent connection that was asked for cannot have delays, if so.
    """
    neuron = network.neurons[name]
    kind = type(neuron).__name__
    if network.own_weights.own_input(neuron) is None:
        if not (request.recurrent and feeds_back_inside(network, neuron)):
            return None
        return Skipped(name, f"{kind} feeds its spikes back inside of one step: nothing of that can be delayed")
    if not request.selects(name):
        return Skipped(name, FILTERED, by_rule=True)
    if isinstance(neuron, Delayed):
        return Skipped(name, HAS_DELAYS, by_rule=True)
    more = beyond_own_input(network, neuron, request)
    if network.is_readout(name) and name not in request.by_name:
        return Skipped(name, f"{kind}, a readout{more}; {BY_NAME}", by_rule=True, at_readout=True)
    weighs = network.own_weights.input_weights(neuron)
    if request.granularity is Granularity.DENDRITIC or (request.granularity is Granularity.SYNAPTIC and not weighs):
        possible = "'synaptic' or 'axonal'" if weighs else "'axonal'"
        own = f"{kind} has weights of its own for its input"
        return Skipped(name, f"{own}: use granularity={possible}, which delays that input{more}")
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
        follows = "another layer of weights before any neuron"
        return Skipped(layer, f"it feeds {target.neuron} ({kind}), {follows}; {BY_NAME}", by_rule=True)
    if network.is_readout(target.neuron):
        return Skipped(layer, f"it feeds {target.neuron} ({kind}), a readout; {BY_NAME}", by_rule=True, at_readout=True)
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
                    reason = "a Parameter that the network uses directly: put it into a layer"
                    skipped.append(Skipped(path, reason, by_rule=True))
    return skipped
