"""The paper's network, with the neurons of any backend.

Hammouamri, Khalfaoui-Hassani, Masquelier, "Learning Delays in Spiking Neural Networks using Dilated Convolutions with
Learnable Spacings", ICLR 2024, section 4.1 and appendix. Shapes: T steps, B batch, C channels or classes.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..backend import Toolkit
from ..compiling import compiled_loops
from ..errors import ArgumentError
from ..layers import LearnableDelay

Variant = Literal["none", "fixed", "learned"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


class DelayNetwork(nn.Module):
    """Feed-forward: delay layer, batch norm, spiking neuron and dropout for each hidden size, then a readout.

    Every delay layer lengthens the sequence by half of the maximal delay, as in the paper, so that late spikes arrive.

    Args:
        sizes: channels, hidden sizes, classes.
        toolkit: whose neurons to use.
        delays: "learned" (one per synapse, trained), "fixed" (random whole steps, not trained) or "none".
        max_delay: in steps.
        taps: per synapse.
        tau: of all neurons, in steps.
        dropout: of hidden spikes; one mask per recording, held over all steps.
        compile: compile the loops over the time of toolkits that have no faster way (`torch.compile`).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        toolkit: Toolkit,
        *,
        delays: Variant = "learned",
        max_delay: int = 24,
        taps: int = 1,
        tau: float = 1.005,
        dropout: float = 0.4,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if delays not in VARIANTS:
            raise ArgumentError("delays", f"one of {', '.join(VARIANTS)}", repr(delays))
        if len(sizes) < 2:
            raise ArgumentError("sizes", "channels, hidden sizes and classes", list(sizes))
        self.toolkit, self.compiles = toolkit, compile
        self.tail = 0 if delays == "none" else max_delay // 2
        pairs = list(itertools.pairwise(sizes))
        self.synapses = nn.ModuleList(_synapses(i, o, delays, max_delay, taps) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:-1])
        self.neurons = nn.ModuleList(toolkit.spiking_neuron(tau=tau) for _ in sizes[1:-1])
        self.dropout = HeldDropout(dropout)
        self.readout = toolkit.readout_neuron(tau=tau)

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, C) to the readout's membrane potential (T + layers * tail, B, classes)."""
        return self.activity(x)[-1]

    def activity(self, x: Tensor) -> list[Tensor]:
        """The spikes of each hidden layer, (T + ..., B, size), and the readout's membrane potential as from forward."""
        found = []
        for synapse, norm, neuron in zip(self.synapses, self.norms, self.neurons, strict=False):
            current = self._transmit(synapse, x)
            current = norm(current.flatten(0, 1)).view_as(current)  # over time and batch together
            found.append(self._run(neuron, current))
            x = self.dropout(found[-1])
        return [*found, self._run(self.readout, self._transmit(self.synapses[-1], x))]

    def _run(self, neuron: nn.Module, current: Tensor) -> Tensor:
        with compiled_loops(self.compiles):
            return self.toolkit.run(neuron, current)

    def _transmit(self, synapse: nn.Module, x: Tensor) -> Tensor:
        options = {}
        if isinstance(synapse, LearnableDelay):
            options["tail"] = min(self.tail, synapse.max_delay)  # less after freeze_delays(max_delay=...)
        current: Tensor = synapse(x, **options)
        return current


class HeldDropout(nn.Module):
    """Dropout whose mask is drawn once per recording and held over all steps: x (T, B, ...)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ArgumentError("dropout", "a probability >= 0 and < 1", p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Scale what stays by 1 / (1 - p), as `nn.Dropout` does."""
        if not self.training or self.p == 0:
            return x
        return x * nn.functional.dropout(torch.ones_like(x[:1]), self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def class_scores(membrane: Tensor) -> Tensor:
    """The paper's logits: sum over time of the softmax over classes, (T, B, classes) to (B, classes)."""
    return membrane.softmax(-1).sum(0)


def _synapses(in_features: int, out_features: int, delays: Variant, max_delay: int, taps: int) -> nn.Module:
    if delays == "none":
        linear = nn.Linear(in_features, out_features, bias=False)
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
        return linear
    layer = LearnableDelay(
        in_features,
        out_features,
        max_delay=max_delay,
        taps=taps,
        interpolation="gauss" if delays == "learned" else "linear",
    )
    assert layer.weight is not None
    # fan_in = inputs * taps, whatever the order of the dimensions
    nn.init.kaiming_uniform_(layer.weight.data.view(out_features, -1), nonlinearity="relu")
    with torch.no_grad():
        # DCLS draws positions from [-(K+1)/2, K/2] and clamps them: the largest delay is a little more likely.
        layer.delays.uniform_(0, max_delay + 1).clamp_(max=max_delay)
        if delays == "fixed":
            layer.delays.copy_((layer.delays + 0.5).floor()).requires_grad_(False)
    return layer
