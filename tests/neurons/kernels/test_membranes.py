"""Kernels of neurons, and of their gradients: as the recurrence in plain operations; what the first is compiled to."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from delayplug import Dynamics
from delayplug._triton import is_installed
from delayplug.neurons.dynamics import ChargeRule, CurrentRule, ResetAfter, ResetBefore
from delayplug.neurons.recurrence import in_steps
from tests.ahead import A100, H100, compile_ahead
from tests.neurons.cases import copy, dynamics, in_kernel, inputs, leaves, projected
from tests.neurons.kernels.jobs import job, rules
from tests.profiles import examples

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs Triton")


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    """Wherever other tests run: what kernels compute is compared there."""
    with torch.device("cpu"):
        yield


@settings(max_examples=examples(60))
@given(dynamics(3), st.integers(1, 10), st.booleans(), st.integers(0, 10**6))
def test_equal_to_the_recurrence(neurons: Dynamics, steps: int, given_state: bool, seed: int) -> None:
    """All that comes out bit for bit; gradients for the input, the first state and the constants."""
    results = []
    for run in (in_steps, in_kernel):
        own, (x, *states) = copy(neurons), inputs(neurons, steps, given_state, seed)
        did: Any = run(own, x, *states)
        wanted = [x, *(state for state in states if state is not None), *leaves(own)]
        grads = torch.autograd.grad(projected(did), wanted, allow_unused=True)
        results.append((did, [torch.zeros(()) if grad is None else grad for grad in grads]))
    (expected, gradients), (got, got_gradients) = results
    for name, a, b in zip(expected._fields, expected, got, strict=True):
        assert (a is None) == (b is None), name
        assert a is None or torch.equal(a, b), name
    for a, b in zip(gradients, got_gradients, strict=True):
        assert (a - b).abs().max() <= 1e-5 * a.abs().max().clamp_min(1)


@pytest.mark.parametrize("capability", [H100, A100])
def test_compiled(capability: int) -> None:
    """Nothing is spilled, and no multiplication is fused with an addition: spikes must be equal."""
    saved = {"spikes", "charged", "membrane"}
    every = saved | {"current", "currents", "drives", "membranes"}
    jobs = [
        job("forward", capability, saved, rules(ChargeRule.DECAY, before=ResetBefore.ZERO)),
        job("forward", capability, saved, rules(ChargeRule.LEAK_INPUT_FIRST)),
        job("forward", capability, saved | {"in_half"}, rules(ChargeRule.LEAK_INPUT_FIRST), each=True),
        job(
            "forward",
            capability,
            every,
            rules(ChargeRule.LEAK_AND_GAIN, CurrentRule.JUMP, AFTER=int(ResetAfter.SUBTRACT)),
            each=True,
        ),
    ]
    for kernel in compile_ahead(jobs):
        assert kernel.spilled == 0
        assert kernel.registers <= 80
        assert "FFMA" not in kernel.instructions
        assert kernel.instructions["FMUL"] > 0
