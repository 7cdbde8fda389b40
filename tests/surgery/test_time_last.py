"""Containers that put the time last."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from delayplug import add_delays, plan_delays
from delayplug.testing.networks import Sees
from delayplug.testing.oracle import draw_whole_delays, shift_inputs
from tests.surgery.networks import layers, reasons
from tests.surgery.test_time_axis import F, H, loud, spikes


class Inside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.run = layer.TLastMultiStepContainer(
            nn.Linear(F, H), neuron.LIFNode(), nn.Dropout(0.0), nn.Linear(H, 3), neuron.LIFNode()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x.movedim(0, -1)).movedim(-1, 0)


class LayerInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = layer.TLastMultiStepContainer(nn.Linear(F, H)), neuron.LIFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.fc(x.movedim(0, -1)).movedim(-1, 0))


class NeuronInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(F, H), layer.TLastMultiStepContainer(neuron.LIFNode())

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.fc(x).movedim(0, -1)).movedim(-1, 0)


class OverTime(nn.Module):
    """A convolution along the time, and one that a container maps over it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif = nn.Conv1d(F, H, 3, padding=1), layer.TLastMultiStepContainer(neuron.LIFNode())
        self.mapped, self.out = (
            layer.TLastSeqToANNContainer(nn.Linear(H, 3)),
            layer.TLastMultiStepContainer(neuron.IFNode()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mapped(self.lif(self.conv(x.movedim(0, -1))))).movedim(-1, 0)


@pytest.mark.parametrize(("steps", "batch"), [(8, 3), (6, 6)])
@pytest.mark.parametrize(("make", "sees"), [(Inside, "steps"), (LayerInside, "steps"), (NeuronInside, "sequences")])
def test_delays_are_shifts_inside_and_outside(make: type[nn.Module], sees: Sees, steps: int, batch: int) -> None:
    torch.manual_seed(0)
    net, x = loud(make()), spikes(steps, batch)
    plain, zero = copy.deepcopy(net), copy.deepcopy(net)
    add_delays(zero, 4, example=x, init=0, interpolation="linear")
    assert torch.equal(zero(x), plain(x))
    functional.reset_net(plain)
    add_delays(net, 4, example=x, interpolation="linear")
    for name, delays in draw_whole_delays(net).items():
        shift_inputs(plain.get_submodule(name), plain.get_submodule(name), delays, "synaptic", sees, batch)
    expected = plain(x)
    for _ in range(2):
        assert torch.equal(net(x), expected)
        functional.reset_net(net)


def test_the_structure_shows_what_is_inside_and_asks_about_the_rest() -> None:
    assert layers(plan_delays(Inside())) == ["run.0", "run.3"]
    for net, name in ((LayerInside(), "fc.0"), (NeuronInside(), "fc")):
        assert "example=" in reasons(plan_delays(net))[name]
    crossing = nn.Sequential(
        nn.Linear(F, H),
        layer.TLastMultiStepContainer(neuron.LIFNode()),
        layer.TLastMultiStepContainer(nn.Linear(H, 3)),
        neuron.LIFNode(step_mode="m"),
    )
    plan = plan_delays(crossing)
    assert layers(plan) == []
    assert all("see the time in different ways" in reason for reason in reasons(plan).values())


@pytest.mark.parametrize(("steps", "batch"), [(8, 3), (6, 6)])
def test_what_hides_the_time_is_refused_with_a_way_out(steps: int, batch: int) -> None:
    told = reasons(plan_delays(OverTime(), spikes(steps, batch)))
    assert "TLastSeqToANNContainer), which hides the time from it. TLastMultiStepContainer runs it" in told["mapped.0"]
    assert "time" in told["conv"]
