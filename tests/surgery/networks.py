"""Small networks that several tests are about; the corpus proper is in `corpus`."""

from typing import Any

import norse.torch as norse
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

T, B, F, H, O = 9, 3, 5, 6, 4  # noqa: E741
MAX_DELAY = 4


def sequence(steps: int = T, batch: int = B, seed: int = 1) -> Tensor:
    """Spikes, (T, B, F)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, F, generator=generator) < 0.4).float()


class InitLeaky(nn.Module):
    """The network of snnTorch's tutorial 5."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = snntorch.Leaky(beta=0.8)
        self.fc2 = nn.Linear(H, O)
        self.lif2 = snntorch.Leaky(beta=0.8)

    def forward(self, x: Tensor) -> Tensor:
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        out = []
        for step in range(x.shape[0]):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            out.append(spk2)
        return torch.stack(out)


class FreshZeros(InitLeaky):
    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = torch.zeros(x.shape[1], H), torch.zeros(x.shape[1], O)
        out = []
        for x_t in x:
            spk1, mem1 = self.lif1(self.fc1(x_t), mem1)
            _, mem2 = self.lif2(self.fc2(spk1), mem2)
            out.append(mem2)
        return torch.stack(out)


class ResetMem(nn.Module):
    """With batch norm between, and neurons that keep their state."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H, bias=False)
        self.bn1 = nn.BatchNorm1d(H)
        self.lif1 = snntorch.Leaky(beta=0.8, init_hidden=True)
        self.fc2 = nn.Linear(H, O)
        self.lif2 = snntorch.Leaky(beta=0.8, init_hidden=True, output=True)

    def forward(self, x: Tensor) -> Tensor:
        self.lif1.reset_mem()
        self.lif2.reset_mem()
        return torch.stack([self.lif2(self.fc2(self.lif1(self.bn1(self.fc1(x_t)))))[0] for x_t in x])


class Crossed(InitLeaky):
    """Registered in an order that misleads."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.fc1, self.fc2 = nn.Linear(F, H), nn.Linear(H, O)
        self.lif1, self.lif2 = snntorch.Leaky(beta=0.8), snntorch.Leaky(beta=0.8)


class CellNet(nn.Module):
    """States in local variables, as in Norse's tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = norse.LIFCell()
        self.fc2 = nn.Linear(H, O)
        self.lif2 = norse.LIFCell()

    def forward(self, x: Tensor) -> Tensor:
        s1 = s2 = None
        out = []
        for ts in range(x.shape[0]):
            z, s1 = self.lif1(self.fc1(x[ts]), s1)
            z, s2 = self.lif2(self.fc2(z), s2)
            out.append(s2.v)
        return torch.stack(out)


class CarriedCells(CellNet):
    """State in and out of forward."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:  # type: ignore[override]
        s1, s2 = (None, None) if state is None else state
        out = []
        for x_t in x:
            z, s1 = self.lif1(self.fc1(x_t), s1)
            z, s2 = self.lif2(self.fc2(z), state=s2)
            out.append(s2.v)
        return torch.stack(out), (s1, s2)


class LayerNet(nn.Module):
    """Whole sequences, in a class."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = norse.LIF()
        self.fc2 = nn.Linear(H, O)
        self.lif2 = norse.LIF()

    def forward(self, x: Tensor, s1: Any = None, s2: Any = None) -> tuple[Tensor, Any, Any]:
        z, s1 = self.lif1(self.fc1(x), s1)
        z, s2 = self.lif2(self.fc2(z), s2)
        return z, s1, s2


def jelly(mode: str, linear: Any = nn.Linear) -> nn.Module:
    net = nn.Sequential(
        linear(F, H), neuron.LIFNode(tau=2.0), nn.Sequential(linear(H, O), nn.Dropout(0.0), neuron.IFNode())
    )
    functional.set_step_mode(net, mode)
    return net
