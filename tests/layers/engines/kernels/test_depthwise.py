"""`kernels.depthwise`: convolutions of columns; their numbers are tested in `test_columns`, too."""

import torch

from delayplug.layers.engines.columns import depthwise, depthwise_taps
from tests.ahead import A100, H100, Job, compile_ahead
from tests.layers.kernels import DEVICE, needs_triton, running

pytestmark = needs_triton

KERNELS = "delayplug.layers.engines.kernels.depthwise:"
SIZES = {
    "depthwise": ("steps_in", "steps_out", "columns", "channels", "size"),
    "depthwise_taps": (
        "steps_in", "steps_out", "batch", "channels", "size", "samples", "steps", "shares_of_steps",
    ),
}  # fmt: skip


def job(name: str, capability: int = H100, dtype: str = "*fp32", **constants: object) -> Job:
    pointers = ("x", "taps", "out") if name == "depthwise" else ("x", "grad", "out")
    signature = dict.fromkeys(pointers, "*fp32") | {"x": dtype} | dict.fromkeys(SIZES[name], "i32")
    return Job(KERNELS + name, signature, constants, {"num_warps": 4}, capability)


def test_whole_numbers_give_exact_sums() -> None:
    x, taps = (torch.randint(-8, 9, shape, device=DEVICE).float() for shape in ((6, 2, 3), (2, 3)))
    y, back, sums = torch.empty(7, 2, 3), torch.empty(6, 2, 3), torch.empty(2, 2, 3)
    y, back, sums = (a.to(DEVICE) for a in (y, back, sums))
    with running():
        depthwise(x, taps, y, False)
        depthwise(y, taps, back, True)
        depthwise_taps(x, y, sums, 1, 7)  # a share for each sample
    none = torch.zeros_like(x[:1])
    assert torch.equal(y, torch.cat((x, none)) * taps[0] + torch.cat((none, x)) * taps[1])
    assert torch.equal(back, y[:-1] * taps[0] + y[1:] * taps[1])
    assert torch.equal(sums, torch.stack(((y[:-1] * x).sum(0), (y[1:] * x).sum(0))).movedim(1, 0))


def test_they_compile_without_spilling_and_read_four_numbers_at_once() -> None:
    tile = {"BT": 32, "BN": 64}
    forward, backward, bits, half, flat, taps, of_half = compile_ahead(
        [
            job("depthwise", BACK=False, FLAT=False, **tile),
            job("depthwise", BACK=True, FLAT=False, **tile),
            job("depthwise", A100, "*u8", BACK=False, FLAT=False, **tile),
            job("depthwise", dtype="*bf16", BACK=False, FLAT=False, **tile),
            job("depthwise", A100, BACK=False, FLAT=True, **tile),
            job("depthwise_taps", BK=32, BC=64, UNROLL=4),
            job("depthwise_taps", dtype="*bf16", BK=32, BC=64, UNROLL=4),
        ]
    )
    for compiled in (forward, backward, bits, half, flat, taps, of_half):
        assert (compiled.spilled, compiled.shared) == (0, 0)  # so nothing goes from thread to thread
    for compiled in (forward, backward, bits, half):  # 16 numbers of a thread, and the taps
        assert compiled.instructions["LDG"] == 5
        assert compiled.instructions["FFMA"] == 16
