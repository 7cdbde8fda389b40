"""What a delayed layer has delivered, and where it lies in what its neuron takes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..layers.state import DelayState
from ..toolkits.states import tensors_in
from .identity import memory_of, version_of
from .lineage import Memories, Start

# again(state) runs the layer once more from a state of its delay: its output and the next state
Again = Callable[[DelayState | None], tuple[Any, DelayState | None]]
# The arguments of a neuron, when a hook changes them.
Changed = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(eq=False, slots=True)
class Offer:
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
    before: Memories = field(default_factory=list)  # the neuron's state before the present call
    opened: bool = False  # the neuron is being called
    seen: list[tuple[Tensor, int]] | None = None  # the state, and its versions, that the layer looked at

    def is_for(self, state: list[Tensor]) -> bool:
        """Whether the layer looked at this very state, to which nothing was written since."""
        if self.taken or self.seen is None or len(self.seen) != len(state):
            return False
        return all(
            tensor is other and version_of(tensor) == version and not tensor.is_inference()
            for tensor, (other, version) in zip(state, self.seen, strict=True)
        )


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


def input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The input among the arguments of a neuron: the first tensor."""
    if args and isinstance(args[0], Tensor):
        return args[0]
    tensors = tensors_in((args[:1], kwargs))
    return tensors[0] if tensors else None
