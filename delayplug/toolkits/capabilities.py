"""What a toolkit may have beyond plain neurons. An adapter derives from what applies, beside `Toolkit`:

    class MyToolkit(Toolkit, Containers, Streams): ...

`Containers`, `OwnWeights` and `Streams` have answers for toolkits that lack the thing, so that an adapter overrides
only what differs. Each capability has its laws in `delayplug.testing`.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import BackendError, ExchangeError
from ..layers.taps import Interpolation
from ..neurons.cell import Cell
from ..neurons.dynamics import Dynamics
from ..neurons.recurrence import NeuronActivity
from .toolkit import Toolkit
from .vocabulary import TimeInside


class Containers:
    """Wrappers around layers, and containers that run their children in an order, over time or with a state."""

    def lifted(self, module: nn.Module) -> str:
        """The name of the child that a wrapper applies at every step of a sequence; "" if it is no such wrapper."""
        return ""

    def in_order(self, container: nn.Module) -> bool:
        """Whether the container runs its children one after the other, and nothing else."""
        return self.threads_state(container)

    def time_inside(self, container: nn.Module) -> TimeInside:
        """What modules inside of a container see of the time."""
        return TimeInside.SAME

    def instead_of(self, container: nn.Module) -> str:
        """For a container that hides the time, what a user can take instead, as a sentence; "" if there is nothing."""
        return ""

    def threads_state(self, container: nn.Module) -> bool:
        """Whether the container hands each stateful child its state and takes back the next."""
        return False

    def is_stateful(self, container: nn.Module, child: str) -> bool:
        """Whether a container of that kind hands this child, named as its attribute, a state."""
        return False

    def set_stateful(self, container: nn.Module, child: str, stateful: bool) -> None:
        """Tell a container of that kind that a child has become stateful, or is no longer."""
        raise TypeError(f"{type(container).__name__} does not hand out states")

    def state_hooks(self, container: nn.Module) -> str:
        """The name of a method of such a container that registers hooks for all stateful children; "" without one."""
        return ""


class OwnWeights:
    """Neurons and containers with weights of their own, and layers that a toolkit derives from torch's."""

    def own_input(self, neuron: nn.Module) -> tuple[int, int] | None:
        """(channels, dimensions of space behind them) of the input of a neuron that weighs it by itself.

        None for a neuron that takes a current. A delay per channel can go before such weights; one per synapse in
        their place, where `input_weights` names them.
        """
        return None

    def input_weights(self, neuron: nn.Module) -> str:
        """The name of the attribute, (outputs, inputs), by which alone a neuron multiplies its input, without a bias.

        It computes the same if that is the identity and its input what the product gives: then the product can be made
        outside of it, with a delay at each synapse. "" if it has none, or does anything else with its input.
        """
        return ""

    def recurrent_layer(self, module: nn.Module) -> str | None:
        """For a neuron or a container that feeds its spikes back through weights: the name of the child that does.

        "" if that is no layer of its own, so that it cannot have delays; None if nothing is fed back.
        """
        return None

    def is_plain(self, layer: nn.Module) -> bool:
        """Whether a layer of the toolkit's computes what the layer of torch's that it derives from does."""
        return False


@dataclass(frozen=True)
class ChannelDelays:
    """A module of a toolkit's that delays each channel of its input, and does nothing else.

    Attributes:
        delays: (C,) in steps, or () for all channels; detached.
        max_delay: the largest delay that training may reach, in steps.
        interpolation: between whole steps.
        sigma: its width in steps; None for "linear".
        learns: whether the delays are trained.
        leading: dimensions before the channels in its input: 1 for a step (B, C, ...), 2 for a sequence (T, B, C, ...).
        resets: the name of the method by which its user, or the toolkit, resets it; "" if there is none.
    """

    delays: Tensor
    max_delay: int
    interpolation: Interpolation = "linear"
    sigma: float | None = None
    learns: bool = False
    leading: int = 1
    resets: str = ""


class OwnDelays(ABC):
    """Modules of a toolkit's that delay their input, which are left as they are or converted."""

    @abstractmethod
    def own_delays(self, module: nn.Module) -> ChannelDelays | None:
        """The delays of such a module; None for any other."""


