"""Taps applied to sequences: causal convolution over time.

    y[t] = sum_k taps[k] x[t - k],        x[t] = 0 for t < 0,        t = 0..steps-1

`steps` may exceed the length of x by up to K - 1, which flushes what is still under way. Two engines compute the same:
`direct` (a convolution) costs T K B I O products, `fft` (see `delayplug.fourier`) hardly depends on K. `channel` is the
depthwise case.

Shapes: T steps, B batch, I inputs, O outputs, K taps, C channels.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .errors import ArgumentError
from .fourier import Shape, blocks, fourier, shape_of

Engine = Literal["auto", "fft", "direct", "dcls", "channel"]
ENGINES: tuple[str, ...] = get_args(Engine)
CHANNEL_ENGINES = ("auto", "channel")

_STEPS = 64  # whose products with all others around them are made at once


def convolve(x_TBI: Tensor, taps_KOI: Tensor, *, steps: int | None = None, engine: Engine = "auto") -> Tensor:
    """Delays per synapse, applied to a sequence.

    Args:
        x_TBI: input, in the dtype of the taps, or spikes as bool or integers.
        taps_KOI: kernel, tap k is k steps old.
        steps: length of the result; that of the input by default, at most T + K - 1.
        engine: "fft", "direct", or "auto", which takes the one with less work ("dcls" here means "direct": it differs
            in how the taps are made).

    Returns:
        (steps, B, O).
    """
    steps = _length(x_TBI, taps_KOI, steps)
    if engine == "auto":
        engine = _cheaper(shape_of(x_TBI, taps_KOI, steps))
    if engine == "fft" and x_TBI.numel():
        return fourier(x_TBI, taps_KOI, steps)
    return _direct(x_TBI.to(taps_KOI.dtype), taps_KOI, steps)


def convolve_channels(x_TBC: Tensor, taps_KC: Tensor, *, steps: int | None = None) -> Tensor:
    """Delays per channel, applied to a sequence of any trailing shape.

    Args:
        x_TBC: (T, B, C, ...), or (T, C); same dtype as the taps.
        taps_KC: (K, C).
        steps: length of the result; that of the input by default, at most T + K - 1.

    Returns:
        (steps, B, C, ...).
    """
    steps = _length(x_TBC, taps_KC, steps)
    if x_TBC.dim() == 3:
        result: Tensor = _Channels.apply(x_TBC, taps_KC, steps)
        return result
    # Whatever is behind the channels goes with the batch.
    flat = x_TBC.unsqueeze(1) if x_TBC.dim() == 2 else x_TBC.flatten(3).movedim(2, -1)
    y: Tensor = _Channels.apply(flat.reshape(x_TBC.shape[0], -1, taps_KC.shape[1]), taps_KC, steps)
    if x_TBC.dim() == 2:
        return y.squeeze(1)
    batch, channels, *behind = x_TBC.shape[1:]
    return y.view(steps, batch, -1, channels).movedim(-1, 2).reshape(steps, batch, channels, *behind)


def _length(x: Tensor, taps: Tensor, steps: int | None) -> int:
    most = x.shape[0] + taps.shape[0] - 1
    if steps is None:
        return x.shape[0]
    if not 1 <= steps <= most:
        raise ArgumentError("steps", f"a length between 1 and T + K - 1 = {most}", steps)
    return steps


def _cheaper(shape: Shape) -> Engine:
    """The engine with less arithmetic; a convolution gets about 1.5 times as much of it done per second (two cores)."""
    direct = 3 * shape.steps_in * shape.taps * shape.batch * shape.inputs * shape.outputs / 1.5
    return "fft" if blocks(shape)[1] < direct else "direct"


def _direct(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    K, T = taps_KOI.shape[0], x_TBI.shape[0]
    if K == 1:
        return functional.linear(x_TBI[:steps], taps_KOI[0])
    x_BIT = functional.pad(x_TBI.permute(1, 2, 0), (K - 1, steps - T))
    return functional.conv1d(x_BIT, taps_KOI.flip(0).permute(1, 2, 0)).permute(2, 0, 1)


class _Channels(torch.autograd.Function):
    """Depthwise convolution. To torch it is one image with the time up and the batch across, channels last, as it lies
    in memory; the gradient of the taps, for which torch is slow, comes from matrix products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, steps: int) -> Tensor:
        ctx.save_for_backward(x, taps)
        return _depthwise(x, taps.flip(0), taps.shape[0] - 1, steps - x.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        grad_x = grad_taps = None
        if ctx.needs_input_grad[0]:
            behind = x.shape[0] - grad.shape[0] + taps.shape[0] - 1
            grad_x = _depthwise(grad, taps, 0, behind)
        if ctx.needs_input_grad[1]:
            grad_taps = _correlated(grad, x, taps.shape[0])
        return grad_x, grad_taps, None


def _depthwise(x_TBC: Tensor, taps_KC: Tensor, before: int, behind: int) -> Tensor:
    """y[t] = sum_k taps[k] x[t + k], of the input with so many silent steps before and behind it (or cut off there)."""
    length, size = x_TBC.shape[0] + before + behind, taps_KC.shape[0]
    padded = functional.pad(x_TBC, (0, 0, 0, 0, before, behind))
    image = padded.unsqueeze(0).permute(0, 3, 1, 2)  # (1, C, T, B), a view
    y = functional.conv2d(image, taps_KC.t().reshape(-1, 1, size, 1), groups=x_TBC.shape[2])
    return y[0].permute(1, 2, 0)[: length - size + 1]


def _correlated(grad_TBC: Tensor, x_TBC: Tensor, size: int) -> Tensor:
    """(K, C): sum over t and b of grad[t + k] x[t], from all products of some steps, of which diagonals are summed."""
    steps, _, channels = x_TBC.shape
    missing = steps + size - 1 - grad_TBC.shape[0]
    x_CTB = x_TBC.permute(2, 0, 1).contiguous()
    grad_CTB = functional.pad(grad_TBC, (0, 0, 0, 0, 0, missing)).permute(2, 0, 1).contiguous()
    found = x_TBC.new_zeros((channels, size))
    for start in range(0, steps, _STEPS):
        x = x_CTB[:, start : start + _STEPS]
        length = x.shape[1]
        products = torch.bmm(grad_CTB[:, start : start + length + size - 1], x.mT)  # (C, length + K - 1, length)
        diagonals = products.as_strided((channels, size, length), (products.stride(0), length, length + 1))
        found += diagonals.sum(-1)
    return found.t()


def check_engine(engine: str, per_synapse: bool) -> None:
    """Raise ArgumentError unless `engine` is one for delays per synapse, or per channel."""
    known = [name for name in ENGINES if name != "channel"] if per_synapse else CHANNEL_ENGINES
    if engine not in known:
        kind = "synapse" if per_synapse else "channel"
        raise ArgumentError("engine", f"one of {', '.join(known)} for delays per {kind}", repr(engine))
