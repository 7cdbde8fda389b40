"""The shapes that the nodes of a NIR graph declare, against those that they are fed with.

Writers are not exact here: some count the batch or the time in front, some have one number for all neurons of a node or
one for each channel. What can mean no such thing is an error: the file is damaged, or is not that of the network.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...errors import ExchangeError
from ..graph import Graph, Shape
from .subgraphs import Flat

# Of a node with a number for each neuron or value.
_NUMBERS = ("tau", "tau_mem", "tau_syn", "r", "w_in", "v_leak", "v_threshold", "v_reset", "threshold", "scale", "delay")


def check_declared(source: Flat, graph: Graph, shapes: Mapping[str, Shape]) -> None:
    """Raise ExchangeError for a node whose own shape is another one than that of what it is fed with.

    Args:
        source: the nodes of NIR.
        graph: made from them.
        shapes: of the results of its nodes.
    """
    fed = {name: [shapes[end] for end in graph.before(name)] for name in source.nodes}
    fed |= {name: [shapes[end] for end in before] for name, (_, before) in source.ports.items()}
    nodes = source.nodes | {name: node for name, (node, _) in source.ports.items()}
    for name, node in nodes.items():
        for word, declared, fits in _declared(node):
            for shape in fed[name][:1]:
                if not fits(declared, shape):
                    raise ExchangeError(
                        f"{name} ({type(node).__name__}): {word} has the shape {declared}, and is fed with {shape}"
                    )


def _declared(node: Any) -> Iterator[tuple[str, Shape, Any]]:
    """(word, shape, what says whether it fits) of all that a node declares."""
    import nir

    for word in _NUMBERS:
        value = getattr(node, word, None)
        if value is not None:
            yield word, tuple(np.shape(value)), _stands_for
    if isinstance(node, nir.Input | nir.Output | nir.Flatten):
        words = ("input_type",) if isinstance(node, nir.Flatten) else ("input_type", "output_type")
        for word in words:
            types = getattr(node, word)
            for value in types.values() if isinstance(types, dict) else ():
                if value is not None and np.ndim(value) == 1 and None not in list(value):
                    yield word, tuple(int(n) for n in value), _ends_with
    if isinstance(node, nir.Conv1d | nir.Conv2d) and node.input_shape is not None:
        size = tuple(int(n) for n in np.atleast_1d(np.asarray(node.input_shape)))
        yield "input_shape", size, _is_space


def _stands_for(declared: Shape, shape: Shape) -> bool:
    """One number, one for each channel, or one for each value."""
    own = _without_ones(declared)
    return own in ((), _without_ones(shape), _without_ones(shape[:1]))


def _ends_with(declared: Shape, shape: Shape) -> bool:
    return not shape or declared[-len(shape) :] == shape


def _is_space(declared: Shape, shape: Shape) -> bool:
    return declared == shape[1:]


def _without_ones(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)
