"""Which layers of a model can have delays, and which neuron each of them feeds: the plan."""

from dataclasses import dataclass, field

from torch import nn

from ..errors import ArgumentError, WiringError, choice_error
from ..toolkits import plugins
from ..toolkits.vocabulary import Granularity, Mode, Turns
from . import by_example, by_structure
from .dataflow import Example, trace
from .delayed import Place, StatefulDelayed
from .inventory import Network, channels_of, is_lazy
from .verdict import (
    ASK,
    Filter,
    Request,
    Skipped,
    Target,
    beyond_own_input,
    reason_against_layer,
    reason_against_own_input,
    weights_outside_layers,
)


@dataclass(frozen=True)
class Connection:
    """A layer that can have delays.

    Attributes:
        layer: dotted name of the layer; that of a neuron for a delay in front of its own weights.
        neuron: dotted name of the neuron that it feeds.
        in_features, out_features: channels of its input and of its output.
        place: where in the layer the delay is, and how the layer lies in time.
        mode: whether a call of the layer is one step or a sequence, as the neuron is set now.
        reset: what marks a new sequence, as text.
        container: dotted name of the container that hands the layer its state; None if nobody does.
        fold: dotted name of the module whose input still has the time that the layer sees folded into its batch.
        note: what is worth knowing about it, as text.
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
        """Whether every synapse, every input channel or every output channel has a delay."""
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
        backend: name of the toolkit; by default the one whose neurons the model has.

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
    request = Request(network, filter_fn, granularity, recurrent)
    targets = _targets(network, example, request)
    verdicts: list[Connection | Skipped | None] = []
    for name in network.modules:
        if name in network.layers:
            reason = reason_against_layer(network, name, request)
            verdicts.append(Skipped(name, reason) if reason else _connection(network, name, targets[name], granularity))
        elif name in network.neurons:
            verdicts.append(_own_input(network, name, request))
    connections = tuple(verdict for verdict in verdicts if isinstance(verdict, Connection))
    skipped = (verdict for verdict in verdicts if isinstance(verdict, Skipped))
    return Plan(backend, connections, (*skipped, *weights_outside_layers(network)))


def _targets(network: Network, example: Example | None, request: Request) -> dict[str, Target | Skipped]:
    """For every layer the neuron that it feeds, or why that is not known."""
    if example is None:
        return by_structure.targets(network, request)
    lazy = [name for name, module in network.modules.items() if is_lazy(module)]
    if lazy:
        raise WiringError(f"the size of {', '.join(lazy)} is not known yet: run the model once first")
    layers = {name: layer for name, layer in network.layers.items() if network.holds(name) is None}
    flow = trace(network.model, example, layers, network.neurons, network.takes_sequences)
    return by_example.targets(network, flow, request)


def checked_granularity(granularity: Granularity | str) -> Granularity:
    """The granularity of this name, or ArgumentError."""
    if granularity not in list(Granularity):
        raise choice_error("granularity", Granularity, granularity)
    return Granularity(granularity)


def check_model(model: nn.Module) -> None:
    """Raise unless `model` is a module that can be changed."""
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", "a torch.nn.Module", type(model).__name__)
    if any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in model.modules()):
        raise WiringError("the model is compiled: add delays to the plain model, then compile it")


def _connection(
    network: Network, name: str, target: Target | Skipped, granularity: Granularity
) -> Connection | Skipped:
    """The connection from a layer to its target."""
    if isinstance(target, Skipped):
        return target
    toolkit, layer, neuron = network.toolkit, network.layers[name], network.neurons[target.neuron]
    inputs, outputs = channels_of(network.weights_of(layer))
    space = network.space_of(layer)
    if not network.is_torch(layer):
        shown = _channels(network, name, target, granularity)
        if isinstance(shown, Skipped):
            return shown
        space, channels = shown
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


def _channels(network: Network, name: str, target: Target, granularity: Granularity) -> tuple[int, int] | Skipped:
    """(dimensions behind the channels, channels) of a layer with a forward of its own, as the example showed them."""
    layer = network.layers[name]
    space, matrix = network.space_of(layer), network.matrix_of(layer)
    inputs, outputs = channels_of(network.weights_of(layer))
    shape, known = (target.out_shape, outputs) if granularity is Granularity.DENDRITIC else (target.in_shape, inputs)
    if shape is None:
        unknown = Skipped(name, f"the structure does not show its channels: {ASK}")
        return (space, known) if known and space == 0 else unknown
    # A matrix works on the last dimension, anything larger on the one behind time and batch.
    likely = (0, space) if len(matrix) == 2 else (len(shape) - target.leading - 1, space, 0)
    for behind in likely:
        axis = len(shape) - 1 - behind
        if behind >= 0 and axis >= target.leading and (shape[axis] == known if known else shape[axis] in matrix):
            return behind, shape[axis]
    return Skipped(name, f"the shape {tuple(shape)} that it works on does not show its channels")


def _own_input(network: Network, name: str, request: Request) -> Connection | Skipped | None:
    """The delay in front of the weights that a neuron has for its input; None if it has none."""
    reason = reason_against_own_input(network, name, request)
    if reason is not None:
        return Skipped(name, reason)
    neuron = network.neurons[name]
    own = network.own_weights.own_input(neuron)
    if own is None:
        return None
    channels, space = own
    more = beyond_own_input(network, neuron, request)
    return Connection(
        layer=name,
        neuron=name,
        in_features=channels,
        out_features=channels,
        place=Place(granularity=Granularity.AXONAL, turns=Turns.INSIDE, space=space),
        mode=network.toolkit.mode(neuron),
        reset=network.toolkit.reset_signal(neuron),
        note=f"delays the input of {type(neuron).__name__}, which has weights of its own for it{more}",
    )
