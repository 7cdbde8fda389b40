"""What a delayed layer has delivered, and where it lies in what its neuron takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from ..layers.state import DelayState
from .identity import memory_of, version_of
from .lineage import Memories, Start

# again(state) runs the layer once more from a state of its delay: its output and the next state
Again = Callable[[DelayState | None], tuple[Any, DelayState | None]]
# The arguments of a neuron, when a hook changes them.
Changed = tuple[tuple[Any, ...], dict[str, Any]]


class Offer(NamedTuple):
    """What the layer has delivered and the neuron has not taken yet."""

    start: Start  # from which the layer computed
    state: DelayState | None = None  # of the delay after it
    steps: int = 1
    call: int = 0  # of the model, by its serial number; 0 outside of any
    output: Tensor | None = None
    version: int = 0  # of the output
    again: Again | None = None
    taken: int = 0  # steps that the neuron has taken
    replaced: Tensor | None = None  # the output from another start
    before: Memories = []  # noqa: RUF012  never changed: the neuron's state before the present call
    opened: bool = False  # the neuron is being called


def place_in(offer: Offer, x: Tensor) -> tuple[int, int] | tuple[()] | None:
    """Where the neuron's input lies in the output that the layer has delivered.

    () if it is all of it, (dimension, index) of one step of it, None if it is something else, or was written to.
    """
    output = offer.output
    if output is None or version_of(x) != offer.version:
        return None
    if x is output:
        return ()
    if x.dim() != output.dim() - 1 or memory_of(x) is not memory_of(output):
        return None
    for dim in (0, 1):
        unit = output.stride(dim)
        index, rest = divmod(int(x.storage_offset()) - int(output.storage_offset()), unit) if unit else (0, 1)
        if not rest and 0 <= index < output.shape[dim]:
            step = output.select(dim, index)
            if step.shape == x.shape and step.stride() == x.stride():
                return dim, index
    return None


def with_input(args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor, new: Tensor) -> Changed:
    """The arguments of a call with another input."""
    if args:
        return (new, *args[1:]), kwargs
    return args, {name: new if value is x else value for name, value in kwargs.items()}
