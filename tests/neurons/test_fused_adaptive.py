"""Adaptive neurons in kernels: equal to the recurrence in plain operations, gradients to finite differences."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from delayplug import (
    Adaptation,
    ChargeRule,
    CurrentRule,
    Dynamics,
    NeuronActivity,
    ResetAfter,
    ResetBefore,
    Surrogate,
    SurrogateForm,
    run_fused,
)
from delayplug._triton import is_installed
from delayplug.layers.exact import half_of, is_exact
from delayplug.neurons.recurrence import in_steps
from tests.neurons.cases import DEVICE, kernels, projected
from tests.profiles import examples

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs Triton")
NAMES = ("leak", "threshold", "decay", "coupling", "jump")


@pytest.fixture(autouse=True)
def on_a_device() -> Iterator[None]:
    with kernels(), DEVICE:
        yield


def neurons(constants: dict[str, float | Tensor], **options: Any) -> Dynamics:
    leak, threshold, *adaptation = (constants[name] for name in NAMES)
    others: dict[str, Any] = {"surrogate": Surrogate(SurrogateForm.ARCTAN, 5.0), "is_detached": True, **options}
    return Dynamics(
        ChargeRule.LEAK_INPUT_FIRST,
        leak=leak,
        threshold=threshold,
        after=ResetAfter.VALUE,
        adaptation=Adaptation(*adaptation),
        **others,
    )


PLAIN = neurons({"leak": 0.5, "threshold": 0.5, "decay": 0.9, "coupling": 0.1, "jump": 0.3})


@st.composite
def constants_of(draw: st.DrawFn) -> dict[str, float | Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    bounds = {"leak": (0.2, 0.9), "threshold": (0.25, 1.0), "decay": (0.5, 1.0), "coupling": (-0.2, 1.0)}
    made: dict[str, float | Tensor] = {}
    for name in NAMES:
        low, high = bounds.get(name, (0.0, 2.0))
        kind = draw(st.sampled_from(["number", "one", "each"]))
        values = torch.rand(3 if kind == "each" else (), generator=generator, device="cpu") * (high - low) + low
        values = (values * 16).round() / 16 if draw(st.booleans()) else values  # comes to the threshold exactly
        made[name] = float(values) if kind == "number" else values.to(DEVICE)
    return made


def results(
    run: Callable[..., NeuronActivity | None], constants: dict[str, Any], options: dict[str, Any], steps: int, seed: int
) -> tuple[NeuronActivity, list[Tensor], list[Tensor]]:
    """What neurons did, and the gradients of a random function of it and of these gradients' squares."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(steps, 2, 3, generator=generator, device="cpu") * 4 - 1
    x[:, 0] = (x[:, 0] * 16).round() / 16
    states: list[Tensor] = [torch.rand(2, 3, generator=generator, device="cpu") - 0.25 for _ in range(2)]
    leaves = [t.to(DEVICE).requires_grad_() for t in (x, *states)]
    own = {n: v.clone().requires_grad_() if isinstance(v, Tensor) else v for n, v in constants.items()}
    wanted = [*leaves, *(v for v in own.values() if isinstance(v, Tensor))]
    membrane, adaptation = leaves[1:] if options.pop("goes_on", True) else (None, None)
    did = run(neurons(own, **options), leaves[0], membrane, None, adaptation)
    assert did is not None
    first = torch.autograd.grad(of_all(did), wanted, allow_unused=True, retain_graph=True)
    graphed = torch.autograd.grad(of_all(did), wanted, allow_unused=True, create_graph=True)
    for a, b in zip(first, graphed, strict=True):
        assert (a is None) == (b is None)
        assert a is None or b is None or (a - b).abs().max() <= 1e-5 * a.abs().max().clamp_min(1)
    squares = torch.stack([(g**2).sum() for g in graphed if g is not None]).sum()
    second = torch.autograd.grad(squares, wanted, allow_unused=True)
    return did, *([torch.zeros(()) if g is None else g.detach() for g in grads] for grads in (first, second))


