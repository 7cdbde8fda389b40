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
from .fourier import blocks, fourier

Engine = Literal["auto", "fft", "direct", "dcls", "channel"]
ENGINES: tuple[str, ...] = get_args(Engine)
CHANNEL_ENGINES = ("auto", "channel")


def convolve(x_TBI: Tensor, taps_KOI: Tensor, *, steps: int | None = None, engine: Engine = "auto") -> Tensor:
    """Delays per synapse, applied to a sequence.

    Args:
        x_TBI: input, same dtype as the taps.
        taps_KOI: kernel, tap k is k steps old.
        steps: length of the result; that of the input by default, at most T + K - 1.
        engine: "fft", "direct", or "auto", which takes the one with less work ("dcls" here means "direct": it differs
            in how the taps are made).

    Returns:
        (steps, B, O).
    """
    steps = _length(x_TBI, taps_KOI, steps)
    if engine == "auto":
        engine = _cheaper(x_TBI.shape, taps_KOI.shape, steps)
    if engine == "fft":
        return fourier(x_TBI, taps_KOI, steps)
    return _direct(x_TBI, taps_KOI, steps)


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
    trailing = max(0, x_TBC.dim() - 3)
    result: Tensor = _Channels.apply(x_TBC, taps_KC.view(*taps_KC.shape, *(1,) * trailing), steps)
    return result


def _length(x: Tensor, taps: Tensor, steps: int | None) -> int:
    most = x.shape[0] + taps.shape[0] - 1
    if steps is None:
        return x.shape[0]
    if not 1 <= steps <= most:
        raise ArgumentError("steps", f"a length between 1 and T + K - 1 = {most}", steps)
    return steps


def _cheaper(x_shape: torch.Size, taps_shape: torch.Size, steps: int) -> Engine:
    """The engine with less arithmetic; a convolution gets about 1.5 times as much of it done per second (two cores)."""
    (T, B, _), (K, O, I) = x_shape, taps_shape  # noqa: E741
    direct = 3 * T * K * B * O * I / 1.5
    return "fft" if blocks(T, K, steps, B, I, O)[1] < direct else "direct"


def _direct(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    K, T = taps_KOI.shape[0], x_TBI.shape[0]
    if K == 1:
        return functional.linear(x_TBI[:steps], taps_KOI[0])
    x_BIT = functional.pad(x_TBI.permute(1, 2, 0), (K - 1, steps - T))
    return functional.conv1d(x_BIT, taps_KOI.flip(0).permute(1, 2, 0)).permute(2, 0, 1)


class _Channels(torch.autograd.Function):
    """Depthwise convolution as K shifted products, without an unfolded copy of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, steps: int) -> Tensor:
        y = torch.zeros((steps, *x.shape[1:]), dtype=x.dtype, device=x.device)
        for k, tap in enumerate(taps):
            length = min(x.shape[0], steps - k)
            if length > 0:
                y[k : k + length].addcmul_(x[:length], tap)
        ctx.save_for_backward(x, taps)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        grad_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        grad_taps = torch.zeros_like(taps) if ctx.needs_input_grad[1] else None
        for k, tap in enumerate(taps):
            length = min(x.shape[0], grad.shape[0] - k)
            if length <= 0:
                continue
            g = grad[k : k + length]
            if grad_x is not None:
                grad_x[:length].addcmul_(g, tap)
            if grad_taps is not None:
                grad_taps[k] = (g * x[:length]).sum_to_size((1, *tap.shape))[0]
        return grad_x, grad_taps, None


def check_engine(engine: str, per_synapse: bool) -> None:
    """Raise ArgumentError unless `engine` is one for delays per synapse, or per channel."""
    known = [name for name in ENGINES if name != "channel"] if per_synapse else CHANNEL_ENGINES
    if engine not in known:
        kind = "synapse" if per_synapse else "channel"
        raise ArgumentError("engine", f"one of {', '.join(known)} for delays per {kind}", repr(engine))
