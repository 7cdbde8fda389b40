"""The wiring that the structure of a model shows without a run: order in containers, order of registration."""

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator

from torch import nn

from ..toolkits.vocabulary import TimeAxis, TimeInside, Turns
from .inventory import Network
from .verdict import ASK, IN_A_ROW, Request, Skipped, Target, accepts


def targets(network: Network, request: Request) -> dict[str, Target | Skipped]:
    """For every layer the neuron that it feeds, or why that is not known."""
    verdicts: dict[str, Target | Skipped] = {}
    for name, owner in network.recurrent.items():
        if owner in network.neurons:
            verdicts[name] = Target(owner, turns=Turns.INSIDE)
        else:
            inside = [n for n in network.neurons if n.startswith(f"{owner}." if owner else "")]
            verdicts[name] = (
                Target(inside[0]) if len(inside) == 1 else Skipped(name, f"which neuron it feeds is not clear: {ASK}")
            )
    for scope, items in _ordered(network):
        for layer, verdict in _read_scope(network, scope, items, request):
            verdicts.setdefault(layer, verdict)
    for name in network.layers:
        verdicts.setdefault(name, Skipped(name, f"the structure does not show which neuron it feeds: {ASK}"))
    return verdicts


def sources(network: Network) -> dict[str, frozenset[str]]:
    """For the layers and neurons whose order the structure shows, what comes before each of them."""
    before: dict[str, frozenset[str]] = {}
    for _, items in _ordered(network):
        names = [name for kind, name in items if kind != "-"]
        before |= {name: frozenset({last}) for last, name in itertools.pairwise(names)}
    return before


def _ordered(network: Network) -> Iterator[tuple[nn.Module, list[tuple[str, str]]]]:
    """(container, its items) for every container that runs its children in the order of the items."""
    scopes = [network.model]
    seen: set[int] = set()
    while scopes:
        scope = scopes.pop()
        if id(scope) in seen:
            continue
        seen.add(id(scope))
        items = list(_items(network, scope, scopes))
        kinds = "".join(kind for kind, _ in items)
        # Elsewhere the order of registration says nothing.
        if network.in_order(scope) or (_alternates(kinds) and _calls_in_order(network, scope, items)):
            yield scope, items


def _read_scope(
    network: Network, scope: nn.Module, items: list[tuple[str, str]], request: Request
) -> Iterator[tuple[str, Target | Skipped]]:
    """Match the layers of one container with the neurons that follow them."""
    pending: list[str] = []  # layers without a neuron so far; more than one if all but the last are named
    for kind, name in items:
        if kind == "L":
            for layer in () if name in network.recurrent else pending:
                if layer not in request.by_name:
                    follows = f"another weight layer, {name}, follows before any neuron; {IN_A_ROW}"
                    yield layer, Skipped(layer, follows, by_rule=True)
            pending = [*pending, name]
        elif kind == "?":
            for layer in pending:
                yield layer, Skipped(layer, f"{name} follows, and what it does is not known: {ASK}")
            pending = []
        elif kind == "N":
            for layer in pending:
                yield layer, _reach(network, layer, name, request)
            pending = []
    for layer in pending:
        if scope is network.model:
            yield layer, Skipped(layer, "no neuron follows it", by_rule=True)
        else:
            yield layer, Skipped(layer, f"the structure does not show which neuron it feeds: {ASK}")


def _reach(network: Network, layer: str, neuron: str, request: Request) -> Target | Skipped:
    """The neuron as a target, by the containers around the layer and around the neuron."""
    ours, theirs = (
        {(above, network.containers.time_inside(module)) for above, module in network.ancestors(name)}
        for name in (layer, neuron)
    )
    # Containers around one of them only, which change the time.
    mine, its = ([pair for pair in pairs if pair[1] != TimeInside.SAME] for pairs in (ours - theirs, theirs - ours))
    are_steps = all(kind == TimeInside.STEPS for _, kind in its)
    if len(mine) + len(its) > 1 or not are_steps or any(kind == TimeInside.LAST for _, kind in mine):
        return Skipped(layer, f"it and {neuron} see the time in different ways: {ASK}")
    container, kind = mine[0] if mine else ("", TimeInside.SAME)
    if not mine and not its and network.takes_sequences(network.neurons[neuron]) and network.knows_no_time(layer):
        return Skipped(layer, f"it takes no sequences, while {neuron} does: {ASK}")
    target = Target(neuron, turns=Turns.SEQUENCE_THEN_STEPS if its else Turns.TOGETHER)
    if kind == TimeInside.FOLDED:
        target = Target(neuron, time=TimeAxis.FOLDED, fold=container)
    elif kind == TimeInside.STEPS:
        target = Target(neuron, turns=Turns.STEPS_THEN_SEQUENCE)
    return accepts(network, layer, target, request)


