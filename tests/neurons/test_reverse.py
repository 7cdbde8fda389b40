"""Gradients in plain operations: those of the recurrence, and their own gradients."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from delayplug import ChargeRule, Dynamics, ResetAfter, Surrogate, SurrogateForm
from delayplug._triton import is_installed
from delayplug.neurons.recurrence import in_steps
from tests.neurons.cases import copy, dynamics, in_kernel, inputs, leaves, projected
from tests.profiles import examples

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs Triton")


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    """Wherever other tests run: what kernels compute is compared there."""
    with torch.device("cpu"):
        yield


@settings(max_examples=examples(15))
@given(dynamics(3), st.integers(1, 6), st.booleans(), st.integers(0, 10**6))
def test_first_and_second_derivatives(neurons: Dynamics, steps: int, given_state: bool, seed: int) -> None:
    results = []
    for run in (in_steps, in_kernel):
        own, (x, *states) = copy(neurons), inputs(neurons, steps, given_state, seed)
        did: Any = run(own, x, *states)
        wanted = [x, *(state for state in states if state is not None), *leaves(own)]
        first = torch.autograd.grad(projected(did), wanted, allow_unused=True, create_graph=True)
        second = gradients_of(first, wanted)
        results.append([zeros(grad) for grad in (*first, *second)])
    for expected, got in zip(*results, strict=True):
        assert (got - expected).abs().max() <= 1e-4 * expected.abs().max().clamp_min(1)


def gradients_of(first: tuple[Tensor | None, ...], wanted: list[Tensor]) -> tuple[Tensor | None, ...]:
    terms = [(grad**2).sum() for grad in first if grad is not None and grad.requires_grad]
    return torch.autograd.grad(torch.stack(terms).sum(), wanted, allow_unused=True) if terms else (None,) * len(wanted)


def zeros(grad: Tensor | None) -> Tensor:
    return torch.zeros(()) if grad is None else grad.detach()


def test_batched_gradients() -> None:
    leaky = Dynamics(
        ChargeRule.DECAY, leak=0.5, threshold=1.0, after=ResetAfter.VALUE, surrogate=Surrogate(SurrogateForm.ARCTAN)
    )
    x = torch.rand(4, 2, 3).requires_grad_()
    weights = torch.randn(5, 4, 2, 3)
    fused = in_kernel(leaky, x)
    assert fused is not None
    (got,) = torch.autograd.grad(fused.output, x, weights, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(fused.output, x, weight, retain_graph=True)[0] for weight in weights]
    torch.testing.assert_close(got, torch.stack(each))
