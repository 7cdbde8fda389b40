"""The engine "direct": causal convolution over time by torch's own convolution, or its products of matrices.

cuDNN's convolution uses TF32 by default, and the backward pass takes the setting of its own time. On CUDA it is a
product of shifted rows for each tap: with time first, the input of k steps ago lies k B rows above. These follow
`torch.set_float32_matmul_precision`.

Shapes: T steps, B batch, I inputs, O outputs, K taps.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..autograd import gradients, is_transformed, needs_graph


def direct(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The convolution, (steps, B, O), in the dtype of the taps."""
    x_TBI = x_TBI.to(taps_KOI.dtype)
    K, T = taps_KOI.shape[0], x_TBI.shape[0]
    if K == 1:
        return functional.linear(x_TBI[:steps], taps_KOI[0])
    if taps_KOI.device.type == "cuda":
        return by_rows(x_TBI, taps_KOI, steps)
    x_BIT = functional.pad(x_TBI.permute(1, 2, 0), (K - 1, steps - T))
    return functional.conv1d(x_BIT, taps_KOI.flip(0).permute(1, 2, 0)).permute(2, 0, 1)


def by_rows(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The same as a product of matrices for each tap, added up where they belong."""
    if is_transformed():
        return _plain(x_TBI, taps_KOI, steps)
    y: Tensor = _ByRows.apply(x_TBI, taps_KOI, steps)
    return y


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
        ctx.save_for_backward(x_TBI, taps_KOI)
        y_TBO = taps_KOI.new_zeros((steps, x_TBI.shape[1], taps_KOI.shape[1]))
        x, y = x_TBI.flatten(0, 1), y_TBO.view(-1, y_TBO.shape[2])
        for k, at_x, at_y in _meetings(x_TBI, taps_KOI, steps):
            y[at_y].addmm_(x[at_x], taps_KOI[k].t())
        return y_TBO

    @staticmethod
    def backward(ctx: Any, grad_TBO: Tensor) -> tuple[Tensor | None, ...]:
        x_TBI, taps_KOI = ctx.saved_tensors
        if needs_graph():
            plain = functools.partial(_plain, steps=grad_TBO.shape[0])
            return *gradients(plain, (x_TBI, taps_KOI), grad_TBO, ctx.needs_input_grad[:2]), None
        grad_x = taps_KOI.new_zeros(x_TBI.shape) if ctx.needs_input_grad[0] else None
        grad_taps = taps_KOI.new_zeros(taps_KOI.shape) if ctx.needs_input_grad[1] else None
        x, grad = x_TBI.flatten(0, 1), grad_TBO.flatten(0, 1)
        for k, at_x, at_y in _meetings(x_TBI, taps_KOI, grad_TBO.shape[0]):
            if grad_taps is not None:
                grad_taps[k].addmm_(grad[at_y].t(), x[at_x])
            if grad_x is not None:
                grad_x.view(-1, x.shape[1])[at_x].addmm_(grad[at_y], taps_KOI[k])
        return grad_x, grad_taps, None


def _meetings(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Iterator[tuple[int, slice, slice]]:
    """(k, rows of the input, rows of the output) of each tap that reaches the output."""
    length, batch = x_TBI.shape[:2]
    for k in range(min(taps_KOI.shape[0], steps)):
        met = min(length, steps - k)
        yield k, slice(met * batch), slice(k * batch, (k + met) * batch)


def _plain(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The convolution in plain operations of torch, products of matrices among them and no convolution."""
    parts = []
    for k in range(min(taps_KOI.shape[0], steps)):
        met = min(x_TBI.shape[0], steps - k)
        parts.append(functional.pad(x_TBI[:met] @ taps_KOI[k].mT, (0, 0, 0, 0, k, steps - k - met)))
    return torch.stack(parts).sum(0)
