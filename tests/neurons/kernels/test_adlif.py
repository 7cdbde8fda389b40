"""What the kernels of adaptive neurons are compiled to; that they compute them is tested in test_fused_adaptive.py."""

from typing import Any

import pytest

from delayplug._triton import is_installed
from delayplug.neurons.surrogates import SurrogateForm
from tests.ahead import A100, H100, Job, compile_ahead

LEARNED = ("leak", "threshold", "decay", "coupling", "jump")
POINTERS = {
    "forward": {"spikes", "in_half", "charged", "membranes", "adaptations", "membrane", "adaptation"},
    "backward": {
        *("charged", "adaptations", "g_spikes", "g_membranes", "g_adaptations", "g_membrane", "g_adaptation", "gx"),
        *("g_first_membrane", "g_first_adaptation", *(f"g_{name}" for name in LEARNED)),
    },
}


def job(kernel: str, pointers: set[str], capability: int, **rules: int) -> Job:
    """Constants one for each neuron but the threshold, a number, and a mask."""
    each = {"leak", "decay", "coupling", "jump", "scale"}
    names = (*LEARNED, "scale")
    signature = {"x": "*fp32", **dict.fromkeys(pointers, "*fp32"), **{f"{name}_p": "*fp32" for name in each}}
    signature |= {"in_half": "*bf16"} if "in_half" in pointers else {}
    signature |= dict.fromkeys(("T", "N", "SIZE", "REPEAT"), "i32") | {f"{name}_n": "fp32" for name in names}
    states = {"first_membrane": None, "first_adaptation": None, "threshold_p": None}
    kinds = {name.upper(): 2 if name in each else 0 for name in names} | {"SCALE": 3}
    constants: dict[str, Any] = {**states, **kinds, "AT": 1, "BLOCK": 128, **rules}
    options: dict[str, Any] = {"num_warps": 4}
    if kernel == "forward":
        options["enable_fp_fusion"] = False
    else:
        signature |= dict.fromkeys("abc", "fp32")
        constants |= {"DETACHED": 1, "FORM": int(SurrogateForm.ARCTAN)}
    constants |= dict.fromkeys(POINTERS[kernel] - pointers)
    return Job(f"delayplug.neurons.kernels.adlif:{kernel}", signature, constants, options, capability)


@pytest.mark.skipif(not is_installed(), reason="needs Triton")
@pytest.mark.parametrize("capability", [H100, A100])
def test_compiled(capability: int) -> None:
    """Nothing is spilled; forward no multiplication is fused with an addition: spikes must be equal."""
    trains = {"spikes", "in_half", "charged", "adaptations", "membrane", "adaptation"}
    learns = {"charged", "adaptations", "g_spikes", "gx", "g_leak", "g_decay", "g_coupling", "g_jump"}
    jobs = [
        *(job("forward", pointers, capability) for pointers in (trains, POINTERS["forward"])),
        *(job("backward", pointers, capability) for pointers in (learns, POINTERS["backward"])),
        job("backward", POINTERS["backward"], capability, DETACHED=0),
    ]
    compiled = compile_ahead(jobs)
    for kernel in compiled[:2]:
        assert kernel.spilled == 0
        assert kernel.registers <= 80
        assert "FFMA" not in kernel.instructions
        assert kernel.instructions["FMUL"] > 0
    for kernel in compiled[2:]:
        assert kernel.spilled == 0
        assert kernel.registers <= 128
