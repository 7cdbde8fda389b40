"""Layers with a delay per synapse as branches, which NIR has nodes for, and put together again.

A branch is a `nir.Delay` with one delay for each channel (none for a delay of zero) and a layer of weights behind it.
The branches of a layer begin and end at the same nodes, where their results are added. A layer that is written has one
branch for each of its distinct delays, with the weights that have this delay, the others being zero: the least number
of branches with one delay each. Branches that are read may have other delays in each channel.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..graph import Delay, Geometry, Graph, Shape, Synapses
from .notes import max_delay_of, read_notes


class Branch(NamedTuple):
    """A part of a layer that is to be written.

    Attributes:
        name: of its weights.
        delay: whole steps.
        weights: without delays; the bias of the layer is in the first branch.
    """

    name: str
    delay: int
    weights: Synapses


def branches_of(name: str, layer: Synapses) -> list[Branch]:
    """A layer with a delay per synapse as branches; if all delays are the same, as one that has its name."""
    parts = layer.by_delay()
    branches = []
    for i, (delay, weight) in enumerate(parts.items()):
        own = name if len(parts) == 1 else f"{name}.d{delay}"
        branches.append(Branch(own, delay, Synapses(weight, None if i else layer.bias, layer.geometry)))
    return branches


def nir_branches(graph: Any) -> dict[str, int]:
    """How many branches each layer with a delay per synapse has in a graph that `to_nir` made: its distinct delays."""
    counts: dict[str, int] = {}
    for node in graph.nodes.values():
        layer = read_notes(node).get("layer")
        if layer is not None:
            counts[str(layer)] = counts.get(str(layer), 0) + 1
    return counts


# ---------------------------------------------------------------------------------------------- put together


class _Between(NamedTuple):
    """What the branches of one layer have in common: where they begin and end, and their shape."""

    source: str
    after: tuple[str, ...]
    layer: str | None  # as noted
    geometry: Geometry | None
    shape: Shape


class _Read(NamedTuple):
    """A branch that was read: its node of weights and, if it has one, its node of delays."""

    name: str
    weights: Synapses
    delay_name: str | None
    delays: Tensor  # (I,), or (1,) for all inputs


def merge_branches(graph: Graph, notes: Mapping[str, Mapping[str, Any]]) -> None:
    """Make one layer of branches with delays between the same two nodes, in place.

    Args:
        graph: with branches as nodes of their own.
        notes: of its nodes, by name.
    """
    while any(_merge(graph, notes, between, branches) for between, branches in _groups(graph, notes).items()):
        pass  # what a merged layer feeds has one source from now on: it may be branches, too


def _groups(graph: Graph, notes: Mapping[str, Mapping[str, Any]]) -> dict[_Between, list[_Read]]:
    """Layers without delays and those behind a delay, by what the branches of one layer have in common."""
    before: dict[str, list[str]] = {name: [] for name in graph.nodes}
    after: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        before[b].append(a)
        after[a].append(b)
    groups: dict[_Between, list[_Read]] = {}
    for name, node in graph.nodes.items():
        if not isinstance(node, Synapses) or node.delays is not None or len(before[name]) != 1:
            continue
        (source,) = before[name]
        branch, delay = _Read(name, node, None, torch.zeros(1, dtype=torch.int64, device="cpu")), graph.nodes[source]
        if isinstance(delay, Delay) and after[source] == [name] and len(before[source]) == 1:
            branch = _Read(name, node, source, delay.delays)
            (source,) = before[source]
        layer = notes[name].get("layer")
        shape = tuple(node.weight.shape)
        between = _Between(source, tuple(sorted(after[name])), layer and str(layer), node.geometry, shape)
        groups.setdefault(between, []).append(branch)
    return groups


def _merge(graph: Graph, notes: Mapping[str, Mapping[str, Any]], between: _Between, branches: list[_Read]) -> bool:
    """Make one layer of these branches, in place; False if they are none, or if there is no such layer."""
    geometry, delayed = between.geometry, [branch.delay_name for branch in branches if branch.delay_name is not None]
    if between.layer is None and (len(branches) == 1 or not delayed):
        return False
    if geometry is not None and geometry.groups > 1 and delayed:
        return False  # there is a delay for each channel, and a kernel for those of its group only
    weights = torch.stack([branch.weights.weight for branch in branches], -1)
    weight, delays = _fewest_taps(weights, torch.stack([_per_weight(branch) for branch in branches], -1))
    if geometry is not None and weight.shape[-1] > 1:
        return False  # a convolution has one delay for each element of its kernel
    biases = [branch.weights.bias for branch in branches if branch.weights.bias is not None]
    bias = torch.stack(biases).sum(0) if biases else None
    max_delay = max_delay_of(notes[branches[0].name], int(delays.max()))
    graph.remove([*(branch.name for branch in branches), *delayed])
    merged = Synapses(weight, bias, geometry, delays, max_delay)
    name = graph.add(between.layer or branches[0].name, merged, [between.source])
    graph.edges += [(name, end) for end in between.after]
    return True


def _per_weight(branch: _Read) -> Tensor:
    """The delays of a branch, of the shape of its weight."""
    weight = branch.weights.weight
    return branch.delays.view(1, -1, *(1,) * (weight.dim() - 2)).expand(weight.shape)


def _fewest_taps(weight: Tensor, delays: Tensor) -> tuple[Tensor, Tensor]:
    """As few taps as the synapses need: (*S, N) of each from one of each branch, in the order of their delays."""
    delays, order = delays.sort(dim=-1, stable=True)
    weight = weight.gather(-1, order)
    used = weight != 0
    taps = max(1, int(used.sum(-1).max()))
    first = used.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :taps]
    weight, delays, used = weight.gather(-1, first), delays.gather(-1, first), used.gather(-1, first)
    return weight.contiguous(), torch.where(used, delays, 0).contiguous()