class Streams:
    """Modules that keep a state on themselves, which can be taken, put back and reset; and neurons over sequences."""

    def kept_state(self, module: nn.Module) -> dict[str, Any]:
        """What a module, neuron or not, keeps on itself from step to step, by name: `put_state` puts it back.

        Tensors, numbers, or containers of them, as they are; {} if it keeps nothing. Children are asked by themselves.
        """
        return {}

    def put_state(self, module: nn.Module, state: dict[str, Any]) -> None:
        """Let a module go on from what `kept_state` gave; by default, these are attributes of the module."""
        for name, value in state.items():
            setattr(module, name, value)

    def reset(self, module: nn.Module) -> None:
        """Bring a module, neuron or not, back to a fresh state, if it keeps one. Children are asked by themselves."""

    def remembers(self, module: nn.Module) -> bool:
        """Whether a module that is no neuron keeps something from step to step."""
        return False

    def cuts_graph(self, neuron: nn.Module) -> bool:
        """Whether the neuron cuts its state off from the graph at every step by itself, as for online learning."""
        return False

    def reset_methods(self, neuron: nn.Module) -> tuple[str, ...]:
        """The names of methods of the neuron by which its user resets its state, in place or not."""
        return ()

    def class_resets(self, neuron: nn.Module) -> tuple[tuple[type[nn.Module], str], ...]:
        """(class, name) of class methods by which the toolkit resets all neurons of a class at once."""
        return ()

    def explicit_forward(self, neuron: nn.Module) -> str:
        """The name of a method by which a neuron may be called with its state, past its hooks; "" if there is none.

        The method takes (inputs, states) and returns (outputs, states), all of them tuples.
        """
        return ""

    def as_sequence(self, neuron: nn.Module) -> AbstractContextManager[None] | None:
        """A block within which the forward of a neuron of single steps takes a whole sequence, (T, B, ...).

        None if there is no such way: the neuron is then run step by step.
        """
        return None


class Exchanges(ABC):
    """Neurons in numbers: the way to other toolkits and to files."""

    @abstractmethod
    def describe(self, neuron: nn.Module) -> Cell:
        """What a neuron computes, in numbers: exactly, or not at all. The surrogate is not a part of it.

        Raises:
            ExchangeError: it does something that a `Cell` does not express, with the reason.
        """

    def input_weight(self, neuron: nn.Module) -> Tensor | None:
        """The weights (O, I) by which a neuron multiplies its input, before what `describe` says; None without."""
        return None

    @abstractmethod
    def build(self, cell: Cell) -> nn.Module:
        """A neuron that computes a `Cell`, with the toolkit's default surrogate; the inverse of `describe`.

        Its gain is one of `gains`. Over a sequence its first output is that of the cell: spikes, or the membrane of a
        readout. A neuron that can take single steps is set to do so.

        Raises:
            ExchangeError: the toolkit has no such neuron, with the reason.
        """

    def gains(self, cell: Cell) -> tuple[Tensor, ...]:
        """The gains that `build` takes for such a cell, the preferred one first; whoever calls it scales the input."""
        return (torch.ones((), dtype=torch.float64, device="cpu"),)


