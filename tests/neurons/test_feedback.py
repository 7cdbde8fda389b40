"""Recurrent layers of neurons over a sequence, against a plain loop over steps and delays."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from delayplug.errors import ArgumentError
from delayplug.layers.engines.channels import convolve_channels
from delayplug.layers.engines.convolve import convolve
from delayplug.neurons import recurrence
from delayplug.neurons.dynamics import Adaptation, ChargeRule, CurrentRule, Dynamics, ResetAfter, ResetBefore
from delayplug.neurons.feedback import Feedback, run_recurrent
from delayplug.neurons.fused import fused_neurons
from delayplug.neurons.recurrence import in_steps
from delayplug.neurons.surrogates import Surrogate, SurrogateForm
from tests.layers.kernels import DEVICE, needs_triton, running

T, B, H, K = 14, 3, 6, 4
ARCTAN = Surrogate(SurrogateForm.ARCTAN, 3.0)
LIF = Dynamics(ChargeRule.DECAY, leak=0.6, threshold=0.9, after=ResetAfter.VALUE, is_detached=True, surrogate=ARCTAN)
NEURONS = {
    "hard reset": LIF,
    "soft reset": replace(LIF, after=ResetAfter.SUBTRACT, is_detached=False),
    "hard reset with a gradient": replace(LIF, is_detached=False, reset=0.2, start=0.3),
    "reset before the next input": replace(LIF, before=ResetBefore.ZERO, after=ResetAfter.NONE),
    "reset that drops an input": replace(LIF, before=ResetBefore.ZERO_ALL, after=ResetAfter.NONE),
    "input divided and multiplied": replace(LIF, charge=ChargeRule.LEAK_INPUT_FIRST, divisor=0.7, factors=(1.1, 0.9)),
    "current": replace(LIF, current=CurrentRule.JUMP, synapse=-0.4, fires_at=True),
    "adaptation": replace(LIF, charge=ChargeRule.LEAK_INPUT_FIRST, adaptation=Adaptation(0.9, 0.1, 0.2), threshold=0.5),
    "graded spikes": replace(LIF, scale=torch.full((H,), 0.7, dtype=torch.float64)),
}
KINDS = ("plain", "axonal", "synaptic")


class Wires:
    """A recurrent connection of a kind, with parameters of float64."""

    def __init__(self, kind: str, dtype: torch.dtype = torch.float64) -> None:
        options = {"dtype": dtype, "device": DEVICE}
        self.weight = None if kind == "synaptic" else (torch.randn(H, H, **options) / 2).requires_grad_()
        shapes = {"plain": (), "axonal": (K, H), "synaptic": (K, H, H)}
        self.taps = (torch.randn(shapes[kind], **options) / 2).requires_grad_() if shapes[kind] else None

    def parameters(self) -> list[Tensor]:
        return [part for part in (self.weight, self.taps) if part is not None]

    def feedback(self) -> Feedback:
        weight, taps = (None if part is None else part.detach() for part in (self.weight, self.taps))
        return Feedback(weight, taps)

    def over_time(self, before: Tensor) -> Tensor:
        if self.weight is None:
            return convolve(before, self.taps)
        return (before if self.taps is None else convolve_channels(before, self.taps)) @ self.weight.t()

    def arriving(self, spikes: list[Tensor], t: int) -> Tensor | float:
        """The sum over all delays, one after the other."""
        total: Tensor | float = 0.0
        for k in range(min(1 if self.taps is None else K, t)):
            s = spikes[t - 1 - k]
            if self.weight is None:
                total = total + s @ self.taps[k].t()
            else:
                total = total + (s if self.taps is None else s * self.taps[k]) @ self.weight.t()
        return total


def looped(d: Dynamics, x: Tensor, wires: Wires) -> Tensor:
    """Step by step, with a graph."""
    spikes: list[Tensor] = []
    states: dict[str, Tensor | None] = {"membrane": None, "current": None, "adaptation": None}
    for t in range(len(x)):
        activity = in_steps(d, (x[t] + wires.arriving(spikes, t)).unsqueeze(0), **states)
        states = {name: getattr(activity, name) for name in states}
        spikes.append(activity.spikes[0])
    return torch.stack(spikes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("neurons", NEURONS)
def test_spikes_and_gradients_are_those_of_a_loop(neurons: str, kind: str) -> None:
    torch.manual_seed(0)
    d, wires = NEURONS[neurons], Wires(kind)
    d = d if d.scale is None else replace(d, scale=d.scale.to(DEVICE))
    x = (torch.rand(T, B, H, dtype=torch.float64, device=DEVICE) * 1.4).requires_grad_()
    weight = torch.randn_like(x)
    expected = looped(d, x, wires)
    spikes = run_recurrent(d, x, wires.feedback(), wires.over_time)
    assert torch.equal(spikes, expected)
    assert 0.1 < float((spikes.detach() > 0).double().mean()) < 0.9
    inputs = [x, *wires.parameters()]
    found, wanted = (torch.autograd.grad((y * weight).sum(), inputs) for y in (spikes, expected))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        assert torch.equal(run_recurrent(d, x, wires.feedback(), wires.over_time), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_constants_of_the_neurons_learn(kind: str) -> None:
    torch.manual_seed(1)
    leak = torch.full((H,), 0.7, dtype=torch.float64, device=DEVICE, requires_grad=True)
    _check_constants(replace(LIF, leak=leak), [leak], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_constants_of_adaptive_neurons_learn(kind: str) -> None:
    torch.manual_seed(1)
    values = [torch.full((H,), value, dtype=torch.float64, device=DEVICE) for value in (0.7, 0.9, 0.3, 0.2)]
    leak, *adaptation = [value.requires_grad_() for value in values]
    dynamics = replace(NEURONS["adaptation"], leak=leak, adaptation=Adaptation(*adaptation))
    _check_constants(dynamics, [leak, *adaptation], kind)


def _check_constants(d: Dynamics, constants: list[Tensor], kind: str) -> None:
    wires = Wires(kind)
    x = (torch.rand(T, B, H, dtype=torch.float64, device=DEVICE) * 1.4).requires_grad_()
    weight, inputs = torch.randn_like(x), [*constants, x, *wires.parameters()]
    expected = looped(d, x, wires)
    spikes = run_recurrent(d, x, wires.feedback(), wires.over_time)
    assert torch.equal(spikes, expected)
    found, wanted = (torch.autograd.grad((y * weight).sum(), inputs) for y in (spikes, expected))
    assert float(wanted[0].abs().min()) > 0
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


class Smooth:
    """A spike whose derivative is its surrogate, everywhere."""

    @staticmethod
    def apply(z: Tensor, surrogate: Surrogate, fires_at: bool) -> Tensor:
        return torch.atan(torch.pi / 2 * surrogate.a * z) / torch.pi + 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("neurons", ["soft reset", "hard reset with a gradient", "current"])
def test_gradients_by_finite_differences(neurons: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "Spike", Smooth)
    torch.manual_seed(0)
    d, wires = replace(NEURONS[neurons], is_detached=False), Wires(kind)
    x = (torch.rand(6, 2, H, dtype=torch.float64, device=DEVICE) * 1.4).requires_grad_()
    names = [name for name in ("weight", "taps") if getattr(wires, name) is not None]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        for name, value in zip(names, values, strict=True):
            setattr(wires, name, value)
        return run_recurrent(d, x, wires.feedback(), wires.over_time)

    assert torch.autograd.gradcheck(run, (x, *wires.parameters()))


@needs_triton
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("learns", [False, True])
def test_in_kernels(kind: str, learns: bool) -> None:
    """Equal to plain operations: spikes exactly, gradients to 1e-4."""
    torch.manual_seed(0)
    leak = torch.full((H,), 0.6, device=DEVICE, requires_grad=learns)
    d, wires = replace(LIF, leak=leak), Wires(kind, torch.float32)
    x = (torch.rand(9, B, H, device=DEVICE) * 1.4).requires_grad_()
    weight, inputs = torch.randn_like(x), [x, *wires.parameters(), *([leak] if learns else [])]
    with fused_neurons(False):
        expected = run_recurrent(d, x, wires.feedback(), wires.over_time)
        wanted = torch.autograd.grad((expected * weight).sum(), inputs)
    with running():
        spikes = run_recurrent(d, x, wires.feedback(), wires.over_time)
        found = torch.autograd.grad((spikes * weight).sum(), inputs)
    assert torch.equal(spikes, expected)
    for ours, theirs in zip(found, wanted, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


def test_refusals() -> None:
    wires = Wires("axonal")
    x = torch.zeros(T, B, H, dtype=torch.float64, device=DEVICE, requires_grad=True)
    readout = Dynamics(ChargeRule.DECAY, leak=0.5, gives_membrane=True)
    with pytest.raises(ArgumentError, match="dynamics: expected neurons that fire"):
        run_recurrent(readout, x, wires.feedback(), wires.over_time)
    with pytest.raises(ArgumentError, match=r"x: expected shape \(T, B, H\)"):
        run_recurrent(LIF, x[0], wires.feedback(), wires.over_time)
    with pytest.raises(ArgumentError, match=r"outside of the transforms of torch\.func"):
        torch.func.grad(lambda x: run_recurrent(LIF, x, wires.feedback(), wires.over_time).sum())(x)
    with pytest.raises(ArgumentError, match="weight: expected None with taps"):
        Feedback(torch.zeros(H, H), torch.zeros(K, H, H))
    with pytest.raises(ArgumentError, match="weight"):
        Feedback(None, torch.zeros(K, H))
    spikes = run_recurrent(LIF, x, wires.feedback(), wires.over_time)
    with pytest.raises(NotImplementedError, match="cannot be differentiated again"):
        torch.autograd.grad(spikes.sum(), x, create_graph=True)
