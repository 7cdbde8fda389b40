"""Streaming: a trained network, its delays frozen, classifies recordings while they play."""

import snntorch as snn
import torch
from snntorch_class import train
from torch import nn

import delayplug
from delayplug.data.synthetic import TimingTask


class Net(nn.Module):
    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden),
            snn.Leaky(beta=0.2, init_hidden=True),
            nn.Linear(hidden, classes),
            snn.Leaky(beta=0.9, reset_mechanism="none", init_hidden=True, output=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, membranes = delayplug.unroll(self.layers, x)  # (T, B, channels)
        return membranes.softmax(-1).sum(0)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"without delays: {train(Net(20, 48, 6)):.1%}")

    net = Net(20, 48, 6)
    delayplug.add_delays(net.layers, max_delay=20)
    train(net)
    print(delayplug.freeze_delays(net, max_delay=15))  # 4 bits

    x, y = TimingTask(classes=6, jitter=0.3).sample(600, seed=2).batch(range(600))
    stream = delayplug.stream(net.layers)
    scores = torch.zeros(600, 6)
    for step, x_t in enumerate(x):  # (B, channels), as they come in
        _, membranes = stream.push(x_t)
        scores += membranes.softmax(-1)
        if step % 5 == 4:
            belief = scores[0] / scores[0].sum()
            right = int((scores.argmax(-1) == y).sum())
            first = belief[y[0]].item()
            bar = "#" * round(40 * first)
            print(f"step {step + 1:2}: {right:3} of 600 right; belief in the class of the first {first:.2f} {bar}")
    print(f"with delays:    {(scores.argmax(-1) == y).double().mean():.1%}")
