"""Delays of convolutions over space: one convolution for each age of the input, added up.

    y[t] = sum_k convolution(x[t - k], taps[k]),        x[t] = 0 for t < 0,        t = 0..steps-1

Shapes: T steps, B batch, C channels in, O channels out, K ages (taps over time), g groups; * the dimensions of space.
The weight of a convolution is (O, C / g, *), and (C, O / g, *) of a transposed one.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..autograd import gradients, is_transformed, needs_graph
from ..precision import full_precision


class Geometry(NamedTuple):
    """A convolution over space without its weights, in the order in which torch takes it."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


def convolve_space(x: Tensor, taps: Tensor, geometry: Geometry, steps: int) -> Tensor:
    """A sequence (T, B, C, *), padded, with taps (K, *weight): (steps, B, O, *), at most T + K - 1 steps."""
    with full_precision(taps.device):
        if is_transformed():
            return _plain(x, taps, geometry, steps)
        result: Tensor = _Spatial.apply(x, taps, geometry, steps)
        return result


def join_ages(taps: Tensor, geometry: Geometry) -> Tensor:
    """Taps (K, *weight) of all ages side by side, oldest first, as input channels of one convolution.

    (O, K C / g, *), or (g K C / g, O / g, *) of a transposed convolution: what `weigh_ages` takes.
    """
    oldest_first = taps.flip(0)
    if not geometry.transposed:
        return oldest_first.movedim(0, 1).flatten(1, 2)
    joined: Tensor = oldest_first.unflatten(1, (geometry.groups, -1)).movedim(0, 1).flatten(0, 2)
    return joined


def weigh_ages(window: Tensor, joined: Tensor, geometry: Geometry) -> Tensor:
    """One step (B, O, *): the last K inputs (K, B, C, *), padded, oldest first, with the taps of `join_ages`."""
    x: Tensor = window.unflatten(2, (geometry.groups, -1))  # (K, B, g, C / g, *)
    ages_as_channels = x.permute(1, 2, 0, *range(3, x.dim())).flatten(1, 3)
    if joined.device.type == "cuda":  # as a sequence of one step and one age, whose backward pass is ours
        return convolve_space(ages_as_channels.unsqueeze(0), joined.unsqueeze(0), geometry, 1).squeeze(0)
    with full_precision(joined.device):
        result: Tensor = torch.ops.aten.convolution(ages_as_channels, joined, None, *geometry)
    return result


def _plain(x: Tensor, taps: Tensor, geometry: Geometry, steps: int) -> Tensor:
    """The sum of the convolutions of all ages in plain operations of torch."""
    parts = []
    for k in range(min(taps.shape[0], steps)):
        length = min(x.shape[0], steps - k)
        part: Tensor = torch.ops.aten.convolution(x[:length].flatten(0, 1), taps[k], None, *geometry)
        part = part.unflatten(0, (length, x.shape[1]))
        parts.append(functional.pad(part, (*(0, 0) * (part.dim() - 1), k, steps - k - length)))
    return torch.stack(parts).sum(0)


class _Spatial(torch.autograd.Function):
    """One convolution over space per age, each over all steps at once, added up where they arrive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, geometry: Geometry, steps: int) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.geometry = geometry
        y: Tensor | None = None
        for k in range(min(taps.shape[0], steps)):
            length = min(x.shape[0], steps - k)
            part = torch.ops.aten.convolution(x[:length].flatten(0, 1), taps[k], None, *geometry)
            if y is None:
                y = part.new_zeros((steps, x.shape[1], *part.shape[1:]))
            y[k : k + length] += part.view(length, *y.shape[1:])
        assert y is not None
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        with full_precision(taps.device):
            if needs_graph():
                plain = functools.partial(_plain, geometry=ctx.geometry, steps=grad.shape[0])
                return *gradients(plain, (x, taps), grad, ctx.needs_input_grad[:2]), None, None
            return *_gradients(x, taps, grad, ctx.geometry, ctx.needs_input_grad[:2]), None, None


def _gradients(
    x: Tensor, taps: Tensor, grad: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """For x and taps, those that are wanted."""
    grad_x = torch.zeros_like(x) if wanted[0] else None
    grad_taps = torch.zeros_like(taps) if wanted[1] else None
    for k in range(min(taps.shape[0], grad.shape[0])):
        length = min(x.shape[0], grad.shape[0] - k)
        g, part = grad[k : k + length].flatten(0, 1), x[:length].flatten(0, 1)
        gx, gw, _ = torch.ops.aten.convolution_backward(g, part, taps[k], None, *geometry, [*wanted, False])
        if grad_x is not None:
            grad_x[:length] += gx.view(length, *x.shape[1:])
        if grad_taps is not None:
            grad_taps[k] = gw
    return grad_x, grad_taps
