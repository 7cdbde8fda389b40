"""Causal convolution over time in the frequency domain, block by block.

The input is cut into J blocks of L steps and the kernel into P parts of L' taps. With transforms of length L + L' - 1
nothing wraps around, so that block j and part p give, frequency by frequency, one small complex matrix product that
belongs to block j + p of the output; neighbouring blocks overlap there and are added. A short sequence is one block.

Transforms are real matrix products. A short sequence is transformed as a whole, and its spectrum is kept for the
backward pass. In a longer one some frequencies are done at a time, and nothing is kept: the backward pass transforms
input and kernel once more, which costs little beside the products. So memory stays that of input and output.

Shapes: T steps, B batch, I inputs, O outputs, K taps, F frequencies (some of them). A complex tensor is two real ones
stacked in front, (2, F, ...).
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Of a long sequence on a CPU, so many frequencies are done at a time, with temporary tensors of so many elements at
# most and so many columns in cache; a GPU does all at once.
_CPU_FREQUENCIES = 64
_CPU_ELEMENTS = 1 << 24
_CPU_COLUMNS = 1 << 13
_LONGEST_BLOCK = 512  # of a transform by matrix product
_COPIED = 100  # products that an element costs which is copied


@dataclass(frozen=True)
class Blocks:
    """How input and kernel are cut.

    length, part: L and L', steps in a block of the input and taps in a part of the kernel.
    count, parts: J and P.
    rows: steps of the output that one product gives.
    out: number of blocks of the output.
    """

    length: int
    part: int
    count: int
    parts: int
    rows: int
    out: int

    @property
    def is_whole(self) -> bool:
        """The input is one block, the kernel one part."""
        return self.count == self.parts == 1

    @property
    def transform(self) -> int:
        """Its length: enough that nothing wraps around, with a number of frequencies that groups divide well."""
        return 2 * (-(-((self.length + self.part) // 2 + 1) // 8) * 8 - 1)


def blocks(steps_in: int, taps: int, steps_out: int, batch: int, inputs: int, outputs: int) -> tuple[Blocks, float]:
    """The cheapest way to cut, and its cost in products for a forward and a backward pass."""
    best: tuple[float, Blocks] | None = None
    for length in {steps_in, *(2**e for e in range(5, 10) if 2**e < steps_in)}:
        part = taps if length == steps_in or taps <= length else length
        size = length + part - 1
        if size > _LONGEST_BLOCK and length > 32:
            continue
        count, parts = -(-steps_in // length), -(-taps // part)
        out = min(count + parts - 1, -(-steps_out // length))
        rows = min(size, steps_out) if out == 1 else size
        frequencies = size + 2  # twice their number: real and imaginary parts
        transforms = 5 * count * length * batch * (inputs + outputs) / 2 + 3 * parts * part * inputs * outputs
        products = 3 * 1.5 * count * parts * batch * inputs * outputs
        cost = frequencies * (transforms + products)
        if count > 1:  # blocks are copied, and added up again
            cost += _COPIED * (2 * steps_in * batch * inputs + 3 * out * rows * batch * outputs)
        if best is None or cost < best[0]:
            best = cost, Blocks(length, part, count, parts, rows, out)
    assert best is not None  # 32 steps are always short enough
    return best[1], best[0]


def fourier(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The convolution, (steps, B, O)."""
    cut, _ = blocks(x_TBI.shape[0], taps_KOI.shape[0], steps, x_TBI.shape[1], x_TBI.shape[2], taps_KOI.shape[1])
    result: Tensor = _Fourier.apply(x_TBI, taps_KOI, steps, cut)
    return result


