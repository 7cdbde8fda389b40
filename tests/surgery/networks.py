"""Networks and short ways to look at plans, for the tests of this folder."""

import snntorch
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from tests.networks import CellNet, F, H, InitLeaky


def reasons(plan) -> dict[str, str]:
    return {skipped.layer: skipped.reason for skipped in plan.skipped}


def layers(plan) -> list[str]:
    return [c.layer for c in plan.connections]


def wires(plan) -> dict[str, str]:
    return {c.layer: c.neuron for c in plan.connections}


def leaky(**options) -> nn.Module:
    return snntorch.Leaky(beta=0.8, init_hidden=True, threshold=0.2, **options)


def stepped(net: nn.Module, x: Tensor) -> Tensor:
    """A sequence through a network of `init_hidden` neurons."""
    for module in net.modules():
        if isinstance(module, snntorch.SpikingNeuron):
            module.reset_mem()
    return torch.stack([net(x_t) for x_t in x])


class Masked(nn.Linear):
    """Some synapses are not there."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.register_buffer("mask", (torch.rand_like(self.weight) < 0.5).float())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


class Own(nn.Module):
    """Not even a subclass: a matrix, the wrong way round."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.rand(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w + self.b


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, H), leaky()
        self.fc2, self.lif2, self.skip = nn.Linear(H, H), leaky(), nn.Linear(F, H)

    def forward(self, x: Tensor) -> Tensor:
        return self.lif2(self.fc2(self.lif1(self.fc1(x))) + self.skip(x))


class Hoisted(CellNet):
    """The layer runs over the whole sequence, its neuron step by step."""

    def forward(self, x):
        s, currents, out = None, self.fc1(x), []
        for current in currents:
            z, s = self.lif1(current, s)
            out.append(z)
        return torch.stack(out)


class HoistedLeaky(InitLeaky):
    def forward(self, x):
        mem, currents, out = self.lif1.init_leaky(), self.fc1(x), []
        for current in currents:
            spk, mem = self.lif1(current, mem)
            out.append(spk)
        return torch.stack(out)


class TwoEars(CellNet):
    """One layer, two inputs."""

    def forward(self, x):
        s = None
        for x_t in x:
            z, s = self.lif1(self.fc1(x_t) + self.fc1(1 - x_t), s)
        return z


class Folded(nn.Module):
    """Time folded into the batch around a plain Linear, as SpikingJelly offers it."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(F, H)
        self.lif1 = neuron.LIFNode(step_mode="m")

    def forward(self, x):
        return self.lif1(functional.seq_to_ann_forward(x, self.fc1))


def shifted(x: Tensor, steps: int) -> Tensor:
    """A sequence so many steps later, with nothing at first."""
    return torch.cat((torch.zeros_like(x[:steps]), x[:-steps]))
