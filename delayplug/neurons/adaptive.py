"""Adaptive LIF neurons (adLIF): learned constants, and one step. Adapters build neurons of their toolkits from them.

Baronig, Ferrand, Sabathiel, Legenstein, "Advancing spatio-temporal processing through adaptation in spiking neural
networks", Nature Communications 2025 (arXiv 2408.07517). With the input I, the membrane u, the adaptation w, the spikes
s, the step function H and steps of length dt, discretised by symplectic Euler:

    h = alpha u + (1 - alpha) (I - w)             alpha = exp(-dt / tau_u)
    s = H(h - threshold)
    u <- h (1 - s)
    w <- beta w + (1 - beta) (a u + b s)          beta = exp(-dt / tau_w)
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .dynamics import Adaptation, ChargeRule, Dynamics, ResetAfter
from .surrogates import Surrogate


class AdaptiveConstants(NamedTuple):
    """The constants of a step, each (size,): one value for each neuron. The symbols are those at the top of the module.

    Attributes:
        leak: 1 - alpha.
        decay: beta.
        coupling: (1 - beta) a.
        jump: (1 - beta) b.
    """

    leak: Tensor
    decay: Tensor
    coupling: Tensor
    jump: Tensor


class AdaptiveParameters(nn.Module):
    """The learned constants of a layer of adaptive LIF neurons, within bounds.

    Each parameter, `tau_u`, `tau_w`, `a` and `b`, is (size,) with values in 0..1 that interpolate between the bounds of
    that constant; the default bounds are the paper's. Initial values are drawn uniformly from 0..1, as in the paper.
    Call `clamp_` after each step of an optimizer.

    Args:
        size: number of neurons.
        step_ms: length of a step, in milliseconds.
        strength: the bound q: a lies in 0..q, and b in 0..2q.
        membrane_ms: lower and upper bound of tau_u, in milliseconds.
        adaptation_ms: lower and upper bound of tau_w, in milliseconds.

    Raises:
        ArgumentError: a size below 1, a step or bound that is not positive, a negative strength, or a lower bound above
            the upper one.
    """

    _low: Tensor
    _span: Tensor
    _largest: Tensor

    def __init__(
        self,
        size: int,
        *,
        step_ms: float,
        strength: float = 12.0,
        membrane_ms: tuple[float, float] = (5.0, 25.0),
        adaptation_ms: tuple[float, float] = (60.0, 300.0),
    ) -> None:
        super().__init__()
        if size < 1:
            raise ArgumentError("size", "a number of neurons >= 1", size)
        if not 0 < step_ms < math.inf:
            raise ArgumentError("step_ms", "a number of milliseconds > 0", step_ms)
        if not 0 <= strength < math.inf:
            raise ArgumentError("strength", "a number >= 0", strength)
        for name, bounds in {"membrane_ms": membrane_ms, "adaptation_ms": adaptation_ms}.items():
            if not 0 < bounds[0] <= bounds[1] < math.inf:
                raise ArgumentError(name, "two numbers of milliseconds > 0, the smaller first", bounds)
        self.size, self.step_ms, self.strength = size, step_ms, strength
        self.membrane_ms, self.adaptation_ms = membrane_ms, adaptation_ms
        self.tau_u, self.tau_w, self.a, self.b = (nn.Parameter(torch.rand(size)) for _ in range(4))
        # Both time constants are computed together, and so are a and b: fewer kernel launches on a GPU.
        # tau / -dt = low + span * parameter.
        low, high = (
            torch.tensor(ends).div(-step_ms).unsqueeze(1) for ends in zip(membrane_ms, adaptation_ms, strict=True)
        )
        largest = torch.tensor([[1.0], [2.0]]) * strength  # of a and of b
        for name, value in {"low": low, "span": high - low, "largest": largest}.items():
            self.register_buffer(f"_{name}", value, persistent=False)

    def extra_repr(self) -> str:
        return f"{self.size}, step_ms={self.step_ms}, strength={self.strength}"

    def constants(self) -> AdaptiveConstants:
        """Compute the constants of a step from the parameters; one call serves a whole sequence."""
        decays = (self._low + self._span * torch.stack((self.tau_u, self.tau_w))).reciprocal().exp()
        rates = 1 - decays
        coupling, jump = (rates[1] * (self._largest * torch.stack((self.a, self.b)))).unbind()
        return AdaptiveConstants(leak=rates[0], decay=decays[1], coupling=coupling, jump=jump)

    def dynamics(
        self,
        *,
        threshold: float | Tensor,
        surrogate: Surrogate,
        fires_at: bool = False,
        is_detached: bool = True,
        shows_membrane: bool = False,
        shows_adaptation: bool = False,
    ) -> Dynamics:
        """Describe these neurons, as `adaptive_step` computes them; `Dynamics` explains the arguments."""
        constants = self.constants()
        return Dynamics(
            ChargeRule.LEAK_INPUT_FIRST,
            leak=constants.leak,
            threshold=threshold,
            fires_at=fires_at,
            after=ResetAfter.VALUE,
            is_detached=is_detached,
            surrogate=surrogate,
            adaptation=Adaptation(constants.decay, constants.coupling, constants.jump),
            shows_membrane=shows_membrane,
            shows_adaptation=shows_adaptation,
        )

    @torch.no_grad()
    def clamp_(self) -> None:
        """Clamp the parameters to 0..1, in place."""
        for parameter in self.parameters():
            parameter.clamp_(0, 1)


def adaptive_step(
    constants: AdaptiveConstants,
    x: Tensor,
    membrane: Tensor,
    adaptation: Tensor,
    fire: Callable[[Tensor], Tensor],
    *,
    is_detached: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of adaptive LIF neurons.

    Args:
        constants: of the neurons, (size,).
        x: the input, (B, ..., size).
        membrane, adaptation: the state before the step, each of the shape of x.
        fire: from the membrane before the reset to spikes (0 or 1), with a surrogate gradient.
        is_detached: whether no gradient flows through the reset.

    Returns:
        The spikes, and the membrane and the adaptation after the step; each of the shape of x.

    Raises:
        ArgumentError: the last dimension of x is not the number of neurons.
    """
    leak, decay, coupling, jump = constants
    if x.shape[-1:] != leak.shape:
        raise ArgumentError("x", f"an input for {leak.numel()} neurons, in its last dimension", tuple(x.shape))
    charged = membrane + leak * ((x - adaptation) - membrane)
    spikes = fire(charged)
    membrane = (1 - (spikes.detach() if is_detached else spikes)) * charged
    return spikes, membrane, decay * adaptation + (coupling * membrane + jump * spikes)