class _Fourier(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, taps_KOI: Tensor, steps: int, cut: Blocks) -> Tensor:
        batch, outputs = x_TBI.shape[1], taps_KOI.shape[1]
        x, taps = _blocked(x_TBI, cut.length, cut.count), _blocked(taps_KOI, cut.part, cut.parts)
        y_ROB = x_TBI.new_empty((cut.rows, cut.out * batch * outputs))
        for i, (analysis_x, analysis_taps, synthesis) in enumerate(_frequencies(cut, x, taps, batch, outputs)):
            x_2FBI, taps_2FPOI = _to(analysis_x, x, cut).flatten(2, 3), _to(analysis_taps, taps, cut)
            y_2FBO = _summed(
                cut.out * batch,
                ((out, _product(x_2FBI[:, :, rows], taps_2FPOI[:, :, p].mT)) for rows, out, p in _meetings(cut, batch)),
            )
            _multiply(y_ROB, synthesis, y_2FBO.view(synthesis.shape[1], -1), cut, first=i == 0)
        ctx.save_for_backward(*((x_2FBI, taps_2FPOI) if cut.is_whole else (x_TBI, taps_KOI)))
        ctx.cut, ctx.shapes = cut, (x_TBI.shape, taps_KOI.shape)
        return _overlapped(y_ROB.view(cut.rows, cut.out, batch, outputs), cut.length, steps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TBO: Tensor) -> tuple[Tensor | None, ...]:
        saved_x, saved_taps = ctx.saved_tensors
        cut: Blocks = ctx.cut
        x_shape, taps_shape = ctx.shapes
        batch, outputs = x_shape[1], taps_shape[1]
        x = grad_TBO.new_empty((cut.length, cut.count, *x_shape[1:]))
        taps = grad_TBO.new_empty((cut.part, cut.parts, *taps_shape[1:]))
        grad_x, grad_taps = (x if ctx.needs_input_grad[0] else None), (taps if ctx.needs_input_grad[1] else None)
        if not cut.is_whole:
            x, taps = _blocked(saved_x, cut.length, cut.count), _blocked(saved_taps, cut.part, cut.parts)
        grad = _windows(grad_TBO, cut)
        for i, (analysis_x, analysis_taps, synthesis) in enumerate(_frequencies(cut, x, taps, batch, outputs)):
            g_2FBO = _to(synthesis.mT, grad, cut).flatten(2, 3)
            if grad_x is not None:
                taps_2FPOI = saved_taps if cut.is_whole else _to(analysis_taps, taps, cut)
                products = (
                    (rows, _product(g_2FBO[:, :, out], taps_2FPOI[:, :, p], conj=True))
                    for rows, out, p in _meetings(cut, batch)
                )
                gx_2FBI = _summed(cut.count * batch, products)
                gx = gx_2FBI.view(analysis_x.shape[0], -1)
                _multiply(grad_x.view(cut.length, -1), analysis_x.mT, gx, cut, first=i == 0)
            if grad_taps is not None:
                x_2FBI = saved_x if cut.is_whole else _to(analysis_x, x, cut).flatten(2, 3)
                parts = [
                    _product(g_2FBO[:, :, out].mT, x_2FBI[:, :, rows], conj=True)
                    for rows, out, _ in _meetings(cut, batch)
                ]
                # Parts that meet no block in the output have no gradient.
                parts += [torch.zeros_like(parts[0])] * (cut.parts - len(parts))
                gt_2FPOI = torch.stack(parts, 2) if len(parts) > 1 else parts[0]
                gt = gt_2FPOI.view(analysis_taps.shape[0], -1)
                _multiply(grad_taps.view(cut.part, -1), analysis_taps.mT, gt, cut, first=i == 0)
        return (
            None if grad_x is None else _unblocked(grad_x, x_shape),
            None if grad_taps is None else _unblocked(grad_taps, taps_shape),
            None,
            None,
        )


def _blocked(x: Tensor, length: int, count: int) -> Tensor:
    """(T, M, N) to (length, count, M, N), with zeros behind; a view if there is one block."""
    if count == 1:
        return x.unsqueeze(1)
    missing = length * count - x.shape[0]
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
    return padded.view(count, length, *x.shape[1:]).transpose(0, 1).contiguous()


