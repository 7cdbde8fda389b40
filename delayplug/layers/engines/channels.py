"""Delays per channel applied to sequences: a depthwise convolution over time.

    y[t, c] = sum_k taps[k, c] x[t - k, c],        x[t] = 0 for t < 0,        t = 0..steps-1

On GPUs by kernels and transforms of their own, in `columns`.

Shapes: T steps, B batch, C channels, K taps.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional, grad

from ..autograd import gradients, is_transformed, needs_graph
from ..checks import output_steps
from .columns import convolve_columns, runs_on_columns
from .scratch import Scratch

_CPU_ELEMENTS = 1 << 20  # of the input that is worked on at a time
_STEPS = 64  # whose products with all others around them are made at once


def convolve_channels(x_TBC: Tensor, taps_KC: Tensor, *, steps: int | None = None) -> Tensor:
    """Delays per channel, applied to a sequence of any trailing shape.

    Args:
        x_TBC: (T, B, C, ...), or (T, C); in the dtype of the taps, or spikes as bool or integers.
        taps_KC: (K, C).
        steps: length of the result; that of the input by default, at most T + K - 1.

    Returns:
        (steps, B, C, ...).
    """
    steps = output_steps(x_TBC.shape[0], taps_KC.shape[0], steps)
    if x_TBC.dim() == 2:
        return convolve_channels(x_TBC.unsqueeze(1), taps_KC, steps=steps).squeeze(1)
    # Whatever is behind the channels goes with the batch.
    channels_last = x_TBC.movedim(2, -1)
    x_TBC = channels_last.flatten(1, -2)
    if runs_on_columns(taps_KC):
        y = convolve_columns(x_TBC, taps_KC, steps)
    else:
        apply = _plain if is_transformed() else _Channels.apply
        y = apply(x_TBC, taps_KC, steps)
    return y.view(steps, *channels_last.shape[1:]).movedim(-1, 2)


def _plain(x_TBC: Tensor, taps_KC: Tensor, steps: int) -> Tensor:
    """The convolution in plain operations of torch."""
    size, channels = taps_KC.shape
    x_BCT = functional.pad(x_TBC.to(taps_KC.dtype).permute(1, 2, 0), (size - 1, steps - x_TBC.shape[0]))
    return functional.conv1d(x_BCT, taps_KC.flip(0).t().unsqueeze(1), groups=channels).permute(2, 0, 1)


class _Channels(torch.autograd.Function):
    """Depthwise convolution, some samples at a time in memory that is used again. To torch these are one image with
    the time up and the batch across, channels last, as it lies in memory."""

    @staticmethod
    def forward(ctx: Any, x_TBC: Tensor, taps_KC: Tensor, steps: int) -> Tensor:
        ctx.save_for_backward(x_TBC, taps_KC)
        length, before = x_TBC.shape[0], taps_KC.shape[0] - 1
        y_TBC = taps_KC.new_empty((steps, *x_TBC.shape[1:]))
        used = min(length, steps)  # of the input: nothing else reaches a shorter output
        scratch = Scratch(taps_KC)
        for some in _samples(x_TBC, taps_KC):
            padded = scratch("padded", steps + before, *x_TBC[:, some].shape[1:])
            padded[:before].zero_()
            padded[before : before + used].copy_(x_TBC[:used, some])
            padded[before + used :].zero_()
            y_TBC[:, some].copy_(_depthwise(padded, taps_KC.flip(0)))
        return y_TBC

    @staticmethod
    def backward(ctx: Any, grad_TBC: Tensor) -> tuple[Tensor | None, ...]:
        x_TBC, taps_KC = ctx.saved_tensors
        if needs_graph():
            plain = functools.partial(_plain, steps=grad_TBC.shape[0])
            return *gradients(plain, (x_TBC, taps_KC), grad_TBC, ctx.needs_input_grad[:2]), None
        length, size, steps = x_TBC.shape[0], taps_KC.shape[0], grad_TBC.shape[0]
        grad_x = taps_KC.new_empty(x_TBC.shape) if ctx.needs_input_grad[0] else None
        correlation = _correlation(length, taps_KC) if ctx.needs_input_grad[1] else None
        used = min(steps, length + size - 1)
        scratch = Scratch(taps_KC)
        for some in _samples(x_TBC, taps_KC):
            padded = scratch("padded", length + size - 1, *x_TBC[:, some].shape[1:])
            padded[:used].copy_(grad_TBC[:used, some])
            padded[used:].zero_()
            if grad_x is not None:
                grad_x[:, some].copy_(_depthwise(padded, taps_KC))
            if correlation is not None:
                correlation.add(padded, scratch("x", length, *padded.shape[1:]).copy_(x_TBC[:, some]), scratch)
        return grad_x, None if correlation is None else correlation.taps(), None


def _samples(x_TBC: Tensor, taps_KC: Tensor) -> list[slice]:
    """Slices of the batch that fit a CPU's cache; one slice elsewhere."""
    length, batch, channels = x_TBC.shape
    at_once = _CPU_ELEMENTS // ((length + taps_KC.shape[0]) * channels) if x_TBC.device.type == "cpu" else batch
    return [slice(start, start + max(1, at_once)) for start in range(0, batch, max(1, at_once))]


