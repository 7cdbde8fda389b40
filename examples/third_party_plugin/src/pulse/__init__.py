"""pulse, a toolkit made up for this example: neurons that remember, and are told when a sequence begins.

    net = pulse.Chain(fc=nn.Linear(5, 6), spikes=pulse.Spiking())
    pulse.new_sequence(net)
    for x in steps:  # (B, 5)
        y = net(x)

    pulse.over_time(net)  # from now on a call is a sequence
    pulse.new_sequence(net)
    y = net(torch.stack(steps))  # (T, B, 5)

Shapes: T steps, B batch, F features, H neurons.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def steep(z: Tensor) -> Tensor:
    """A sigmoid: its derivative is the surrogate gradient of a spike at distance z from the threshold."""
    return torch.sigmoid(4 * z)


class Neuron(nn.Module):
    """A leaky membrane, v <- v (1 - 1/tau) + x.

    Attributes:
        tau: time constant in steps.
        over_time: whether a call is a sequence (T, B, ...) or one step (B, ...).
        charge: the membrane as the last call left it.
        fresh: whether the next call begins a sequence; then it takes the charge for zero, whatever it is.
    """

    def __init__(self, tau: float = 2.0) -> None:
        super().__init__()
        self.tau = tau
        self.over_time = False
        self.charge: Tensor | None = None
        self.fresh = True

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to (B, ...), or (T, B, ...) to (T, B, ...) over time."""
        return torch.stack([self.step(x_t) for x_t in x.unbind(0)]) if self.over_time else self.step(x)

    def step(self, x: Tensor) -> Tensor:
        """One step: leak, integrate, emit."""
        old = None if self.fresh else self.charge
        v = x if old is None else old * (1 - 1 / self.tau) + x
        self.fresh = False
        y, self.charge = self.emit(v)
        return y

    def emit(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """What the membrane v gives to others, and what is left of it."""
        raise NotImplementedError


class Spiking(Neuron):
    """Spikes above the threshold and begins again at zero.

    Attributes:
        threshold: of the membrane.
        smooth: the step function of the spike, smoothed; gradients go through it.
    """

    def __init__(self, tau: float = 2.0, threshold: float = 1.0, smooth: Callable[[Tensor], Tensor] = steep) -> None:
        super().__init__(tau)
        self.threshold, self.smooth = threshold, smooth

    def emit(self, v: Tensor) -> tuple[Tensor, Tensor]:
        z = v - self.threshold
        soft = self.smooth(z)
        spikes = (z > 0).to(v.dtype) + (soft - soft.detach())  # the bracket is zero and has the gradient
        return spikes, v * (1 - spikes.detach())


class Readout(Neuron):
    """Gives its membrane, and never spikes."""

    def emit(self, v: Tensor) -> tuple[Tensor, Tensor]:
        return v, v


class Cell(Spiking):
    """A spiking neuron with its own weights, (H, F)."""

    def __init__(self, inputs: int, outputs: int, tau: float = 2.0) -> None:
        super().__init__(tau)
        self.inputs = inputs
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(..., F) to (..., H)."""
        return super().forward(x @ self.weight.T)


class Chain(nn.Module):
    """Runs its parts in order: `Chain(fc=nn.Linear(5, 6), spikes=Spiking())`."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


def neurons(net: nn.Module) -> list[Neuron]:
    """All neurons of a network."""
    return [module for module in net.modules() if isinstance(module, Neuron)]


def new_sequence(net: nn.Module) -> None:
    """The next call of every neuron begins a sequence."""
    for neuron in neurons(net):
        neuron.fresh = True


def cut(net: nn.Module) -> None:
    """Cut every neuron off from the graph of what was, for truncated backpropagation."""
    for neuron in neurons(net):
        if neuron.charge is not None:
            neuron.charge.detach_()


def over_time(net: Any, wanted: bool = True) -> Any:
    """Let calls of the network be sequences, or single steps. Returns the network."""
    for neuron in neurons(net):
        neuron.over_time = wanted
    return net
