"""Which layers of a model can have delays: reading its structure, or a run of it on an example."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from . import plugins
from .attach import Delayed, Granularity, Mode
from .backend import Toolkit
from .errors import ArgumentError, WiringError
from .layers import LearnableDelay
from .tracing import Example, trace

Filter = Callable[[nn.Module, str], bool]

_CONVOLUTIONS = nn.modules.conv._ConvNd
# Layers through which a connection passes unchanged in kind: no weights between synapse and neuron, no memory.
_PASSIVE = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
_ASK = "pass example= (an input, or a function that drives the model)"


@dataclass(frozen=True)
class Connection:
    """A layer that can have delays.

    Attributes:
        layer: dotted name of the layer.
        neuron: dotted name of the neuron that it feeds.
        in_features, out_features: of its weights.
        granularity: "synaptic", "axonal" or "dendritic".
        mode: "step" or "sequence", as the neuron is set now.
        reset: what marks a new sequence, in words.
        inner: name of the child that holds the weights; "" for the layer itself.
        container: dotted name of the container that hands the layer its state; None if nobody does.
    """

    layer: str
    neuron: str
    in_features: int
    out_features: int
    granularity: Granularity
    mode: Mode
    reset: str
    inner: str = ""
    container: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A layer that gets no delays, and why."""

    layer: str
    reason: str


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
        lines += [f"  {s.layer} is left out: {s.reason}" for s in self.skipped]
        return "\n".join(lines)


def plan_delays(
    model: nn.Module,
    example: Example | None = None,
    *,
    granularity: Granularity = "synaptic",
    filter_fn: Filter | None = None,
    backend: str | None = None,
) -> Plan:
    """Say which layers of a model would get delays, and why the others would not. Changes nothing.

    Without an example only what the structure shows is planned: a linear layer followed by a spiking neuron in a
    Sequential, or in the order of registration where that alternates. With one, the model is run on it and the plan
    follows what flowed.

    Args:
        model: a network of spiking neurons of one toolkit.
        example: an input tensor, the arguments of the model's forward (tuple or dict), or a function that is called
            with the model and drives it as its user does. Runs without gradients; the model is left as it was.
        granularity: "synaptic", "axonal" (one delay per input) or "dendritic" (one per output).
        filter_fn: `filter_fn(module, name)` says whether a layer is considered.
        backend: name of the toolkit; found by the model's neurons by default.

    Raises:
        WiringError: no toolkit, or more than one, has neurons in the model.
        BackendError: the toolkit named cannot be used.
    """
    check_model(model)
    if granularity not in get_args(Granularity):
        raise ArgumentError("granularity", f"one of {', '.join(get_args(Granularity))}", repr(granularity))
    if backend is None:
        backend, toolkit = plugins.toolkit_of(model.modules())
    else:
        toolkit = plugins.toolkit(backend)
    network = _Network(model, toolkit)
    targets = _from_structure(network) if example is None else _from_example(network, example)
    connections, skipped = [], []
    for name, layer in network.layers.items():
        verdict = _exclusion(network, name, layer, filter_fn, granularity) or targets[name]
        if isinstance(verdict, Skipped):
            skipped.append(verdict)
        else:
            connections.append(_connection(network, name, layer, verdict, granularity))
    return Plan(backend, tuple(connections), tuple(skipped))


def check_model(model: nn.Module) -> None:
    """Raise unless `model` is a module that can be changed."""
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", "a torch.nn.Module", type(model).__name__)
    if any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in model.modules()):
        raise WiringError("the model is compiled: add delays to the plain model, then compile it")


