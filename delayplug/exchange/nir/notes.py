"""What delayplug writes into the metadata of NIR graphs and nodes, which other programs do not read."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

KEY = "delayplug"  # in the metadata
MOST_STEPS = 1 << 16  # of a delay: more is a mistake in units, and would be allocated


class Notes(TypedDict, total=False):
    """Of one node.

    Keys:
        layer: the layer that a branch is part of.
        max_delay: the largest delay, in steps, that training may reach.
        taps: of each synapse of that layer.
        reset: a `Reset`, where a spike does not set the membrane to a value.
    """

    layer: str
    max_delay: int
    taps: int
    reset: str


def write_notes(node: Any, notes: Notes) -> None:
    """Add notes to a NIR node."""
    node.metadata[KEY] = dict(notes)


def read_notes(node: Any) -> dict[str, Any]:
    """The notes of a NIR node, of which anything may be missing or wrong; empty for a node of another program."""
    metadata = getattr(node, "metadata", None)
    notes = metadata.get(KEY) if isinstance(metadata, dict) else None
    return notes if isinstance(notes, dict) else {}


def write_dt(graph: Any, dt: float) -> None:
    """Note the seconds of a step in the metadata of a `nir.NIRGraph`."""
    graph.metadata[KEY] = {"dt": dt}


def read_dts(graph: Any) -> set[float]:
    """The seconds of a step that are noted in a `nir.NIRGraph` and its subgraphs; empty for those of other programs."""
    return set(_dts(graph, set()))


def _dts(graph: Any, seen: set[int]) -> Iterator[float]:
    """The notes of a graph and of those inside of it; one that contains itself is refused later, by name."""
    if id(graph) in seen:
        return
    seen.add(id(graph))
    try:
        dt = float(read_notes(graph).get("dt"))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        dt = 0.0
    if math.isfinite(dt) and dt > 0:
        yield dt
    nodes = getattr(graph, "nodes", None)
    for node in nodes.values() if isinstance(nodes, dict) else ():
        yield from _dts(node, seen)


def max_delay_of(notes: Mapping[str, Any], least: int) -> int:
    """The largest delay to train within: as noted if that is a number of steps from `least` on, else `least`."""
    try:
        steps = int(notes.get("max_delay"))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return least
    return steps if least <= steps <= MOST_STEPS else least
