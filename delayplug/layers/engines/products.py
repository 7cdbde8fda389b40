"""The engine "products": causal convolution over time as products of shifted rows, on a GPU's tensor cores.

With time first, the input of k steps ago lies k B rows above in memory, so a kernel of K taps is K products of matrices
on the same memory. Tensor cores multiply bf16 and add up in float32: float32 factors are cut into parts of bf16, see
`precision.parts`; spikes and small counts are exact in bf16, and need no second one. Where that is not known (see
`exact`), the device notes whether anything is left for a second part, and skips its products by itself if nothing is:
nobody waits for that. Sums are added up in the same order in every run.

Shapes: T steps, B batch, I inputs, O outputs, K taps; M = T B rows.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._triton import half, operator, runs_on
from ..autograd import gradients, is_transformed, needs_graph
from ..exact import half_of, is_exact
from ..precision import parts
from .direct import direct

Parts = tuple[Tensor, Tensor | None]

_PROGRAMS = 132  # at once: a large one on each multiprocessor of an H100
_MOST_SHARES = 16
# Bytes of shared memory of a program, by compute capability; 99 KB on all others.
_SHARED_BYTES = {(8, 0): 163 << 10, (8, 7): 163 << 10, (9, 0): 227 << 10, (10, 0): 227 << 10, (10, 3): 227 << 10}


def can_run(x_TBI: Tensor, taps_KOI: Tensor) -> bool:
    """Whether the engine takes these: float32 taps on a device with tensor cores, and no empty tensor."""
    if not runs_on(taps_KOI.device) or taps_KOI.dtype != torch.float32 or x_TBI.dtype == torch.float64:
        return False
    return x_TBI.numel() > 0 and taps_KOI.numel() > 0


def products(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The convolution, (steps, B, O) in float32; x may be in half precision, bool or integers."""
    if is_transformed():
        return direct(x_TBI, taps_KOI, steps)
    y: Tensor = _Products.apply(x_TBI, taps_KOI, steps, is_exact(x_TBI))
    return y


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, taps_KOI: Tensor, steps: int, exact: bool) -> Tensor:
        (_, B, I), (_, O, _) = x_TBI.shape, taps_KOI.shape  # noqa: E741
        ctx.exact, ctx.parts = exact, parts()
        taps, ways = in_parts(taps_KOI, ctx.parts), _ways(x_TBI, ctx.parts, exact)
        # One part is saved, half as large as x in float32; two would be as large as x, and are made again.
        only = ways[0].x1 if ctx.needs_input_grad[1] and len(ways) == 1 and ways[0].x2 is None else None
        ctx.save_for_backward(x_TBI, taps_KOI, *taps, only)
        y_TBO = taps_KOI.new_empty((steps, B, O))
        for x1, x2, rest, wanted in ways:
            shifted_product(x1, x2, *taps, rest, wanted, I, O, B, False, y_TBO)
        return y_TBO

    @staticmethod
    def backward(ctx: Any, grad_TBO: Tensor) -> tuple[Tensor | None, ...]:
        x_TBI, taps_KOI, taps1, taps2, only = ctx.saved_tensors
        if needs_graph():
            plain = functools.partial(direct, steps=grad_TBO.shape[0])
            return *gradients(plain, (x_TBI, taps_KOI), grad_TBO, ctx.needs_input_grad[:2]), None, None
        (T, B, I), (K, O, _) = x_TBI.shape, taps_KOI.shape  # noqa: E741
        grad_x = grad_taps = None
        grad = in_parts(grad_TBO, ctx.parts)
        if ctx.needs_input_grad[1]:
            ways = _ways(x_TBI, ctx.parts, ctx.exact) if only is None else [_Way(only, None, None, False)]
            factors = 1 + (ways[-1].x2 is not None), 1 + (grad[1] is not None)
            count = shares(K, O, I, min(T, grad_TBO.shape[0]) * B, factors)
            sums_SKOI = taps_KOI.new_empty((count, K, O, I))
            for x1, x2, rest, wanted in ways:
                taps_product(x1, x2, *grad, rest, wanted, I, O, B, sums_SKOI)
            grad_taps = sums_SKOI.sum(0) if count > 1 else sums_SKOI[0]
            del ways, x1, x2, sums_SKOI  # before the gradient of x takes memory
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty(x_TBI.shape, dtype=x_TBI.dtype, device=x_TBI.device)
            shifted_product(*grad, taps1, taps2, None, False, I, O, B, True, grad_x)
        return grad_x, grad_taps, None, None


