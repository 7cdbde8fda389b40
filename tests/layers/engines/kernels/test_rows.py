"""`kernels.rows`: products of shifted rows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from delayplug.layers.engines.products import (
    in_parts,
    row_tiles,
    shares,
    shifted_product,
    tap_tiles,
    taps_product,
)
from tests.ahead import A100, H100, Compiled, Job, compile_ahead
from tests.layers import oracle
from tests.layers.kernels import DEVICE, needs_triton, running

pytestmark = needs_triton

SHARED = {H100: 227 << 10, A100: 163 << 10, 89: 99 << 10}  # bytes of a program


def whole(*shape: int) -> Tensor:
    """Small whole numbers, of which all sums are exact."""
    return torch.randint(-8, 9, shape, device=DEVICE).float()


# Not more rows than a block has, more, several blocks; batches that divide blocks and do not.
@pytest.mark.parametrize(
    ("T", "B", "K", "steps"), [(9, 3, 4, 9), (9, 3, 4, 12), (50, 3, 7, 40), (20, 16, 3, 22), (3, 50, 5, 7)]
)
def test_whole_numbers_give_the_loops_sums(T: int, B: int, K: int, steps: int) -> None:
    x, w, g = whole(T, B, 20), whole(K, 18, 20), whole(steps, B, 18)
    y, gx, sums = torch.empty(steps, B, 18), torch.empty(T, B, 20), torch.empty(3, K, 18, 20)
    y, gx, sums = (a.to(DEVICE) for a in (y, gx, sums))
    with running():
        a, taps, grad = in_parts(x, 1), in_parts(w, 1), in_parts(g, 1)
        shifted_product(*a, *taps, None, False, 20, 18, B, False, y)
        shifted_product(*grad, *taps, None, False, 20, 18, B, True, gx)
        taps_product(*a, *grad, None, False, 20, 18, B, sums)
    x, w = x.requires_grad_(), w.requires_grad_()
    expected = oracle.convolve(x, w, steps)
    assert torch.equal(y, expected)
    for found, by in zip((gx, sums.sum(0)), torch.autograd.grad(expected, (x, w), g), strict=True):
        assert torch.equal(found, by)


def test_all_products_of_parts_but_the_smallest_are_added() -> None:
    x, w = torch.randn(5, 3, 20, device=DEVICE), torch.randn(2, 18, 20, device=DEVICE)
    y = torch.empty(5, 3, 18, device=DEVICE)
    with running():
        (a1, a2), (w1, w2) = in_parts(x, 2), in_parts(w, 2)
        shifted_product(a1, a2, w1, w2, None, False, 20, 18, 3, False, y)
    assert a2 is not None
    assert w2 is not None
    first, second, tap, small = (part[..., :20].double() for part in (a1, a2, w1, w2))
    expected = sum(oracle.convolve(a, b, 5) for a, b in ((first, tap), (second, tap), (first, small)))
    assert (y - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("rest", [0, 1])
@pytest.mark.parametrize("wanted", [False, True])
def test_nothing_is_done_unless_there_is_a_rest_as_wanted(rest: int, wanted: bool) -> None:
    x, w, g = whole(5, 3, 20), whole(2, 18, 20), whole(5, 3, 18)
    y, sums = torch.full((5, 3, 18), 0.5, device=DEVICE), torch.full((1, 2, 18, 20), 0.5, device=DEVICE)
    flag = torch.tensor([rest], dtype=torch.int32, device=DEVICE)
    with running():
        a, taps, grad = in_parts(x, 1), in_parts(w, 1), in_parts(g, 1)
        shifted_product(*a, *taps, flag, wanted, 20, 18, 3, False, y)
        taps_product(*a, *grad, flag, wanted, 20, 18, 3, sums)
    for out in (y, sums):
        assert bool((out == 0.5).all()) == (bool(rest) != wanted)


def rows_job(
    inputs: int, outputs: int, back: bool, factors: tuple[int, int], capability: int, rows: int = 25600
) -> Job:
    columns, depth = (inputs, outputs) if back else (outputs, inputs)
    tiles = row_tiles(rows, columns, -(-depth // 16) * 16, factors, SHARED[capability])
    sizes = dict.fromkeys(("rows", "rows_a", "batch", "taps"), "i32")
    shape = {"INPUTS": inputs, "OUTPUTS": outputs, "BACK": back, "WANTED": 1}
    blocks = {"BM": tiles.rows, "BN": tiles.columns, "BK": tiles.depth}
    return job("shifted_product", ("a1", "a2", "w1", "w2"), factors, sizes, shape | blocks, tiles[3:], capability)


def taps_job(inputs: int, outputs: int, factors: tuple[int, int], capability: int) -> Job:
    tiles = tap_tiles(inputs, outputs, factors, SHARED[capability])
    sizes = dict.fromkeys(("rows", "rows_a", "batch"), "i32")
    shape = {"INPUTS": inputs, "OUTPUTS": outputs, "WANTED": 1}
    constants = shape | {"BI": tiles.rows, "BO": tiles.columns, "BR": tiles.depth}
    return job("taps_product", ("a1", "a2", "g1", "g2"), factors, sizes, constants, tiles[3:], capability)


def job(
    name: str,
    pointers: tuple[str, ...],
    factors: tuple[int, int],
    sizes: dict[str, str],
    constants: dict[str, Any],
    options: tuple[int, ...],
    capability: int,
) -> Job:
    there = {pointers[0]: True, pointers[1]: factors[0] > 1, pointers[2]: True, pointers[3]: factors[1] > 1}
    there["rest"] = factors == (2, 2)
    types = dict.fromkeys(pointers, "*bf16") | {"rest": "*i32"}
    signature = {name: kind for name, kind in types.items() if there[name]} | {"out": "*fp32"} | sizes
    constants = constants | {pointer: None for pointer in types if not there[pointer]}
    launch = {"num_warps": options[0], "num_stages": options[1]}
    return Job(f"delayplug.layers.engines.kernels.rows:{name}", signature, constants, launch, capability)


def test_an_h100_runs_them_on_its_tensor_cores() -> None:
    jobs = [
        rows_job(256, 256, False, (1, 2), H100),
        rows_job(256, 256, True, (2, 2), H100),
        rows_job(256, 256, False, (1, 1), H100),
        rows_job(140, 256, False, (1, 2), H100, rows=2560),
        rows_job(256, 20, False, (2, 2), H100),
        taps_job(256, 256, (1, 2), H100),
        taps_job(256, 256, (2, 2), H100),
        taps_job(256, 20, (1, 1), H100),
    ]
    for asked, compiled in zip(jobs, compile_ahead(jobs), strict=True):
        check(asked, compiled, "HGMMA")
        # Each slice begins at zero, and is added to the sum; a single product goes into the sum.
        several = any(name in asked.signature for name in ("a2", "w2", "g2"))
        assert (compiled.instructions.get("FADD", 0) > 0) == several, asked


def test_other_devices_run_them_on_theirs() -> None:
    jobs = [
        rows_job(256, 256, False, (2, 2), A100),
        taps_job(256, 256, (2, 2), A100),
        rows_job(256, 256, True, (2, 2), 89),
        taps_job(256, 256, (1, 2), 89),
    ]
    for asked, compiled in zip(jobs, compile_ahead(jobs), strict=True):
        check(asked, compiled, "HMMA")


def check(asked: Job, compiled: Compiled, tensor_cores: str) -> None:
    """Nothing is spilled, it fits, products are tensor cores', and all loads come in the background, not one by one."""
    assert compiled.spilled == 0, asked
    assert compiled.shared <= SHARED[asked.capability], asked
    assert compiled.instructions.get(tensor_cores, 0) > 0, asked
    assert compiled.instructions.get("FFMA", 0) == 0, asked
    assert compiled.instructions.get("LDG", 0) == ("rest" in asked.signature), asked


def test_rows_are_shared_such_that_programs_fill_a_device() -> None:
    assert shares(25, 256, 256, 25600, (1, 2)) == 5  # 500 programs of which 132 run at once: 3.8 rounds
    assert shares(25, 256, 256, 300, (1, 2)) == 1
    assert all(1 <= shares(taps, 20, 256, 25600, (2, 2)) <= 16 for taps in range(1, 70))
