"""Adaptive LIF neurons in the style of snnTorch."""

from collections.abc import Callable
from typing import Any

import snntorch
import torch
from torch import Tensor

from delayplug import AdaptiveConstants, AdaptiveParameters, adaptive_step


class AdaptiveLIF(snntorch.SpikingNeuron):  # type: ignore[misc]
    """adLIF neurons with learned constants, see `delayplug.AdaptiveParameters`; input (B, ..., size).

    A call returns (spikes, membrane, adaptation), each (B, ..., size); with `init_hidden` and without `output`, only
    the spikes. It starts from the states that are passed to it, or else from those after the previous call. Call
    `reset_mem()` at the beginning of a sequence: snntorch.utils.reset resets only snnTorch's own classes.

    Args:
        size: number of neurons.
        step_ms: length of a step, in milliseconds.
        threshold, spike_grad, init_hidden, output: as for `snntorch.Leaky`.
        options: other arguments of `delayplug.AdaptiveParameters`.

    Raises:
        TypeError: only one of the two states is passed to a call, or a state is passed with `init_hidden`.
    """

    mem: Tensor
    ada: Tensor

    def __init__(
        self,
        size: int,
        *,
        step_ms: float,
        threshold: float | Tensor = 1.0,
        spike_grad: Callable[[Tensor], Tensor] | None = None,
        init_hidden: bool = False,
        output: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(threshold, spike_grad, init_hidden=init_hidden, reset_mechanism="zero", output=output)
        self.adaptive = AdaptiveParameters(size, step_ms=step_ms, **options)
        self.register_buffer("mem", torch.zeros(0), False)
        self.register_buffer("ada", torch.zeros(0), False)

    def forward(self, input_: Tensor, mem: Tensor | None = None, ada: Tensor | None = None) -> Any:
        if (mem is None) is not (ada is None):
            raise TypeError("expected both states, `mem` and `ada`, or none of them; got one")
        if mem is not None and self.init_hidden:
            raise TypeError("states should not be passed as arguments while `init_hidden=True`")
        if mem is not None and ada is not None:
            self.mem, self.ada = mem, ada
        if self.mem.shape != input_.shape or self.ada.shape != input_.shape:
            self.mem, self.ada = torch.zeros_like(input_), torch.zeros_like(input_)
        spikes, self.mem, self.ada = self.advance(self.adaptive.constants(), input_, self.mem, self.ada)
        return spikes if self.init_hidden and not self.output else (spikes, self.mem, self.ada)

    def advance(
        self, constants: AdaptiveConstants, x: Tensor, mem: Tensor, ada: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step from a state that is passed in; returns the spikes and the next state, and stores neither."""
        return adaptive_step(constants, x, mem, ada, self._fire)

    def reset_mem(self) -> tuple[Tensor, Tensor]:
        """Set both states to zero, at the beginning of a sequence, and return them."""
        self.mem, self.ada = torch.zeros_like(self.mem), torch.zeros_like(self.ada)
        return self.mem, self.ada

    @classmethod
    def reset_hidden(cls) -> None:
        """Call `reset_mem` of all neurons of this class."""
        for neuron in cls.instances:
            if isinstance(neuron, AdaptiveLIF):
                neuron.reset_mem()

    @classmethod
    def detach_hidden(cls) -> None:
        """Detach the states of all neurons of this class from the autograd graph."""
        for neuron in cls.instances:
            if isinstance(neuron, AdaptiveLIF):
                neuron.mem.detach_()
                neuron.ada.detach_()

    def _fire(self, charged: Tensor) -> Tensor:
        spikes: Tensor = self.spike_grad(charged - self.threshold)
        return spikes
