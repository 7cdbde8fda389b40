"""What the kernel of the gradients is compiled to; that it computes them is tested in test_membranes.py."""

import pytest

from delayplug._triton import is_installed
from delayplug.neurons.dynamics import CONSTANTS, ChargeRule, CurrentRule, ResetAfter, ResetBefore
from delayplug.neurons.surrogates import SurrogateForm
from tests.ahead import A100, H100, compile_ahead
from tests.neurons.kernels.jobs import job, rules

ARCTAN = {"DETACHED": 1, "FORM": int(SurrogateForm.ARCTAN)}
GRADIENTS = {"charged", "g_spikes", "gx"}


@pytest.mark.skipif(not is_installed(), reason="needs Triton")
@pytest.mark.parametrize("capability", [H100, A100])
def test_compiled(capability: int) -> None:
    """Nothing is spilled, also where every constant is learned."""
    learns_all = (
        rules(ChargeRule.LEAK_AND_GAIN, CurrentRule.JUMP, AFTER=int(ResetAfter.SUBTRACT)) | ARCTAN | {"DETACHED": 0}
    )
    pointers = GRADIENTS | {"drives", "g_membranes", *(f"g_{name}" for name in CONSTANTS)}
    jobs = [
        job(
            "backward",
            capability,
            GRADIENTS,
            rules(ChargeRule.DECAY, before=ResetBefore.ZERO) | ARCTAN,
            flags=(1, 0, 0, 0),
        ),
        job("backward", capability, GRADIENTS, rules(ChargeRule.LEAK_INPUT_FIRST) | ARCTAN, flags=(0, 0, 0, 0)),
        job("backward", capability, pointers, learns_all, each=True, flags=(1, 1, 0, 1)),
    ]
    for kernel in compile_ahead(jobs):
        assert kernel.spilled == 0
        assert kernel.registers <= 128
