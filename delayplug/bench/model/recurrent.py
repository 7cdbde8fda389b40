"""The recurrent connection of a hidden layer: weights from each of its neurons to each, with delays or without.

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
    """Weights without bias through which a hidden layer hears its own spikes, and their delays.

    A spike arrives one step later, or 1 + d steps later with a delay d: what `add_delays(recurrent=True)` makes of a
    recurrent layer of a toolkit's.

    Weights are drawn from -1/sqrt(H) to 1/sqrt(H), as torch does for a linear layer: a neuron that fires in every tenth
    step then adds little to what arrives from below. Delays are drawn as those of `Synapses`.

    Args:
        size: H.
        config: of the run. Its `recurrent` is "plain", "axonal" (one delay per sending neuron) or "synaptic";
            `max_delay` counts, too.

    Attributes:
        delay: of the sending neurons, or None.
        weights: a linear layer, or one with a delay per synapse.
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
        """What arrives at each step, (T, B, H), where `before` are the spikes of the step before each, (T, B, H)."""
        arriving: Tensor = self.weights(before if self.delay is None else self.delay(before))
        return arriving

    @torch.no_grad()
    def feedback(self) -> Feedback:
        """The present values, for a loop over steps; in `eval()` delays count as rounded."""
        if isinstance(self.weights, LearnableDelay):
            return Feedback(None, self.weights.kernel())
        return Feedback(self.weights.weight.detach(), None if self.delay is None else self.delay.kernel())

    def run(self, benchmark: Benchmarks, neuron: nn.Module, current: Tensor) -> Tensor:
        """The spikes of the neurons of the layer, (T, B, H), driven by a current (T, B, H) and by their own spikes.

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
        """The weights of each sending neuron that are not zero, int64 (H,), on the CPU."""
        weight = self.weights.weight
        assert weight is not None
        return weight.detach().cpu().transpose(0, 1).flatten(1).count_nonzero(1)

    @property
    def delays(self) -> LearnableDelay | None:
        """The layer that holds the delays."""
        return self.weights if isinstance(self.weights, LearnableDelay) else self.delay
