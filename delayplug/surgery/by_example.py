"""The wiring that a run of a model on an example shows."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Set
from dataclasses import replace

import torch

from ..toolkits.vocabulary import Mode, TimeAxis, Turns
from .beside import beside_delays
from .dataflow import Call, Flow
from .inventory import Network
from .verdict import BY_NAME, IN_A_ROW, Request, Skipped, Target, accepts

_AMBIGUOUS = "its time cannot be told from its batch: pass an example with different numbers of steps and samples"


def targets(
    network: Network, flow: Flow, request: Request, again: Callable[[], Flow | None] = lambda: None
) -> dict[str, Target | Skipped]:
    """For every layer the neuron that it feeds, or why it gets no delay.

    Args:
        network: the model.
        flow: what its run showed.
        request: what the user asked for.
        again: runs it with other numbers of steps and samples, where they were equal; None if that is not possible.
    """
    found = _found(network, flow, request)
    if any(isinstance(target, Skipped) and target.reason == _AMBIGUOUS for target in found.values()):
        second = again()
        other = {} if second is None else _found(network, second, request)
        for name, target in other.items():
            if found[name] == Skipped(name, _AMBIGUOUS) and isinstance(target, Target):
                found[name] = target
    return found


def _found(network: Network, flow: Flow, request: Request) -> dict[str, Target | Skipped]:
    graph = _Graph(flow)
    return {name: _target(network, graph, name, request) for name in network.layers}


def _target(network: Network, graph: "_Graph", name: str, request: Request) -> Target | Skipped:
    if not graph.calls_of(name):
        return Skipped(name, "it was not called on the example (its weights may be used directly)")
    owner = network.recurrent.get(name)
    if owner in network.neurons:
        return Target(str(owner), turns=Turns.INSIDE)
    beside = beside_delays(network, name, graph.sources(name), graph.layers_after(name))
    if beside is not None and name not in request.by_name:
        return beside
    fed, last = graph.first_neuron(name), name
    if fed is None:
        last = graph.last_layer(name)
        fed = graph.first_neuron(last)
        if fed is None:
            return Skipped(name, "no neuron follows it", by_rule=True)
        after = [layer for layer in graph.layers_after(name) if layer not in network.recurrent]
        if name not in request.by_name and after:
            follows = f"another weight layer follows before any neuron: {', '.join(after)}; {IN_A_ROW}"
            return Skipped(name, follows, by_rule=True)
    shared = graph.neurons_by_call(name, last)
    if len(shared) > 1:
        return Skipped(name, f"its weights are used for several neurons: {', '.join(shared)}")
    if graph.feeds_back(name, last, fed) and not request.delays_recurrent(name):
        reason = f"it feeds back into {fed}: a recurrent connection; pass recurrent=True to delay it"
        return Skipped(name, reason, by_rule=True)
    deeper = graph.skips_to(last, fed)
    if deeper is not None and name not in request.by_name:
        reason = f"a shortcut: it joins {deeper}, which comes later, on the way to {fed}; {BY_NAME}"
        return Skipped(name, reason, by_rule=True)
    accepted = accepts(network, name, Target(fed), request)
    return _in_time(network, graph, name, last, fed) if isinstance(accepted, Target) else accepted


def sources(flow: Flow) -> dict[str, frozenset[str]]:
    """For every layer and neuron that ran, the layers and neurons that its first input came from directly."""
    graph = _Graph(flow)
    return {name: graph.sources(name, calls=1) for name in dict.fromkeys(call.name for call in flow.calls)}


def steps(flow: Flow) -> int | None:
    """How many steps the longest sequence of a run had; None if it was a single step.

    Where the model is called for single steps, all of its calls count as one sequence.
    """
    most = 0
    calls = Counter(call.name for call in flow.calls if call.is_neuron and not call.is_sequence)
    for count in calls.values():
        most = max(most, count // flow.runs if count > flow.runs > 0 else count)
    for call in flow.calls:
        if call.is_sequence and call.shape:
            most = max(most, call.shape[0])
    return most if most > 1 else None


def fed_back(flow: Flow) -> tuple[str, str] | None:
    """(from, to): the first thing in a run that goes to a layer or neuron which has run before it."""
    first: dict[str, int] = {}
    for i, call in enumerate(flow.calls):
        first.setdefault(call.name, i)
        for source in sorted(call.layers | call.neurons):
            if first[source] >= first[call.name]:
                return source, call.name
    return None


class _Graph:
    """The calls of a run, as a graph of layers and neurons."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.calls = flow, flow.calls
        self._calls: dict[str, list[Call]] = {}
        for call in self.calls:
            self._calls.setdefault(call.name, []).append(call)

    def calls_of(self, name: str) -> list[Call]:
        return self._calls.get(name, [])

    def first_neuron(self, layer: str) -> str | None:
        """The neuron that a layer's result reaches first."""
        return next((call.name for call in self.calls if call.is_neuron and layer in call.layers), None)

    def neurons_by_call(self, layer: str, last: str) -> list[str]:
        """The neurons that the calls of a layer reach first, each before the layer is called again."""
        neurons: dict[str, None] = {}  # in the order of their calls
        waiting = False
        for call in self.calls:
            if call.name == layer:
                waiting = True
            elif waiting and call.is_neuron and last in call.layers:
                neurons[call.name] = None
                waiting = False
        return list(neurons)

    def layers_after(self, layer: str) -> list[str]:
        """The layers that its result reaches directly."""
        return list(dict.fromkeys(c.name for c in self.calls if not c.is_neuron and layer in c.layers))

    def last_layer(self, layer: str) -> str:
        """The end of the shortest chain of layers that begins here and reaches a neuron; the layer itself without."""
        chains = _reached([layer], self.layers_after)
        return next((name for name in chains if self.first_neuron(name) is not None), layer)

    def sources(self, name: str, calls: int | None = None) -> frozenset[str]:
        """The neurons and layers that an input comes from directly, in all calls or in so many of the first."""
        return frozenset().union(*(call.neurons | call.layers for call in self.calls_of(name)[:calls]))

    def feeds_back(self, layer: str, last: str, neuron: str) -> bool:
        """Whether a layer brings a neuron the output of itself, or of a later neuron, from the step before.

        `last` is the end of the chain of layers from this one to the neuron.
        """
        calls = self.calls_of(neuron)
        for source in self._neurons_behind(layer):
            if source == neuron:
                # A neuron that two layers share is not called with this layer's result every time.
                if all(last in call.layers for call in calls[1:]):
                    return True
            elif self._first(source) > self._first(neuron):
                return True
        return False

    def _neurons_behind(self, layer: str) -> list[str]:
        """The neurons that a layer's input comes from, through other layers or directly."""
        behind = _reached([layer], lambda name: () if self._is_neuron(name) else self.sources(name))
        return [*filter(self._is_neuron, behind)]

    def _first(self, name: str) -> int:
        return next(i for i, call in enumerate(self.calls) if call.name == name)

    def skips_to(self, layer: str, neuron: str) -> str | None:
        """The deeper layer that another one, which skips some neurons, is added to in front of a neuron."""
        call = next(call for call in self.calls_of(neuron) if layer in call.layers)
        ours = self.sources(layer)
        for other in sorted(call.layers - {layer}):
            theirs = self.sources(other)
            if self.feeds_back(other, other, neuron) or theirs <= ours or not any(map(self._is_neuron, theirs)):
                continue
            if ours <= self._upstream(theirs):
                return other
        return None

    def _is_neuron(self, name: str) -> bool:
        return any(call.is_neuron for call in self.calls_of(name))

    def _upstream(self, names: Iterable[str]) -> Set[str]:
        """These and everything that they come from, by the first call of each: later ones may see what is fed back."""
        return _reached(names, lambda name: self.sources(name, calls=1)).keys()

    def ends_at(self, neuron: str) -> bool:
        """Whether no further layer comes after a neuron."""
        return not any(neuron in call.neurons for call in self.calls if call.name != neuron)


