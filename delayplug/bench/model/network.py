"""The paper's network, with the neurons of any backend.

Hammouamri, Khalfaoui-Hassani, Masquelier, "Learning Delays in Spiking Neural Networks using Dilated Convolutions with
Learnable Spacings", ICLR 2024, section 4.1 and appendix. Shapes: T steps, B batch, C channels or classes.
"""

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...neurons.loops import compiled_loops
from ...toolkits.capabilities import benchmarks
from ...toolkits.toolkit import Toolkit
from ..config import RunConfig
from ..processes import SharedBatchNorm, share
from .implementation import implementation
from .synapses import Synapses


class DelayNetwork(nn.Module):
    """Feed-forward: delay layer, batch norm, spiking neuron and dropout for each hidden size, then a readout.

    Every delay layer lengthens the sequence by half of the maximal delay, as in the paper, so that late spikes arrive.

    Args:
        sizes: channels, hidden sizes, classes.
        toolkit: whose neurons to use.
        config: of the run: its delays and synapses, tau, dropout and compile.
    """

    def __init__(self, sizes: Sequence[int], toolkit: Toolkit, config: RunConfig) -> None:
        super().__init__()
        self.benchmark, self.compiles = benchmarks(toolkit), config.compile
        self.tail = 0 if config.delays == "none" else config.max_delay // 2
        self.synapses = nn.ModuleList(Synapses(i, o, config) for i, o in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(SharedBatchNorm(size) for size in sizes[1:-1])
        self.neurons = nn.ModuleList(self.benchmark.spiking_neuron(tau=config.tau) for _ in sizes[1:-1])
        self.dropout = HeldDropout(config.dropout)
        self.readout = self.benchmark.readout_neuron(tau=config.tau)

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, C) to the readout's membrane potential (T + layers * tail, B, classes)."""
        return self.activity(x)[-1]

    def activity(self, x: Tensor) -> list[Tensor]:
        """The spikes of each hidden layer, (T + ..., B, size), and the readout's membrane potential as from forward."""
        spikes = []
        with compiled_loops(self.compiles):
            for synapse, norm, neuron in zip(self.layers, self.norms, self.neurons, strict=False):
                current: Tensor = synapse(x, tail=self.tail)
                current = norm(current.flatten(0, 1)).view_as(current)  # over time and batch together
                spikes.append(self.benchmark.run(neuron, current))
                x = self.dropout(spikes[-1])
            return [*spikes, self.benchmark.run(self.readout, self.layers[-1](x, tail=self.tail))]

    def implementation(self, device: torch.device) -> str:
        """What computes the neurons on a device; several, where they differ, in the order of the layers."""
        neurons = (*self.neurons, self.readout)
        names = (implementation(self.benchmark, neuron, device, compiles=self.compiles) for neuron in neurons)
        return ", ".join(dict.fromkeys(names))

    @property
    def layers(self) -> list[Synapses]:
        """The synapses of each layer, the readout's last."""
        return cast(list[Synapses], list(self.synapses))

    def delays_now(self) -> list[Tensor]:
        """The delays of each layer that has some, in steps; see `Synapses.delays_now`."""
        layers = (synapse.delays_now() for synapse in self.layers)
        return [delays for delays in layers if delays is not None]

    def trainable(self) -> int:
        """Number of trainable parameters: weights and delays of the synapses that exist, and batch norm."""
        rest = sum(p.numel() for p in (*self.norms.parameters(), *self.neurons.parameters()) if p.requires_grad)
        return rest + sum(synapse.trainable() for synapse in self.layers)


class HeldDropout(nn.Dropout):
    """Dropout whose mask is drawn once per recording and held over all steps: x (T, B, ...).

    Attributes:
        total: recordings of the batch on all processes together, which all draw the masks of all; None: there is one.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.total: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Spikes that are not dropped are scaled by 1 / (1 - p), as in `nn.Dropout`."""
        if not self.training or self.p == 0:
            return x
        total, own = (x.shape[1], slice(None)) if self.total is None else (self.total, share(self.total))
        return x * nn.functional.dropout(x.new_ones(1, total, *x.shape[2:]), self.p)[:, own]


def class_scores(membrane: Tensor) -> Tensor:
    """The paper's logits: sum over time of the softmax over classes, (T, B, classes) to (B, classes)."""
    return membrane.softmax(-1).sum(0)
