"""An installed delayplug[snntorch]: a small network gets delays and learns."""

import snntorch as snn
import torch
from torch import nn

import delayplug


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 8), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(8, 3), snn.Leaky(beta=0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (T, B, 6)
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        membranes = []
        for x_t in x.unbind(0):
            spikes, mem1 = self.lif1(self.fc1(x_t), mem1)
            spikes, mem2 = self.lif2(self.fc2(spikes), mem2)
            membranes.append(mem2)
        return torch.stack(membranes)


model = delayplug.add_delays(Net(), max_delay=4)
delays = dict(delayplug.named_delays(model))
assert len(delays) == 2, list(delays)
model(torch.rand(12, 2, 6)).square().mean().backward()
gradients = [p.grad for p in model.parameters() if p.requires_grad]
assert len(gradients) == 6, len(gradients)  # weight, bias and delays of both layers
assert all(g is not None and g.isfinite().all() for g in gradients), gradients

network = delayplug.pretrained("synthetic-learned", backend="snntorch")
assert network.scores(torch.zeros(network.steps, 1, 20)).shape == (1, 10)
