"""The memory of a delay inside of its neuron."""

from typing import Any

import torch
from torch import Tensor, nn

from ..layers.state import DelayState
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Turns
from .beginnings import tensor_attributes
from .called import ModelWatch as ModelWatch  # exported, and `Memory`: models that delayplug 0.1 saved whole look here
from .lineage import memories_of
from .offer import Again, Offer, input_of
from .resolve import not_empty
from .sequence import Memory as Memory


class InnerMemory(Memory):
    """The memory of a layer that its own neuron calls, or of a neuron's own input.

    There the neuron is called first, with all that tells from what it goes on. If it calls its layer several times for
    one step, as snnTorch's reset to zero does, all these calls see the same.
    """

    def __init__(self, neuron: nn.Module, toolkit: Toolkit) -> None:
        super().__init__(neuron, toolkit, Turns.INSIDE)

    def read(self, shape: torch.Size, steps: int | None) -> DelayState | None:
        if self.carried:
            return self._now.state
        offer = self._now.offer
        return None if offer is None else self._fitting(offer.start, shape).state()

    def delivered(self, output: Any, again: Again | None) -> None:
        """The neuron is there already."""

    def before(
        self,
        neuron: nn.Module,
        passed: tuple[Tensor, ...] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        if self.carried:
            return
        self.neuron, self.knows_its_neuron = neuron, True
        now = self._now
        if now.names is None and now.attributes is None:
            self._now = now._replace(attributes=tensor_attributes(neuron))
        start = self._start_of(passed, input_of(args, kwargs))
        before = memories_of(not_empty(self._state(passed)))
        offer = Offer(start, start.state(), taken=1, before=before, opened=True)
        self._now = self._now._replace(offer=offer, passes=passed is not None)
