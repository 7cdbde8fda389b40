"""Taps applied to sequences: causal convolution over time.

    y[t] = sum_k taps[k] x[t - k],        x[t] = 0 for t < 0,        t = 0..steps-1

`steps` may exceed the length of x by up to K - 1, which flushes what is still under way. Three engines compute the
same: `direct` (a convolution) costs T K B I O products, `products` the same on a GPU's tensor cores, and `fft` (see
`fourier`, on GPUs `spectral`) hardly depends on K; `rates` has their costs. Delays per channel have an arithmetic of
their own, in `channels`, and those of convolutions in `spatial`.

Shapes: T steps, B batch, I inputs, O outputs, K taps.
"""

from typing import Literal

from torch import Tensor

from ..._triton import runs_on
from ...errors import ArgumentError
from ..checks import output_steps
from ..exact import is_exact
from ..precision import full_precision, setting
from .direct import direct
from .fourier import fourier, shape_of
from .products import can_run, products
from .rates import cheapest, kind_of
from .spectral import convolve_spectral, is_spectral

Engine = Literal["auto", "fft", "direct", "products", "dcls", "channel"]


def convolve(x_TBI: Tensor, taps_KOI: Tensor, *, steps: int | None = None, engine: Engine = "auto") -> Tensor:
    """Delays per synapse, applied to a sequence.

    Args:
        x_TBI: input, in the dtype of the taps, or spikes as bool, integers or in half precision.
        taps_KOI: kernel, tap k is k steps old.
        steps: length of the result; that of the input by default, at most T + K - 1.
        engine: "fft", "direct", "products", or "auto", which takes the one that costs least on the device ("dcls" here
            means "direct": it differs in how the taps are made). Tensors that "products" does not take, of float64 or
            empty ones, go by "direct".

    Returns:
        (steps, B, O).

    Raises:
        ArgumentError: `steps` is out of range, or the engine is "products" where there are no kernels for it.
    """
    steps = output_steps(x_TBI.shape[0], taps_KOI.shape[0], steps)
    if engine == "products" and not runs_on(taps_KOI.device):
        advice = "Choose engine='auto', which takes 'products' on such a GPU by itself"
        expected = "'products' on an NVIDIA GPU of compute capability 8.0 or more, with Triton installed"
        raise ArgumentError("engine", expected, f"'products' on {taps_KOI.device}", advice)
    with full_precision(taps_KOI.device):
        chosen = _cheapest(x_TBI, taps_KOI, steps) if engine == "auto" else engine
        if chosen == "products" and can_run(x_TBI, taps_KOI):
            return products(x_TBI, taps_KOI, steps)
        if chosen == "fft" and x_TBI.numel() and is_spectral(taps_KOI):
            return convolve_spectral(x_TBI, taps_KOI, steps)
        x_TBI = x_TBI.to(taps_KOI.dtype) if x_TBI.is_floating_point() else x_TBI
        if chosen == "fft" and x_TBI.numel():
            return (convolve_spectral if is_spectral(taps_KOI) else fourier)(x_TBI, taps_KOI, steps)
        return direct(x_TBI, taps_KOI, steps)


def _cheapest(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> str:
    """The engine that costs least, of those that can run."""
    shape, kind = shape_of(x_TBI, taps_KOI, steps), kind_of(taps_KOI.device)
    if can_run(x_TBI, taps_KOI):
        return cheapest(("fft", "direct", "products"), shape, kind, is_exact(x_TBI), setting())
    return cheapest(("fft", "direct"), shape, kind, False, "highest" if kind == "cpu" else setting())
