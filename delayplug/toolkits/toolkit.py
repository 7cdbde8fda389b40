"""What every adapter answers about the neurons of its toolkit.

A plugin hands out a `Backend`, a description that costs nothing to make; its `toolkit` function imports the toolkit's
package and returns the `Toolkit` that answers questions about modules. What a toolkit has beyond plain neurons, such as
containers, streams or the benchmark's neurons, its `Toolkit` says by the classes in `capabilities` that it also derives
from.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import Tensor, nn

from .vocabulary import Mode

_NEVER = 1e9  # a threshold that no membrane reaches


@dataclass(frozen=True)
class Backend:
    """A plugin's description of itself.

    Attributes:
        name: what users type, such as "norse".
        package: the import name of the toolkit.
        extra: what installs it, as in `pip install 'delayplug[norse]'`; for plugins of other distributions, the
            distribution to install.
        toolkit: imports the toolkit and returns its `Toolkit`.
    """

    name: str
    package: str
    extra: str
    toolkit: "Callable[[], Toolkit]"


class Toolkit(ABC):
    """The seven questions that every adapter answers about a neuron: what it is, and what its state is.

    Without state of its own, so that it can be pickled with a model. Neurons must be called as modules, `neuron(x)`, so
    that their hooks run.
    """

    @abstractmethod
    def is_neuron(self, module: nn.Module) -> bool:
        """Whether the module is a neuron of this toolkit, spiking or readout."""

    @abstractmethod
    def is_spiking(self, neuron: nn.Module) -> bool:
        """Whether a call of the neuron gives spikes. One that gives its membrane, or never fires, is a readout.

        Layers in front of readouts get delays only if they are named. See `never_fires`.
        """

    @abstractmethod
    def mode(self, neuron: nn.Module) -> Mode:
        """Whether a call of the neuron is one step (B, ...) or a whole sequence (T, B, ...), as it is set now."""

    @abstractmethod
    def held_state(self, neuron: nn.Module) -> tuple[object, ...]:
        """The state on the neuron from which its next call goes on, the batch first; empty if it keeps none.

        The tensors as such, not inside of something and no copies: what is under way in a delay is found by them.
        Empty, too, where the next call begins a sequence whatever the neuron holds, as by a flag that its reset sets.
        What is no tensor does not count.
        """

    @abstractmethod
    def passed_state(
        self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, ...] | None:
        """The state in the arguments of a call, tensors with the batch first: themselves, or views of them.

        () for a fresh start, None to go on from what the neuron holds.
        """

    @abstractmethod
    def returned_state(self, neuron: nn.Module, output: Any) -> tuple[Tensor, ...]:
        """The state tensors in the result of a call, with the batch first; empty if the neuron keeps them to itself."""

    def is_fresh(self, neuron: nn.Module, state: tuple[Tensor, ...], x: Tensor | None = None) -> Tensor | bool | None:
        """Whether state tensors, held or passed, have the values with which the toolkit itself begins a sequence.

        A tensor of one bool is read only if it has to be, so that a device is not waited for in vain. True without a
        tensor is for a state that the neuron will not use, whatever its values: one that does not fit the input `x`.
        None: the toolkit cannot know. By default it cannot.
        """
        return None

    def shows_state(self, neuron: nn.Module) -> bool:
        """Whether these answers name all that a neuron goes on from. By default they do.

        Else attributes that its calls change count as its state, too, and a call is refused that may begin a sequence
        or not.
        """
        return True

    @abstractmethod
    def reset_signal(self, neuron: nn.Module) -> str:
        """What resets this neuron and so marks a new sequence, as text for the user."""


def never_fires(owner: object, name: str) -> bool:
    """Whether a threshold, by the name of its attribute, is infinite, or so high (1e9) that it might as well be.

    For `Toolkit.is_spiking`: such a neuron is a readout. False if there is no such attribute, or no number in it.
    """
    threshold = getattr(owner, name, None)
    if isinstance(threshold, Tensor):
        return bool((threshold >= _NEVER).all())
    return isinstance(threshold, Real) and float(threshold) >= _NEVER  # without torch: a step on a GPU may ask
