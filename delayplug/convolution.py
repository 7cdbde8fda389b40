"""Taps applied to sequences: causal convolution over time.

    y[t] = sum_k taps[k] x[t - k],        x[t] = 0 for t < 0,        t = 0..steps-1

`steps` may exceed the length of x by up to K - 1, which flushes what is still under way. Two engines compute the same:
`direct` (a convolution) costs T K B I O products, `fft` (a real Fourier transform over time, one small complex matrix
product per frequency, and back) hardly depends on K. `channel` is the depthwise case.

Shapes: T steps, B batch, I inputs, O outputs, K taps, C channels, F frequencies, n length of the transform. A complex
tensor is kept as two real ones stacked in front, (2, F, ...), so that a transform is one real matrix product.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .errors import ArgumentError

Engine = Literal["auto", "fft", "direct", "dcls", "channel"]
ENGINES: tuple[str, ...] = get_args(Engine)
CHANNEL_ENGINES = ("auto", "channel")

# Up to this length a transform by matrix product beats the fast algorithm, which strides through memory over dim 0.
_MATRIX_TRANSFORM = 512


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
        engine = _cheaper(x_TBI.shape, taps_KOI.shape)
    if engine == "fft":
        return _fourier(x_TBI, taps_KOI, steps)
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


def _cheaper(x_shape: torch.Size, taps_shape: torch.Size) -> Engine:
    """The engine with less arithmetic; a convolution gets about 1.5 times as much of it done per second (two cores)."""
    (T, B, _), (K, O, I) = x_shape, taps_shape  # noqa: E741
    length = T + K - 1
    direct = T * K * B * O * I / 1.5
    products = 1.5 * length * B * O * I
    transforms = length * (T * B * (I + O) + K * O * I)
    return "fft" if products + transforms < direct else "direct"


def _direct(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    K, T = taps_KOI.shape[0], x_TBI.shape[0]
    if K == 1:
        return functional.linear(x_TBI[:steps], taps_KOI[0])
    x_BIT = functional.pad(x_TBI.permute(1, 2, 0), (K - 1, steps - T))
    return functional.conv1d(x_BIT, taps_KOI.flip(0).permute(1, 2, 0)).permute(2, 0, 1)


def _fourier(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    n = x_TBI.shape[0] + taps_KOI.shape[0] - 1  # long enough that nothing wraps around
    if n <= _MATRIX_TRANSFORM:
        result: Tensor = _Fourier.apply(x_TBI, taps_KOI, steps)
        return result
    # A product of small primes is what the fast algorithm likes; the next multiple of a power of two will do.
    n = -(-n // 64) * 64
    spectrum = torch.bmm(torch.fft.rfft(x_TBI, n, dim=0), torch.fft.rfft(taps_KOI, n, dim=0).mT)
    y_TBO: Tensor = torch.fft.irfft(spectrum, n, dim=0)
    return y_TBO[:steps]


class _Fourier(torch.autograd.Function):
    """Convolution with transforms as real matrix products; the backward pass stays in the frequency domain."""

    @staticmethod
    def forward(ctx: Any, x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
        n = x_TBI.shape[0] + taps_KOI.shape[0] - 1
        like = (x_TBI.dtype, x_TBI.device)
        x_2FBI = _stacked(_apply(_analysis(n, x_TBI.shape[0], *like), x_TBI))
        taps_2FOI = _stacked(_apply(_analysis(n, taps_KOI.shape[0], *like), taps_KOI))
        y_2FBO = _complex_product(x_2FBI, taps_2FOI.mT)
        ctx.save_for_backward(x_2FBI, taps_2FOI)
        ctx.lengths = x_TBI.shape[0], taps_KOI.shape[0], steps
        return _apply(_synthesis(n, steps, *like), y_2FBO.flatten(0, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TBO: Tensor) -> tuple[Tensor | None, ...]:
        x_2FBI, taps_2FOI = ctx.saved_tensors
        T, K, steps = ctx.lengths
        n, like = T + K - 1, (grad_TBO.dtype, grad_TBO.device)
        g_2FBO = _stacked(_apply(_synthesis(n, steps, *like).mT, grad_TBO))
        grad_x = grad_taps = None
        if ctx.needs_input_grad[0]:
            grad_x = _apply(_analysis(n, T, *like).mT, _complex_product(g_2FBO, taps_2FOI, conj=True).flatten(0, 1))
        if ctx.needs_input_grad[1]:
            grad_taps = _apply(_analysis(n, K, *like).mT, _complex_product(g_2FBO.mT, x_2FBI, conj=True).flatten(0, 1))
        return grad_x, grad_taps, None


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    """A matrix over dim 0 of x."""
    return (matrix @ x.reshape(x.shape[0], -1)).view(matrix.shape[0], *x.shape[1:])


def _stacked(x: Tensor) -> Tensor:
    """(2F, ...) to (2, F, ...): real and imaginary parts."""
    return x.view(2, x.shape[0] // 2, *x.shape[1:])


def _complex_product(a: Tensor, b: Tensor, conj: bool = False) -> Tensor:
    """a @ b, or a @ conj(b), of stacked complex matrices (2, F, ., .), in three real products instead of four."""
    sign = -1 if conj else 1
    # In place rather than with `out=`, which torch.export cannot trace; beta=0 ignores what is there.
    out = a.new_empty((2, a.shape[1], a.shape[2], b.shape[3]))
    imaginary = torch.bmm(a[1], b[1])
    out[0].baddbmm_(a[0], b[0], beta=0)
    out[1].baddbmm_(a[0] + a[1], torch.add(b[0], b[1], alpha=sign), beta=0).sub_(out[0])
    return out.sub_(imaginary, alpha=sign)


Matrix = Callable[[int, int, torch.dtype, torch.device], Tensor]


def _cached(build: Matrix) -> Matrix:
    """Keep the last matrices, but none made while torch.compile or torch.export traces: those hold no values."""
    kept = functools.lru_cache(maxsize=64)(build)

    @functools.wraps(build)
    def matrix(n: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return (build if torch.compiler.is_compiling() else kept)(n, length, dtype, device)

    return matrix


def _angles(n: int, length: int) -> Tensor:
    """(F, length) angles of the transform, exact for large products of frequency and time."""
    frequency, time = torch.arange(n // 2 + 1, device="cpu").view(-1, 1), torch.arange(length, device="cpu")
    return (2 * math.pi / n) * ((frequency * time) % n).double()


@_cached
def _analysis(n: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2F, length): time to frequency, zero-padded to n."""
    angles = _angles(n, length)
    return torch.cat((angles.cos(), -angles.sin())).to(device, dtype)


@_cached
def _synthesis(n: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(length, 2F): frequency to the first `length` steps. All but the first and the middle frequency count twice."""
    angles = _angles(n, length)
    twice = angles.new_full((angles.shape[0], 1), 2.0)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    return torch.cat((twice * angles.cos(), -twice * angles.sin())).div(n).mT.contiguous().to(device, dtype)


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
