"""SpikingJelly: a multi-step network and `reset_net`, before and after `add_delays`."""

import torch
from snntorch_class import train
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import delayplug


class Net(nn.Module):
    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            layer.Linear(channels, hidden),
            neuron.LIFNode(tau=1.2, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.Linear(hidden, classes),
            neuron.LIFNode(tau=1.2, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        return 10 * self.layers(x).mean(0)  # (T, B, channels) to rates (B, classes)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"without delays: {train(Net(20, 48, 6)):.1%}")
    net = delayplug.add_delays(Net(20, 48, 6), max_delay=20)
    print(f"with delays:    {train(net):.1%}")
