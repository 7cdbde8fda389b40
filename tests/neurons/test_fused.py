"""Neurons in kernels: as their toolkit's own loop, where kernels run; and the loop everywhere else."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from delayplug import (
    ChargeRule,
    CurrentRule,
    Dynamics,
    NeuronActivity,
    ResetAfter,
    Surrogate,
    SurrogateForm,
    fused_neurons,
    run_fused,
)
from delayplug._triton import is_installed
from delayplug.layers.exact import is_exact
from delayplug.neurons.fused import fuses
from delayplug.neurons.recurrence import in_steps
from delayplug.testing.capability_laws import assert_dynamics
from delayplug.toolkits import plugins
from tests.neurons.cases import DEVICE, in_kernel, kernels
from tests.neurons.toolkit_neurons import TOOLKITS, inputs, learned
from tests.profiles import examples

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.skipif(not is_installed(), reason="needs Triton"),
]
LEAKY = Dynamics(
    ChargeRule.DECAY,
    leak=0.5,
    threshold=1.0,
    after=ResetAfter.VALUE,
    surrogate=Surrogate(SurrogateForm.ARCTAN, 2.0),
    is_detached=True,
)
READOUT = Dynamics(ChargeRule.DECAY, leak=0.5, gives_membrane=True)


@pytest.fixture(autouse=True)
def on_a_device() -> Iterator[None]:
    with kernels(), DEVICE:
        yield


def run(dynamics: Dynamics, x: Tensor, *states: Tensor | None) -> NeuronActivity:
    did = run_fused(dynamics, x, *states)
    assert did is not None
    return did


@settings(max_examples=examples(30), deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(0, 10**6))
def test_equal_to_the_toolkits_own_loop(data: st.DataObject, steps: int, seed: int) -> None:
    backend = data.draw(st.sampled_from(sorted(TOOLKITS)))
    with torch.device("cpu"):
        neuron: nn.Module = data.draw(TOOLKITS[backend]())
        assert_dynamics(plugins.toolkit(backend), neuron, inputs(steps, seed), in_kernel, learned(neuron))


def test_on_a_cpu_neurons_keep_their_loop() -> None:
    x = torch.rand(3, 2, 4)
    assert fuses(LEAKY, x.device)
    assert not fuses(None, x.device)
    assert not fuses(LEAKY, torch.device("meta"))
    with fused_neurons(False):
        assert run_fused(LEAKY, x) is None
        with fused_neurons():
            assert run_fused(LEAKY, x) is not None
    assert run_fused(None, x) is None


@pytest.mark.skipif(DEVICE.type == "cuda", reason="about the CPU")
def test_outside_of_the_interpreter() -> None:
    from delayplug import _triton

    token = _triton._on_cpu.set(False)
    try:
        assert run_fused(LEAKY, torch.rand(3, 2, 4)) is None
    finally:
        _triton._on_cpu.reset(token)


@pytest.mark.parametrize(
    ("dynamics", "x"),
    [
        (LEAKY, torch.rand(3, 2, 4, dtype=torch.float64)),
        (LEAKY, torch.rand(3, 2, 4).half()),
        (LEAKY, torch.rand(0, 2, 4)),
        (LEAKY, torch.rand(3)),
        (LEAKY, torch.rand(3, 2, 4).to_sparse()),
        (dataclasses.replace(LEAKY, leak=torch.rand(5)), torch.rand(3, 2, 4)),  # the toolkit has an error to raise
        (dataclasses.replace(LEAKY, leak=torch.rand(4)), torch.rand(3, 2, 1)),  # the output has more neurons than x
        (dataclasses.replace(LEAKY, leak=torch.rand(1, 1, 2, 4)), torch.rand(3, 2, 4)),
        (dataclasses.replace(LEAKY, leak=torch.rand(4).double()), torch.rand(3, 2, 4)),
        (dataclasses.replace(LEAKY, factors=(torch.rand(4).double(),)), torch.rand(3, 2, 4)),
    ],
)
def test_what_no_kernel_does(dynamics: Dynamics, x: Tensor) -> None:
    assert run_fused(dynamics, x) is None


def test_within_transforms_of_torch() -> None:
    ran = []

    def of(x: Tensor) -> Tensor:
        ran.append(run_fused(LEAKY, x))
        return x.sum()

    torch.func.grad(of)(torch.rand(3, 2, 4))
    torch.func.vmap(of)(torch.rand(5, 3, 2, 4))
    torch.func.jvp(of, (torch.rand(3, 2, 4),), (torch.rand(3, 2, 4),))
    assert ran == [None, None, None]


def test_a_compiled_model_breaks_its_graph() -> None:
    def model(x: Tensor) -> Tensor:
        did = run_fused(LEAKY, 2 * x)
        return 3 * did.output if did is not None else x

    x = torch.rand(4, 2, 3)
    with kernels():
        assert torch.equal(torch.compile(model, backend="eager")(x), 3 * run(LEAKY, 2 * x).output)


@pytest.mark.parametrize(
    "shape", [(), (1,), (5,), (1, 5), (4, 1), (4, 5), (3, 1, 1), (3, 4, 5), (3, 1, 5), (1, 1, 1, 1)]
)
def test_constants_broadcast(shape: tuple[int, ...]) -> None:
    """Against neurons of (3, 4, 5), such as those behind a convolution; gradients come in the constant's shape."""
    torch.manual_seed(0)
    x, weight = torch.rand(5, 2, 3, 4, 5), torch.randn(5, 2, 3, 4, 5)
    results = []
    for way in (in_steps, run):
        leak = (0.5 + 0.5 * torch.rand(shape, generator=torch.Generator(DEVICE).manual_seed(1))).requires_grad_()
        threshold = torch.tensor([0.5, 0.75, 1.0]).view(3, 1, 1).requires_grad_()
        did = way(dataclasses.replace(LEAKY, leak=leak, threshold=threshold), x)
        results.append((did.output, *torch.autograd.grad((did.output * weight).sum(), [leak, threshold])))
    for expected, got in zip(*results, strict=True):
        assert got.shape == expected.shape
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_double_number_is_rounded_as_torch_does() -> None:
    leak = torch.tensor(1 / 3, dtype=torch.float64, requires_grad=True)
    x = torch.rand(6, 2, 4)
    dynamics = dataclasses.replace(LEAKY, leak=leak)
    assert torch.equal(run(dynamics, x).membrane, in_steps(dynamics, x).membrane)
    (grad,) = torch.autograd.grad(run(dynamics, x).output.sum(), leak)
    assert grad.dtype == torch.float64


