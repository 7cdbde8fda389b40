"""Networks that a stream can run, how their users run them, and input for them."""

from typing import Any

import norse.torch as norse
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import delayplug
from delayplug import freeze_delays

F, H, O = 6, 8, 4  # noqa: E741


class Looped(nn.Module):
    """Takes sequences and a state, which its loop carries."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, H), snntorch.Leaky(beta=0.8)
        self.fc2, self.lif2 = nn.Linear(H, O), snntorch.Synaptic(alpha=0.7, beta=0.8)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        mem, pair = (self.lif1.reset_mem(), self.lif2.reset_mem()) if state is None else state
        outputs = []
        for x_t in x.unbind(0):
            spikes, mem = self.lif1(self.fc1(x_t), mem)
            spikes, *pair = self.lif2(self.fc2(spikes), *pair)
            outputs.append(spikes)
        return torch.stack(outputs), (mem, pair)


def hidden() -> nn.Module:
    first, second = (snntorch.Leaky(beta=0.8, init_hidden=True) for _ in range(2))
    return nn.Sequential(nn.Linear(F, H), first, nn.Linear(H, O), second)


def cells() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LIFCell())


def norse_layers() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIF(), nn.Linear(H, O), norse.LIF())


def jelly(mode: str) -> nn.Module:
    net = nn.Sequential(layer.Linear(F, H), neuron.LIFNode(), layer.Linear(H, O), neuron.LIFNode())
    functional.set_step_mode(net, mode)
    return net


NETS = {
    "snntorch hidden": hidden,
    "snntorch state": Looped,
    "norse cells": cells,
    "norse layers": norse_layers,
    "spikingjelly s": lambda: jelly("s"),
    "spikingjelly m": lambda: jelly("m"),
}
GAINS = {"norse": 25, "snntorch": 3, "spikingjelly": 6}


def build(name: str, kind: str = "frozen", granularity: str = "synaptic", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = NETS[name]()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.3 * parameter.abs().max()).mul_(GAINS[name.split()[0]])
    if kind != "plain":
        delayplug.add_delays(net, 5, granularity=granularity, example=None if name != "snntorch state" else spikes(3))
    if kind == "frozen":
        freeze_delays(net)
    return net.eval()


@torch.no_grad()
def sequence(name: str, net: nn.Module, x: Tensor) -> Tensor:
    """As its user runs it."""
    if name in ("snntorch state", "norse layers"):
        return net(x)[0]
    if name == "norse cells":
        state, outputs = None, []
        for x_t in x:
            y, state = net(x_t, state)
            outputs.append(y)
        return torch.stack(outputs)
    if name == "snntorch hidden":
        utils.reset(net)
        return torch.stack([net(x_t) for x_t in x])
    functional.reset_net(net)
    return net(x) if name.endswith("m") else torch.stack([net(x_t) for x_t in x])


def spikes(steps: int = 16, batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, F, generator=generator) < 0.3).float()
