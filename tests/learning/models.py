"""Layers and networks on which everything in `delayplug.learning` has to work."""

from collections.abc import Callable

import torch
from norse.torch import LIFCell, SequentialState
from snntorch import Leaky
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import delayplug
from delayplug import ConvDelay, LearnableDelay

F, T, B, MAX_DELAY = 5, 8, 3, 6


class ConvLayer(nn.Module):
    """A convolution that brings its weight to its delays."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(F, 4, 3, padding=1)
        self.delay = ConvDelay(self.conv, max_delay=MAX_DELAY)

    def forward(self, x: Tensor) -> Tensor:
        return self.delay(x.unsqueeze(-1).expand(-1, -1, -1, 2), weight=self.conv.weight)


class SnnTorchNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, 6), Leaky(beta=0.8, threshold=0.1)
        self.fc2, self.lif2 = nn.Linear(6, 4), Leaky(beta=0.8, threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        out = []
        for x_t in x.unbind(0):
            spikes, mem1 = self.lif1(self.fc1(x_t), mem1)
            _, mem2 = self.lif2(self.fc2(spikes), mem2)
            out.append(mem2)
        return torch.stack(out)


class NorseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = SequentialState(nn.Linear(F, 6), LIFCell(), nn.Linear(6, 4), LIFCell())

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for x_t in x.unbind(0):
            y, state = self.net(x_t, state)
            out.append(y + state[-1].v)
        return torch.stack(out)


class JellyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(layer.Linear(F, 6), neuron.LIFNode(), layer.Linear(6, 4), neuron.LIFNode())
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.net(x)


class JellyConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            layer.Conv1d(F, 4, 2), neuron.LIFNode(), layer.Conv1d(4, 4, 2, groups=2), neuron.LIFNode()
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.net(x.unsqueeze(-1).expand(-1, -1, -1, 3))


def delayed(make: Callable[[], nn.Module], granularity: delayplug.Granularity = "synaptic") -> nn.Module:
    return delayplug.add_delays(make(), MAX_DELAY, granularity=granularity)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "synapse": lambda: LearnableDelay(F, 4, max_delay=MAX_DELAY),
    "taps": lambda: LearnableDelay(F, 4, max_delay=MAX_DELAY, taps=2),
    "channel": lambda: LearnableDelay(F, max_delay=MAX_DELAY),
    "convolution": ConvLayer,
    "snntorch": lambda: delayed(SnnTorchNet),
    "norse": lambda: delayed(NorseNet),
    "spikingjelly": lambda: delayed(JellyNet),
    "convolutions": lambda: delayed(JellyConvNet),
    "axonal": lambda: delayed(JellyNet, "axonal"),
    "dendritic": lambda: delayed(SnnTorchNet, "dendritic"),
}