class _Network:
    """A model sorted into weight layers and neurons, by dotted name."""

    def __init__(self, model: nn.Module, toolkit: Toolkit) -> None:
        self.model, self.toolkit = model, toolkit
        self.names = {id(module): name for name, module in model.named_modules()}
        neurons = {name: m for name, m in model.named_modules() if toolkit.is_neuron(m)}
        self.neurons = {  # without those that are a part of another one
            name: m for name, m in neurons.items() if not any(parent in neurons for parent, _ in self.ancestors(name))
        }
        self.layers = {name: m for name, m in model.named_modules() if self.is_layer(m) and not self._belongs(name)}

    def is_layer(self, module: nn.Module) -> bool:
        """Whether a module has weights that a delay could go with."""
        return isinstance(module, nn.Linear | _CONVOLUTIONS) or self.is_layer_inside(module)

    def is_layer_inside(self, module: nn.Module) -> bool:
        inner = self.toolkit.lifted(module)
        return bool(inner) and isinstance(getattr(module, inner), nn.Linear | _CONVOLUTIONS)

    def _belongs(self, name: str) -> bool:
        """Whether the module is part of a neuron, of a delay, or of a wrapper that counts as the layer."""
        return any(
            parent in self.neurons or isinstance(module, LearnableDelay) or self.is_layer_inside(module)
            for parent, module in self.ancestors(name)
        )

    def ancestors(self, name: str) -> Iterator[tuple[str, nn.Module]]:
        """(name, module) of everything that contains the module, outermost first."""
        parts = name.split(".")
        for depth in range(len(parts)):
            parent = ".".join(parts[:depth])
            yield parent, self.model.get_submodule(parent)


Target = str | Skipped  # the neuron that a layer feeds, or why it gets no delay


def _exclusion(
    network: _Network, name: str, layer: nn.Module, filter_fn: Filter | None, granularity: Granularity
) -> Skipped | None:
    """Reasons that do not depend on the wiring."""
    if filter_fn is not None and not filter_fn(layer, name):
        return Skipped(name, "filter_fn leaves it out")
    if isinstance(layer, Delayed):
        return Skipped(name, "it has delays already")
    inner = network.toolkit.lifted(layer)
    weights = getattr(layer, inner) if inner else layer
    if isinstance(weights, nn.modules.lazy.LazyModuleMixin):
        return Skipped(name, "its size is not known yet: run the model once first")
    if isinstance(weights, nn.Linear) and granularity == "synaptic" and type(weights).forward is not nn.Linear.forward:
        kind = type(weights).__name__
        return Skipped(name, f"{kind} has a forward of its own: give it granularity='axonal' or 'dendritic'")
    if isinstance(weights, _CONVOLUTIONS):
        return Skipped(name, f"{type(weights).__name__}: only nn.Linear can have delays in this version")
    for parent, module in network.ancestors(name):
        if network.toolkit.hides_time(module):
            kind = type(module).__name__
            return Skipped(name, f"it is inside of {parent or 'the model'} ({kind}), which hides the time axis from it")
    return None


def _connection(network: _Network, name: str, layer: nn.Module, target: str, granularity: Granularity) -> Connection:
    toolkit, neuron = network.toolkit, network.neurons[target]
    inner = toolkit.lifted(layer)
    linear: Any = getattr(layer, inner) if inner else layer
    parent = list(network.ancestors(name))[-1] if name else None
    threads = parent is not None and toolkit.threads_state(parent[1])
    return Connection(
        layer=name,
        neuron=target,
        in_features=linear.in_features,
        out_features=linear.out_features,
        granularity=granularity,
        mode=toolkit.mode(neuron),
        reset="a call without the state that was returned" if threads else toolkit.reset_signal(neuron),
        inner=inner,
        container=parent[0] if parent is not None and threads else None,
    )


def _accepts(network: _Network, layer: str, neuron: str) -> Target:
    """The neuron, unless it is of a kind that gets no delays."""
    module = network.neurons[neuron]
    kind = type(module).__name__
    if network.toolkit.is_recurrent(module):
        return Skipped(layer, f"it feeds {neuron} ({kind}), which has weights of its own: not in this version")
    if not network.toolkit.is_spiking(module):
        return Skipped(layer, f"it feeds {neuron} ({kind}), a readout")
    return neuron


# ------------------------------------------------------------------------------------------------- by example