def _reached(names: Iterable[str], following: Callable[[str], Iterable[str]]) -> dict[str, None]:
    """These names, those that follow them, and so on, the nearest first."""
    seen: dict[str, None] = {}
    waiting = deque(names)
    while waiting:
        name = waiting.popleft()
        if name not in seen:
            seen[name] = None
            waiting.extend(following(name))
    return seen


def _in_time(network: Network, graph: _Graph, name: str, last: str, neuron: str) -> Target | Skipped:
    """How the calls of a layer and of its neuron follow each other, and where the time is."""
    groups = _groups(graph, name, last, neuron)
    is_sequence = any(call.is_sequence for _, taken in groups for call in taken)
    note = ""
    if graph.ends_at(neuron):
        note = (
            f"{neuron} feeds no further layer; being of a spiking kind, it is not taken for a readout (filter_fn "
            f"leaves {name} out)"
        )
    mode = Mode.SEQUENCE if is_sequence else Mode.STEP
    seen = Target(neuron, mode=mode, note=note, in_shape=groups[0][0][0].shape, out_shape=graph.flow.outputs.get(name))
    counts = [(len(calls), len(taken)) for calls, taken in groups]
    if all(count == (1, 1) for count in counts):
        if not is_sequence:
            return replace(seen, leading=1)
        pairs = [(calls[0], taken[0].shape[0], taken[0].shape[1:2]) for calls, taken in groups]
        return _placed(network, graph, name, last, pairs, replace(seen, leading=2))
    if not is_sequence and all(called == 1 for called, _ in counts):
        pairs = [(calls[0], len(taken), taken[0].shape[:1]) for calls, taken in groups if taken]
        return _placed(network, graph, name, last, pairs, replace(seen, turns=Turns.SEQUENCE_THEN_STEPS, leading=2))
    if is_sequence and all(len(taken) == 1 and len(calls) == taken[0].shape[0] for calls, taken in groups):
        return replace(seen, turns=Turns.STEPS_THEN_SEQUENCE, leading=1)
    called, arrived = sum(called for called, _ in counts), sum(arrived for _, arrived in counts)
    counted = f"it was called {called} times and its result came to {neuron} {arrived} times"
    return Skipped(name, f"{counted}: they must be called alternately")


