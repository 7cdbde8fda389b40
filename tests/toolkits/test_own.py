"""What is known of the user's own neurons without an adapter."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from delayplug import ArgumentError, ExchangeError, SequenceError
from delayplug.toolkits.own import OwnNeurons, checked_neurons
from delayplug.toolkits.vocabulary import Mode


class Mine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v: Tensor | None = torch.ones(2)

    def reset(self, value: float = 0.0) -> None:
        self.v = None

    def reset_parameters(self) -> None:
        """Not of the state."""

    def reset_after(self, spikes: Tensor) -> None:
        """What a spike does."""

    def forward(self, x: Tensor, *, gain: float = 1.0) -> Tensor:
        return x


class Passing(nn.Module):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        return x, state


@pytest.mark.parametrize("neurons", [Mine, Mine(), "Mine", ["Mine"], [int], {Mine: "steps"}, 3], ids=repr)
def test_what_is_no_class_of_modules_is_refused(neurons: Any) -> None:
    with pytest.raises(ArgumentError, match="neurons"):
        checked_neurons(neurons)


def test_classes_come_with_or_without_what_a_call_takes() -> None:
    assert checked_neurons([Mine]) == {Mine: None}
    assert checked_neurons({Mine: "step", Passing: Mode.SEQUENCE}) == {Mine: Mode.STEP, Passing: Mode.SEQUENCE}


def test_methods_without_arguments_reset() -> None:
    own, mine = OwnNeurons({Mine: Mode.STEP, Passing: Mode.STEP}, None), Mine()
    assert own.reset_methods(mine) == ("reset",)
    assert own.reset_signal(mine).startswith("reset()")
    own.reset(mine)
    assert mine.v is None
    assert own.reset_methods(Passing()) == ()
    with pytest.raises(SequenceError, match=r"give it a method reset\(\)"):
        OwnNeurons({nn.Identity: Mode.STEP}, None).reset(type("Held", (nn.Identity,), {"forward": lambda self, x: x})())


def test_a_state_is_what_is_passed_besides_the_input() -> None:
    own, x, state = OwnNeurons({Mine: Mode.STEP, Passing: Mode.STEP}, None), torch.zeros(1), torch.ones(1)
    assert own.passed_state(Mine(), (x,), {"gain": 2.0}) is None
    assert own.passed_state(Passing(), (x,), {}) == ()
    assert own.passed_state(Passing(), (x, None), {}) == ()
    for args, kwargs in (((x, (state,)), {}), ((x,), {"state": state}), ((), {"x": x, "state": [state]})):
        passed = own.passed_state(Passing(), args, kwargs)
        assert passed is not None
        assert passed[0] is state


def test_what_it_computes_is_not_known() -> None:
    own = OwnNeurons({Mine: Mode.STEP}, None)
    assert own.dynamics(Mine()) is None
    with pytest.raises(ExchangeError, match="Mine, a neuron of your own"):
        own.describe(Mine())
