"""A neuron that takes single steps, over a whole sequence."""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..neurons.loops import compiled_loops, over_steps
from ..toolkits.capabilities import streams
from ..toolkits.toolkit import Toolkit

Forward = Callable[..., Any]


def over_time(toolkit: Toolkit, neuron: nn.Module, forward: Forward, x: Tensor) -> Any:
    """A neuron of single steps over a whole sequence from a fresh state.

    Args:
        toolkit: of the neuron.
        neuron: as it is.
        forward: its own forward.
        x: its input, (T, B, ...).

    Returns:
        What its forward gives, with every tensor stacked over the time.
    """
    block = streams(toolkit).as_sequence(neuron)
    if block is not None:
        with block:
            return forward(x)
    step = _holding if toolkit.held_state(neuron) else _carrying
    if getattr(forward, "__func__", None) is type(neuron).forward:
        return over_steps(step, neuron, x, ())
    with compiled_loops(False):  # a compiled loop would be kept for a function that the next call does not use
        return over_steps(functools.partial(step, forward=forward), neuron, x, ())


# At the top of the module, as `over_steps` wants its steps.


def _holding(neuron: nn.Module, x: Tensor, carried: Any, forward: Forward | None = None) -> tuple[Any, Any]:
    """A step of a neuron that keeps its state."""
    return (forward or functools.partial(type(neuron).forward, neuron))(x), ()


def _carrying(neuron: nn.Module, x: Tensor, carried: Any, forward: Forward | None = None) -> tuple[Any, Any]:
    """A step of a neuron that returns its state behind its output."""
    out = (forward or functools.partial(type(neuron).forward, neuron))(x, *carried)
    return out, out[1:] if isinstance(out, tuple) else ()