def _groups(graph: _Graph, name: str, last: str, neuron: str) -> list[tuple[list[Call], list[Call]]]:
    """The calls of a layer, and those of its neuron that took their results, as they followed each other."""
    groups: list[tuple[list[Call], list[Call]]] = [([], [])]
    for call in graph.calls:
        if call.name == name:
            if groups[-1][1]:
                groups.append(([], []))
            groups[-1][0].append(call)
        elif call.name == neuron and last in call.layers:
            groups[-1][1].append(call)
    return groups


def _placed(
    network: Network, graph: _Graph, name: str, last: str, pairs: list[tuple[Call, int, torch.Size]], target: Target
) -> Target | Skipped:
    """The target, with the place of the time in a layer that takes sequences.

    Args:
        network, graph, name: the layer.
        last: the layer whose results the neuron takes; the same one, or one that follows it.
        pairs: for each call of the layer: the call, the steps that its neuron took, the batch that this has (if any).
        target: what is known already.
    """
    batched = len(pairs[0][0].shape) - 1 - network.space_of(network.layers[name])  # dimensions before the channels
    places = set(TimeAxis)
    for call, steps, batch in pairs:
        places &= _places(call.shape, steps, batch, batched)
    places &= _as_shown(graph.flow, name, last, target.turns, places)
    out, steps = graph.flow.outputs.get(last, torch.Size()), pairs[0][1]
    moved = bool({name, last} & graph.flow.moved) and len(graph.flow.placed.get(last, ())) != 1
    # Where dimensions change their places, a size that two of them have tells nothing.
    if len(places) > 1 or (places and moved and [*out].count(steps) > 1):
        return Skipped(name, _AMBIGUOUS)
    if not places:
        call, steps, _ = pairs[0]
        runs = (
            f"it runs once for {steps} steps of {target.neuron}, and its input {tuple(call.shape)} has no time in front"
        )
        return Skipped(name, f"{runs}: a delay needs a call for each step, or one for (T, B, ...)")
    (place,) = places
    fold = None
    if place is TimeAxis.FOLDED:
        outer = [_that_know_time(call, steps) for call, steps, _ in pairs]
        known = [n for n in outer[0] if all(n in names for names in outer)]
        if not known:
            return Skipped(name, "its time is folded into the batch, and no module around it has the time in its input")
        fold = known[-1]
    # A folded layer sees one dimension less in front.
    return replace(target, time=place, fold=fold, leading=1 if place is TimeAxis.FOLDED else target.leading)


def _as_shown(flow: Flow, name: str, last: str, turns: Turns, places: set[TimeAxis]) -> set[TimeAxis]:
    """Those of the places of the time in the input of a layer that agree with what became of its result."""
    by_axis = {0: TimeAxis.FIRST, 1: TimeAxis.SECOND}
    moved, taken = {name, last} & flow.moved, flow.selected.get(last, set())
    placed = flow.placed.get(last, set()) if last == name or name not in flow.moved else set()
    if len(placed) == 1:  # what is a view of the result lies where it lies
        return {by_axis[axis] for axis in placed if axis in by_axis}
    if {TimeAxis.FIRST, TimeAxis.SECOND} <= places and not moved:
        if turns is Turns.SEQUENCE_THEN_STEPS and taken in ({0}, {1}):
            return {TimeAxis.FOLDED, *(by_axis[axis] for axis in taken)}
        if turns is Turns.TOGETHER and not taken:
            return {TimeAxis.FOLDED, TimeAxis.FIRST}
    return places


def _places(shape: torch.Size, steps: int, batch: torch.Size, batched: int) -> set[TimeAxis]:
    """Where the time can be in the input of a layer whose neuron took so many steps of such a batch."""
    axes: set[TimeAxis] = set()
    size = batch[0] if batch else None
    if batched >= 2:
        if shape[0] == steps:
            axes.add(TimeAxis.FIRST)
        if shape[1] == steps and (size is None or shape[0] == size):
            axes.add(TimeAxis.SECOND)
    elif batched == 1 and size != 1 and shape[0] == steps:
        axes.add(TimeAxis.FIRST)
        if size == steps:
            axes.add(TimeAxis.FOLDED)  # it may as well be the batch, and the time elsewhere: not to be told
    if size is not None and shape[0] == steps * size and (batched == 1 or shape[0] != steps):
        axes.add(TimeAxis.FOLDED)
    return axes


def _that_know_time(call: Call, steps: int) -> list[str]:
    """The modules around a call whose input has the time first and the batch second, outermost first."""
    return [
        name
        for name, shape in call.outer
        if len(shape) >= 2 and shape[0] == steps and shape[0] * shape[1] == call.shape[0]
    ]
