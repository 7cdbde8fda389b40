"""The engine "fft" on GPUs: causal convolution over time by transforms, with one product of matrices per frequency.

With x cut into windows (see `windows`), the spectrum Y of the output is X W at each frequency, the gradient of the
input G conj(W), that of the taps conj(X)' G, summed over samples and windows; G is the spectrum of windows of the
output's gradient, which overlap. Products run on tensor cores, on factors cut into parts of bf16 as the precision
policy says (`kernels/complex_product`), and in torch's complex numbers for other dtypes and without Triton.

Nothing but input and kernel is kept for the backward pass, which transforms them once more. Work goes by slices of the
inputs, and of the batch where that is very large, so that memory is bounded: beside arguments and results, 1.3 GB at
most unless there are thousands of outputs.

Shapes: T steps, B batch, I inputs, O outputs, K taps; Q = B J rows, of J windows each; F frequencies.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..._triton import half, operator
from ..autograd import gradients, is_transformed, needs_graph
from ..precision import parts
from .fourier import Shape, shape_of
from .transforms import least
from .windows import Windows, add_up, add_up_pairs, as_integers, has_kernels, pieces, slices, smooth, spectra

# Bytes of the spectra of all outputs, and of a slice of the inputs or of the taps in a forward and a backward pass.
# Forward, each slice costs one more pass over the spectra of the outputs.
_TOTAL, _FORWARD, _BACKWARD = 7 << 26, 5 << 26, 1 << 28
_WIDTH = 64  # slices of the inputs are multiples of it

# What the costs are estimated by, for an H100: bytes of memory, products on tensor cores, and launches per second.
_BYTES, _PRODUCTS, _LAUNCHES = 2.4e12, 2e14, 1e5


class Plan(NamedTuple):
    """How a convolution is cut: windows of the input, the output (and its gradient), and the taps."""

    x: Windows
    y: Windows
    taps: Windows


def convolve_spectral(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The convolution, (steps, B, O), in the dtype of the taps, under autocast too; x is not empty."""
    if is_transformed():
        return _plain(x_TBI, taps_KOI, steps)
    result: Tensor = _Spectral.apply(x_TBI, taps_KOI, steps, parts())
    return result


def is_spectral(taps: Tensor) -> bool:
    """Whether this is how the engine "fft" computes: on NVIDIA's and AMD's GPUs, or where kernels are interpreted."""
    return taps.device.type == "cuda" or has_kernels(taps)


def cost(shape: Shape, parts: int = 2) -> float:
    """Estimated seconds of a forward and a backward pass on an H100, with factors of so many parts."""
    return plan(shape, parts)[1]


