"""The laws of delayplug over networks as a user of pulse writes them. T steps, B batch, F features."""

from typing import Any

import pulse
import torch
from torch import Tensor, nn

from delayplug.testing import Laws, Network

F, HIDDEN, OUT = 5, 6, 4


def awake(net: nn.Module) -> nn.Module:
    """The network with weights that make its neurons spike, not always."""
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3).add_(0.3 * parameter.abs().max() / parameter[0].numel() ** 0.5)
    return net


def deep() -> nn.Module:
    """Two layers of spikes and a membrane to read."""
    return awake(
        pulse.Chain(
            fc1=nn.Linear(F, HIDDEN),
            spikes1=pulse.Spiking(),
            fc2=nn.Linear(HIDDEN, HIDDEN, bias=False),
            spikes2=pulse.Spiking(tau=3.0),
            fc3=nn.Linear(HIDDEN, OUT),
            readout=pulse.Readout(tau=5.0),
        )
    )


def convolutional() -> nn.Module:
    """Images, (B, 2, 8, 8)."""
    return awake(
        pulse.Chain(
            conv=nn.Conv2d(2, 3, 3, stride=2, bias=False),
            spikes1=pulse.Spiking(),
            rest=pulse.Chain(flat=nn.Flatten(), fc=nn.Linear(27, OUT), spikes2=pulse.Spiking()),
        )
    )


def with_cell() -> nn.Module:
    """The last neuron weighs its input itself."""
    return awake(pulse.Chain(fc=nn.Linear(F, HIDDEN), spikes=pulse.Spiking(), cell=pulse.Cell(HIDDEN, OUT)))


class Classifier(nn.Module):
    """Resets itself and loops over time; two branches, which only an example shows. (T, B, F) to (T, B, OUT)."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(F, HIDDEN), nn.Linear(F, HIDDEN)
        self.hidden, self.out = pulse.Spiking(), pulse.Spiking(tau=4.0)
        self.fc = nn.Linear(HIDDEN, OUT)
        awake(self)

    def forward(self, x: Tensor) -> Tensor:
        pulse.new_sequence(self)
        return torch.stack([self.out(self.fc(self.hidden(self.left(x_t) + self.right(x_t)))) for x_t in x])


def begin(net: nn.Module) -> None:
    pulse.new_sequence(net)


def cut(net: nn.Module, state: Any) -> None:
    pulse.cut(net)


def step_by_step(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return torch.stack([net(x_t) for x_t in x]), None


def at_once(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    return net(x), None


class TestPulse(Laws):
    backend = "pulse"
    networks = (
        Network("steps", deep, (F,), ("fc1", "fc2"), step_by_step, begin, cut),
        Network(
            "sequences",
            lambda: pulse.over_time(deep()),
            (F,),
            ("fc1", "fc2"),
            at_once,
            begin,
            cut,
            sees="sequences",
        ),
        Network("convolutions", convolutional, (2, 8, 8), ("conv", "rest.fc"), step_by_step, begin, cut),
        Network("own weights", with_cell, (F,), ("fc",), step_by_step, begin, cut, cells=("cell",)),
        Network("a class", Classifier, (F,), ("left", "right", "fc"), at_once, ordered=False),
    )
