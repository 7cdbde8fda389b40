"""Causal convolution over time by transforms, block by block.

The input is cut into J blocks of L steps and the kernel into P parts of L' taps. With transforms of length L + L' - 1
nothing wraps around, so that block j and part p give, row by row of their transforms (see `transforms`), one
small product of matrices that belongs to block j + p of the output; neighbouring blocks overlap there and are added.

Work goes piece by piece: some rows of the transforms at a time, and for these some samples of the batch at a time,
in memory that is reused. So a piece stays in a CPU's cache, and memory is bounded: beside input, output and kernel
there are never more than a few pieces. The backward pass transforms input and kernel once more, which
costs little beside the products. Spikes may be bool or integers; they become numbers piece by piece.

Shapes: T steps, B batch, I inputs, O outputs, K taps, R rows of the transforms (some of them); J blocks, P parts.
"""

import functools
import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..autograd import gradients, is_transformed, needs_graph
from .direct import direct
from .scratch import Scratch
from .transforms import COPY, Size, Transform, analysis, cheapest, synthesis

_LONGEST = 4096  # transform
_PRODUCT_ROWS = 128  # of each product, from the samples of one piece: enough for a CPU to run at speed
# One piece of the kernel's transform, in elements: on a CPU as a part of input and output together.
_CPU_PART = 0.6
_GPU_ELEMENTS = 1 << 28


class Shape(NamedTuple):
    """Of a convolution: steps of input and output, taps, batch, features of input and output."""

    steps_in: int
    steps_out: int
    taps: int
    batch: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Blocks:
    """How input and kernel are cut.

    length, part: L and L', steps in a block of the input and taps in a part of the kernel.
    count, parts: J and P.
    rows: steps of the output that one product gives.
    out: number of blocks of the output.
    size: of the transforms.
    """

    length: int
    part: int
    count: int
    parts: int
    rows: int
    out: int
    size: Size

    @property
    def meetings(self) -> list[tuple[int, int]]:
        """(part, number of blocks that it meets): as many of the first blocks as have a place in the output."""
        return [(p, min(self.count, self.out - p)) for p in range(min(self.parts, self.out))]