@functools.lru_cache(maxsize=256)
def plan(shape: Shape, parts: int = 2) -> tuple[Plan, float]:
    """The cheapest number of windows, and its cost in seconds."""
    longest = max(32, shape.steps_in // 64)
    ways = [_cut(shape, count, parts) for count in range(1, max(1, shape.steps_in // longest) + 1)]
    return least(ways, lambda way: way[1])


def _cut(shape: Shape, count: int, parts: int) -> tuple[Plan, float]:
    """So many windows, and their cost."""
    # What is later than the output does not count, nor do taps that reach beyond it.
    steps, taps = min(shape.steps_in, shape.steps_out), min(shape.taps, shape.steps_out)
    length = -(-steps // count)
    count = -(-steps // length)
    size = smooth(length + taps - 1)
    x = Windows(count, length, length, size)
    y = Windows(count, length, length + taps - 1, size)
    rows, inputs, outputs = shape.batch * count, shape.inputs, shape.outputs
    matrices = rows * inputs, outputs * inputs, rows * outputs
    # Both passes: input and taps are transformed twice there and once back, the output once there and once back. Each
    # takes five passes over windows or spectra, and the sequence itself.
    times = zip(matrices, (3, 3, 2), (steps, taps, shape.steps_out), strict=True)
    moved = sum(n * columns * 4 * (5 * size + sequence) for columns, n, sequence in times)
    moved += 3 * x.frequencies * 4 * parts * sum(matrices)
    products = 3 * 4 * (3 if parts == 2 else 1) * x.frequencies * _tiles(rows) * _tiles(inputs) * _tiles(outputs)
    launches = 40  # where each slice is one piece, as for all that is not long anyway
    seconds = moved / _BYTES + products / _PRODUCTS + launches / _LAUNCHES
    return Plan(x, y, Windows(1, taps, taps, size)), seconds


def _tiles(number: int) -> int:
    return -(-number // 64) * 64


def _plain(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The convolution in plain operations of torch, at once: to be differentiated twice, or batched."""
    size = smooth(x_TBI.shape[0] + taps_KOI.shape[0] - 1)
    x = torch.fft.rfft(x_TBI.to(taps_KOI.dtype), n=size, dim=0)
    y: Tensor = torch.fft.irfft(x @ torch.fft.rfft(taps_KOI, n=size, dim=0).mT, n=size, dim=0)
    return y[:steps]


class _Spectral(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, taps_KOI: Tensor, steps: int, parts: int) -> Tensor:
        ctx.save_for_backward(x_TBI, taps_KOI)
        ctx.parts = parts
        cut, work = _start(x_TBI, taps_KOI, steps, parts)
        _, batch, inputs = x_TBI.shape
        outputs = taps_KOI.shape[1]
        y_TBO = taps_KOI.new_empty((steps, batch, outputs))
        taps_FOI = _Last(lambda some: work.factor(taps_KOI[:, :, some], cut.taps))
        number = 8 * cut.x.frequencies
        for samples in slices(batch, _TOTAL // (number * cut.x.count * outputs)):
            rows = (samples.stop - samples.start) * cut.x.count
            y_FQO: Tensor | None = None
            for some in slices(inputs, _columns(_FORWARD, number * max(rows, outputs))):
                x_FQI = work.factor(x_TBI[:steps, samples, some], cut.x)
                y_FQO = work.product(x_FQI, taps_FOI(some).mT, rows, y_FQO)
                del x_FQI
            assert y_FQO is not None
            work.back(y_FQO, cut.y, y_TBO[:, samples])
        return y_TBO

    @staticmethod
    def backward(ctx: Any, grad_TBO: Tensor) -> tuple[Tensor | None, ...]:
        x_TBI, taps_KOI = ctx.saved_tensors
        steps, batch, outputs = grad_TBO.shape
        if needs_graph():
            plain = functools.partial(_plain, steps=steps)
            return *gradients(plain, (x_TBI, taps_KOI), grad_TBO, ctx.needs_input_grad[:2]), None, None
        cut, work = _start(x_TBI, taps_KOI, steps, ctx.parts)
        inputs = x_TBI.shape[2]
        grad_x = taps_KOI.new_empty(x_TBI.shape) if ctx.needs_input_grad[0] else None
        if grad_x is not None:
            grad_x[steps:].zero_()  # too late for the output
        grad_taps = taps_KOI.new_empty(taps_KOI.shape) if ctx.needs_input_grad[1] else None
        grad_FQO = _Last(lambda samples: work.factor(grad_TBO[:, samples], cut.y))
        number = 8 * cut.x.frequencies
        all_samples = slices(batch, _TOTAL // (number * cut.x.count * outputs))
        rows = (all_samples[0].stop - all_samples[0].start) * cut.x.count
        for some in slices(inputs, _columns(_BACKWARD, number * max(rows, outputs))):
            taps_FOI = None if grad_x is None else work.factor(taps_KOI[:, :, some], cut.taps, conjugate=True)
            gt_FOI: Tensor | None = None
            for samples in all_samples:
                rows = (samples.stop - samples.start) * cut.x.count
                if grad_taps is not None:
                    x_FQI = work.factor(x_TBI[:steps, samples, some], cut.x, conjugate=True)
                    gt_FOI = work.product(grad_FQO(samples).mT, x_FQI, outputs, gt_FOI)
                    del x_FQI
                if grad_x is not None and taps_FOI is not None:
                    gx_FQI = work.product(grad_FQO(samples), taps_FOI, rows, None)
                    work.back(gx_FQI, cut.x, grad_x[:steps, samples, some])
                    del gx_FQI
            del taps_FOI
            if grad_taps is not None and gt_FOI is not None:
                work.back(gt_FOI, cut.taps, grad_taps[:, :, some])
        return grad_x, grad_taps, None, None


def _start(x_TBI: Tensor, taps_KOI: Tensor, steps: int, parts: int) -> tuple[Plan, "_Work"]:
    cut, _ = plan(shape_of(x_TBI, taps_KOI, steps), parts)
    return cut, _TensorCores(parts) if has_kernels(taps_KOI) else _Complex(taps_KOI.dtype)


def _columns(limit: int, column: int) -> int:
    """How many of so many bytes fit."""
    return max(1, limit // column // _WIDTH) * _WIDTH


class _Last:
    """What a function gives for slices, remembered for the last one."""

    def __init__(self, make: Callable[[slice], Tensor]) -> None:
        self._make = make
        self._of: slice | None = None
        self._value: Tensor | None = None

    def __call__(self, some: slice) -> Tensor:
        if self._value is None or self._of != some:
            self._value = None  # its memory is free before more is taken
            self._value, self._of = self._make(some), some
        return self._value


class _Work(Protocol):
    """How factors, products and results look. `mT` of a factor is its transpose."""

    def factor(self, x_TRC: Tensor, windows: Windows, *, conjugate: bool = False) -> Tensor:
        """The spectra of a sequence, (..., F, R J, C)."""
        ...

    def product(self, a: Tensor, b: Tensor, rows: int, total: Tensor | None) -> Tensor:
        """Of the matrices (rows, D) and (D, N) of each frequency, added to the total so far."""
        ...

    def back(self, product: Tensor, windows: Windows, out_TRC: Tensor) -> None:
        """The sequence of which the spectra are a product's, written to `out`, with zeros behind it."""
        ...


class _Complex:
    """In torch's complex numbers."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def factor(self, x_TRC: Tensor, windows: Windows, *, conjugate: bool = False) -> Tensor:
        parts = [
            spectra(x_TRC[:, some], windows, self._dtype).flatten(0, 1).movedim(2, 0)
            for some in pieces(x_TRC.shape[1], x_TRC.shape[2], windows)
        ]
        factor = torch.cat(parts, dim=1)
        return factor.conj() if conjugate else factor

    def product(self, a: Tensor, b: Tensor, rows: int, total: Tensor | None) -> Tensor:
        return torch.bmm(a, b) if total is None else total.baddbmm_(a, b)

    def back(self, product: Tensor, windows: Windows, out_TRC: Tensor) -> None:
        rows_RJCF = product.movedim(0, 2).unflatten(0, (-1, windows.count))
        for some in pieces(out_TRC.shape[1], out_TRC.shape[2], windows):
            add_up(rows_RJCF[some], windows, out_TRC[:, some])


class _TensorCores:
    """Factors as planes of bf16, real and imaginary first parts and then second ones, (2 or 4, F, R J, C), rows and
    columns filled up to multiples of 16; products as two planes of float32."""

    def __init__(self, parts: int) -> None:
        self._parts = parts

    def factor(self, x_TRC: Tensor, windows: Windows, *, conjugate: bool = False) -> Tensor:
        _, rows, columns = x_TRC.shape
        height = rows * windows.count
        shape = 2 * self._parts, windows.frequencies, _filled(height), _filled(columns)
        planes = torch.empty(shape, dtype=half(x_TRC.device), device=x_TRC.device)
        planes[:, :, height:].zero_()
        for some in pieces(rows, columns, windows):
            part = spectra(x_TRC[:, some], windows, torch.float32).flatten(0, 1)
            split_spectra(as_integers(part), planes, some.start * windows.count, conjugate)
        return planes

    def product(self, a: Tensor, b: Tensor, rows: int, total: Tensor | None) -> Tensor:
        out = a.new_empty((2, a.shape[1], rows, b.shape[3]), dtype=torch.float32) if total is None else total
        complex_product(a, b, out, total is not None)
        return out

    def back(self, product: Tensor, windows: Windows, out_TRC: Tensor) -> None:
        _, rows, columns = out_TRC.shape
        pairs = -(-columns // 2)
        for some in pieces(rows, columns, windows):
            shape = some.stop - some.start, windows.count, pairs, windows.size
            joined = torch.empty(shape, dtype=torch.complex64, device=out_TRC.device)
            pair_spectra(product.view(torch.int64), as_integers(joined), some.start * windows.count)
            add_up_pairs(joined, windows, out_TRC[:, some])


def _filled(number: int) -> int:
    return -(-number // 16) * 16


@operator("split_spectra(Tensor spectra, Tensor(a!) out, int first, bool conjugate) -> ()")
def split_spectra(spectra: Tensor, out: Tensor, first: int, conjugate: bool) -> None:
    """Spectra (Q, C, F), complex numbers as int64, to rows of planes from `first` on."""
    from .kernels import spectra as kernels

    (rows, columns, frequencies), stride = spectra.shape, out.shape[3]
    grid = (rows * -(-stride // 64) * -(-frequencies // 32),)
    with torch.cuda.device_of(out):
        kernels.split[grid](
            spectra, out, columns, frequencies, first, stride, out.stride(1), out.stride(0),
            CONJUGATE=conjugate, PARTS=out.shape[0] // 2, BC=64, BF=32, num_warps=4,
        )  # fmt: skip


@operator("complex_product(Tensor a, Tensor b, Tensor(a!) out, bool add) -> ()")
def complex_product(a: Tensor, b: Tensor, out: Tensor, add: bool) -> None:
    """Planes (2 parts, F, M, D) times (2 parts, F, D, N), to planes (2, F, rows, N) of float32."""
    from .kernels import complex_product as kernels

    _, frequencies, rows, columns = out.shape
    # 192 KiB of shared memory, which GPUs for data centres have, and no others.
    large = not a.is_cuda or torch.cuda.get_device_capability(a.device)[0] in (9, 10)
    block, depth = (128, 64) if large else (64, 32)
    grid = (frequencies * -(-rows // block) * -(-columns // 64),)
    with torch.cuda.device_of(out):
        kernels.complex_product[grid](
            a, b, out, a.shape[2], rows, columns, a.shape[3], *a.stride(), *b.stride(), *out.stride()[:3],
            PARTS=a.shape[0] // 2, ADD=add, BM=block, BN=64, BK=depth, num_warps=8, num_stages=2,
        )  # fmt: skip


@operator("pair_spectra(Tensor planes, Tensor(a!) out, int first) -> ()")
def pair_spectra(planes: Tensor, out: Tensor, first: int) -> None:
    """Rows of planes (2, F, Q, C / 2), two columns as one int64, from `first` on, to complex (R, J, C / 2, n)."""
    from .kernels import spectra as kernels

    rows, count, pairs, size = out.shape
    grid = (rows * count * -(-pairs // 32) * -(-planes.shape[1] // 32),)
    with torch.cuda.device_of(out):
        kernels.pair[grid](
            planes, out, pairs, planes.shape[1], size, first, *planes.stride()[2:0:-1], planes.stride(0),
            BP=32, BF=32, num_warps=4,
        )  # fmt: skip