def _unblocked(x: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_blocked`."""
    return x.transpose(0, 1).flatten(0, 1)[: shape[0]]


def _overlapped(y: Tensor, length: int, steps: int) -> Tensor:
    """(R, J, B, O) to (steps, B, O): blocks `length` apart, added where they overlap."""
    rows, count = y.shape[:2]
    if count == 1:
        return y[:, 0]
    total = y.new_zeros(((count - 1) * length + rows, *y.shape[2:]))
    for j in range(count):
        total[j * length : j * length + rows] += y[:, j]
    return total[:steps]


def _windows(grad: Tensor, cut: Blocks) -> Tensor:
    """The adjoint of `_overlapped`: (steps, B, O) to (R, J, B, O)."""
    if cut.out == 1:
        return grad.unsqueeze(1)
    windows = grad.new_zeros((cut.rows, cut.out, *grad.shape[1:]))
    for j in range(cut.out):
        window = grad[j * cut.length : j * cut.length + cut.rows]
        windows[: window.shape[0], j] = window
    return windows


def _meetings(cut: Blocks, batch: int) -> Iterator[tuple[slice, slice, int]]:
    """(rows of the input, rows of the output, part): which blocks meet which, all that a part meets at once."""
    for p in range(cut.parts):
        count = min(cut.count, cut.out - p)
        if count > 0:
            yield slice(0, count * batch), slice(p * batch, (p + count) * batch), p


def _to(matrix: Tensor, x: Tensor, cut: Blocks) -> Tensor:
    """Some frequencies of x: (2F, L) and (L, J, M, N) to (2, F, J, M, N)."""
    y = x.new_empty((matrix.shape[0], x[0].numel()))
    _multiply(y, matrix, x.reshape(x.shape[0], -1), cut, first=True)
    return y.view(2, matrix.shape[0] // 2, *x.shape[1:])


def _multiply(out: Tensor, matrix: Tensor, x: Tensor, cut: Blocks, *, first: bool) -> None:
    """out += matrix @ x, or = if this is the first; of a long sequence some columns at a time, brought into cache."""
    # In place rather than with `out=`, which torch.export cannot trace; beta=0 ignores what is there.
    beta = 0 if first else 1
    if cut.is_whole or x.device.type != "cpu" or x.shape[1] <= _CPU_COLUMNS:
        out.addmm_(matrix, x, beta=beta)
        return
    scratch = x.new_empty((x.shape[0], _CPU_COLUMNS))
    for start in range(0, x.shape[1], _CPU_COLUMNS):
        part = x[:, start : start + _CPU_COLUMNS]
        near = scratch[:, : part.shape[1]].copy_(part)
        out[:, start : start + part.shape[1]].addmm_(matrix, near, beta=beta)


def _summed(rows: int, products: Iterator[tuple[slice, Tensor]]) -> Tensor:
    """(2, F, rows, N) from products that belong to some of the rows each."""
    total: Tensor | None = None
    for place, product in products:
        if total is None and product.shape[2] == rows:
            total = product
            continue
        if total is None:
            total = product.new_zeros((*product.shape[:2], rows, product.shape[3]))
        total[:, :, place] += product
    assert total is not None
    return total


def _product(a: Tensor, b: Tensor, conj: bool = False) -> Tensor:
    """a @ b, or a @ conj(b), of stacked complex matrices (2, F, ., .), in three real products instead of four."""
    sign = -1 if conj else 1
    out = a.new_empty((2, a.shape[1], a.shape[2], b.shape[3]))
    imaginary = torch.bmm(a[1], b[1])
    out[0].baddbmm_(a[0], b[0], beta=0)
    out[1].baddbmm_(a[0] + a[1], torch.add(b[0], b[1], alpha=sign), beta=0).sub_(out[0])
    return out.sub_(imaginary, alpha=sign)


# ------------------------------------------------------------------------------------------------- transforms


def _frequencies(
    cut: Blocks, x: Tensor, taps: Tensor, batch: int, outputs: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(input to frequencies, taps to frequencies, frequencies to output) for some frequencies at a time."""
    frequencies = cut.transform // 2 + 1
    at_once = frequencies
    if x.device.type == "cpu" and not cut.is_whole:
        largest = 2 * max(x[0].numel(), taps[0].numel(), cut.out * batch * outputs)
        at_once = max(4, min(_CPU_FREQUENCIES, _CPU_ELEMENTS // largest))
    groups = -(-frequencies // at_once)
    of_x = _analysis(cut.transform, cut.length, groups, x.dtype, x.device)
    of_taps = _analysis(cut.transform, cut.part, groups, x.dtype, x.device)
    return zip(of_x, of_taps, _synthesis(cut.transform, cut.rows, groups, x.dtype, x.device), strict=True)


Matrices = Callable[[int, int, int, torch.dtype, torch.device], tuple[Tensor, ...]]


def _cached(build: Matrices) -> Matrices:
    """Keep the last matrices, but none made while torch.compile or torch.export traces: those hold no values."""
    kept = functools.lru_cache(maxsize=64)(build)

    @functools.wraps(build)
    def matrix(n: int, length: int, groups: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        return (build if torch.compiler.is_compiling() else kept)(n, length, groups, dtype, device)

    return matrix


def _angles(n: int, length: int) -> Tensor:
    """(F, length) angles of the transform, exact for large products of frequency and time."""
    frequency, time = torch.arange(n // 2 + 1, device="cpu").view(-1, 1), torch.arange(length, device="cpu")
    return (2 * math.pi / n) * ((frequency * time) % n).double()


@_cached
def _analysis(n: int, length: int, groups: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """(2f, length) for each group of frequencies: time to frequency, zero-padded to n."""
    angles = _angles(n, length).tensor_split(groups)
    return tuple(torch.cat((a.cos(), -a.sin())).to(device, dtype) for a in angles)


@_cached
def _synthesis(n: int, length: int, groups: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """(length, 2f) for each group: frequency to the first steps; all but the first and the middle one count twice."""
    angles = _angles(n, length)
    twice = angles.new_full((angles.shape[0], 1), 2.0)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    pairs = zip((twice * angles.cos()).tensor_split(groups), (twice * angles.sin()).tensor_split(groups), strict=True)
    return tuple(torch.cat((c, -s)).div(n).mT.contiguous().to(device, dtype) for c, s in pairs)
