"""Which code computes the neurons of a run: speed depends on it, and the last digits of numbers may."""

import torch
from torch import nn

from ...neurons.fused import fuses
from ...toolkits.capabilities import Benchmarks, FusedNeurons


def implementation(benchmark: Benchmarks, neuron: nn.Module, device: torch.device, *, compiles: bool = False) -> str:
    """What runs a neuron of the benchmark over a sequence on a device.

    Args:
        benchmark: of the toolkit.
        neuron: one of its two.
        device: that the network is on.
        compiles: whether loops over time are compiled.

    Returns:
        "fused kernel", this library's own; "loop" or "compiled loop", over the steps of the toolkit's own neuron; or
        what the toolkit says that it uses, such as "spikingjelly: triton".
    """
    if isinstance(benchmark, FusedNeurons) and fuses(benchmark.dynamics(neuron), device):
        return "fused kernel"
    own = benchmark.implementation(neuron, device)
    return own or ("compiled loop" if compiles else "loop")
