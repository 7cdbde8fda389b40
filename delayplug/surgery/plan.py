"""Which layers of a model can have delays, and which neuron each of them feeds: the plan."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import nn

from ..errors import ArgumentError, WiringError
from ..toolkits import plugins
from ..toolkits.capabilities import streams
from ..toolkits.vocabulary import Granularity, Mode, TimeInside, Turns
from . import by_example as flow, by_structure as structure
from .by_structure import Skipped, Target
from .dataflow import Example, trace
from .delayed import Delayed, Place, StatefulDelayed
from .inventory import Network, channels_of, is_lazy

Filter = Callable[[nn.Module, str], bool] | str | Iterable[str]


@dataclass(frozen=True)
class Connection:
    """A layer that can have delays.

    Attributes:
        layer: dotted name of the layer; that of a neuron for a delay of the input that it weighs itself.
        neuron: dotted name of the neuron that it feeds.
        in_features, out_features: channels that it takes and gives.
        place: where in the layer the delay sits, and how the layer lies in time.
        mode: whether a call of the layer is one step or a sequence, as the neuron is set now.
        reset: what marks a new sequence, in words.
        container: dotted name of the container that hands the layer its state; None if nobody does.
        fold: dotted name of the module whose input still has the time that the layer sees folded into its batch.
        note: what is worth knowing about it, in words.
    """

    layer: str
    neuron: str
    in_features: int
    out_features: int
    place: Place
    mode: Mode
    reset: str
    container: str | None = None
    fold: str | None = None
    note: str = field(default="", compare=False)

    @property
    def granularity(self) -> Granularity:
        """ "synaptic", "axonal" or "dendritic"."""
        return self.place.granularity


@dataclass(frozen=True)
class Plan:
    """What `add_delays` would do."""

    backend: str
    connections: tuple[Connection, ...]
    skipped: tuple[Skipped, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.connections)} connections can have delays ({self.backend})"]
        for c in self.connections:
            lines.append(f"  {c.layer} -> {c.neuron}: {c.granularity}, {c.in_features} -> {c.out_features}, {c.mode}")
            lines.append(f"      a new sequence: {c.reset}")
            lines += [f"      {c.note}"] if c.note else []
        lines += [f"  {s.layer} is left out: {s.reason}" for s in self.skipped]
        return "\n".join(lines)


def plan_delays(
    model: nn.Module,
    example: Example | None = None,
    *,
    granularity: Granularity | str = Granularity.SYNAPTIC,
    filter_fn: Filter | None = None,
    recurrent: bool = False,
    backend: str | None = None,
) -> Plan:
    """Say which layers of a model would get delays, and why the others would not. Changes nothing.

    Without an example only what the structure shows is planned: a layer followed by a spiking neuron in a Sequential,
    or in the order of registration where that alternates. With one, the model is run on it and the plan follows what
    flowed.

    Args:
        model: a network of spiking neurons of one toolkit.
        example: an input tensor, the arguments of the model's forward (tuple or dict), or a function that is called
            with the model and drives it as its user does, time loop and resets included. The model is left as it was.
        granularity: "synaptic", "axonal" (one delay per input channel) or "dendritic" (one per output channel).
        filter_fn: `filter_fn(module, name)` says whether a layer is considered; or the names of the layers to delay,
            which then may be some that are left out by default: shortcuts, one of two layers in a row, the layer in
            front of a readout.
        recurrent: delay the connections through which neurons feed their own spikes back, too.
        backend: name of the toolkit; found by the model's neurons by default.

    Raises:
        WiringError: no toolkit, or more than one, has neurons in the model; or it is compiled.
        ArgumentError: an argument is not what it should be, or a name in `filter_fn` is not that of a layer.
        BackendError: the toolkit named cannot be used.
    """
    check_model(model)
    granularity = checked_granularity(granularity)
    if backend is None:
        backend, toolkit = plugins.toolkit_of(model.modules())
    else:
        toolkit = plugins.toolkit(backend)
    network = Network(model, toolkit)
    wanted = _Wanted(network, filter_fn, granularity, recurrent)
    if example is None:
        targets = structure.targets(network, wanted.by_name)
    else:
        lazy = [name for name, module in network.modules.items() if is_lazy(module)]
        if lazy:
            raise WiringError(f"the size of {', '.join(lazy)} is not known yet: run the model once first")
        layers = {name: layer for name, layer in network.layers.items() if network.holds(name) is None}
        traced = trace(model, example, layers, network.neurons, lambda neuron: toolkit.mode(neuron) == Mode.SEQUENCE)
        targets = flow.targets(network, traced, wanted.by_name, recurrent)
    connections: list[Connection] = []
    skipped: list[Skipped] = []
    for name in [n for n in network.modules if n in network.layers or n in network.neurons]:
        verdict: Connection | Skipped | None
        if name in network.layers:
            verdict = wanted.exclusion(name) or _connection(network, name, targets[name], granularity)
        else:
            verdict = _own_input(network, name, wanted, granularity)
        if isinstance(verdict, Connection):
            connections.append(verdict)
        elif verdict is not None:
            skipped.append(verdict)
    skipped += _raw(network)
    return Plan(backend, tuple(connections), tuple(skipped))


def checked_granularity(granularity: Granularity | str) -> Granularity:
    """The granularity of this name, or ArgumentError."""
    if granularity not in list(Granularity):
        raise ArgumentError("granularity", f"one of {', '.join(Granularity)}", repr(granularity))
    return Granularity(granularity)


def check_model(model: nn.Module) -> None:
    """Raise unless `model` is a module that can be changed."""
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", "a torch.nn.Module", type(model).__name__)
    if any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in model.modules()):
        raise WiringError("the model is compiled: add delays to the plain model, then compile it")


class _Wanted:
    """What the user asked for, and reasons to leave a layer out that do not depend on the wiring."""

    def __init__(self, network: Network, filter_fn: Filter | None, granularity: Granularity, recurrent: bool) -> None:
        self.network, self.granularity, self.recurrent = network, granularity, recurrent
        self._selects: Callable[[nn.Module, str], bool] = lambda module, name: True
        self.by_name: frozenset[str] = frozenset()
        if callable(filter_fn):
            self._selects = filter_fn
        elif filter_fn is not None:
            self.by_name = self._check([filter_fn] if isinstance(filter_fn, str) else filter_fn)
            self._selects = lambda module, name: name in self.by_name

    def _check(self, names: Iterable[str]) -> frozenset[str]:
        own = {name for name, m in self.network.neurons.items() if self.network.own_weights.own_input(m)}
        known = [*self.network.layers, *own]
        for name in (names := list(names)):
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                advice = f"Did you mean {close[0]!r}?" if close else "plan_delays(model) lists them"
                raise ArgumentError("filter_fn", f"names among {', '.join(known) or 'no layers'}", repr(name), advice)
        return frozenset(names)

    def selects(self, name: str) -> bool:
        return bool(self._selects(self.network.modules[name], name))

    def exclusion(self, name: str) -> Skipped | None:
        """Why the layer gets no delay, whatever it feeds."""
        network, layer = self.network, self.network.layers[name]
        weights = network.weights_of(layer)
        kind = type(weights).__name__
        if not self.selects(name):
            return Skipped(name, "filter_fn leaves it out")
        if isinstance(layer, Delayed):
            return Skipped(name, "it has delays already")
        inside = network.holds(name)
        if inside is not None:
            return Skipped(name, f"{kind} holds a neuron of its own, {inside}: make them two modules")
        if name in network.recurrent and not self.recurrent:
            return Skipped(
                name, f"the recurrent connection of {network.recurrent[name] or 'the model'}: pass recurrent=True"
            )
        if is_lazy(weights):
            return Skipped(name, "its size is not known yet: run the model once first")
        if network.is_other(weights):
            return Skipped(name, f"{kind}: of torch's modules only linear layers and convolutions can have delays")
        if self.granularity is Granularity.SYNAPTIC and not network.is_torch(layer):
            return Skipped(name, f"{kind} has a forward of its own: give it granularity='axonal' or 'dendritic'")
        if (
            self.granularity is Granularity.DENDRITIC
            and not network.is_torch(layer)
            and streams(network.toolkit).remembers(layer)
        ):
            return Skipped(name, f"{kind} has a memory of its own: give it granularity='axonal'")
        for parent, module in network.ancestors(name):
            if network.containers.time_inside(module) == TimeInside.HIDDEN:
                inside = f"{parent or 'the model'} ({type(module).__name__})"
                return Skipped(name, f"it is inside of {inside}, which hides the time from it")
        return None


def _connection(
    network: Network, name: str, target: Target | Skipped, granularity: Granularity
) -> Connection | Skipped:
    """What a target says, in terms of the layer."""
    if isinstance(target, Skipped):
        return target
    toolkit, layer, neuron = network.toolkit, network.layers[name], network.neurons[target.neuron]
    weights = network.weights_of(layer)
    inputs, outputs = channels_of(weights)
    space = network.space_of(layer)
    if not network.is_torch(layer):
        found = _channels(target, granularity, network.space_of(layer), network.matrix_of(layer), inputs, outputs)
        if isinstance(found, str):
            return Skipped(name, found)
        space, channels = found
        inputs, outputs = (inputs, channels) if granularity is Granularity.DENDRITIC else (channels, outputs)
    place = Place(
        granularity=granularity,
        turns=target.turns,
        time=target.time,
        inner=network.containers.lifted(layer),
        space=space,
        affine=network.is_torch(layer),
    )
    parent = list(network.ancestors(name))[-1] if name else None
    threads = parent is not None and target.turns is Turns.TOGETHER and network.containers.threads_state(parent[1])
    mode = toolkit.mode(neuron)
    fixed = {Turns.SEQUENCE_THEN_STEPS: Mode.SEQUENCE, Turns.STEPS_THEN_SEQUENCE: Mode.STEP}
    return Connection(
        layer=name,
        neuron=target.neuron,
        in_features=inputs or 0,
        out_features=outputs or 0,
        place=place,
        mode=fixed.get(target.turns, target.mode or mode),
        reset=StatefulDelayed.RESET if threads else toolkit.reset_signal(neuron),
        container=parent[0] if parent is not None and threads else None,
        fold=target.fold,
        note=target.note,
    )


def _channels(
    target: Target,
    granularity: Granularity,
    space: int,
    matrix: tuple[int, ...],
    inputs: int | None,
    outputs: int | None,
) -> tuple[int, int] | str:
    """(dimensions behind the channels, channels) of a layer with a forward of its own, as the example showed them."""
    shape, known = (target.out_shape, outputs) if granularity is Granularity.DENDRITIC else (target.in_shape, inputs)
    if shape is None:
        return (space, known) if known and space == 0 else f"the structure does not show its channels: {structure.ASK}"
    # A matrix works on the last dimension, anything larger on the one behind time and batch.
    likely = (0, space) if len(matrix) == 2 else (len(shape) - target.leading - 1, space, 0)
    for behind in likely:
        axis = len(shape) - 1 - behind
        if behind >= 0 and axis >= target.leading and (shape[axis] == known if known else shape[axis] in matrix):
            return behind, shape[axis]
    return f"its channels are not found in the shape {tuple(shape)} that it works on"


def _own_input(network: Network, name: str, wanted: _Wanted, granularity: Granularity) -> Connection | Skipped | None:
    """The delay of what a neuron weighs itself."""
    toolkit, neuron = network.toolkit, network.neurons[name]
    own, kind = network.own_weights.own_input(neuron), type(neuron).__name__
    feeds_back = network.own_weights.recurrent_layer(neuron)
    if wanted.recurrent and feeds_back == "" and own is None:
        return Skipped(name, f"{kind} feeds its spikes back inside of one step: nothing of that can be delayed")
    if own is None:
        return None
    if not wanted.selects(name):
        return Skipped(name, "filter_fn leaves it out")
    if isinstance(neuron, Delayed):
        return Skipped(name, "it has delays already")
    more = ", and its recurrent weights cannot be delayed" if wanted.recurrent and feeds_back == "" else ""
    if not toolkit.is_spiking(neuron) and name not in wanted.by_name:
        return Skipped(name, f"{kind}, a readout{more}")
    if granularity is not Granularity.AXONAL:
        return Skipped(name, f"{kind} weighs its input itself: granularity='axonal' delays that input{more}")
    channels, space = own
    return Connection(
        layer=name,
        neuron=name,
        in_features=channels,
        out_features=channels,
        place=Place(granularity=Granularity.AXONAL, turns=Turns.INSIDE, space=space),
        mode=toolkit.mode(neuron),
        reset=toolkit.reset_signal(neuron),
        note=f"delays the input of {kind}, which weighs it itself{more}",
    )


def _raw(network: Network) -> list[Skipped]:
    """Weight matrices that containers with neurons hold themselves."""
    found = []
    for name, module in network.modules.items():
        holds = name not in network.neurons and not network.belongs(name) and name not in network.layers
        if holds and any(map(network.toolkit.is_neuron, module.children())):
            for key, parameter in module._parameters.items():
                if parameter is not None and parameter.dim() > 1:
                    path = f"{name}.{key}" if name else key
                    found.append(Skipped(path, "a Parameter that the network uses directly: put it into a layer"))
    return found
