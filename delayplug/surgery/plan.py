"""Which layers of a model can have delays, and which neuron each of them feeds: the plan."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from .._tables import counted, terminal_width, wrapped
from ..errors import ArgumentError, WiringError, choice_error
from ..toolkits import plugins
from ..toolkits.own import Neurons
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Granularity, Mode, Turns
from . import by_example, by_structure
from .beside import beside_in_order
from .dataflow import Example, Flow, trace
from .delayed import Delayed, Place, StatefulDelayed
from .inventory import Network, channels_of, is_lazy
from .modes import with_modes
from .verdict import (
    ASK,
    Filter,
    Request,
    Skipped,
    Target,
    against_layer,
    against_own_input,
    beyond_own_input,
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
        behind: the layers with delays whose delayed output comes to this one, through neurons and other layers.
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
    behind: tuple[str, ...] = field(default=(), compare=False)

    @property
    def granularity(self) -> Granularity:
        """Whether every synapse, every input channel or every output channel has a delay."""
        return self.place.granularity


@dataclass(frozen=True)
class Plan:
    """What `add_delays` would do.

    Attributes:
        backend: name of the toolkit.
        connections: the layers that get delays.
        skipped: the layers that get none, with reasons.
        toolkit: that answered for the neurons; None for the backend's own.
        steps: how many steps the sequence of the example had; None without an example, or if it was one step.
    """

    backend: str
    connections: tuple[Connection, ...]
    skipped: tuple[Skipped, ...]
    toolkit: Toolkit | None = field(default=None, compare=False, repr=False)
    steps: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        lines = [f"{counted(len(self.connections), 'connection')} can have delays ({self.backend})"]
        for c in self.connections:
            lines.append(f"  {c.layer} -> {c.neuron}: {c.granularity}, {c.in_features} -> {c.out_features}, {c.mode}")
            lines.append(f"      a new sequence: {c.reset}")
            lines += [f"      {c.note}"] if c.note else []
        lines += [f"  {s.layer} is left out: {s.reason}" for s in self.skipped]
        width = terminal_width()
        return "\n".join(wrapped(line, width) for line in lines)


def plan_delays(
    model: nn.Module,
    example: Example | None = None,
    *,
    granularity: Granularity | str = Granularity.SYNAPTIC,
    filter_fn: Filter | None = None,
    recurrent: bool = False,
    backend: str | None = None,
    neurons: Neurons = (),
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
        filter_fn: the names of the layers to delay, or a function `filter_fn(module, name)` that selects them. What it
            selects gets delays, even if it is left out by default: shortcuts, one of two layers in a row, the layer in
            front of a readout; and recurrent connections that are named. What cannot have delays is an error.
        recurrent: delay the connections through which neurons feed their own spikes back, too.
        backend: name of the toolkit; by default the one whose neurons the model has.
        neurons: classes of your own neurons, [MyLIF]; a call of one is a step (B, ...) or a whole sequence (T, B, ...),
            as the example shows, or as you say: {MyLIF: "step"}. It takes its input first and gives its spikes first,
            and its state is an argument that it returns, or tensors on the module. Where a new sequence cannot be told
            from that, a call raises `SequenceError`: `reset_delays` says that one begins.

    Raises:
        WiringError: no toolkit, or more than one, has neurons in the model; it is compiled; or a layer that `filter_fn`
            selects cannot have delays, with the reason.
        ArgumentError: an argument is not what it should be, or a name in `filter_fn` is not that of a layer.
        BackendError: the toolkit named cannot be used.
    """
    check_model(model)
    granularity = checked_granularity(granularity)
    found, toolkit = plugins.toolkit_with(model.modules(), neurons, backend)
    toolkit = with_modes(toolkit, model, example)
    network = Network(model, toolkit)
    request = Request(network, filter_fn, granularity, recurrent)
    targets, sources, steps = _wiring(network, example, request)
    verdicts: list[Connection | Skipped | None] = []
    for name in network.modules:
        if name in network.layers:
            verdicts.append(
                against_layer(network, name, request) or _connection(network, name, targets[name], granularity)
            )
        elif name in network.neurons:
            verdicts.append(_own_input(network, name, request))
    skipped = [verdict for verdict in verdicts if isinstance(verdict, Skipped)]
    layers = [verdict for verdict in verdicts if isinstance(verdict, Connection)]
    delayed = {c.layer for c in layers} | {n for n, m in network.modules.items() if isinstance(m, Delayed)}
    connections = tuple(replace(c, behind=_behind(c.layer, sources, delayed)) for c in layers)
    request.check(skipped)
    if not connections and skipped and all(layer.at_readout for layer in skipped):
        # There is nothing else that could have been asked for.
        names = [layer.layer for layer in skipped]
        return plan_delays(
            model,
            example,
            granularity=granularity,
            filter_fn=names,
            recurrent=recurrent,
            backend=backend,
            neurons=neurons,
        )
    return Plan(found, connections, (*skipped, *weights_outside_layers(network)), toolkit, steps)


def _behind(layer: str, sources: Mapping[str, frozenset[str]], delayed: Set[str]) -> tuple[str, ...]:
    """The nearest layers among `delayed` on all ways to a layer, by what comes directly to each layer and neuron."""
    waiting, seen = sorted(sources.get(layer, ())), {layer}
    nearest: dict[str, None] = {}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in delayed:
            nearest[name] = None
        else:
            waiting += sorted(sources.get(name, ()))
    return tuple(nearest)


def _wiring(
    network: Network, example: Example | None, request: Request
) -> tuple[dict[str, Target | Skipped], dict[str, frozenset[str]], int | None]:
    """For every layer the neuron that it feeds, or why not; what comes to each directly; the steps of the example."""
    if example is None:
        wired = {**by_structure.targets(network, request), **beside_in_order(network, request)}
        return wired, by_structure.sources(network), None
    lazy = [name for name, module in network.modules.items() if is_lazy(module)]
    if lazy:
        raise WiringError(f"the size of {', '.join(lazy)} is not known yet: run the model once first")
    layers = {name: layer for name, layer in network.layers.items() if network.holds(name) is None}

    def run(example: Example) -> Flow:
        return trace(network.model, example, layers, network.neurons, network.takes_sequences)

    def again() -> Flow | None:
        if not isinstance(example, Tensor) or example.dim() < 2 or example.shape[0] < 2:
            return None
        try:
            return run(example[:-1])  # whether that is a step less or a sample, the two differ now
        except WiringError:
            return None  # it takes so many of them and no other number

    flow = run(example)
    return by_example.targets(network, flow, request, again), by_example.sources(flow), by_example.steps(flow)


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
    """The delay in front of the weights that a neuron has for its input, or in them; None if it has none."""
    skipped = against_own_input(network, name, request)
    if skipped is not None:
        return skipped
    neuron = network.neurons[name]
    own = network.own_weights.own_input(neuron)
    if own is None:
        return None
    channels, space = own
    weight = network.own_weights.input_weights(neuron) if request.granularity is Granularity.SYNAPTIC else ""
    kind, what = type(neuron).__name__, "each synapse of the input" if weight else "the input"
    more = beyond_own_input(network, neuron, request)
    return Connection(
        layer=name,
        neuron=name,
        in_features=channels,
        out_features=getattr(neuron, weight).shape[0] if weight else channels,
        place=Place(granularity=request.granularity, turns=Turns.INSIDE, space=space, weight=weight),
        mode=network.toolkit.mode(neuron),
        reset=network.toolkit.reset_signal(neuron),
        note=f"delays {what} of {kind}, which has weights of its own for it{more}",
    )