def _depthwise(padded_TBC: Tensor, taps_KC: Tensor) -> Tensor:
    """y[t] = sum_k taps[k] padded[t + k], shorter by K - 1 steps."""
    image = padded_TBC.unsqueeze(0).permute(0, 3, 1, 2)  # (1, C, T, B), a view
    kernel = taps_KC.t().reshape(-1, 1, taps_KC.shape[0], 1)
    return functional.conv2d(image, kernel, groups=taps_KC.shape[1])[0].permute(1, 2, 0)


def _correlation(length: int, taps_KC: Tensor) -> "_Convolved | _Correlation":
    """What sums the gradient of the taps: by oneDNN where that has it, or else by matrix products."""
    onednn = taps_KC.device.type == "cpu" and taps_KC.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return _Convolved(taps_KC) if onednn else _Correlation(length, taps_KC)


class _Convolved:
    """(K, C): sum over t and b of grad[t + k] x[t], as the gradient of the convolution that gives the one of x."""

    def __init__(self, like_KC: Tensor) -> None:
        self._sum = like_KC.new_zeros(like_KC.shape)

    def add(self, grad_TBC: Tensor, x_TBC: Tensor, scratch: Scratch) -> None:
        """Some samples; grad is longer by K - 1 steps."""
        size, channels = self._sum.shape
        image, of_output = (part.unsqueeze(0).permute(0, 3, 1, 2) for part in (grad_TBC, x_TBC))
        kernel = grad.conv2d_weight(image, (channels, 1, size, 1), of_output, groups=channels)
        self._sum += kernel[:, 0, :, 0].t()

    def taps(self) -> Tensor:
        """The sum so far."""
        return self._sum


class _Correlation:
    """(K, C): sum over t and b of grad[t + k] x[t], from all products of some steps, of which diagonals are summed."""

    def __init__(self, length: int, like_KC: Tensor) -> None:
        self._size, channels = like_KC.shape
        self._starts = range(0, length, _STEPS)
        widths = (min(_STEPS, length - start) for start in self._starts)
        self._products = [like_KC.new_zeros((channels, n + self._size - 1, n)) for n in widths]

    def add(self, grad_TBC: Tensor, x_TBC: Tensor, scratch: Scratch) -> None:
        """Some samples; grad is longer by K - 1 steps."""
        grad_CTB, x_CTB = _channels_first(grad_TBC, scratch, "grad first"), _channels_first(x_TBC, scratch, "x first")
        for start, products in zip(self._starts, self._products, strict=True):
            rows, columns = products.shape[1:]
            products.baddbmm_(grad_CTB[:, start : start + rows], x_CTB[:, start : start + columns].mT)

    def taps(self) -> Tensor:
        """The sum so far."""
        diagonals = (
            p.as_strided((p.shape[0], self._size, p.shape[2]), (p.stride(0), p.shape[2], p.shape[2] + 1))
            for p in self._products
        )
        return torch.stack([d.sum(-1) for d in diagonals]).sum(0).t()


def _channels_first(x_TBC: Tensor, scratch: Scratch, name: str) -> Tensor:
    """(C, T, B), as the transpose of a matrix, which torch does fastest."""
    steps, batch, channels = x_TBC.shape
    return scratch(name, channels, steps * batch).copy_(x_TBC.view(-1, channels).t()).view(channels, steps, batch)
