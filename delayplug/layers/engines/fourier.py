"""Causal convolution over time by transforms, block by block.

The input is cut into J blocks of L steps and the kernel into P parts of L' taps. With transforms of length L + L' - 1
nothing wraps around, so that block j and part p give, row by row of their transforms (see `transforms`), one
small product of matrices that belongs to block j + p of the output; neighbouring blocks overlap there and are added.

Input and kernel are folded whole, straight from where they lie and at most some groups of the transform at a time. Of
these, one group after the other is mixed and multiplied, for some samples of the batch at a time, so that its rows stay
in a CPU's cache. All of that is scratch memory that is reused; what is folded of a gradient takes the place of what was
folded for the group. The backward pass transforms input and kernel once more, which costs little beside the products.
Spikes may be bool or integers; they become numbers piece by piece.

Shapes: T steps, B batch, I inputs, O outputs, K taps, R rows of the transforms (some of them); J blocks, P parts.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..autograd import gradients, is_transformed, needs_graph
from .direct import direct
from .scratch import Scratch
from .transforms import COPY, Size, Transform, analysis, cheapest, least, synthesis

_LONGEST = 4096  # transform
_PRODUCT_ROWS = 256  # of each product, from the samples of one piece: enough for a CPU to run at speed
# What is folded at a time, in elements: on a CPU as a part of input and output together.
_CPU_PART = 2.1
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

    def pieces(self, batch: int, inputs: int, outputs: int) -> int:
        """How many parts of what is folded a CPU has in memory one after the other."""
        folded = (
            (self.length, self.count * batch * inputs),
            (self.rows, self.out * batch * outputs),
            (self.part, self.parts * inputs * outputs),
        )
        elements = self.size.total * sum(columns for steps, columns in folded if self.size.is_folded(steps))
        io = batch * self.length * (self.count * inputs + self.out * outputs)
        return min(self.size.groups, math.ceil(elements / max(1, _CPU_PART * io)))


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
    return least(ways, lambda way: way[1])


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
        # Input twice and its gradient, output and its gradient, kernel twice and its gradient.
        transforms = 3 * x * size.cost(length) + 2 * y * size.cost(rows) + 3 * taps * size.cost(part)
        met = sum(n for _, n in way(size).meetings)
        products = 3 * size.groups * size.rows * met * shape.batch * shape.inputs * shape.outputs
        return transforms + COPY * (3 * x * length + 2 * y * rows) + products

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
        work = _Work(cut, x_TBI.shape[1], taps_KOI, in_place=True)
        y_TBO = work.y.empty(taps_KOI, (steps, x_TBI.shape[1], taps_KOI.shape[1]))
        for groups in work.groups:
            work.x.read(x_TBI, groups)
            work.taps.read(taps_KOI, groups)
            work.y.open(y_TBO, groups)
            for some in work.each(groups):
                taps_PROI = work.rows_of_taps(some)
                for samples in work.samples:
                    x_RJBI = work.x.rows(some, samples)
                    parts = ((slice(p, p + n), x_RJBI[:, :n], taps_PROI[p].mT) for p, n in cut.meetings)
                    work.y.add(work.product(cut.out, parts), some, samples)
            work.y.close()
        return y_TBO

    @staticmethod
    def backward(ctx: Any, grad_TBO: Tensor) -> tuple[Tensor | None, ...]:
        x_TBI, taps_KOI = ctx.saved_tensors
        if needs_graph():
            plain = functools.partial(direct, steps=grad_TBO.shape[0])
            return *gradients(plain, (x_TBI, taps_KOI), grad_TBO, ctx.needs_input_grad[:2]), None, None
        cut: Blocks = ctx.cut
        work = _Work(cut, x_TBI.shape[1], taps_KOI, in_place=False)
        grad_x = work.x.empty(taps_KOI, x_TBI.shape) if ctx.needs_input_grad[0] else None
        grad_taps = work.taps.empty(taps_KOI, taps_KOI.shape) if ctx.needs_input_grad[1] else None
        for groups in work.groups:
            # What is folded of a gradient takes the place of what it is the gradient of, group by group.
            work.y.read(grad_TBO, groups)
            if grad_taps is not None:
                work.x.read(x_TBI, groups)
                work.taps.open(grad_taps, groups)
            if grad_x is not None:
                work.taps.read(taps_KOI, groups)
                work.x.open(grad_x, groups)
            for some in work.each(groups):
                taps_PROI = None if grad_x is None else work.rows_of_taps(some)
                gt_PROI = None if grad_taps is None else work.like_taps("gradient of taps", some)
                if gt_PROI is not None:
                    gt_PROI[len(cut.meetings) :].zero_()  # those taps reach beyond the output
                for i, samples in enumerate(work.samples):
                    g_RJBO = work.y.rows(some, samples)
                    if gt_PROI is not None:
                        x_RJBI = work.x.rows(some, samples)
                        for p, n in cut.meetings:
                            g_RNO, x_RNI = g_RJBO[:, p : p + n].flatten(1, 2), x_RJBI[:, :n].flatten(1, 2)
                            gt_PROI[p].baddbmm_(g_RNO.mT, x_RNI, beta=min(i, 1))
                    if taps_PROI is not None:
                        parts = ((slice(0, n), g_RJBO[:, p : p + n], taps_PROI[p]) for p, n in cut.meetings)
                        work.x.add(work.product(cut.count, parts), some, samples)
                if gt_PROI is not None:
                    work.taps.add(gt_PROI.transpose(0, 1), some, _ALL)
            if grad_x is not None:
                work.x.close()
            if grad_taps is not None:
                work.taps.close()
        return grad_x, grad_taps, None, None


class _Room(NamedTuple):
    """Scratch memory for what is folded: its name, the number of windows and of columns that it has room for."""

    name: str
    windows: int
    columns: int


class _Windows:
    """Windows over a sequence of matrices (T, M, N), so many of `length` steps, one every `stride`, and their rows.

    `read` folds them for some groups, and `rows` then gives the rows of some of these groups. `open`, `add` and `close`
    are the transposes: what is added by rows ends up in a sequence, in which windows can overlap. What is folded of it
    may share the room with one that is read, if the rows of each group are read before any are added.
    """

    def __init__(self, room: _Room, scratch: Scratch, transform: Transform, count: int, length: int, stride: int):
        self._room, self._scratch, self._transform = room, scratch, transform
        self._count, self._length, self._stride = count, length, stride
        self._overlap = count > 1 and stride < length
        self._read: Tensor
        self._open: Tensor
        self._groups = slice(0)

    def empty(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """For `open` to begin with."""
        return like.new_zeros(shape) if self._overlap else like.new_empty(shape)

    def read(self, x_TMN: Tensor, groups: slice) -> None:
        """Begin to read, with these groups."""
        self._read, self._groups = x_TMN, groups
        if self._transform.fold is None:
            return
        for window, folded in zip(self._windows(x_TMN), self._folded(x_TMN), strict=True):
            self._transform.fold_in((self._matrix(part) for part in self._every(window)), groups, folded)

    def rows_to(self, out_RJMN: Tensor, groups: slice, some: slice) -> Tensor:
        """The rows of some groups of those, and of some of M, written to `out`."""
        sources: Iterable[Tensor]
        if self._transform.fold is None:  # one by one: they may share scratch memory
            sources = (self._matrix(window[:, some]) for window in self._windows(self._read))
        else:
            sources = self._of_groups(self._read, groups, some)
        for j, source in enumerate(sources):
            self._transform.mix_in(source, groups, out_RJMN[:, j].flatten(1))
        return out_RJMN

    def rows(self, groups: slice, some: slice) -> Tensor:
        """(R, count, M, N) in scratch memory."""
        shape = self._read[0, some].shape
        out = self._scratch(f"{self._room.name} rows", self.height(groups), self._count, *shape)
        return self.rows_to(out, groups, some)

    def open(self, out_TMN: Tensor, groups: slice) -> None:
        """Begin to add to `out`, with these groups."""
        self._open, self._groups = out_TMN, groups

    def add(self, rows_RJMN: Tensor, groups: slice, some: slice) -> None:
        """Add rows of some groups, and some of M."""
        if self._transform.fold is None:
            beta = int(groups.start > 0 or self._overlap)
            places = [window[:, some].flatten(1) for window in self._windows(self._open)]
        else:
            beta = 0
            places = self._of_groups(self._open, groups, some)
        for j, place in enumerate(places):
            self._transform.mix_back(rows_RJMN[:, j].flatten(1), groups, place, beta)

    def close(self) -> None:
        """Finish with the groups that it was opened with."""
        if self._transform.fold is None:
            return
        beta = int(self._groups.start > 0 or self._overlap)
        for window, folded in zip(self._windows(self._open), self._folded(self._open), strict=True):
            parts = (part.flatten(1) for part in self._every(window))
            self._transform.fold_back(folded, self._groups, parts, beta)

    def height(self, groups: slice) -> int:
        """R: rows of so many groups."""
        return int(groups.stop - groups.start) * self._transform.mix.shape[1]

    def _windows(self, x_TMN: Tensor) -> list[Tensor]:
        starts = (j * self._stride for j in range(self._count))
        return [x_TMN[start : start + self._length] for start in starts]

    def _every(self, window: Tensor) -> Iterator[Tensor]:
        """Every m-th step of it, from each of the first m."""
        m = self._transform.length
        return (window[t2::m] for t2 in range(min(m, window.shape[0])))

    def _folded(self, x_TMN: Tensor) -> Tensor:
        """(count, groups, 2, m, M N), in scratch memory."""
        name, windows, columns = self._room
        groups = int(self._groups.stop - self._groups.start)
        room = self._scratch(name, windows, groups, 2, self._transform.length, columns)
        return room[: self._count, ..., : x_TMN.shape[1] * x_TMN.shape[2]]

    def _of_groups(self, x_TMN: Tensor, groups: slice, some: slice) -> list[Tensor]:
        """Of each window (groups, 2 m, some of M times N)."""
        start, stop, _ = some.indices(x_TMN.shape[1])
        columns = slice(start * x_TMN.shape[2], stop * x_TMN.shape[2])
        within = slice(groups.start - self._groups.start, groups.stop - self._groups.start)
        return [folded[within, ..., columns].flatten(1, 2) for folded in self._folded(x_TMN)]

    def _matrix(self, x_TMN: Tensor) -> Tensor:
        """(T, M N) in the dtype of the taps, without a copy if it is one in memory."""
        # A compiler finds the copies itself, and that of PyTorch 2.6 takes no question of this kind in a backward pass.
        if x_TMN.dtype == self._scratch.like.dtype and (torch.compiler.is_compiling() or x_TMN[0].is_contiguous()):
            return x_TMN.flatten(1)
        return self._scratch("time", *x_TMN.shape).copy_(x_TMN).flatten(1)


_ALL = slice(None)


class _Work:
    """The pieces of one convolution, and the scratch memory that they share.

    groups: slices of the groups of rows; samples: slices of the batch. With `in_place` the output's rows are added
    in the room of the input, if those of some samples do not reach to samples whose input is still to be read.
    """

    def __init__(self, cut: Blocks, batch: int, taps_KOI: Tensor, in_place: bool) -> None:
        self._cut, self._scratch = cut, Scratch(taps_KOI)
        kind = taps_KOI.dtype, taps_KOI.device
        _, outputs, inputs = taps_KOI.shape
        x_room, y_room = _Room("x", cut.count, batch * inputs), _Room("y", cut.out, batch * outputs)
        blocks = max(cut.count, cut.out)
        self._on_cpu = taps_KOI.device.type == "cpu"
        if self._on_cpu:
            self.groups = _slices(cut.size.groups, cut.size.groups / max(1, cut.pieces(batch, inputs, outputs)))
            self.samples = _slices(batch, _PRODUCT_ROWS / blocks)
        else:
            group = cut.size.rows * cut.parts * outputs * inputs
            self.groups = _slices(cut.size.groups, _GPU_ELEMENTS / group)
            self.samples = _slices(batch, _GPU_ELEMENTS / (2 * cut.size.total * blocks * max(inputs, outputs)))
        if in_place and (outputs <= inputs or len(self.samples) == 1):
            windows, columns = max(x_room.windows, y_room.windows), max(x_room.columns, y_room.columns)
            x_room = y_room = _Room("x and y", windows, columns)
        analysed = (analysis(cut.size, length, *kind) for length in (cut.length, cut.part))
        self.x = _Windows(x_room, self._scratch, next(analysed), cut.count, cut.length, cut.length)
        taps_room = _Room("taps", cut.parts, outputs * inputs)
        self.taps = _Windows(taps_room, self._scratch, next(analysed), cut.parts, cut.part, cut.part)
        self.y = _Windows(y_room, self._scratch, synthesis(cut.size, cut.rows, *kind), cut.out, cut.rows, cut.length)

    def each(self, groups: slice) -> list[slice]:
        """The groups whose rows are in memory at a time: one on a CPU, all elsewhere."""
        if not self._on_cpu:
            return [groups]
        return [slice(q, q + 1) for q in range(groups.start, groups.stop)]

    def like_taps(self, name: str, groups: slice) -> Tensor:
        """(P, R, O, I), uninitialised."""
        return self._scratch(name, self._cut.parts, self.taps.height(groups), *self._scratch.like.shape[1:])

    def rows_of_taps(self, groups: slice) -> Tensor:
        """(P, R, O, I)."""
        return self.taps.rows_to(self.like_taps("rows of taps", groups).transpose(0, 1), groups, _ALL).transpose(0, 1)

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


def _slices(count: int, most: float) -> list[slice]:
    """Even slices of about so many, at least one."""
    pieces = min(count, max(1, round(count / max(most, 1))))
    bounds = [count * i // pieces for i in range(pieces + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
