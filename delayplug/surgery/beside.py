"""Layers next to something that delays already: they would be delayed twice, and are left out unless they are named."""

import itertools
from collections.abc import Iterable, Iterator

from torch import nn

from .inventory import Network
from .verdict import BY_NAME, Request, Skipped


def beside_delays(network: Network, name: str, before: Iterable[str], after: Iterable[str]) -> Skipped | None:
    """Why a layer gets no delays if one that feeds it, or that it feeds, delays already; None if none of them does.

    Args:
        network: the model.
        name: of the layer.
        before, after: the layers, or whatever else, directly before it and behind it.
    """
    if network.delays_itself(network.layers[name]):
        return None
    for names, way in ((after, "its output goes"), (before, "its input comes")):
        delaying = [n for n in names if n in network.layers and network.delays_itself(network.layers[n])]
        if delaying:
            through = f"{way} through {', '.join(sorted(delaying))}, which delays it already; {BY_NAME}"
            return Skipped(name, through, by_rule=True)
    return None


def beside_in_order(network: Network, request: Request) -> dict[str, Skipped]:
    """Those layers that containers show which run their children in order, and that the user did not name."""
    before: dict[str, set[str]] = {name: set() for name in network.layers}
    after: dict[str, set[str]] = {name: set() for name in network.layers}
    for container in network.modules.values():
        if network.in_order(container):
            for first, second in itertools.pairwise(_items(network, container)):
                after.get(first, set()).add(second)
                before.get(second, set()).add(first)
    verdicts = (beside_delays(network, n, before[n], after[n]) for n in network.layers if n not in request.by_name)
    return {verdict.layer: verdict for verdict in verdicts if verdict is not None}


def _items(network: Network, container: nn.Module) -> Iterator[str]:
    """The names of what runs in a container one after the other, in it and in such containers inside of it."""
    for child in container.children():
        name = network.names[id(child)]
        if name in network.layers or name in network.neurons:
            yield name
        elif network.in_order(child):
            yield from _items(network, child)
        elif not network.is_passive(child):
            yield name