class _Way(NamedTuple):
    """An input in parts, to be used if `rest`, int32 (1,) on its device, is as wanted; without one, in any case."""

    x1: Tensor
    x2: Tensor | None
    rest: Tensor | None
    wanted: bool


def _ways(x: Tensor, count: int, exact: bool) -> list[_Way]:
    """The ways to use an input, of which the device takes one: without its second part if that is all zeros."""
    if exact or count == 1 or not x.is_floating_point():
        return [_Way(*in_parts(x, count, exact), None, False)]
    rest = torch.zeros(1, dtype=torch.int32, device=x.device)
    x1, x2 = in_parts(x, count, rest=rest)
    return [_Way(x1, None, rest, False), _Way(x1, x2, rest, True)]


def in_parts(x: Tensor, count: int, exact: bool = False, rest: Tensor | None = None) -> Parts:
    """The last dimension of x, padded with zeros to a multiple of 16, in one or two parts of bf16; (..., columns).

    Numbers that are `exact` in bf16 have one part, which may be there already, if it needs no padding. `rest`, int32
    (1,), is set to 1 if the second part has other numbers than zeros.
    """
    dtype, columns = half(x.device), (x.shape[-1] + 15) // 16 * 16
    shape = (*x.shape[:-1], columns)  # `torch.compile` of torch 2.11 fails on a dynamic size of a contiguous copy
    x = x.contiguous()
    if exact and columns == x.shape[-1]:
        there = x if x.dtype == dtype else half_of(x)
        if there is not None and there.dtype == dtype:
            return there, None
    first = torch.empty(shape, dtype=dtype, device=x.device)
    second = torch.empty_like(first) if count > 1 and not exact else None
    cut(x.view(torch.uint8) if x.dtype == torch.bool else x, first, second, rest)
    return first, second


