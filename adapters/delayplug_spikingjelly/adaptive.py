"""Adaptive LIF neurons as a node in the style of SpikingJelly."""

from functools import partial
from typing import Any

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from delayplug import AdaptiveParameters, adaptive_step

_ATAN = surrogate.ATan(alpha=5.0)


class AdaptiveLIFNode(neuron.BaseNode):  # type: ignore[misc]
    """adLIF neurons with learned constants, see `delayplug.AdaptiveParameters`; input (B, ..., size).

    With `step_mode="m"` the input is a sequence, (T, B, ..., size). A call returns the spikes, of the same shape.

    Args:
        size: number of neurons.
        step_ms: length of a step, in milliseconds.
        v_threshold, surrogate_function, detach_reset, step_mode, store_v_seq: as for SpikingJelly's `BaseNode`.
        options: other arguments of `delayplug.AdaptiveParameters`.
    """

    w: float | Tensor  # the adaptation

    def __init__(
        self,
        size: int,
        *,
        step_ms: float,
        v_threshold: float = 1.0,
        surrogate_function: nn.Module = _ATAN,
        detach_reset: bool = True,
        step_mode: str = "s",
        store_v_seq: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(v_threshold, 0.0, surrogate_function, detach_reset, step_mode, store_v_seq)
        self.register_memory("w", 0.0)
        self.adaptive = AdaptiveParameters(size, step_ms=step_ms, **options)

    def materialize_states(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], step_mode: str
    ) -> tuple[object, ...]:
        v, w = super().materialize_states(inputs, states, step_mode)
        if not isinstance(w, Tensor):
            w = torch.full_like(v, w, requires_grad=False)
        elif w.shape != v.shape:
            w = torch.zeros_like(v, requires_grad=False)
        return v, w.to(v)

    def single_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        spikes, *states_ = self._step(self.adaptive.constants())(inputs[0], *states)
        return (spikes,), tuple(states_)

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        step, out = self._step(self.adaptive.constants()), []
        for x in inputs[0].unbind(0):
            spikes, *states_ = step(x, *states)
            states = tuple(states_)
            out.append(spikes)
        return (torch.stack(out),), states

    def _step(self, constants: Any) -> partial[tuple[Tensor, Tensor, Tensor]]:
        return partial(adaptive_step, constants, fire=self._fire, is_detached=self.detach_reset)

    def _fire(self, charged: Tensor) -> Tensor:
        spikes: Tensor = self.surrogate_function(charged - self.v_threshold)
        return spikes
