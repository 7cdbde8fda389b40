"""Axes to draw on, and small networks of each toolkit with delays."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from norse.torch import LIFCell, SequentialState
from snntorch import Leaky
from spikingjelly.activation_based import layer, neuron
from torch import nn

import delayplug


def new_axes(number: int = 1) -> list[Axes]:
    return list(Figure().subplots(1, number, squeeze=False)[0])


def networks() -> dict[str, nn.Module]:
    made = {
        "snntorch": nn.Sequential(nn.Linear(5, 6), Leaky(beta=0.9), nn.Linear(6, 4), Leaky(beta=0.9)),
        "norse": SequentialState(nn.Linear(5, 6), LIFCell(), nn.Linear(6, 4), LIFCell()),
        "spikingjelly": nn.Sequential(layer.Conv1d(5, 6, 3), neuron.LIFNode(), layer.Conv1d(6, 4, 3), neuron.LIFNode()),
    }
    return {name: delayplug.add_delays(net, 7) for name, net in made.items()}


def text(ax: Axes) -> tuple[str, str]:
    return ax.get_xlabel(), ax.get_ylabel()
