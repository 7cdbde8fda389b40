"""An adaptive LIF neuron as a cell of Norse's."""

from functools import partial
from typing import Any, NamedTuple

import torch
from norse.torch.module.snn import SNNCell
from torch import Tensor

from delayplug import AdaptiveConstants, AdaptiveParameters, adaptive_step

from .arctan import Arctan


class AdaptiveLIFState(NamedTuple):
    """The membrane v and the adaptation w, (B, ..., size)."""

    v: Tensor
    w: Tensor


class AdaptiveLIFParameters(AdaptiveParameters):
    """The learned constants and, beside them, numbers.

    Args:
        size: number of neurons.
        step_ms: length of a step, in milliseconds.
        v_th: threshold.
        alpha: sharpness of the arctan surrogate.
        options: of `delayplug.AdaptiveParameters`.
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
    """A step of adLIF neurons; `constants` are those of p, for who takes many steps, and dt is a part of them."""
    fire = partial(_fire, p.v_th, p.alpha)
    spikes, v, w = adaptive_step(p.constants() if constants is None else constants, x, state.v, state.w, fire)
    return spikes, AdaptiveLIFState(v, w)


def _fire(threshold: float, alpha: float, charged: Tensor) -> Tensor:
    spikes: Tensor = Arctan.apply(charged - threshold, alpha)
    return spikes


class AdaptiveLIFCell(SNNCell):  # type: ignore[misc]
    """adLIF neurons with learned constants; input (B, ..., size) and an `AdaptiveLIFState`, or None to begin."""

    p: AdaptiveLIFParameters

    def __init__(self, p: AdaptiveLIFParameters) -> None:
        super().__init__(adaptive_lif_step, self.initial_state, p, dt=1.0)

    def initial_state(self, x: Tensor) -> AdaptiveLIFState:
        """Zeros, of the shape of an input."""
        return AdaptiveLIFState(torch.zeros_like(x), torch.zeros_like(x))
