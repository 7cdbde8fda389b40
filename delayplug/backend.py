"""What a toolkit has to say about itself, so that its networks can have delays.

A plugin hands out a `Backend`, a description that costs nothing to make; its `toolkit` function imports the toolkit's
package and returns the `Toolkit` that answers questions about modules.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .cells import Cell
from .compiling import compiled_loops, over_steps
from .errors import ExchangeError
from .memory import Mode

TimeInside = Literal["kept", "folded", "steps", "hidden"]


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
    """Answers about the modules of one toolkit. Without state of its own, so that it can be pickled with a model.

    The first group is all that `add_delays` needs; the second one is for the benchmark. Neurons must be called as
    modules, `neuron(x)`, so that their hooks run.
    """

    @abstractmethod
    def is_neuron(self, module: nn.Module) -> bool:
        """Whether the module is a neuron of this toolkit, spiking or readout."""

    @abstractmethod
    def is_spiking(self, neuron: nn.Module) -> bool:
        """Whether the neuron spikes; delays in front of readouts are left out."""

    def cuts_graph(self, neuron: nn.Module) -> bool:
        """Whether the neuron cuts its state off from the graph at every step by itself, as for online learning."""
        return False

    def own_input(self, neuron: nn.Module) -> tuple[int, int] | None:
        """(channels, dimensions of space behind them) of the input of a neuron that weighs it by itself.

        None for a neuron that takes a current. Such weights are out of reach for a delay per synapse; a delay per
        channel can go before them.
        """
        return None

    def recurrent_layer(self, module: nn.Module) -> str | None:
        """For a neuron or a container that feeds its spikes back through weights: the name of the child that does.

        "" if that is no layer of its own, so that it cannot have delays; None if nothing is fed back.
        """
        return None

    def is_plain(self, layer: nn.Module) -> bool:
        """Whether a layer of the toolkit's computes what the layer of torch's that it derives from does."""
        return False

    @abstractmethod
    def mode(self, neuron: nn.Module) -> Mode:
        """Whether a call of the neuron is one step (B, ...) or a whole sequence (T, B, ...), as it is set now."""

    @abstractmethod
    def held_state(self, neuron: nn.Module) -> tuple[object, ...]:
        """The objects on the neuron that each call and each reset replaces; empty if there are none.

        Tensors as such, not inside of something; a flag or a number if that is what a reset changes. A tensor that is
        detached, in place or by `v = v.detach()`, goes on; any other object in its place is a new sequence.
        """

    def kept_state(self, module: nn.Module) -> dict[str, Any]:
        """What a module, neuron or not, keeps on itself from step to step, by name: `put_state` gives it back.

        Tensors, numbers, or containers of them, as they are; {} if it keeps nothing. Children are asked by themselves.
        """
        return {}

    def put_state(self, module: nn.Module, state: dict[str, Any]) -> None:  # noqa: B027, nothing to do without a state
        """Let a module go on from what `kept_state` gave."""

    @abstractmethod
    def passed_state(
        self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, ...] | None:
        """The state in the arguments of a call: () for a fresh start, None to go on from what the neuron holds."""

    @abstractmethod
    def returned_state(self, neuron: nn.Module, output: Any) -> tuple[Tensor, ...]:
        """The state tensors in the result of a call; empty if the neuron keeps them to itself."""

    @abstractmethod
    def reset_signal(self, neuron: nn.Module) -> str:
        """What marks a new sequence for this neuron, in words for the user."""

    def lifted(self, module: nn.Module) -> str:
        """The name of the child that a wrapper applies at every step of a sequence; "" if it is no such wrapper."""
        return ""

    def in_order(self, container: nn.Module) -> bool:
        """Whether the container runs its children one after the other, and nothing else."""
        return self.threads_state(container)

    def time_inside(self, container: nn.Module) -> TimeInside:
        """What modules inside of a container see of the time: "kept" as outside, "folded" into the batch, in single
        "steps", or "hidden": not where they could find it, or not in calls that follow it."""
        return "kept"

    def threads_state(self, container: nn.Module) -> bool:
        """Whether the container hands each stateful child its state and takes back the next."""
        return False

    def set_stateful(self, container: nn.Module, child: str, stateful: bool) -> None:
        """Tell a container of that kind that a child has become stateful, or is no more."""
        raise TypeError(f"{type(container).__name__} does not hand out states")

    def remembers(self, module: nn.Module) -> bool:
        """Whether a module that is no neuron keeps something from step to step."""
        return False

    def reset(self, module: nn.Module) -> None:  # noqa: B027, nothing to do for those who keep nothing
        """Bring a module, neuron or not, back to a fresh state, if it keeps one. Children are asked by themselves."""

    def over_time(self, neuron: nn.Module, forward: Callable[..., Any], x: Tensor) -> Any:
        """A neuron that steps, over a whole sequence (T, B, ...) from a fresh state.

        Args:
            neuron: as it is.
            forward: its own forward.
            x: its input.

        Returns:
            What its forward gives, with every tensor stacked over the time.
        """
        step = _holding if self.held_state(neuron) else _carrying
        if getattr(forward, "__func__", None) is type(neuron).forward:
            return over_steps(step, neuron, x, ())
        with compiled_loops(False):  # nothing that could be found again at the next call
            return over_steps(functools.partial(step, forward=forward), neuron, x, ())

    # --- the way to other toolkits and to files; without these two a toolkit only has no part in it

    def describe(self, neuron: nn.Module) -> Cell:
        """What a neuron computes, in numbers: exactly, or not at all.

        Raises:
            ExchangeError: it does something that a `Cell` cannot say, with the reason. The surrogate is not a part
                of it.
        """
        raise ExchangeError(f"{type(neuron).__name__}: its backend does not describe its neurons (Toolkit.describe)")

    def build(self, cell: Cell) -> nn.Module:
        """A neuron that computes a `Cell`, with the toolkit's default surrogate; the inverse of `describe`.

        Its gain is one of `gains`. Run by `over_time`, it gives first what the cell gives: spikes, or the membrane of a
        readout. A neuron that can take single steps is set to do so.

        Raises:
            ExchangeError: the toolkit has no such neuron, with the reason.
        """
        raise ExchangeError(f"{type(self).__name__} does not build neurons (Toolkit.build)")

    def gains(self, cell: Cell) -> tuple[Tensor, ...]:
        """The gains that `build` takes for such a cell, the preferred one first; whoever calls it scales the input."""
        return (torch.ones((), dtype=torch.float64),)

    # --- the benchmark: the paper's neuron, in this toolkit's own terms

    @abstractmethod
    def spiking_neuron(self, *, tau: float, threshold: float = 1.0, alpha: float = 5.0) -> nn.Module:
        """A leaky integrate-and-fire neuron, v <- v (1 - 1/tau) + x, that fires above the threshold.

        Reset to zero, detached from the graph; surrogate gradient alpha / 2 / (1 + (pi / 2 alpha z)^2) at distance z
        from the threshold.

        Args:
            tau: time constant in steps, above 1.
            threshold: of the membrane potential.
            alpha: sharpness of the surrogate.
        """

    @abstractmethod
    def readout_neuron(self, *, tau: float) -> nn.Module:
        """The same membrane without threshold; its output is the membrane potential."""

    @abstractmethod
    def run(self, neuron: nn.Module, x: Tensor) -> Tensor:
        """One of these two neurons over a whole sequence from a fresh state: (T, B, ...) to (T, B, ...)."""


# Steps for `over_time`, at the top of the module as `over_steps` wants them.


def _holding(neuron: nn.Module, x: Tensor, carried: Any, forward: Callable[..., Any] | None = None) -> tuple[Any, Any]:
    return (forward or functools.partial(type(neuron).forward, neuron))(x), ()


def _carrying(neuron: nn.Module, x: Tensor, carried: Any, forward: Callable[..., Any] | None = None) -> tuple[Any, Any]:
    out = (forward or functools.partial(type(neuron).forward, neuron))(x, *carried)
    return out, out[1:] if isinstance(out, tuple) else ()
