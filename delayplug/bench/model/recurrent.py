"""The recurrent connection of a hidden layer: weights between all pairs of its neurons, with or without delays.

Queant, Rançon, Cottereau, Masquelier, "DelRec: learning delays in recurrent spiking neural networks", arXiv 2509.24852,
2025. Shapes: T steps, B batch, H neurons.
"""

import torch
from torch import Tensor, nn

from ...errors import BackendError
from ...layers.linear import LearnableDelay
from ...neurons.feedback import Feedback, run_recurrent
from ...toolkits.capabilities import Benchmarks
from ..config import RunConfig
from .synapses import draw_delays, first_sigma


class Recurrent(nn.Module):
    """Weights without bias that feed the spikes of a hidden layer back to it, and their delays.

    A spike arrives one step later, or 1 + d steps later with a delay of d steps, as `add_delays(recurrent=True)` does
    it in recurrent layers of a toolkit.

    Initial weights are uniform from -1/sqrt(H) to 1/sqrt(H), torch's default for a linear layer; if neurons fire in
    every tenth step, this adds little to the input from the layer below. Initial delays are those of `Synapses`.

    Args:
        size: H, the number of neurons.
        config: of the run. `recurrent` is "plain", "axonal" (a delay per sending neuron) or "synaptic"; `max_delay` is
            in steps.

    Attributes:
        delay: the delays of the sending neurons, or None.
        weights: a linear layer without delays, or one with a delay per synapse.
    """

    delay: LearnableDelay | None
    weights: nn.Linear | LearnableDelay

    def __init__(self, size: int, config: RunConfig) -> None:
        super().__init__()
        most, sigma, self.delay = config.max_delay, first_sigma(config), None
        if config.recurrent == "axonal":
            self.delay = draw_delays(LearnableDelay(size, max_delay=most, sigma=sigma))
        if config.recurrent == "synaptic":
            self.weights = draw_delays(LearnableDelay(size, size, max_delay=most, sigma=sigma))
            assert self.weights.weight is not None
            nn.init.uniform_(self.weights.weight, -(size**-0.5), size**-0.5)
        else:
            self.weights = nn.Linear(size, size, bias=False)

    def forward(self, before: Tensor) -> Tensor:
        """The input that arrives through the connection at each step, (T, B, H).

        Args:
            before: at each step, the spikes of the step before, (T, B, H).
        """
        arriving: Tensor = self.weights(before if self.delay is None else self.delay(before))
        return arriving

    @torch.no_grad()
    def feedback(self) -> Feedback:
        """The current weights and taps, for a loop over steps; in `eval()` mode delays are rounded."""
        if isinstance(self.weights, LearnableDelay):
            return Feedback(None, self.weights.kernel())
        return Feedback(self.weights.weight.detach(), None if self.delay is None else self.delay.kernel())

    def run(self, benchmark: Benchmarks, neuron: nn.Module, current: Tensor) -> Tensor:
        """The spikes of the layer, (T, B, H), from the input current (T, B, H) and its own earlier spikes.

        Raises:
            BackendError: the toolkit does not say what a step of its neurons computes.
        """
        dynamics = benchmark.run_dynamics(neuron)
        if dynamics is None:
            raise BackendError(
                f"{type(benchmark).__name__} does not say what a step of its neurons computes, which recurrent layers "
                "need: its adapter lacks run_dynamics, or the dynamics of delayplug.FusedNeurons"
            )
        return run_recurrent(dynamics, current, self.feedback(), self)

    def fan_out(self) -> Tensor:
        """The number of nonzero weights of each sending neuron, int64 (H,), on the CPU."""
        weight = self.weights.weight
        assert weight is not None
        return weight.detach().cpu().transpose(0, 1).flatten(1).count_nonzero(1)

    @property
    def delays(self) -> LearnableDelay | None:
        """The layer with the delays; None without delays."""
        return self.weights if isinstance(self.weights, LearnableDelay) else self.delay