def test_goes_on_from_a_state() -> None:
    x = torch.rand(8, 2, 4)
    cuba = dataclasses.replace(READOUT, current=CurrentRule.DECAY, synapse=0.75, shows_current=True)
    whole = run(cuba, x)
    first = run(cuba, x[:3])
    then = run(cuba, x[3:], first.membrane, first.current)
    assert torch.equal(torch.cat([first.output, then.output]), whole.output)
    assert torch.equal(then.membrane, whole.membrane)
    wide = run(READOUT, x, torch.ones(1))  # broadcasts
    assert torch.equal(wide.output, run(dataclasses.replace(READOUT, start=1.0), x).output)


def test_a_start_with_a_gradient() -> None:
    start = torch.tensor([0.5, 1.0, 2.0], requires_grad=True)
    did = run(dataclasses.replace(READOUT, start=start), torch.zeros(2, 2, 3))
    assert torch.autograd.grad(did.membrane.sum(), start)[0].tolist() == [0.5, 0.5, 0.5]  # two samples, two steps


def test_strided_inputs_and_gradients() -> None:
    x = torch.rand(2, 4, 6).transpose(0, 2).requires_grad_()
    plain = x.detach().clone().requires_grad_()
    for way, leaf in ((run, x), (in_steps, plain)):
        way(LEAKY, leaf).output.sum().backward()  # the sum's gradient is one number for all
    torch.testing.assert_close(x.grad, plain.grad)


def test_which_spikes_are_known_to_be_exact() -> None:
    x = torch.rand(4, 2, 3) * 2
    assert is_exact(run(LEAKY, x).output)
    assert is_exact(run(LEAKY, x).output.flatten(0, 1))
    scaled = dataclasses.replace(LEAKY, scale=torch.tensor(0.3))
    assert not is_exact(run(scaled, x).output)
    assert is_exact(run(dataclasses.replace(scaled, scale=torch.tensor(1.0), is_unscaled=True), x).output)
    assert not is_exact(run(READOUT, x).output)
    assert not is_exact(run(dataclasses.replace(LEAKY, shows_membrane=True), x).membranes)


def test_what_is_not_learned_is_not_kept() -> None:
    """For the backward pass: the charged membrane of a spiking neuron, and nothing of a readout."""
    x = torch.rand(4, 2, 3).requires_grad_()
    saved: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t)
    for dynamics, count in ((LEAKY, 1), (READOUT, 0)):
        saved.clear()
        with hooks:
            did = run(dynamics, x)
        assert [t.shape for t in saved if t.numel() > 1] == [x.shape] * count
        did.output.sum().backward()
    with torch.no_grad():
        assert run(LEAKY, x).output.grad_fn is None


def test_nobody_looks_at_values() -> None:
    """On a device that would wait for it; a tensor without values shows whether anybody does."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    toolkit: Any = plugins.toolkit("snntorch")
    neuron = toolkit.spiking_neuron(tau=2.0)
    neuron(torch.rand(2, 3))
    assert toolkit.dynamics(neuron) is not None  # looks once
    real = toolkit.dynamics(neuron)
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.rand(4, 2, 3).requires_grad_()
        did = run(dataclasses.replace(LEAKY, leak=torch.rand(3)), x)
        did.output.sum().backward()
        assert x.grad is not None
    assert real.leak.item() == 0.5