@functools.lru_cache(maxsize=256)
def blocks(shape: Shape) -> tuple[Blocks, float]:
    """The cheapest way to cut, and its cost in products for a forward and a backward pass."""
    lengths, count = [shape.steps_in], 1
    while lengths[-1] > 32:  # even cuts, each about a quarter shorter than the one before
        count = max(count + 1, count * 5 // 4)
        lengths.append(-(-shape.steps_in // count))
    ways = [
        cut(shape, length, part)
        for length in lengths
        for part in {shape.taps, min(shape.taps, length)}
        if length + part <= _LONGEST or length <= 32
    ]
    return min(ways, key=lambda way: way[1])


def cut(shape: Shape, length: int, part: int) -> tuple[Blocks, float]:
    """Blocks of this length and parts of so many taps, with the cheapest transform, and their cost."""
    count, parts = -(-shape.steps_in // length), -(-shape.taps // part)
    out = min(count + parts - 1, -(-shape.steps_out // length))
    rows = min(length + part - 1, shape.steps_out) if out == 1 else length + part - 1
    x, y = count * shape.batch * shape.inputs, out * shape.batch * shape.outputs
    taps = parts * shape.inputs * shape.outputs

    def way(size: Size) -> Blocks:
        return Blocks(length, part, count, parts, rows, out, size)

    def cost(size: Size) -> float:
        # Input twice and its gradient, output and its gradient, kernel twice and its gradient; the first five are
        # copied for every piece of the kernel's transform.
        transforms = 3 * x * size.cost(length) + 2 * y * size.cost(rows) + 3 * taps * size.cost(part)
        met = sum(n for _, n in way(size).meetings)
        copies = len(_slices(size.groups, _CPU_PART * (x * length + y * length) / (size.rows * taps)))
        products = 3 * size.groups * size.rows * met * shape.batch * shape.inputs * shape.outputs
        return transforms + COPY * copies * (3 * x * length + 2 * y * rows) + products

    best = cheapest(length + part - 1, cost)
    return way(best), cost(best)


def fourier(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The convolution, (steps, B, O), in the dtype of the taps, under autocast too: transforms want the precision."""
    way, _ = blocks(shape_of(x_TBI, taps_KOI, steps))
    kind = taps_KOI.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        if is_transformed():
            return direct(x_TBI, taps_KOI, steps)
        result: Tensor = _Fourier.apply(x_TBI, taps_KOI, steps, way)
    return result


def shape_of(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Shape:
    (T, B, _), (K, O, I) = x_TBI.shape, taps_KOI.shape  # noqa: E741
    return Shape(T, steps, K, B, I, O)


class _Fourier(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, taps_KOI: Tensor, steps: int, cut: Blocks) -> Tensor:
        ctx.save_for_backward(x_TBI, taps_KOI)
        ctx.cut = cut
        work = _Work(cut, x_TBI.shape[1], taps_KOI)
        y_TBO = work.y.empty(taps_KOI, (steps, x_TBI.shape[1], taps_KOI.shape[1]))
        for groups in work.groups:
            taps_PROI = work.of_taps(taps_KOI, groups)
            for some in work.samples:
                x_RJBI = work.of("x", x_TBI[:, some], work.x, groups)
                parts = ((slice(p, p + n), x_RJBI[:, :n], taps_PROI[p].mT) for p, n in cut.meetings)
                y_RJBO = work.product(cut.out, parts)
                work.add(y_RJBO, y_TBO[:, some], work.y, groups)
        return y_TBO

    @staticmethod
    def backward(ctx: Any, grad_TBO: Tensor) -> tuple[Tensor | None, ...]:
        x_TBI, taps_KOI = ctx.saved_tensors
        if needs_graph():
            plain = functools.partial(direct, steps=grad_TBO.shape[0])
            return *gradients(plain, (x_TBI, taps_KOI), grad_TBO, ctx.needs_input_grad[:2]), None, None
        cut: Blocks = ctx.cut
        work = _Work(cut, x_TBI.shape[1], taps_KOI)
        grad_x = work.x.empty(taps_KOI, x_TBI.shape) if ctx.needs_input_grad[0] else None
        grad_taps = work.taps.empty(taps_KOI, taps_KOI.shape) if ctx.needs_input_grad[1] else None
        for groups in work.groups:
            taps_PROI = None if grad_x is None else work.of_taps(taps_KOI, groups)
            gt_PROI = None if grad_taps is None else work.like_taps("gradient of taps", groups)
            if gt_PROI is not None:
                gt_PROI[len(cut.meetings) :].zero_()  # those taps reach beyond the output
            for i, some in enumerate(work.samples):
                g_RJBO = work.of("y", grad_TBO[:, some], work.y, groups)
                if gt_PROI is not None:
                    x_RJBI = work.of("x", x_TBI[:, some], work.x, groups)
                    for p, n in cut.meetings:
                        g_RNO, x_RNI = g_RJBO[:, p : p + n].flatten(1, 2), x_RJBI[:, :n].flatten(1, 2)
                        gt_PROI[p].baddbmm_(g_RNO.mT, x_RNI, beta=min(i, 1))
                if grad_x is not None and taps_PROI is not None:
                    parts = ((slice(0, n), g_RJBO[:, p : p + n], taps_PROI[p]) for p, n in cut.meetings)
                    gx_RJBI = work.product(cut.count, parts)
                    work.add(gx_RJBI, grad_x[:, some], work.x, groups)
            if grad_taps is not None and gt_PROI is not None:
                work.add_taps(gt_PROI, grad_taps, groups)
        return grad_x, grad_taps, None, None


@dataclass(frozen=True)
class _Windows:
    """What is transformed: so many windows of `length` steps, one every `stride`."""

    transform: Transform
    count: int
    length: int
    stride: int

    @property
    def overlap(self) -> bool:
        return self.count > 1 and self.stride < self.length

    def empty(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """For `_Work.add` to begin with."""
        return like.new_zeros(shape) if self.overlap else like.new_empty(shape)


class _Work:
    """The pieces of one convolution, and the scratch memory that they share.

    groups: slices of the groups of rows; samples: slices of the batch.
    """

    def __init__(self, cut: Blocks, batch: int, taps_KOI: Tensor) -> None:
        self._cut, self._like, self._scratch = cut, taps_KOI, Scratch(taps_KOI)
        kind = taps_KOI.dtype, taps_KOI.device
        self.x = _Windows(analysis(cut.size, cut.length, *kind), cut.count, cut.length, cut.length)
        self.y = _Windows(synthesis(cut.size, cut.rows, *kind), cut.out, cut.rows, cut.length)
        self.taps = _Windows(analysis(cut.size, cut.part, *kind), 1, cut.part, cut.part)
        _, outputs, inputs = taps_KOI.shape
        blocks = max(cut.count, cut.out)
        group = cut.size.rows * cut.parts * outputs * inputs
        if taps_KOI.device.type == "cpu":
            io = batch * cut.length * (cut.count * inputs + cut.out * outputs)
            self.groups = _slices(cut.size.groups, _CPU_PART * io / group)
            self.samples = _slices(batch, _PRODUCT_ROWS if blocks == 1 else _PRODUCT_ROWS / 2 / blocks)
        else:
            self.groups = _slices(cut.size.groups, _GPU_ELEMENTS / group)
            self.samples = _slices(batch, _GPU_ELEMENTS / (2 * cut.size.total * blocks * max(inputs, outputs)))
        # The kernel is transformed some outputs at a time, too.
        self._outputs = _slices(outputs, outputs / len(self.samples))

    def of(self, name: str, x_TBN: Tensor, windows: _Windows, groups: slice) -> Tensor:
        """(R, J, B, N) of the input or the output, in the scratch memory of that name."""
        out = self._scratch(name, self._height(groups), windows.count, *x_TBN.shape[1:])
        return self._rows(x_TBN, windows, groups, out)

    def like_taps(self, name: str, groups: slice) -> Tensor:
        """(P, R, O, I), uninitialised."""
        return self._scratch(name, self._cut.parts, self._height(groups), *self._like.shape[1:])

    def of_taps(self, taps_KOI: Tensor, groups: slice) -> Tensor:
        """(P, R, O, I)."""
        out = self.like_taps("taps", groups)
        for p, taps in enumerate(self._parts(taps_KOI)):
            for some in self._outputs:
                self._rows(taps[:, some], self.taps, groups, out[p, :, some].unsqueeze(1))
        return out

    def add_taps(self, rows_PROI: Tensor, out_KOI: Tensor, groups: slice) -> None:
        """The adjoint of `of_taps`, added."""
        for p, taps in enumerate(self._parts(out_KOI)):
            for some in self._outputs:
                self.add(rows_PROI[p, :, some].unsqueeze(1), taps[:, some], self.taps, groups)

    def _parts(self, taps_KOI: Tensor) -> Iterator[Tensor]:
        # Slices: what `split` and `unbind` give, torch.export does not let be written to.
        return (taps_KOI[p * self._cut.part : (p + 1) * self._cut.part] for p in range(self._cut.parts))

    def product(self, count: int, parts: Iterator[tuple[slice, Tensor, Tensor]]) -> Tensor:
        """(R, count, B, N): of each part the product of (R, J, B, M) and (R, M, N), added in its place."""
        total: Tensor | None = None
        for place, a, b in parts:
            left = a.flatten(1, 2)
            if total is None:
                total = self._scratch("product", a.shape[0], count, a.shape[2], b.shape[2])
                if a.shape[1] == count:
                    total.view(a.shape[0], -1, b.shape[2]).baddbmm_(left, b, beta=0)
                    continue
                total.zero_()
            total[:, place] += torch.bmm(left, b).view(*a.shape[:3], -1)
        assert total is not None
        return total

    def _height(self, groups: slice) -> int:
        return int(groups.stop - groups.start) * self._cut.size.rows

    def _rows(self, x_TMN: Tensor, windows: _Windows, groups: slice, out: Tensor) -> Tensor:
        """The windows of x, transformed: (R, count, M, N)."""
        transform, length, stride = windows.transform, windows.length, windows.stride
        window = self._scratch("time", transform.steps, *x_TMN.shape[1:])
        folded = self._scratch("folded", transform.scratch(groups), window[0].numel())
        for j in range(windows.count):
            part = x_TMN[j * stride : j * stride + length]
            window[: part.shape[0]].copy_(part)
            window[part.shape[0] :].zero_()
            transform.forward(window.flatten(1), groups, out[:, j].flatten(1), folded)
        return out

    def add(self, rows: Tensor, out_TMN: Tensor, windows: _Windows, groups: slice) -> None:
        """The adjoint of the transform, added to `out` window by window; all groups add up to the whole."""
        transform, length, stride = windows.transform, windows.length, windows.stride
        begins = groups.start == 0 and not windows.overlap
        window = self._scratch("time", transform.steps, *out_TMN.shape[1:])
        folded = self._scratch("folded", transform.scratch(groups), window[0].numel())
        for j in range(windows.count):
            transform.adjoint(rows[:, j].flatten(1), groups, window.flatten(1), folded)
            place = out_TMN[j * stride : j * stride + length]
            if begins:
                place.copy_(window[: place.shape[0]])
            else:
                place += window[: place.shape[0]]


def _slices(count: int, most: float) -> list[slice]:
    """Even slices of about so many, at least one."""
    pieces = min(count, max(1, round(count / max(most, 1))))
    bounds = [count * i // pieces for i in range(pieces + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
