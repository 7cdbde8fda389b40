"""What joins a delayed layer to the neuron that it feeds."""

import threading
from typing import Any, Protocol
from weakref import WeakValueDictionary

from torch import Tensor, nn

from ..neurons.loops import eager
from ..toolkits.states import tensors_in
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Turns
from .beginnings import held_by, tensor_attributes
from .called import Calls
from .identity import mark
from .offer import Changed


class Linked(Protocol):
    """What a link knows of the memory of a delayed layer; see `Memory`, which is one."""

    neuron: nn.Module
    link: "Link"
    knows_its_neuron: bool

    @property
    def is_waiting(self) -> bool:
        """Whether the layer has delivered what the neuron has not taken."""
        ...

    @property
    def state_names(self) -> tuple[str, ...]:
        """Attributes of the neuron with a state that its toolkit does not name."""
        ...

    def before_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Changed | None:
        """Forward pre-hook of the neuron."""
        ...

    def before(
        self,
        neuron: nn.Module,
        passed: tuple[Tensor, ...] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Changed | None:
        """The neuron is called with this state; returns the arguments if they change."""
        ...

    def after_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        """Forward hook of the neuron."""

    def after(self, neuron: nn.Module, held: tuple[object, ...], returned: tuple[Tensor, ...]) -> None:
        """The neuron has been called, and left this state."""


class Link:
    """What joins a delayed layer to the neuron that it feeds: the neuron's hooks, which find the memory of the layer.

    All copies of a layer and its neuron share it, be they of a whole model, of the layer alone, or the replicas of
    `DataParallel`: a history found by it belongs to a state, whichever copy goes on from it. A hook that is called with
    a neuron takes the memory that delivered last in this thread.
    """

    def __init__(self, toolkit: Toolkit, turns: Turns) -> None:
        self.toolkit, self.turns = toolkit, turns
        self.calls = Calls()
        self._thread = threading.local()

    def delivered(self, memory: Linked) -> None:
        """A memory waits for its neuron."""
        self._fed[id(memory.neuron)] = memory

    @property
    def _fed(self) -> WeakValueDictionary[int, Linked]:
        """The memories that have delivered something in this thread, by the ids of their neurons."""
        fed: WeakValueDictionary[int, Linked] | None = getattr(self._thread, "fed", None)
        if fed is None:
            fed = self._thread.fed = WeakValueDictionary()
        return fed

    def memory_for(self, neuron: nn.Module) -> Linked | None:
        """The memory that has delivered something for a neuron, or whose neuron it is; None if there is none."""
        if self.turns is Turns.INSIDE:
            inside = (module.__dict__.get("delay_memory") for module in neuron.modules())
            return next((memory for memory in inside if memory is not None and memory.link is self), None)
        fed = self._fed
        memory = fed.get(id(neuron))
        if memory is not None and memory.neuron is neuron and memory.is_waiting:
            return memory
        for key, other in list(fed.items()):
            if other.is_waiting and not other.knows_its_neuron:  # the copy of a layer, which meets its neuron
                del fed[key]
                fed[id(neuron)] = other
                return other
        return memory if memory is not None and memory.neuron is neuron else None

    @eager
    def before_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Changed | None:
        """Forward pre-hook of the neuron."""
        memory = self.memory_for(neuron)
        return None if memory is None else memory.before_neuron(neuron, args, kwargs)

    @eager
    def after_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        """Forward hook of the neuron."""
        memory = self.memory_for(neuron)
        if memory is not None:
            memory.after_neuron(neuron, args, kwargs, output)

    @eager
    def see_fold(self, container: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Forward pre-hook of the module whose input still has the time, which it will fold into the batch."""
        inputs = tensors_in((args, kwargs))
        self._thread.folded = inputs[0].shape[0] if inputs else None

    @property
    def folded_steps(self) -> int:
        """How many steps the present call has, where the time is folded into the batch."""
        return getattr(self._thread, "folded", None) or 1

    def was_reset(self, neuron: nn.Module, returned: object) -> None:
        """A neuron has been reset by its toolkit's own method: what it holds now, or returned, is a beginning."""
        memory = self.memory_for(neuron)
        names = () if memory is None else memory.state_names
        if not self.toolkit.shows_state(neuron):
            names = tuple(tensor_attributes(neuron))  # of a copy it is not known yet which of them count
        for tensor in (*held_by(self.toolkit, neuron, names), *tensors_in(returned)):
            if isinstance(tensor, Tensor):
                mark(tensor, self, None)

    def __deepcopy__(self, memo: dict[int, object]) -> "Link":
        return self

    def __reduce__(self) -> tuple[type["Link"], tuple[Toolkit, Turns]]:
        return type(self), (self.toolkit, self.turns)
