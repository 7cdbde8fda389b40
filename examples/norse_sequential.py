"""Norse: a SequentialState over whole sequences, before and after `add_delays`."""

import norse.torch as norse
import torch
from snntorch_class import train
from torch import nn

import delayplug


class Net(nn.Module):
    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        fast = norse.LIFParameters(
            tau_syn_inv=torch.tensor(1e3), tau_mem_inv=torch.tensor(8e2), alpha=torch.tensor(5.0)
        )
        self.layers = norse.SequentialState(
            nn.Linear(channels, hidden),
            norse.LIF(p=fast),
            nn.Linear(hidden, classes),
            norse.LI(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        membranes, _ = self.layers(x)  # (T, B, channels)
        return membranes.softmax(-1).sum(0)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"without delays: {train(Net(20, 48, 6)):.1%}")
    net = delayplug.add_delays(Net(20, 48, 6), max_delay=20)
    print(f"with delays:    {train(net):.1%}")
