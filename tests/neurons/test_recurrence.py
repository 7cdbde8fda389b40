"""Dynamics in plain operations: by hand, and equal to the toolkits' own neurons."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from delayplug import ChargeRule, CurrentRule, Dynamics, ResetAfter, ResetBefore, Surrogate, SurrogateForm
from delayplug.neurons.recurrence import Spike, in_steps
from delayplug.testing.capability_laws import assert_dynamics
from delayplug.toolkits import plugins
from tests.neurons.toolkit_neurons import inputs, learned, norse_neurons, snntorch_neurons, spikingjelly_neurons
from tests.profiles import examples

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
STEPS = st.integers(1, 9)
SEEDS = st.integers(0, 10**6)
ARCTAN = Surrogate(SurrogateForm.ARCTAN, 2.0)


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    """Wherever other tests run: Norse's parameters stay there, and are looked at."""
    with torch.device("cpu"):
        yield


def drive(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def test_by_hand() -> None:
    leaky = Dynamics(
        ChargeRule.DECAY,
        leak=0.5,
        threshold=1.0,
        after=ResetAfter.VALUE,
        reset=-1.0,
        surrogate=ARCTAN,
        shows_membrane=True,
    )
    did = in_steps(leaky, drive(1.0, 0.5, 1.0, 0.0))  # 1 is not above the threshold
    assert did.spikes is did.output
    assert did.spikes.flatten().tolist() == [0, 0, 1, 0]
    assert did.membranes.flatten().tolist() == [1, 1, -1, -0.5]
    at = in_steps(dataclasses.replace(leaky, fires_at=True, shows_membrane=False), drive(1.0, 2.5, 1.0, 0.0))
    assert at.output.flatten().tolist() == [1, 1, 0, 0]
    assert at.membranes is None
    assert at.membrane.item() == 0.25


def test_a_reset_in_the_next_step() -> None:
    late = Dynamics(
        ChargeRule.DECAY, leak=0.5, threshold=1.0, before=ResetBefore.SUBTRACT, surrogate=ARCTAN, shows_membrane=True
    )
    assert in_steps(late, drive(2.0, 1.0, 0.0)).membranes.flatten().tolist() == [2, 1, 0.5]
    lost = dataclasses.replace(late, before=ResetBefore.ZERO_ALL)
    assert in_steps(lost, drive(2.0, 1.0, 0.5)).membranes.flatten().tolist() == [2, 0, 0.5]
    zero = dataclasses.replace(late, before=ResetBefore.ZERO)
    assert in_steps(zero, drive(2.0, 1.0, 0.5)).membranes.flatten().tolist() == [2, 1, 1]


def test_a_current_a_scale_and_given_states() -> None:
    readout = Dynamics(
        ChargeRule.ADD,
        current=CurrentRule.DECAY,
        synapse=0.5,
        divisor=2.0,
        factors=(4.0, torch.tensor(0.5)),
        gives_membrane=True,
        shows_current=True,
        start=torch.tensor([3.0]),
    )
    did = in_steps(readout, drive(1.0, 0.0))
    assert (did.spikes, did.output.flatten().tolist()) == (None, [4, 4.5])
    assert did.currents.flatten().tolist() == [1, 0.5]
    assert did.current.item() == 0.5
    given_ = in_steps(readout, drive(1.0), torch.zeros(1), torch.tensor(2.0))
    assert given_.output.item() == 2
    spikes = Dynamics(ChargeRule.ADD, threshold=0.5, surrogate=ARCTAN, scale=torch.tensor(0.25))
    assert in_steps(spikes, drive(1.0)).output.item() == 0.25


def test_a_spike_can_be_differentiated_twice() -> None:
    z = torch.tensor([-0.5, 0.25], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Spike.apply(z, ARCTAN, False).sum(), z, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), z)
    y = 1 + (torch.pi * z.detach()) ** 2
    torch.testing.assert_close(slope.detach(), 1 / y)
    torch.testing.assert_close(curvature, -2 * torch.pi**2 * z.detach() / y**2)


def check(backend: str, neuron: nn.Module, steps: int, seed: int) -> None:
    toolkit = plugins.toolkit(backend)
    assert_dynamics(toolkit, neuron, inputs(steps, seed), learned=learned(neuron))


@settings(max_examples=examples(40))
@given(snntorch_neurons(), STEPS, SEEDS)
def test_equal_to_snntorch(neuron: nn.Module, steps: int, seed: int) -> None:
    check("snntorch", neuron, steps, seed)


@settings(max_examples=examples(40))
@given(norse_neurons(), STEPS, SEEDS)
def test_equal_to_norse(neuron: nn.Module, steps: int, seed: int) -> None:
    check("norse", neuron, steps, seed)


@settings(max_examples=examples(40))
@given(spikingjelly_neurons(), STEPS, SEEDS)
def test_equal_to_spikingjelly(neuron: nn.Module, steps: int, seed: int) -> None:
    check("spikingjelly", neuron, steps, seed)
