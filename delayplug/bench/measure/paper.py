"""The paper's network written as the paper does, with DCLS and SpikingJelly alone: delayplug is measured against it.

Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024: per hidden layer a padded DCLS convolution, batch norm, a LIF
neuron and dropout; a DCLS convolution and a neuron that never fires as the readout. Shapes: T steps, B batch.
"""

import itertools
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from ..._extras import extra
from ...toolkits import plugins
from ...toolkits.capabilities import benchmarks
from ..model.network import HeldDropout


class PaperNetwork(nn.Module):
    """Input (T, B, C), output (T + layers * (taps // 2), B, classes).

    Args:
        sizes: channels, hidden sizes, classes.
        taps: length of the kernels, odd: max_delay + 1.
        tau: of all neurons, in steps.
        dropout: of hidden spikes.
    """

    def __init__(self, sizes: Sequence[int], *, taps: int = 25, tau: float = 1.005, dropout: float = 0.0) -> None:
        super().__init__()
        self.benchmark = benchmarks(plugins.toolkit("spikingjelly"))
        self.taps = taps
        self.convolutions = nn.ModuleList(dcls_layer(i, o, taps) for i, o in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:-1])
        self.neurons = nn.ModuleList(self.benchmark.spiking_neuron(tau=tau) for _ in sizes[1:-1])
        self.dropout = HeldDropout(dropout)
        self.readout = self.benchmark.readout_neuron(tau=tau)

    def forward(self, x: Tensor) -> Tensor:
        """Run one sequence from a fresh state."""
        for convolution, norm, neuron in zip(self.convolutions, self.norms, self.neurons, strict=False):
            current = dcls_forward(convolution, x, self.taps // 2)
            current = norm(current.flatten(0, 1)).view_as(current)
            x = self.dropout(self.benchmark.run(neuron, current))
        return self.benchmark.run(self.readout, dcls_forward(self.convolutions[-1], x, self.taps // 2))


def dcls_layer(in_features: int, out_features: int, taps: int) -> nn.Module:
    """A `Dcls1d` as the paper makes it: one tap per synapse, a wide fixed sigma, positions over the whole kernel."""
    with extra("dcls", "the comparison with DCLS"):
        from DCLS.construct.modules import Dcls1d

    layer: Any = Dcls1d(
        in_features, out_features, kernel_count=1, dilated_kernel_size=taps, bias=False, version="gauss"
    )
    nn.init.uniform_(layer.P, -(taps // 2) - 1, taps // 2)
    layer.P.data.clamp_(-(taps // 2), taps // 2)
    nn.init.constant_(layer.SIG, taps // 2)
    layer.SIG.requires_grad_(False)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    return cast(nn.Module, layer)


def dcls_forward(layer: nn.Module, x: Tensor, tail: int = 0) -> Tensor:
    """(T, B, I) to (T + tail, B, O): pad, construct, convolve, as the paper does."""
    dcls: Any = layer
    padded = nn.functional.pad(x.permute(1, 2, 0), (dcls.dilated_kernel_size[0] - 1, tail))
    y: Tensor = layer(padded)
    return y.permute(2, 0, 1)
