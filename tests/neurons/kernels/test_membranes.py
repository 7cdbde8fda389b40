"""The kernels of neurons: equal to the recurrence in plain operations, and what they are compiled to."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from delayplug import Dynamics, run_fused
from delayplug._triton import interpreted, is_installed
from delayplug.neurons.dynamics import CONSTANTS, After, Before, Charge, Current
from delayplug.neurons.recurrence import in_steps
from delayplug.neurons.surrogates import Form
from tests.ahead import A100, H100, Job, compile_ahead
from tests.neurons.cases import copy, dynamics, inputs, leaves, projected
from tests.profiles import examples

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs Triton")
interprets = pytest.mark.skipif(torch.cuda.is_available(), reason="needs Triton's interpreter")


@interprets
@settings(max_examples=examples(60), deadline=None)
@given(dynamics(3), st.integers(1, 10), st.booleans(), st.integers(0, 10**6))
def test_equal_to_the_recurrence(neurons: Dynamics, steps: int, given_state: bool, seed: int) -> None:
    """All that comes out bit for bit; gradients for the input, the first state and the constants."""
    results = []
    for run in (in_steps, run_fused):
        own, (x, *states) = copy(neurons), inputs(neurons, steps, given_state, seed)
        with interpreted():
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


# ---------------------------------------------------------------------------------------------- ahead of time

KERNELS = "delayplug.neurons.kernels.membranes"
NAMES = (*CONSTANTS, "start")


def job(
    kernel: str, capability: int, pointers: set[str], rules: dict[str, int], *, each: bool = False, flags: tuple[int, ...] = ()
) -> Job:
    """A kernel with these pointers, and constants that are numbers, or one for each neuron."""
    signature = {"x": "*fp32", **{name: "*fp32" for name in pointers}, "divisor": "fp32"}
    signature |= dict.fromkeys(("T", "N", "SIZE", "REPEAT"), "i32") | {f"{name}_n": "fp32" for name in NAMES}
    signature |= {f"{name}_p": "*fp32" for name in NAMES if each}
    constants: dict[str, Any] = {name.upper(): 2 if each else 0 for name in NAMES} | {"BLOCK": 128, **rules}
    options: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}
    others = ["spikes", "charged", "membranes", "drives", "currents", "membrane", "current", "first_current"]
    if kernel == "backward":
        signature |= dict.fromkeys("abc", "fp32")
        constants |= dict(zip(("NEEDS_LAST", "NEEDS_DRIVE", "SAVED", "LEARNS_SYNAPSE"), flags, strict=True))
        del options["enable_fp_fusion"]
        over_time = ["spikes", "membranes", "currents", "membrane", "current", "start", "first_current"]
        others = ["charged", "membranes", "drives", "first_current", "gx", *(f"g_{name}" for name in over_time)]
        others += [f"g_{name}" for name in CONSTANTS]
    constants |= dict.fromkeys([*others, *(f"{name}_p" for name in NAMES)])
    constants = {name: value for name, value in constants.items() if name not in signature}
    return Job(f"{KERNELS}:{kernel}", signature, constants, options, capability)


def rules(charge: Charge, current: Current = Current.NONE, before: Before = Before.NONE, **more: int) -> dict[str, int]:
    return {
        "CHARGE": int(charge),
        "CURRENT": int(current),
        "BEFORE": int(before),
        "AFTER": int(After.VALUE if before is Before.NONE else After.NONE),
        "FIRES": 1,
        "AT": 0,
        "DIVIDES": 0,
        **more,
    }


@pytest.mark.parametrize("capability", [H100, A100])
def test_compiled(capability: int) -> None:
    """Nothing is spilled, and no multiplication is fused with an addition where spikes must be equal."""
    saved = {"spikes", "charged", "membrane"}
    leaky = rules(Charge.DECAY, before=Before.ZERO)
    box = rules(Charge.LEAK_INPUT_FIRST)
    full = rules(Charge.LEAK_AND_GAIN, Current.JUMP, AFTER=int(After.SUBTRACT))
    backward = {"DETACHED": 1, "FORM": int(Form.ARCTAN)}
    gradients = {f"g_{name}" for name in CONSTANTS}
    jobs = [
        job("forward", capability, saved, leaky),
        job("forward", capability, saved, box),
        job("forward", capability, saved | {"current", "currents", "drives", "membranes"}, full, each=True),
        job("backward", capability, {"charged", "g_spikes", "gx"}, leaky | backward, flags=(1, 0, 0, 0)),
        job("backward", capability, {"charged", "g_spikes", "gx"}, box | backward, flags=(0, 0, 0, 0)),
        job(
            "backward",
            capability,
            {"charged", "drives", "g_spikes", "g_membranes", "gx", *gradients},
            full | backward | {"DETACHED": 0},
            each=True,
            flags=(1, 1, 0, 1),
        ),
    ]
    compiled = compile_ahead(jobs)
    assert [kernel.spilled for kernel in compiled] == [0] * len(jobs)
    assert max(kernel.registers for kernel in compiled) <= 128
    for kernel in compiled[:3]:
        assert "FFMA" not in kernel.instructions
        assert kernel.instructions["FMUL"] > 0