def _from_example(network: _Network, example: Example) -> dict[str, Target]:
    flow = trace(network.model, example, network.layers, network.neurons)
    targets: dict[str, Target] = {}
    for name in network.layers:
        fed = sorted(flow.neurons.get(name, ()))
        if name not in flow.called:
            targets[name] = Skipped(name, "it was not called on the example (its weights may be used directly)")
        elif name in flow.added and set(fed) <= flow.inputs.get(name, set()):
            targets[name] = Skipped(name, f"it feeds back into {fed[0]}: recurrent connections, not in this version")
        elif len(fed) == 1:
            calls, arrivals = flow.calls[name], flow.arrivals[name, fed[0]]
            turns = (
                f"it was called {calls} times and its result came to {fed[0]} {arrivals} times: they must take turns"
            )
            targets[name] = _accepts(network, name, fed[0]) if calls == arrivals else Skipped(name, turns)
        elif fed:
            targets[name] = Skipped(name, f"it feeds several neurons: {', '.join(fed)}")
        elif flow.layers.get(name):
            after = ", ".join(sorted(flow.layers[name]))
            targets[name] = Skipped(name, f"another weight layer follows before any neuron: {after}")
        else:
            targets[name] = Skipped(name, "no neuron follows it")
    return targets


# ----------------------------------------------------------------------------------------------- by structure


def _from_structure(network: _Network) -> dict[str, Target]:
    targets: dict[str, Target] = {}
    scopes = [network.model]
    seen: set[int] = set()
    while scopes:
        scope = scopes.pop()
        if id(scope) not in seen:
            seen.add(id(scope))
            _read_scope(network, scope, targets, scopes)
    for name in network.layers:
        targets.setdefault(name, Skipped(name, f"the structure does not show which neuron it feeds: {_ASK}"))
    return targets


def _read_scope(network: _Network, scope: nn.Module, targets: dict[str, Target], scopes: list[nn.Module]) -> None:
    """Match the layers of one container with the neurons that follow them."""
    items = list(_items(network, scope, scopes))
    kinds = "".join(kind for kind, _ in items)
    if not _is_ordered(network, scope) and not _alternates(kinds):
        return  # the order of registration says nothing
    pending: str | None = None
    for kind, name in items:
        if pending is not None and kind == "L":
            reason = f"another weight layer, {name}, follows before any neuron"
            targets[pending] = Skipped(pending, reason)
        elif pending is not None and kind == "?":
            targets[pending] = Skipped(pending, f"{name} follows, and what it does is not plain: {_ASK}")
        elif pending is not None and kind == "N":
            targets[pending] = _accepts(network, pending, name)
        if kind != "-":
            pending = name if kind == "L" else None
    if pending is not None:
        targets[pending] = Skipped(pending, "no neuron follows it")


def _alternates(kinds: str) -> bool:
    """Whether layers and neurons take turns, as in a class that registers fc1, lif1, fc2, lif2."""
    order = kinds.replace("-", "").replace("?", "")
    return order in ("LN" * (len(order) // 2), "LN" * (len(order) // 2) + "L") or order.strip("N") == ""


def _items(network: _Network, scope: nn.Module, scopes: list[nn.Module]) -> Iterator[tuple[str, str]]:
    """(kind, name) of the children in order: L layer, N neuron, - passive, ? anything else. Adds inner scopes.

    A child that is there twice, which an ordered scope calls twice, is "?": what it feeds is not plain.
    """
    children = [child for child in scope._modules.values() if child is not None]
    for child in children if _is_ordered(network, scope) else dict.fromkeys(children):
        name = network.names[id(child)]
        inner = network.toolkit.lifted(child)
        if children.count(child) > 1 and (name in network.neurons or name in network.layers):
            yield "?", name
        elif name in network.neurons:
            yield "N", name
        elif name in network.layers:
            yield "L", name
        elif isinstance(getattr(child, inner) if inner else child, _PASSIVE):
            yield "-", name
        elif _is_ordered(network, scope) and _is_ordered(network, child):
            yield from _items(network, child, scopes)
        else:
            scopes.append(child)
            yield "?", name


def _is_ordered(network: _Network, module: nn.Module) -> bool:
    """Whether the module runs its children one after the other, and nothing else."""
    plain = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    return plain or network.toolkit.threads_state(module)