def of_all(did: NeuronActivity) -> Tensor:
    return projected(did) if DEVICE.type == "cpu" else torch.stack([v.sum() for v in did[1:] if v is not None]).sum()


@settings(max_examples=examples(40))
@given(
    constants_of(),
    st.fixed_dictionaries(
        {
            "is_detached": st.booleans(),
            "fires_at": st.booleans(),
            "shows_membrane": st.booleans(),
            "shows_adaptation": st.booleans(),
            "goes_on": st.booleans(),
        }
    ),
    st.integers(1, 10),
    st.integers(0, 10**6),
)
def test_equal_to_the_recurrence(constants: dict[str, Any], options: dict[str, Any], steps: int, seed: int) -> None:
    """All that comes out bit for bit; first and second derivatives for the input, the first state and constants."""
    expected, *grads = results(in_steps, constants, dict(options), steps, seed)
    got, *got_grads = results(run_fused, constants, dict(options), steps, seed)
    for name, a, b in zip(expected._fields, expected, got, strict=True):
        assert (a is None) == (b is None), name
        assert a is None or torch.equal(a, b), name
    for tolerance, ours, theirs in zip((1e-5, 1e-4), got_grads, grads, strict=True):
        for a, b in zip(theirs, ours, strict=True):
            assert (a - b).abs().max() <= tolerance * a.abs().max().clamp_min(1)


def test_the_equations_of_the_paper() -> None:
    """Written down once more, in float64, with alpha, beta, a and b."""
    generator = torch.Generator().manual_seed(0)
    alpha, beta, a, b, theta = 0.7, 0.9, 2.0, 5.0, 0.4
    x = torch.rand(20, 2, 3, generator=generator, device="cpu").double() * 3
    u = w = torch.zeros(2, 3, dtype=torch.float64, device="cpu")
    spikes, membranes, adaptations = [], [], []
    for current in x:
        u = alpha * u + (1 - alpha) * (current - w)
        s = (u > theta).double()
        u = u * (1 - s)
        w = beta * w + (1 - beta) * (a * u + b * s)
        spikes.append(s)
        membranes.append(u)
        adaptations.append(w)
    constants = {
        "leak": 1 - alpha,
        "threshold": theta,
        "decay": beta,
        "coupling": (1 - beta) * a,
        "jump": (1 - beta) * b,
    }
    did = in_steps(neurons(constants, shows_membrane=True, shows_adaptation=True), x)
    for got, expected in zip(
        (did.spikes, did.membranes, did.adaptations), (spikes, membranes, adaptations), strict=True
    ):
        assert got is not None
        torch.testing.assert_close(got, torch.stack(expected))
    assert 0 < torch.stack(spikes).mean() < 1


