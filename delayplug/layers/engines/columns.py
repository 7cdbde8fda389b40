"""Delays per channel on GPUs: a convolution over time of each column by itself, in float32.

Short kernels tap by tap (`kernels/depthwise`): one pass over memory forward, two backward. Long ones by transforms:
with the spectra X of the input, W of the taps and G of the output's gradient, the output is that of X W, the gradient
of the input that of G conj(W), and that of the taps that of conj(X) G, summed over samples; some samples at a time.

Shapes: T steps, B batch, C channels, K taps, F frequencies.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from ..._triton import operator
from ..autograd import gradients, is_transformed, needs_graph
from .windows import (
    Windows,
    add_up,
    add_up_pairs,
    as_integers,
    bytes_for_bool,
    has_kernels,
    pieces,
    power,
    smooth,
    spectra,
)

# What the choice between both is estimated by, for an H100: products per second of short kernels, whose factors come
# from the cache, and bytes of memory.
_PRODUCTS, _BYTES = 4e12, 2.4e12
_STEPS, _COLUMNS, _TAPS = 32, 64, 32  # of a tile
_PROGRAMS = 1024  # that share the sums over samples and steps: some for each multiprocessor


def runs_on_columns(taps: Tensor) -> bool:
    """Whether delays per channel with these taps are computed here."""
    return has_kernels(taps)


def convolve_columns(x_TBC: Tensor, taps_KC: Tensor, steps: int) -> Tensor:
    """The convolution, (steps, B, C), in float32; x may be bool or integers."""
    if is_transformed():
        return _plain(x_TBC, taps_KC, steps)
    engine = _Long if x_TBC.numel() and is_long(x_TBC.shape[0], taps_KC.shape[0], steps) else _Short
    result: Tensor = engine.apply(x_TBC, taps_KC, steps)
    return result


def is_long(steps_in: int, taps: int, steps_out: int) -> bool:
    """Whether transforms are expected to be faster."""
    length, used = min(steps_in, steps_out), min(taps, steps_out)
    short = 3 * used * length / _PRODUCTS
    # Five transforms of each column with about five passes over memory each.
    long = 5 * 5 * 4 * smooth(length + used - 1) / _BYTES
    return long < short


def _plain(x_TBC: Tensor, taps_KC: Tensor, steps: int) -> Tensor:
    """The convolution in plain operations of torch, at once: to be differentiated twice, or batched."""
    if not x_TBC.numel():  # of which cuFFT makes an error
        return taps_KC.new_zeros((steps, *x_TBC.shape[1:])) * x_TBC.to(taps_KC.dtype).sum() * taps_KC.sum()
    size = smooth(x_TBC.shape[0] + taps_KC.shape[0] - 1)
    x = torch.fft.rfft(x_TBC.to(taps_KC.dtype), n=size, dim=0)
    y: Tensor = torch.fft.irfft(x * torch.fft.rfft(taps_KC, n=size, dim=0).unsqueeze(1), n=size, dim=0)
    return y[:steps]


def _second(ctx: Any, grad_TBC: Tensor) -> tuple[Tensor | None, ...]:
    """What a backward pass gives that will be differentiated."""
    plain = functools.partial(_plain, steps=grad_TBC.shape[0])
    return *gradients(plain, ctx.saved_tensors, grad_TBC, ctx.needs_input_grad[:2]), None


class _Short(torch.autograd.Function):
    """Tap by tap."""

    @staticmethod
    def forward(ctx: Any, x_TBC: Tensor, taps_KC: Tensor, steps: int) -> Tensor:
        ctx.save_for_backward(x_TBC, taps_KC)
        y_TBC = taps_KC.new_empty((steps, *x_TBC.shape[1:]))
        depthwise(bytes_for_bool(x_TBC).contiguous(), taps_KC.contiguous(), y_TBC, False)
        return y_TBC

    @staticmethod
    def backward(ctx: Any, grad_TBC: Tensor) -> tuple[Tensor | None, ...]:
        if needs_graph():
            return _second(ctx, grad_TBC)
        x_TBC, taps_KC = (tensor.contiguous() for tensor in ctx.saved_tensors)
        grad_TBC = grad_TBC.contiguous()
        grad_x = grad_taps = None
        if ctx.needs_input_grad[0]:
            grad_x = taps_KC.new_empty(x_TBC.shape)
            depthwise(grad_TBC, taps_KC, grad_x, True)
        if ctx.needs_input_grad[1] and not x_TBC.numel():
            grad_taps = torch.zeros_like(taps_KC)
        elif ctx.needs_input_grad[1]:
            samples, steps, shares = _shares(grad_TBC.shape, taps_KC.shape[0])
            parts = taps_KC.new_empty((shares, *taps_KC.shape))
            depthwise_taps(bytes_for_bool(x_TBC), grad_TBC, parts, samples, steps)
            grad_taps = parts.sum(0)
        return grad_x, grad_taps, None


def _shares(shape: torch.Size, taps: int) -> tuple[int, int, int]:
    """Samples and steps of each share of a sum over those of (T, B, C), and the number of shares."""
    steps, batch, channels = shape
    wanted = max(1, _PROGRAMS // (-(-channels // _COLUMNS) * -(-taps // _TAPS)))
    samples = -(-batch // wanted)
    of_samples = -(-batch // samples)
    length = max(16, -(-steps * of_samples // wanted))
    return samples, length, of_samples * -(-steps // length)


class _Long(torch.autograd.Function):
    """By transforms."""

    @staticmethod
    def forward(ctx: Any, x_TBC: Tensor, taps_KC: Tensor, steps: int) -> Tensor:
        ctx.save_for_backward(x_TBC, taps_KC)
        y_TBC = taps_KC.new_empty((steps, *x_TBC.shape[1:]))
        x, y, taps = _windows(x_TBC.shape[0], taps_KC.shape[0], steps)
        taps_CF = _of_taps(taps_KC, taps)
        for some in pieces(x_TBC.shape[1], x_TBC.shape[2], x):
            _filter(spectra(x_TBC[:steps, some], x, taps_KC.dtype), taps_CF, y, y_TBC[:, some], conjugate=False)
        return y_TBC

    @staticmethod
    def backward(ctx: Any, grad_TBC: Tensor) -> tuple[Tensor | None, ...]:
        if needs_graph():
            return _second(ctx, grad_TBC)
        x_TBC, taps_KC = ctx.saved_tensors
        steps = grad_TBC.shape[0]
        x, y, taps = _windows(x_TBC.shape[0], taps_KC.shape[0], steps)
        taps_CF = _of_taps(taps_KC, taps)
        grad_x = taps_KC.new_empty(x_TBC.shape) if ctx.needs_input_grad[0] else None
        if grad_x is not None:
            grad_x[steps:].zero_()  # too late for the output
        total_CF = torch.zeros_like(taps_CF) if ctx.needs_input_grad[1] else None
        for some in pieces(x_TBC.shape[1], x_TBC.shape[2], x):
            grad_BJCF = spectra(grad_TBC[:, some], y, taps_KC.dtype)
            if total_CF is not None:
                total_CF += _correlation(spectra(x_TBC[:steps, some], x, taps_KC.dtype), grad_BJCF)
            if grad_x is not None:
                _filter(grad_BJCF, taps_CF, x, grad_x[:steps, some], conjugate=True)
        if total_CF is None:
            return grad_x, None, None
        grad_taps = torch.empty_like(taps_KC)
        add_up(total_CF[None, None], taps, grad_taps.unsqueeze(1))
        return grad_x, grad_taps, None


def _windows(steps_in: int, taps: int, steps: int) -> tuple[Windows, Windows, Windows]:
    """One each, of input, output and taps."""
    length, used = min(steps_in, steps), min(taps, steps)
    size = smooth(length + used - 1)
    x, y, z = (Windows(1, n, n, size) for n in (length, length + used - 1, used))
    return x, y, z


def _of_taps(taps_KC: Tensor, windows: Windows) -> Tensor:
    return spectra(taps_KC.unsqueeze(1), windows, taps_KC.dtype)[0, 0]


def _filter(x_BJCF: Tensor, taps_CF: Tensor, windows: Windows, out_TBC: Tensor, *, conjugate: bool) -> None:
    """Spectra times those of the taps, as a sequence written to `out`."""
    if has_kernels(out_TBC):
        samples, _, channels, _ = x_BJCF.shape
        pairs = x_BJCF.new_empty((samples, 1, -(-channels // 2), windows.size))
        filter_pairs(as_integers(x_BJCF), as_integers(taps_CF), as_integers(pairs), conjugate)
        add_up_pairs(pairs, windows, out_TBC)
    else:
        add_up(x_BJCF * (taps_CF.conj() if conjugate else taps_CF), windows, out_TBC)


def _correlation(x_BJCF: Tensor, grad_BJCF: Tensor) -> Tensor:
    """(C, F): the sum over samples of conj(x) grad."""
    if not (x_BJCF.dtype == torch.complex64 and has_kernels(x_BJCF.real)):
        return (x_BJCF.conj() * grad_BJCF).sum((0, 1))
    samples, numbers = x_BJCF.shape[0], x_BJCF[0].numel()
    share = -(-samples // max(1, min(samples, 4 * _PROGRAMS * 512 // numbers)))
    parts = x_BJCF.new_empty((-(-samples // share), *x_BJCF.shape[2:]))
    correlate(as_integers(x_BJCF), as_integers(grad_BJCF), as_integers(parts), share)
    return parts.sum(0)


@operator("depthwise(Tensor x, Tensor taps, Tensor(a!) out, bool back) -> ()")
def depthwise(x: Tensor, taps: Tensor, out: Tensor, back: bool) -> None:
    """x and out (T, B, C), contiguous, with taps (K, C)."""
    from .kernels import depthwise as kernels

    (size, channels), (steps, batch, _) = taps.shape, out.shape
    columns = batch * channels
    flat = channels < _COLUMNS
    blocks = -(-columns // _COLUMNS) if flat else batch * -(-channels // _COLUMNS)
    rows = min(_STEPS, power(steps))
    if not blocks:
        return
    with torch.cuda.device_of(out):
        kernels.depthwise[(blocks * -(-steps // rows),)](
            x, taps, out, x.shape[0], steps, columns, channels, size,
            BACK=back, FLAT=flat, BT=rows, BN=_COLUMNS, num_warps=4,
        )  # fmt: skip


@operator("depthwise_taps(Tensor x, Tensor grad, Tensor(a!) out, int samples, int steps) -> ()")
def depthwise_taps(x: Tensor, grad: Tensor, out: Tensor, samples: int, steps: int) -> None:
    """x and grad (T, B, C), contiguous; out (shares, K, C), each share of so many samples and steps."""
    from .kernels import depthwise as kernels

    shares, size, channels = out.shape
    block, taps = min(_COLUMNS, max(16, power(channels))), min(_TAPS, power(size))
    grid = -(-channels // block), -(-size // taps), shares
    with torch.cuda.device_of(out):
        kernels.depthwise_taps[grid](
            x, grad, out, x.shape[0], grad.shape[0], grad.shape[1], channels, size, samples, steps,
            -(-grad.shape[0] // steps), BK=taps, BC=block, UNROLL=4, num_warps=4,
        )  # fmt: skip


@operator("filter_pairs(Tensor x, Tensor taps, Tensor(a!) out, bool conjugate) -> ()")
def filter_pairs(x: Tensor, taps: Tensor, out: Tensor, conjugate: bool) -> None:
    """x (B, 1, C, F) times taps (C, F), to out (B, 1, C / 2, n): complex numbers as int64."""
    from .kernels import spectra as kernels

    (samples, _, columns, frequencies), (_, _, pairs, size) = x.shape, out.shape
    grid = (samples * -(-pairs // 4) * -(-frequencies // 256),)
    with torch.cuda.device_of(out):
        kernels.filter_pair[grid](
            x, taps, out, columns, pairs, frequencies, size, CONJUGATE=conjugate, BP=4, BF=256, num_warps=4
        )


@operator("correlate(Tensor x, Tensor grad, Tensor(a!) out, int share) -> ()")
def correlate(x: Tensor, grad: Tensor, out: Tensor, share: int) -> None:
    """x and grad (B, 1, C, F), out (shares, C, F): complex numbers as int64."""
    from .kernels import spectra as kernels

    numbers = x[0].numel()
    with torch.cuda.device_of(out):
        kernels.correlation[-(-numbers // 512), out.shape[0]](
            x, grad, out, x.shape[0], share, numbers, BLOCK=512, num_warps=4
        )
