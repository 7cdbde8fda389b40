"""Kernels of recurrent connections: what they are compiled to. What they compute is compared in test_step_launches."""

import pytest

from delayplug._triton import is_installed
from tests.ahead import A100, H100, Job, compile_ahead

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs Triton")

SIZES = {"N": "i32", "H": "i32", "K": "i32"}


def job(name: str, capability: int, taps: bool, **more: str | int) -> Job:
    pointers = {
        "delayed": ("window", "taps", "out"),
        "back": ("grad", "window", "taps", "slopes", "states", "for_spikes", "for_drives", "before"),
    }[name]
    signature = {name: "*fp32" for name in pointers if taps or name != "taps"} | SIZES
    signature |= {name: kind for name, kind in more.items() if isinstance(kind, str)}
    constants = {name: value for name, value in more.items() if isinstance(value, int)} | {"BLOCK": 128}
    constants |= {} if taps else {"taps": None}
    kernel = f"delayplug.neurons.kernels.steps:{name}"
    return Job(kernel, signature, constants, {"num_warps": 4}, capability)


@pytest.mark.parametrize("capability", [H100, A100])
def test_compiled(capability: int) -> None:
    """Nothing is spilled, and loads of eight taps are under way at the same time."""
    jobs = [job("delayed", capability, taps) for taps in (True, False)]
    jobs += [job("back", capability, True, STRIDE="i64", STATES=states) for states in (1, 2)]
    kernels = compile_ahead(jobs)
    for kernel in kernels:
        assert kernel.spilled == 0
        assert kernel.registers <= 64
    assert kernels[0].instructions["LDG"] >= 16
