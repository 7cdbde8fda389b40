"""Kernels of recurrent connections: what they are compiled to. What they compute is compared in test_step_launches."""

import pytest

from delayplug._triton import is_installed
from tests.ahead import A100, H100, Job, compile_ahead

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs Triton")

FLOATS = {
    "send": ("spikes", "window", "taps", "out"),
    "arrive": ("x", "sent", "out"),
    "back": ("grad", "drives", "window", "taps", "slopes", "states", "for_spikes", "for_drives", "before"),
}
NUMBERS = {
    "send": {"N": "i32", "H": "i32", "K": "i32"},
    "arrive": {"B": "i32"},
    "back": {"B": "i32", "K": "i32", "STRIDE": "i32"},
}
TILE = {"H": 256, "DEPTH": 256, "BM": 16, "BN": 32, "BK": 64}


def job(name: str, capability: int, parts: int = 2, **more: int | None) -> Job:
    signature = {pointer: "*fp32" for pointer in FLOATS[name] if pointer not in more} | NUMBERS[name]
    constants = {"BLOCK": 128} if name == "send" else {**TILE, **more}
    if name != "send":
        signature |= {f"w{part}": "*bf16" for part in range(1, parts + 1)}
        constants |= {} if parts == 2 else {"w2": None}
    return Job(f"delayplug.neurons.kernels.steps:{name}", signature, constants, {"num_warps": 4}, capability)


@pytest.mark.parametrize("capability", [H100, A100])
def test_compiled(capability: int) -> None:
    """Nothing is spilled, products run on tensor cores, and loads of eight taps are under way at the same time."""
    tap_by_tap = job("send", capability)
    products = [job("arrive", capability, parts, EXACT=exact) for parts in (1, 2) for exact in (True, False)]
    products += [job("back", capability, parts, STATES=states) for parts in (1, 2) for states in (1, 2)]
    products.append(job("back", capability, STATES=1, taps=None))
    kernels = compile_ahead([tap_by_tap, *products])
    for kernel in kernels:
        assert kernel.spilled == 0
        assert kernel.registers <= 128
    assert kernels[0].instructions["LDG"] >= 16
    assert all(kernel.instructions["HMMA"] > 0 for kernel in kernels[1:])
