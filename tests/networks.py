"""What several tests are about: a few networks of the corpus, and one for all step modes."""

from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from tests.corpus.norse_networks import CarriedCells, CellNet, LayerNet
from tests.corpus.snntorch_networks import Crossed, FreshZeros, InitLeaky, ResetMem

__all__ = [
    "MAX_DELAY",
    "B",
    "CarriedCells",
    "CellNet",
    "Crossed",
    "F",
    "FreshZeros",
    "H",
    "InitLeaky",
    "LayerNet",
    "O",
    "ResetMem",
    "T",
    "jelly",
    "sequence",
]

T, B, F, H, O = 9, 3, 5, 6, 4  # noqa: E741
MAX_DELAY = 4


def sequence(steps: int = T, batch: int = B, seed: int = 1) -> Tensor:
    """Spikes, (T, B, F)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, F, generator=generator) < 0.4).float()


def jelly(mode: str, linear: Any = nn.Linear) -> nn.Module:
    net = nn.Sequential(
        linear(F, H), neuron.LIFNode(tau=2.0), nn.Sequential(linear(H, O), nn.Dropout(0.0), neuron.IFNode())
    )
    functional.set_step_mode(net, mode)
    return net
