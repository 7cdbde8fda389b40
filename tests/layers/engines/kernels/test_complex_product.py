"""`kernels.complex_product`: a product of complex matrices for each frequency."""

import pytest
import torch
from torch import Tensor

from delayplug.layers.engines.spectral import complex_product
from tests.ahead import A100, H100, Job, compile_ahead
from tests.layers.kernels import DEVICE, needs_triton, running

pytestmark = needs_triton


def planes(z: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Planes of z (F, M, N), filled up with zeros, and the numbers that they hold."""
    real = torch.stack((z.real, z.imag))
    first = real.bfloat16().float()
    whole = torch.cat((first, (real - first).bfloat16().float())) if parts == 2 else first
    whole = torch.nn.functional.pad(whole, (0, -z.shape[2] % 16, 0, -z.shape[1] % 16))
    held = whole.double().unflatten(0, (parts, 2)).sum(0)[:, :, : z.shape[1], : z.shape[2]]
    factor = whole.to(DEVICE) if DEVICE.type == "cpu" else whole.to(DEVICE, torch.bfloat16)
    return factor, torch.complex(held[0], held[1])


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(
    ("rows", "depth", "columns", "turned"), [(3, 5, 4, "b"), (3, 70, 4, ""), (130, 5, 66, "a")], ids=str
)
def test_it_is_the_product_of_what_the_parts_hold(rows, depth, columns, turned, parts, add):
    a, b = torch.randn(2, rows, depth, dtype=torch.complex64), torch.randn(2, depth, columns, dtype=torch.complex64)
    (a, exact_a), (b, exact_b) = (
        planes(a.mT if turned == "a" else a, parts),
        planes(b.mT if turned == "b" else b, parts),
    )
    a, exact_a = (a.mT, exact_a.mT) if turned == "a" else (a, exact_a)
    b, exact_b = (b.mT, exact_b.mT) if turned == "b" else (b, exact_b)
    out = torch.full((2, 2, rows, b.shape[3]), 2.0, device=DEVICE)
    with running():
        complex_product(a, b, out, add)
    found = torch.complex(*out.double().cpu())[:, :, :columns] - (2 + 2j if add else 0)
    expected = exact_a @ exact_b
    assert (found - expected).norm() <= 1e-5 * expected.norm()  # without the products of both second parts
    assert torch.equal(out[:, :, :, columns:], torch.full_like(out[:, :, :, columns:], 2.0 if add else 0.0))


NAMES = "rows rows_out columns depth a_plane a_f b_plane b_f out_plane out_f out_m"
STRIDES = {"output": ("a_d", "b_d"), "input": ("a_d", "b_n"), "taps": ("a_m", "b_n")}


def job(kind: str, capability: int, parts: int, add: bool) -> Job:
    """As for the output, the input's gradient, or that of the taps: which strides are 1."""
    strides = dict.fromkeys(STRIDES[kind], 1)
    others = [name for name in ("a_m", "a_d", "b_d", "b_n") if name not in strides]
    signature = {"a": "*bf16", "b": "*bf16", "out": "*fp32"} | dict.fromkeys([*NAMES.split(), *others], "i32")
    block, depth = (128, 64) if capability == H100 else (64, 32)
    constants = strides | {"PARTS": parts, "ADD": add, "BM": block, "BN": 64, "BK": depth}
    name = "delayplug.layers.engines.kernels.complex_product:complex_product"
    return Job(name, signature, constants, {"num_warps": 8, "num_stages": 2}, capability)


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "instruction", "most"), [(H100, "HGMMA", 227 << 10), (A100, "HMMA", 99 << 10)])
def test_it_runs_on_tensor_cores_without_spilling(capability, instruction, most):
    jobs = [job(kind, capability, 2, kind == "output") for kind in STRIDES] + [job("output", capability, 1, False)]
    for compiled in compile_ahead(jobs):
        assert compiled.spilled <= (0 if capability == H100 else 128)  # Triton 3.6 spills some for an A100
        assert compiled.shared <= most
        assert compiled.instructions[instruction] > 0
        assert compiled.instructions.get("LDGSTS", 0) > 0  # from memory past the registers
        assert compiled.instructions.get("FFMA", 0) == 0
