"""What a toolkit may have beyond plain neurons: asked where it is there, and answered for where it is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from delayplug import (
    BackendError,
    Cell,
    Containers,
    ExchangeError,
    Mode,
    Reset,
    ResetAfter,
    ResetBefore,
    Streams,
    TimeInside,
    Toolkit,
)
from delayplug.toolkits import plugins
from delayplug.toolkits.capabilities import (
    benchmarks,
    check_toolkit,
    containers,
    dynamics,
    exchanges,
    own_weights,
    streams,
)
from tests.toolkits.described import LOOPS


class Plain(Toolkit):
    """Neurons that take steps and are passed their state: the seven answers, and nothing else."""

    def is_neuron(self, module: nn.Module) -> bool:
        return isinstance(module, nn.ReLU)

    def is_spiking(self, neuron: nn.Module) -> bool:
        return True

    def mode(self, neuron: nn.Module) -> Mode:
        return Mode.STEP

    def held_state(self, neuron: nn.Module) -> tuple[object, ...]:
        return ()

    def passed_state(self, neuron: nn.Module, args: Any, kwargs: Any) -> tuple[Tensor, ...] | None:
        return args[1:]

    def returned_state(self, neuron: nn.Module, output: Any) -> tuple[Tensor, ...]:
        return output[1:]

    def reset_signal(self, neuron: nn.Module) -> str:
        return "a call without a state"


class WithContainers(Plain, Containers):
    def lifted(self, module: nn.Module) -> str:
        return "inner"


def test_seven_answers_make_a_toolkit() -> None:
    assert len(Toolkit.__abstractmethods__) == 7
    assert check_toolkit(Plain()).mode(nn.ReLU()) is Mode.STEP


def test_a_toolkit_without_a_capability_has_neutral_answers() -> None:
    toolkit, module = Plain(), nn.Linear(2, 2)
    assert containers(toolkit).lifted(module) == ""
    assert not containers(toolkit).in_order(module)
    assert containers(toolkit).time_inside(module) is TimeInside.SAME
    assert own_weights(toolkit).own_input(module) is None
    assert own_weights(toolkit).recurrent_layer(module) is None
    assert streams(toolkit).kept_state(module) == {}
    assert streams(toolkit).as_sequence(module) is None
    with pytest.raises(TypeError, match="Linear does not hand out states"):
        containers(toolkit).set_stateful(module, "0", True)


def test_a_capability_is_asked_of_the_toolkit_that_has_it() -> None:
    toolkit = WithContainers()
    assert containers(toolkit) is toolkit
    assert containers(toolkit).lifted(nn.Linear(2, 2)) == "inner"
    assert check_toolkit(toolkit) is toolkit


def test_what_cannot_do_without_a_capability_says_which() -> None:
    with pytest.raises(ExchangeError, match=r"Plain does not describe its neurons.*lacks delayplug\.Exchanges"):
        exchanges(Plain())
    with pytest.raises(BackendError, match=r"Plain takes no part in the benchmark.*lacks delayplug\.Benchmarks"):
        benchmarks(Plain())


def test_an_answer_that_would_never_be_asked_for_is_an_error() -> None:
    class Old(Plain):
        """Written for 0.1, where a toolkit was one class."""

        def kept_state(self, module: nn.Module) -> dict[str, Any]:
            return {}

        def describe(self, neuron: nn.Module) -> Cell:
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"Old has kept_state, which .* derives from delayplug\.Streams, too"):
        check_toolkit(Old())
    fixed = type("Fixed", (Old, Streams), {})
    with pytest.raises(TypeError, match=r"has describe, .*delayplug\.Exchanges"):
        check_toolkit(fixed())


def test_what_is_no_toolkit_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected a delayplug\.Toolkit, got 3"):
        check_toolkit(3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LOOPS)
def test_neurons_that_keep_their_loop(name: str) -> None:
    backend, make = LOOPS[name]
    toolkit = plugins.toolkit(backend)
    made = make()
    assert toolkit.is_neuron(made)
    assert dynamics(toolkit, made) is None


def test_dynamics_are_asked_of_toolkits_that_have_them() -> None:
    assert dynamics(Plain(), nn.ReLU()) is None


def test_dynamics_take_the_tensors_as_they_are() -> None:
    """Also what was written past torch's version counters."""
    toolkit: Any = plugins.toolkit("snntorch")
    neuron = toolkit.spiking_neuron(tau=2.0)
    assert toolkit.dynamics(neuron).is_unscaled
    neuron.beta.data.fill_(0.25)
    assert toolkit.dynamics(neuron).leak.item() == 0.25
    neuron.graded_spikes_factor.fill_(0.5)
    assert not toolkit.dynamics(neuron).is_unscaled
    assert toolkit.dynamics(neuron).scale is neuron.graded_spikes_factor
    neuron.graded_spikes_factor = torch.tensor(1.0)
    assert toolkit.dynamics(neuron).is_unscaled


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
def test_the_benchmarks_neurons_in_numbers(backend: str) -> None:
    toolkit: Any = plugins.toolkit(backend)
    hard, soft = (toolkit.spiking_neuron(tau=2.0, reset=reset) for reset in ("zero", "subtract"))
    assert toolkit.describe(hard).rule is Reset.VALUE
    assert toolkit.describe(soft).rule is Reset.SUBTRACT
    assert toolkit.run_dynamics(soft).after is ResetAfter.SUBTRACT
    assert toolkit.run_dynamics(soft).before is ResetBefore.NONE
