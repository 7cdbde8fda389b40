"""The nodes of a NIR graph and of the subgraphs in it, as those of one graph.

A subgraph has one input and one output. Its nodes have its name in front of theirs ("block.fc"); its input and its
output are replaced by edges.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ...errors import ExchangeError


class Flat(NamedTuple):
    """A graph without subgraphs.

    Attributes:
        nodes: by name.
        edges: between their names.
        prefixes: of each node, what its name begins with because of the subgraphs around it; "" at the top.
        ports: the inputs and outputs of subgraphs by name: the node, and the names of the nodes whose results, added,
            go through it.
    """

    nodes: dict[str, Any]
    edges: list[tuple[str, str]]
    prefixes: dict[str, str]
    ports: dict[str, tuple[Any, list[str]]]


def flat(graph: Any) -> Flat:
    """Dissolve the subgraphs of a `nir.NIRGraph`.

    Raises:
        ExchangeError: an edge leads nowhere or is there twice, a subgraph contains itself or has not one input and one
            output.
    """
    nodes, edges, prefixes, gone = _expanded(graph, "", set())
    ports: dict[str, tuple[Any, list[str]]] = {}
    for name in gone:
        before, after = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        if name in before:
            raise ExchangeError(f"{name} feeds itself: recurrent connections cannot be exchanged")
        edges = [edge for edge in edges if name not in edge] + [(a, b) for a in before for b in after]
        # A port may feed another one, which is dissolved before it or after it.
        ports = {own: (node, _through(sources, name, before)) for own, (node, sources) in ports.items()}
        ports[name] = (nodes.pop(name), before)
        del prefixes[name]
    return Flat(nodes, edges, prefixes, ports)


def _through(sources: list[str], name: str, before: list[str]) -> list[str]:
    """The sources, with those before a dissolved node in its place."""
    return [end for source in sources for end in (before if source == name else [source])]


def _expanded(
    graph: Any, prefix: str, around: set[int]
) -> tuple[dict[str, Any], list[tuple[str, str]], dict[str, str], list[str]]:
    """(nodes, edges, prefixes, inputs and outputs of subgraphs) of a graph, its names behind a prefix.

    `around` are the addresses of the graphs that contain it.
    """
    import nir

    if id(graph) in around:
        raise ExchangeError(f"the subgraph {prefix.rstrip('.')} contains itself")
    if not isinstance(graph.nodes, dict):
        raise ExchangeError("the nodes of the graph are not a dictionary")
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    prefixes: dict[str, str] = {}
    dissolved: list[str] = []
    ports: dict[str, tuple[list[str], list[str]]] = {}  # of each node: where edges to it end, and those from it begin
    for name, node in graph.nodes.items():
        own = prefix + str(name)
        if isinstance(node, nir.NIRGraph):
            inner, inner_edges, inner_prefixes, gone = _expanded(node, own + ".", around | {id(graph)})
            ins = [n for n in inner if isinstance(inner[n], nir.Input) and n not in gone]
            outs = [n for n in inner if isinstance(inner[n], nir.Output) and n not in gone]
            if len(ins) != 1 or len(outs) != 1:
                raise ExchangeError(
                    f"the subgraph {own} has {len(ins)} inputs and {len(outs)} outputs: expected one of each"
                )
            _check_new(inner, nodes)
            nodes |= inner
            prefixes |= inner_prefixes
            edges += inner_edges
            dissolved += [*gone, *ins, *outs]
            ports[str(name)] = (ins, outs)
        else:
            _check_new([own], nodes)
            nodes[own], prefixes[own] = node, prefix
            ports[str(name)] = ([own], [own])
    seen = set()
    for edge in graph.edges:
        try:
            a, b = (str(end) for end in edge)
        except (TypeError, ValueError):
            raise ExchangeError(f"an edge is a pair of names, got {edge!r}") from None
        for end in (a, b):
            if end not in ports:
                raise ExchangeError(f"the edge {prefix}{a} -> {prefix}{b} is dangling: there is no node {prefix}{end}")
        if (a, b) in seen:
            raise ExchangeError(f"the edge {prefix}{a} -> {prefix}{b} is there twice")
        seen.add((a, b))
        edges += [(start, end) for start in ports[a][1] for end in ports[b][0]]
    return nodes, edges, prefixes, dissolved


def _check_new(names: Iterable[str], nodes: Mapping[str, object]) -> None:
    for name in names:
        if name in nodes:
            raise ExchangeError(f"two nodes have the name {name}, one of them in a subgraph: rename one")
