"""`kernels.cut`: float32 numbers in parts of bf16."""

import pytest
import torch
from torch import Tensor

from delayplug.layers.engines.products import cut, in_parts
from tests.ahead import Job, compile_ahead
from tests.layers.kernels import DEVICE, needs_triton, running

pytestmark = needs_triton


def parts_of(x: Tensor, count: int) -> list[Tensor]:
    """The parts as float64, without their padding, which is zero."""
    with running():
        found = [part for part in in_parts(x.to(DEVICE), count) if part is not None]
    assert all(part.shape[-1] % 16 == 0 and not part[..., x.shape[-1] :].any() for part in found)
    return [part[..., : x.shape[-1]].double().to(x.device) for part in found]


def test_the_first_part_is_the_number_rounded_to_bf16() -> None:
    x = torch.randn(7, 37) * torch.logspace(-20, 20, 37)
    x[0, :5] = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 0.0, -0.0, 1e-40])  # halves go to even
    (part,) = parts_of(x, 1)
    assert torch.equal(part, x.bfloat16().double())


def test_two_parts_have_16_bits() -> None:
    x = torch.randn(9, 20)
    first, second = parts_of(x, 2)
    assert torch.equal(first, x.bfloat16().double())
    assert ((first + second - x.double()).abs() <= 2.0**-17 * x.abs()).all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    x = (torch.rand(5, 3, 18) * 200).to(dtype)
    first, second = parts_of(x, 2)
    assert torch.equal(first + second, x.double())


def test_infinity_and_nan_stay() -> None:
    first, second = parts_of(torch.tensor([[torch.inf, -torch.inf, torch.nan, 3.4e38]]), 2)
    assert torch.equal((first + second)[0, :2], torch.tensor([torch.inf, -torch.inf]).double())
    assert first[0, 2].isnan()
    assert first[0, 3] == torch.inf  # nearer to what bf16 has no number for


def test_what_is_exact_already_is_not_copied() -> None:
    with running():
        x = in_parts(torch.ones(4, 32, device=DEVICE), 1)[0]  # in the dtype of parts
        assert in_parts(x, 2, exact=True) == (x, None)
        first, second = in_parts(x[:, :20], 2, exact=True)
    assert first.shape == (4, 32)
    assert second is None


@pytest.mark.parametrize(("values", "expected"), [([0.0, 1.0, 256.0], 0), ([0.1, 1.0], 1), ([torch.nan], 1)])
def test_whether_anything_is_left_for_a_second_part(values: list[float], expected: int) -> None:
    x = torch.zeros(700, 20, device=DEVICE)  # several programs
    x[699, : len(values)] = torch.tensor(values, device=DEVICE)
    rest = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    with running():
        in_parts(x, 2, rest=rest)
    assert int(rest) == expected


def test_rows_that_do_not_lie_side_by_side() -> None:
    x = torch.randn(6, 40)
    assert torch.equal(parts_of(x[:, ::2].t(), 1)[0], x[:, ::2].t().bfloat16().double())


def test_an_operator_for_any_program_that_traces() -> None:
    x = torch.randn(3, 16)
    first = torch.empty(3, 16, device="meta")
    torch.library.opcheck(
        cut, (x.to("meta"), first, None, None), test_utils=("test_schema", "test_faketensor"), raise_exception=True
    )


def test_it_compiles_without_spilling() -> None:
    name = "delayplug.layers.engines.kernels.cut:cut"
    constants = {"COLUMNS": 256, "STRIDE": 256, "BLOCK": 1024}
    signature = {"x": "*fp32", "first": "*bf16", "second": "*bf16", "rest": "*i32", "count": "i32"}
    for compiled in compile_ahead([Job(name, signature, constants, {"num_warps": 4})]):
        assert compiled.spilled == 0
        assert compiled.instructions["LDG"] <= 2  # 16 bytes each: 8 numbers of each thread
