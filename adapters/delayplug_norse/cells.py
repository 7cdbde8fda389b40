"""Norse's cells with what its parameters cannot express: constants for each neuron, a gain that is not the leak."""

from collections.abc import Callable
from typing import Any

import norse.torch as norse
from norse.torch.functional.threshold import threshold
from torch import Tensor, nn

from delayplug import ChargeRule, CurrentRule, Dynamics, ResetAfter

from .dynamics import RESETS, detached, known_surrogate, starts_by_itself


class _Moving(nn.Module):
    """Mixin of a cell whose constants differ among its neurons: they move with it to another device.

    Norse's parameters are plain tensors, which stay where they are; single numbers may.
    """

    p: Any

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_Moving":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        differ = (isinstance(value, Tensor) and value.dim() > 0 for value in self.p)
        self.p = type(self.p)(*(fn(v).to(v.dtype) if d else v for d, v in zip(differ, self.p, strict=True)))
        return self


class MovingLIFCell(_Moving, norse.LIFCell):  # type: ignore[misc]
    """With a current."""


class MovingLIFBoxCell(_Moving, norse.LIFBoxCell):  # type: ignore[misc]
    """Without a current."""


class MovingLICell(_Moving, norse.LICell):  # type: ignore[misc]
    """A readout with a current."""


class MovingLIBoxCell(_Moving, norse.LIBoxCell):  # type: ignore[misc]
    """A readout without a current."""


class MovingIAFCell(_Moving, norse.IAFCell):  # type: ignore[misc]
    """Without a leak."""


DIFFERENT = {
    "LIF": MovingLIFCell,
    "LIFBox": MovingLIFBoxCell,
    "LI": MovingLICell,
    "LIBox": MovingLIBoxCell,
    "IAF": MovingIAFCell,
}


class _Gained(_Moving):
    """Mixin of a cell that adds its input, or its current, times `gain`, and not times its leak.

    Scaling the input instead would round it, and a membrane that comes to the threshold exactly would miss it.
    """

    gain: Tensor
    state_fallback: Any

    def __init__(self, p: Any, gain: Tensor) -> None:
        super().__init__(p, dt=1.0)
        self.register_buffer("gain", gain, persistent=False)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        p, state = self.p, self.state_fallback(x) if state is None else state
        has_current = isinstance(state, norse.LIFFeedForwardState)
        current = state.i + x if has_current else x
        v = state.v + p.tau_mem_inv * (p.v_leak - state.v) + self.gain * current
        spikes = threshold(v - p.v_th, p.method, p.alpha)
        if not has_current:
            return spikes, norse.LIFBoxFeedForwardState(v=p.reset_method(spikes, v, p.v_reset, p.v_th))
        v = (1 - spikes) * v + spikes * p.v_reset
        return spikes, norse.LIFFeedForwardState(v=v, i=current - p.tau_syn_inv * current)


class GainBoxCell(_Gained, norse.LIFBoxCell):  # type: ignore[misc]
    """Without a current."""


class GainCell(_Gained, norse.LIFCell):  # type: ignore[misc]
    """With a current."""


def gained_dynamics(neuron: Any) -> Dynamics | None:
    p, has_current = neuron.p, type(neuron) is GainCell
    surrogate = known_surrogate(p.method, p.alpha)
    after = ResetAfter.VALUE if has_current else RESETS.get(p.reset_method)
    if surrogate is None or after is None or not starts_by_itself(neuron):
        return None
    return Dynamics(
        charge=ChargeRule.LEAK_AND_GAIN,
        leak=p.tau_mem_inv,
        rest=p.v_leak,
        gain=neuron.gain,
        current=CurrentRule.JUMP if has_current else CurrentRule.NONE,
        synapse=-p.tau_syn_inv if has_current else 0.0,
        threshold=p.v_th,
        after=after,
        reset=p.v_reset if after is ResetAfter.VALUE else 0.0,
        surrogate=surrogate,
        start=detached(p.v_leak),
        shows_membrane=True,
        shows_current=has_current,
    )