class Tiles(NamedTuple):
    """What a program computes, in numbers across and down, and how it is launched."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


def row_tiles(rows: int, columns: int, depth: int, factors: tuple[int, int], shared_bytes: int) -> Tiles:
    """For a `shifted_product`, whose left and right factors have so many parts, on a device with so much memory.

    columns: of the result; depth: of the sum at each tap, a multiple of 16; shared_bytes: of a program.
    """
    wide = _width(columns)
    if factors == (1, 1) and columns > 128:
        # Wider tiles get more of a product done per second, unless the last programs leave most of the device idle.
        half_as_wide = _rounds(rows, columns, 128, 128) * 1.15
        wide = 256 if 2 * _rounds(rows, columns, 128, 256) <= half_as_wide else wide
    tall = 128 if _blocks(rows, 128) * _blocks(columns, wide) >= _PROGRAMS else 64
    deep = min(64, 1 << (depth - 1).bit_length())  # slices of 64 pay even where the last one is mostly silence
    warps = 8 if tall == 128 and wide >= 128 else 4
    return _fitting(tall, wide, deep, warps, factors, shared_bytes)


def tap_tiles(inputs: int, outputs: int, factors: tuple[int, int], shared_bytes: int) -> Tiles:
    """The same for a `taps_product`: rows are inputs, columns outputs, and the depth is that of the sum over rows."""
    wide = _width(outputs, 256 if factors == (1, 1) else 128)
    tall = 64 if inputs <= 64 or wide < 128 else 128
    return _fitting(tall, wide, 64, 8 if tall * wide >= 128 * 128 else 4, factors, shared_bytes)


def _fitting(tall: int, wide: int, deep: int, warps: int, factors: tuple[int, int], shared_bytes: int) -> Tiles:
    for depth, stages in ((deep, 3), (32, 3), (deep, 2), (32, 2)):
        if 2 * stages * depth * (factors[0] * tall + factors[1] * wide) <= shared_bytes:
            return Tiles(tall, wide, depth, warps, stages)
    return Tiles(tall, wide, 16, warps, 2)


def _width(columns: int, most: int = 128) -> int:
    """The widest of some tiles that computes the fewest columns in vain."""
    if columns <= 64:
        return max(16, 1 << (columns - 1).bit_length())
    return min((most, 128, 64), key=lambda width: _blocks(columns, width) * width)


def _blocks(count: int, size: int) -> int:
    return -(-count // size)


def _rounds(rows: int, columns: int, tall: int, wide: int) -> int:
    return _blocks(_blocks(rows, tall) * _blocks(columns, wide), _PROGRAMS)


@functools.cache
def shares(taps: int, outputs: int, inputs: int, rows: int, factors: tuple[int, int]) -> int:
    """Into how many shares the rows are cut for the gradient of the taps: the fewest that fill the device."""
    tiles = tap_tiles(inputs, outputs, factors, 99 << 10)  # on which the depth alone depends
    programs = taps * _blocks(inputs, tiles.rows) * _blocks(outputs, tiles.columns)

    def filled(count: int) -> float:
        return programs * count / (_blocks(programs * count, _PROGRAMS) * _PROGRAMS)

    choices = range(1, max(1, min(_MOST_SHARES, rows // 256)) + 1)
    return next((count for count in choices if filled(count) >= 0.9), max(choices, key=filled))


@functools.cache
def _shared_bytes(device: torch.device) -> int:
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)
    return _SHARED_BYTES.get(capability, 99 << 10)


# ------------------------------------------------------------------------------------------------------ launches


@operator("cut(Tensor x, Tensor(a!) first, Tensor(b!)? second, Tensor(c!)? rest) -> ()")
def cut(x: Tensor, first: Tensor, second: Tensor | None, rest: Tensor | None) -> None:
    """Cut x (..., C) into one or two parts (..., columns) of bf16, of which those after C are zero; see `in_parts`."""
    from .kernels import cut as kernels

    count = first.numel()
    with torch.cuda.device_of(x):
        grid = (_blocks(count, kernels.BLOCK),)
        kernels.cut[grid](x, first, second, rest, count, x.shape[-1], first.shape[-1], kernels.BLOCK)


@operator(
    "shifted_product(Tensor a1, Tensor? a2, Tensor w1, Tensor? w2, Tensor? rest, bool wanted, int inputs, int outputs,"
    " int batch, bool back, Tensor(a!) out) -> ()"
)
def shifted_product(
    a1: Tensor,
    a2: Tensor | None,
    w1: Tensor,
    w2: Tensor | None,
    rest: Tensor | None,
    wanted: bool,
    inputs: int,
    outputs: int,
    batch: int,
    back: bool,
    out: Tensor,
) -> None:
    """The convolution of a (T, B, ...) with taps w (K, O, ...), or the gradient for its input: (steps, B, ...).

    If there is a `rest`, int32 (1,), nothing is done unless it is as wanted.
    """
    from .kernels import rows as kernels

    columns, depth = (inputs, a1.shape[-1]) if back else (outputs, a1.shape[-1])
    rows, rows_a = out.shape[0] * batch, a1.shape[0] * batch
    factors = 1 + (a2 is not None), 1 + (w2 is not None)
    tiles = row_tiles(rows, columns, depth, factors, _shared_bytes(out.device))
    grid = (_blocks(rows, tiles.rows), _blocks(columns, tiles.columns))
    with torch.cuda.device_of(out):
        kernels.shifted_product[grid](
            a1, a2, w1, w2, rest, out, rows, rows_a, batch, w1.shape[0], inputs, outputs, back, int(wanted), *tiles[:3],
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip


@operator(
    "taps_product(Tensor a1, Tensor? a2, Tensor g1, Tensor? g2, Tensor? rest, bool wanted, int inputs, int outputs,"
    " int batch, Tensor(a!) out) -> ()"
)
def taps_product(
    a1: Tensor,
    a2: Tensor | None,
    g1: Tensor,
    g2: Tensor | None,
    rest: Tensor | None,
    wanted: bool,
    inputs: int,
    outputs: int,
    batch: int,
    out: Tensor,
) -> None:
    """The gradient for the taps, from a (T, B, ...) and g (steps, B, ...): (shares, K, O, I), to be added up.

    If there is a `rest`, int32 (1,), nothing is done unless it is as wanted.
    """
    from .kernels import rows as kernels

    factors = 1 + (a2 is not None), 1 + (g2 is not None)
    tiles = tap_tiles(inputs, outputs, factors, _shared_bytes(out.device))
    blocks = _blocks(inputs, tiles.rows) * _blocks(outputs, tiles.columns)
    with torch.cuda.device_of(out):
        kernels.taps_product[(out.shape[1], blocks, out.shape[0])](
            a1, a2, g1, g2, rest, out, g1.shape[0] * batch, a1.shape[0] * batch, batch, inputs, outputs, int(wanted),
            *tiles[:3],
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