def _calls_in_order(network: Network, scope: nn.Module, items: list[tuple[str, str]]) -> bool:
    """Whether the source of a forward calls layers and neurons as they are registered: once each, in that order, in one
    loop over the time or outside of any, and no layer on what the step before has left."""
    if isinstance(scope, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False  # what such a container does with its children, its own class or somebody else decides
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(type(scope).forward)))
    except (OSError, TypeError, SyntaxError):
        return False
    prefix = network.names[id(scope)]
    names = {name.removeprefix(f"{prefix}." if prefix else ""): kind for kind, name in items if kind in "LN"}
    source = _Source({name for name, kind in names.items() if kind == "L"})
    source.visit(tree)
    calls = [(name, loop) for name, loop in source.calls if name in names]
    return [name for name, _ in calls] == [*names] and len({loop for _, loop in calls}) == 1 and not source.feeds_back


class _Source(ast.NodeVisitor):
    """Reads a forward: the calls `self.name(...)` in the order in which they are evaluated, each with its loop."""

    def __init__(self, layers: set[str]) -> None:
        self.calls: list[tuple[str, int]] = []
        self.feeds_back = False  # a layer is called on a name that its loop assigns only further down
        self._layers = layers
        self._loop = 0
        self._later: set[str] = set()  # names that the loop assigns, and has not yet

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.For | ast.While):
            self._visit_loop(node)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            self.generic_visit(node)
            self._later -= _assigned(node)
        elif isinstance(node, ast.Call):
            self._visit_call(node)
        else:
            self.generic_visit(node)

    def _visit_loop(self, node: ast.For | ast.While) -> None:
        outside = self._loop, self._later
        self._loop = node.lineno
        self._later = set().union(*(_assigned(child) for child in node.body))
        if isinstance(node, ast.For):
            self._later -= _assigned(node.target)
        self.generic_visit(node)
        self._loop, self._later = outside

    def _visit_call(self, node: ast.Call) -> None:
        self.generic_visit(node)  # arguments come before what they go into
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(node.func, ast.Attribute) and isinstance(owner, ast.Name) and owner.id == "self":
            self.calls.append((node.func.attr, self._loop))
            if node.func.attr in self._layers:
                inputs = set().union(*map(_flowing, (*node.args, *node.keywords)))
                self.feeds_back |= bool(inputs & self._later)


def _flowing(node: ast.AST) -> set[str]:
    """The names whose values go into an expression; an index only chooses among them."""
    if isinstance(node, ast.Name):
        return {node.id}
    parts = [node.value] if isinstance(node, ast.Subscript) else ast.iter_child_nodes(node)
    return set().union(*map(_flowing, parts))


def _assigned(node: ast.AST) -> set[str]:
    """The names that are assigned somewhere in a piece of source."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _alternates(kinds: str) -> bool:
    """Whether layers and neurons alternate, as in a class that registers fc1, lif1, fc2, lif2."""
    order = kinds.replace("-", "").replace("?", "")
    return order in ("LN" * (len(order) // 2), "LN" * (len(order) // 2) + "L") or order.strip("N") == ""


def _items(network: Network, scope: nn.Module, scopes: list[nn.Module]) -> Iterator[tuple[str, str]]:
    """(kind, name) of the children in order: L layer, N neuron, - passive, ? anything else. Adds inner scopes.

    A child that is there twice, which an ordered scope calls twice, is "?": what it feeds is not clear.
    """
    children = [child for child in scope._modules.values() if child is not None]
    for child in children if network.in_order(scope) else dict.fromkeys(children):
        name = network.names[id(child)]
        if children.count(child) > 1 and (name in network.neurons or name in network.layers):
            yield "?", name
        elif name in network.neurons:
            yield "N", name
        elif name in network.layers:
            yield "L", name
        elif f"{name}.{network.containers.lifted(child)}" in network.neurons:
            yield "N", f"{name}.{network.containers.lifted(child)}"
        elif network.recurrent_unit(name) is not None:
            yield from zip("LN", network.recurrent_unit(name) or (), strict=True)
        elif network.is_passive(child):
            yield "-", name
        elif network.in_order(scope) and network.in_order(child):
            yield from _items(network, child, scopes)
        else:
            scopes.append(child)
            yield "?", name