class Benchmarks(ABC):
    """The neurons of the benchmark: the paper's, in this toolkit's own terms."""

    @abstractmethod
    def spiking_neuron(
        self, *, tau: float, threshold: float = 1.0, alpha: float = 5.0, reset: Literal["zero", "subtract"] = "zero"
    ) -> nn.Module:
        """A leaky integrate-and-fire neuron, v <- v (1 - 1/tau) + x, that fires above the threshold.

        Surrogate gradient alpha / 2 / (1 + (pi / 2 alpha z)^2) at distance z from the threshold.

        Args:
            tau: time constant in steps, above 1.
            threshold: of the membrane potential.
            alpha: sharpness of the surrogate.
            reset: "zero": a spike sets the membrane to zero, without a gradient (the paper's); "subtract": it lowers
                the membrane by the threshold in the step of the spike, with a gradient (as in DelRec, arXiv
                2509.24852). An adapter whose method lacks this argument can be used with "zero" only.
        """

    @abstractmethod
    def readout_neuron(self, *, tau: float) -> nn.Module:
        """The same membrane without threshold; its output is the membrane potential."""

    def adaptive_neuron(
        self, size: int, *, step_ms: float, strength: float = 12.0, threshold: float = 1.0, alpha: float = 5.0
    ) -> nn.Module:
        """Adaptive LIF neurons with learned constants; the module contains an `AdaptiveParameters`.

        The surrogate gradient, and the way in which the neurons are run, are those of `spiking_neuron`.

        Args:
            size: number of neurons, the last dimension of their input.
            step_ms: length of a step, in milliseconds.
            strength: upper bound of the constant a, see `AdaptiveParameters`.
            threshold: of the membrane potential.
            alpha: sharpness of the surrogate.

        Raises:
            BackendError: the toolkit has no adaptive neurons; this is the default.
        """
        raise BackendError(
            f"the backend {type(self).__name__} has no adaptive neurons: its adapter lacks adaptive_neuron. Take "
            "--neuron lif, or another backend"
        )

    @abstractmethod
    def run(self, neuron: nn.Module, x: Tensor) -> Tensor:
        """One of these neurons over a whole sequence from a fresh state: (T, B, ...) to (T, B, ...)."""

    def run_masked(self, neuron: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        """What `run` gives times a mask, as of dropout; a toolkit may do both at once.

        Args:
            neuron: a spiking one of these.
            x: (T, B, ...).
            mask: zeros and ones without a gradient; broadcasts to (B, ...).
        """
        y = self.run(neuron, x)
        return y * mask.to(y.dtype)

    def run_dynamics(self, neuron: nn.Module) -> Dynamics | None:
        """What one step of `run` computes for a spiking neuron, as recurrent layers need it to run step by step.

        None if it cannot be described: the neurons cannot be used in recurrent networks then. The default is
        `FusedNeurons.dynamics`, which is right if `run` passes its input to the neuron unchanged.
        """
        return dynamics(self, neuron)

    def implementation(self, neuron: nn.Module, device: torch.device) -> str:
        """What the toolkit itself runs one of these neurons with on a device, such as "spikingjelly: triton".

        "" where `run` goes step by step in Python. It is for the record of a run.
        """
        return ""


class FusedNeurons(ABC):
    """Neurons by their live tensors: on a GPU they run over a whole sequence in one kernel, those of every toolkit."""

    @abstractmethod
    def dynamics(self, neuron: nn.Module) -> Dynamics | None:
        """What the forward of its class computes in a step, by its own tensors and in its own order of operations.

        None for a neuron that does anything else besides, such as one of a class that derives from a known one: it
        keeps its loop. Asked at each run, so that it takes the tensors as they are, and waits for no device.
        """

    def fused_output(self, neuron: nn.Module, activity: NeuronActivity) -> Any:
        """What the forward of the neuron returns, over the sequence; the neuron keeps the state that it would keep.

        Of a neuron of single steps, every tensor of what it returns at a step, stacked over time. By default, the
        spikes, or the membranes of a readout.

        Args:
            neuron: in a fresh state.
            activity: what its `dynamics` did.
        """
        return activity.output


_CAPABILITIES = (Containers, OwnWeights, OwnDelays, Streams, Exchanges, Benchmarks, FusedNeurons)
_NO_CONTAINERS, _NO_WEIGHTS, _NO_STREAMS = Containers(), OwnWeights(), Streams()


def containers(toolkit: Toolkit) -> Containers:
    """What a toolkit says about its containers; for one without, that there are none."""
    return toolkit if isinstance(toolkit, Containers) else _NO_CONTAINERS


def own_weights(toolkit: Toolkit) -> OwnWeights:
    """What a toolkit says about weights of its own; for one without, that there are none."""
    return toolkit if isinstance(toolkit, OwnWeights) else _NO_WEIGHTS


def own_delays(toolkit: Toolkit, module: nn.Module) -> ChannelDelays | None:
    """The delays of a module by which its toolkit delays; None where the toolkit has none."""
    return toolkit.own_delays(module) if isinstance(toolkit, OwnDelays) else None


def streams(toolkit: Toolkit) -> Streams:
    """How a toolkit's modules keep their state; for one without, that they keep none."""
    return toolkit if isinstance(toolkit, Streams) else _NO_STREAMS


def exchanges(toolkit: Toolkit) -> Exchanges:
    """How a toolkit describes and builds neurons, or ExchangeError."""
    if isinstance(toolkit, Exchanges):
        return toolkit
    raise ExchangeError(
        f"the backend {type(toolkit).__name__} does not describe its neurons in numbers: its adapter lacks "
        "delayplug.Exchanges"
    )


def benchmarks(toolkit: Toolkit) -> Benchmarks:
    """The benchmark's neurons in a toolkit, or BackendError."""
    if isinstance(toolkit, Benchmarks):
        return toolkit
    raise BackendError(
        f"the backend {type(toolkit).__name__} takes no part in the benchmark: its adapter lacks delayplug.Benchmarks"
    )


def dynamics(toolkit: object, neuron: nn.Module) -> Dynamics | None:
    """What a step of a neuron computes, by its live tensors; None if its toolkit does not say."""
    return toolkit.dynamics(neuron) if isinstance(toolkit, FusedNeurons) else None


def check_toolkit(toolkit: object) -> Toolkit:
    """A toolkit whose answers are all asked for, or TypeError.

    A method of a capability on a class that does not derive from it would never be called.
    """
    if not isinstance(toolkit, Toolkit):
        raise TypeError(f"expected a delayplug.Toolkit, got {toolkit!r}")
    for capability in _CAPABILITIES:
        methods = [name for name in vars(capability) if not name.startswith("_") and hasattr(toolkit, name)]
        if methods and not isinstance(toolkit, capability):
            raise TypeError(
                f"{type(toolkit).__name__} has {', '.join(methods)}, which are asked only of a toolkit that derives "
                f"from delayplug.{capability.__name__}, too"
            )
    return toolkit
