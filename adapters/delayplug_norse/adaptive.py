"""Adaptive LIF neurons as a cell in the style of Norse."""

from functools import partial
from typing import Any, NamedTuple

import torch
from norse.torch.module.snn import SNNCell
from torch import Tensor

from delayplug import AdaptiveConstants, AdaptiveParameters, adaptive_step

from .arctan import Arctan


class AdaptiveLIFState(NamedTuple):
    """The state of the neurons: the membrane v and the adaptation w, each (B, ..., size)."""

    v: Tensor
    w: Tensor


class AdaptiveLIFParameters(AdaptiveParameters):
    """The learned constants of adaptive LIF neurons, with a threshold and a surrogate gradient.

    Args:
        size: number of neurons.
        step_ms: length of a step, in milliseconds.
        v_th: threshold.
        alpha: sharpness of the arctan surrogate.
        options: other arguments of `delayplug.AdaptiveParameters`.
    """

    def __init__(self, size: int, *, step_ms: float, v_th: float = 1.0, alpha: float = 5.0, **options: Any) -> None:
        super().__init__(size, step_ms=step_ms, **options)
        self.v_th, self.alpha = v_th, alpha


def adaptive_lif_step(
    x: Tensor,
    state: AdaptiveLIFState,
    p: AdaptiveLIFParameters,
    dt: float = 1.0,
    constants: AdaptiveConstants | None = None,
) -> tuple[Tensor, AdaptiveLIFState]:
    """One step of adLIF neurons.

    Args:
        x: the input, (B, ..., size).
        state: before the step.
        p: the parameters of the neurons.
        dt: not used, since `p.step_ms` is the length of a step; Norse passes it.
        constants: `p.constants()`, for callers that compute them once for many steps.

    Returns:
        The spikes, (B, ..., size), and the state after the step.
    """
    fire = partial(_fire, p.v_th, p.alpha)
    spikes, v, w = adaptive_step(p.constants() if constants is None else constants, x, state.v, state.w, fire)
    return spikes, AdaptiveLIFState(v, w)


def _fire(threshold: float, alpha: float, charged: Tensor) -> Tensor:
    spikes: Tensor = Arctan.apply(charged - threshold, alpha)
    return spikes


class AdaptiveLIFCell(SNNCell):  # type: ignore[misc]
    """adLIF neurons with learned constants, see `delayplug.AdaptiveParameters`.

    A call takes an input (B, ..., size) of one step and an `AdaptiveLIFState`, or None for the initial state, zero. It
    returns the spikes and the next state.

    Args:
        p: the parameters of the neurons.
    """

    p: AdaptiveLIFParameters

    def __init__(self, p: AdaptiveLIFParameters) -> None:
        super().__init__(adaptive_lif_step, self.initial_state, p, dt=1.0)

    def initial_state(self, x: Tensor) -> AdaptiveLIFState:
        """Zeros of the shape of the input."""
        return AdaptiveLIFState(torch.zeros_like(x), torch.zeros_like(x))
