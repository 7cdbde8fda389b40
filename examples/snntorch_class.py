"""snnTorch: a network written as a class with its own time loop, before and after `add_delays`."""

import snntorch as snn
import torch
from torch import nn

import delayplug
from delayplug.data.synthetic import TimingTask


class Net(nn.Module):
    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.lif1 = snn.Leaky(beta=0.2)
        self.fc2 = nn.Linear(hidden, classes)
        self.lif2 = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        membranes = []
        for x_t in x.unbind(0):  # (T, B, channels)
            spikes, mem1 = self.lif1(self.fc1(x_t), mem1)
            _, mem2 = self.lif2(self.fc2(spikes), mem2)
            membranes.append(mem2)
        return torch.stack(membranes).softmax(-1).sum(0)


def train(net: nn.Module, epochs: int = 15) -> float:
    """Train on the embedded task and return the accuracy on fresh samples."""
    task = TimingTask(classes=6, jitter=0.3)
    frames, test = task.sample(600, seed=1), task.sample(600, seed=2)
    optimizer = torch.optim.Adam(delayplug.parameter_groups(net, lr=5e-3, delay_lr=0.2))
    delayed = any(delayplug.named_delays(net))
    schedule = delayplug.SigmaSchedule(net, epochs, until=0.6) if delayed else None
    for _ in range(epochs):
        for indices in torch.randperm(600).split(50):
            x, y = frames.batch(indices)
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if schedule:
            schedule.step()
    x, y = test.batch(range(600))
    with torch.no_grad():
        return (net.eval()(x).argmax(-1) == y).double().mean().item()


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"without delays: {train(Net(20, 48, 6)):.1%}")
    net = delayplug.add_delays(Net(20, 48, 6), max_delay=20)
    print(f"with delays:    {train(net):.1%}")