def test_finite_differences_where_nothing_fires() -> None:
    """Below the threshold all is smooth: gradients are those of finite differences in float64, to float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 2, 3, generator=generator, device="cpu")
    start = {"leak": 0.3, "threshold": 50.0, "decay": 0.8, "coupling": 0.4, "jump": 0.5}
    weight = torch.randn(12, 2, 3, generator=generator, device="cpu")
    surrogate = Surrogate(SurrogateForm.CONSTANT, 0.0)

    def loss(values: dict[str, Tensor], run: Callable[..., Any], x: Tensor) -> Tensor:
        did = run(neurons(dict(values), surrogate=surrogate, shows_membrane=True, shows_adaptation=True), x)
        assert not did.spikes.any()
        here = weight.to(x)
        return ((did.membranes + did.adaptations) * here).sum()

    tensors = {name: torch.full((3,), value, requires_grad=True) for name, value in start.items()}
    leaf = x.to(DEVICE).requires_grad_()
    loss(tensors, run_fused, leaf).backward()
    doubles = {name: torch.full((3,), value, dtype=torch.float64, device="cpu") for name, value in start.items()}
    step = 1e-6
    for name in ("leak", "decay", "coupling"):
        for place in range(3):
            ends = []
            for sign in (1, -1):
                moved = doubles[name].clone()
                moved[place] += sign * step
                ends.append(loss({**doubles, name: moved}, in_steps, x.double()))
            grad = tensors[name].grad
            assert grad is not None
            torch.testing.assert_close(
                grad[place].cpu().double(), (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-5
            )
    assert leaf.grad is not None
    moved_x = x.double()
    moved_x[3, 1, 2] += step
    change = (loss(doubles, in_steps, moved_x) - loss(doubles, in_steps, x.double())) / step
    torch.testing.assert_close(leaf.grad[3, 1, 2].cpu().double(), change, rtol=1e-4, atol=1e-5)


def test_a_mask_and_half_precision() -> None:
    """The membranes are those without a mask; gradients are those of a product."""
    leak = torch.rand(16) * 0.5 + 0.25
    x, mask = (torch.rand(6, 2, 16) * 4).requires_grad_(), (torch.rand(2, 16) < 0.6).float()
    dynamics = dataclasses.replace(PLAIN, leak=leak.requires_grad_(), shows_membrane=True)
    did, same = run_fused(dynamics, x, mask=mask, in_half=True), run_fused(dynamics, x)
    assert did is not None
    assert same is not None
    assert same.output.any()
    assert torch.equal(did.output, same.output * mask)
    assert torch.equal(did.membrane, same.membrane)
    assert is_exact(did.output)
    half = half_of(did.output)
    assert half is not None
    assert torch.equal(half.float(), did.output)
    weight = torch.randn(6, 2, 16)
    found = torch.autograd.grad((did.output * weight).sum(), [x, leak])
    expected = torch.autograd.grad((same.output * mask * weight).sum(), [x, leak])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_batched_gradients() -> None:
    x, weights = torch.rand(4, 2, 3).requires_grad_(), torch.randn(5, 4, 2, 3)
    did = run_fused(PLAIN, x)
    assert did is not None
    (got,) = torch.autograd.grad(did.output, x, weights, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(did.output, x, weight, retain_graph=True)[0] for weight in weights]
    torch.testing.assert_close(got, torch.stack(each))


def test_a_state_computed_from_the_input() -> None:
    """The gradient through the state is counted once, also by the pass that can be differentiated."""
    x = torch.rand(5, 2, 3).requires_grad_()
    grads = []
    for create_graph in (False, True):
        did = run_fused(PLAIN, x, 0.5 * x[0], None, 0.25 * x[1])
        assert did is not None
        grads.append(torch.autograd.grad(did.membrane.sum(), x, create_graph=create_graph)[0])
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize(
    "options",
    [
        {"charge": ChargeRule.DECAY},
        {"current": CurrentRule.DECAY},
        {"before": ResetBefore.ZERO},
        {"after": ResetAfter.SUBTRACT},
        {"rest": 0.5},
        {"start": 0.5},
        {"divisor": 2.0},
        {"gives_membrane": True},
        {"scale": torch.tensor(0.5, requires_grad=True)},
        {"leak": torch.rand(5)},
    ],
)
def test_what_no_kernel_does(options: dict[str, Any]) -> None:
    """The caller runs the neurons' own loop."""
    assert run_fused(dataclasses.replace(PLAIN, **options), torch.rand(3, 2, 3)) is None


def test_what_is_not_learned_is_not_kept() -> None:
    x = torch.rand(4, 2, 3)
    with torch.no_grad():
        did = run_fused(PLAIN, x)
    assert did is not None
    assert did.output.grad_fn is None
    assert did.adaptations is None
    shown = run_fused(dataclasses.replace(PLAIN, shows_adaptation=True), x)
    assert shown is not None
    assert shown.adaptations is not None
    assert torch.equal(shown.adaptations[-1], did.adaptation)
