"""What a call of the user's own neurons takes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from delayplug import WiringError, plan_delays
from delayplug.surgery.modes import with_modes
from delayplug.toolkits.own import OwnNeurons
from tests.surgery.test_own_neurons import B, Chunked, Explicit, F, H, Held, Recording, Sequence, T

X = torch.rand(T, B, F)


class Traced(Sequence):
    """The membranes of all steps come with the spikes: they are no state."""

    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return y, y


class Image(Explicit):
    """Steps of a convolution (B, C, H, W): as many dimensions as a sequence may have."""


def seen(net: nn.Module, example: Any) -> str:
    kind = type(net[-1])  # type: ignore[index]
    known = with_modes(OwnNeurons({kind: None}, None), net, example)
    assert isinstance(known, OwnNeurons)
    return str(known.modes[kind])


@pytest.mark.parametrize(
    ("neuron", "example", "mode"),
    [
        (Explicit(), X[0], "step"),
        (Held(), X[0], "step"),
        (Sequence(), X, "sequence"),
        (Recording(), X, "sequence"),
        (Chunked(), X, "sequence"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_an_example_shows_it(neuron: nn.Module, example: Tensor, mode: str) -> None:
    assert seen(nn.Sequential(nn.Linear(F, H), neuron), example) == mode


def test_a_state_of_the_shape_of_the_input_is_that_of_a_step() -> None:
    def drive(net: Any) -> None:
        state = None
        for _ in range(3):
            _, state = net[1](net[0](torch.rand(2, 1, 5, 5)), state)

    assert seen(nn.Sequential(nn.Conv2d(1, 2, 3), Image()), drive) == "step"


@pytest.mark.parametrize(
    ("neuron", "example"),
    [(Explicit(), None), (Traced(), X), (Held(), X)],
    ids=["no example", "a recording of all steps", "a state or a recording"],
)
def test_it_is_asked_where_it_does_not_show(neuron: nn.Module, example: Tensor | None) -> None:
    name = type(neuron).__name__
    asked = rf"not known.*neurons=\{{{name}: 'step'\}} or neurons=\{{{name}: 'sequence'\}}"
    with pytest.raises(WiringError, match=asked):
        plan_delays(nn.Sequential(nn.Linear(F, H), neuron), example, neurons=[type(neuron)])


def test_a_model_that_does_not_run_says_so() -> None:
    with pytest.raises(WiringError, match="does not run on the example"):
        plan_delays(nn.Sequential(nn.Linear(F, H), Held()), X[..., :2], neurons=[Held])
