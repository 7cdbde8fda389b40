"""Taps applied to sequences: causal convolution over time.

    y[t] = sum_k taps[k] x[t - k],        x[t] = 0 for t < 0,        t = 0..steps-1

`steps` may exceed the length of x by up to K - 1, which flushes what is still under way. Two engines compute the same:
`direct` (a convolution) costs T K B I O products, `fft` (see `fourier`, on GPUs `spectral`) hardly depends on K. Delays
per channel have an arithmetic of their own, in `channels`, and those of convolutions in `spatial`.

Shapes: T steps, B batch, I inputs, O outputs, K taps.
"""

from typing import Literal

from torch import Tensor

from ..checks import output_steps
from .direct import direct
from .fourier import Shape, blocks, fourier, shape_of
from .spectral import convolve_spectral, is_spectral

Engine = Literal["auto", "fft", "direct", "dcls", "channel"]


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
    steps = output_steps(x_TBI.shape[0], taps_KOI.shape[0], steps)
    if engine == "auto":
        engine = _cheaper(shape_of(x_TBI, taps_KOI, steps))
    if engine == "fft" and x_TBI.numel():
        return (convolve_spectral if is_spectral(taps_KOI) else fourier)(x_TBI, taps_KOI, steps)
    return direct(x_TBI, taps_KOI, steps)


def _cheaper(shape: Shape) -> Engine:
    """The engine with less arithmetic; a convolution gets about 1.5 times as much of it done per second (two cores)."""
    direct = 3 * shape.steps_in * shape.taps * shape.batch * shape.inputs * shape.outputs / 1.5
    return "fft" if blocks(shape)[1] < direct else "direct"
