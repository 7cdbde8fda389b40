"""Taps and their gradients in one launch each, on a GPU; the mathematics is that of `taps`.

Shapes: *S that of the connection, N taps per synapse, K ages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .._triton import operator, runs_on

_BLOCK = 128  # synapses of a program, fewer if they have many taps
_MOST_TAPS = 64


def can_construct(delays: Tensor) -> bool:
    """Whether there are kernels for these delays (*S, N): float32 on a GPU, and some."""
    if not runs_on(delays.device) or delays.dtype != torch.float32:
        return False
    return delays.numel() > 0 and delays.shape[-1] <= _MOST_TAPS


def construct(
    delays: Tensor, weights: Tensor | None, sigma: Tensor | None, size: int, interpolation: str, epsilon: float
) -> Tensor:
    """`taps.taps` with K = size, (K, *S); epsilon is added to the sum of the bumps."""
    weights = None if weights is None else weights.contiguous()
    sigma = None if sigma is None else sigma.contiguous()
    out = delays.new_empty((size, *delays.shape[:-1]))
    make_taps(delays.contiguous(), weights, sigma, interpolation == "gauss", epsilon, out)
    return out


def construct_whole(delays: Tensor, weights: Tensor | None, size: int) -> Tensor:
    """`taps.integer_taps` with K = size, (K, *S), without a graph."""
    out = delays.new_empty((size, *delays.shape[:-1]))
    whole_taps(delays.detach().contiguous(), None if weights is None else weights.detach().contiguous(), out)
    return out


def construct_backward(
    grad: Tensor,
    delays: Tensor,
    weights: Tensor | None,
    sigma: Tensor | None,
    interpolation: str,
    epsilon: float,
    wants: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients for delays, weights and sigma, those that are wanted, from that of the taps (K, *S)."""
    by_delay, by_weight = (
        torch.empty_like(delays, memory_format=torch.contiguous_format) if w else None for w in wants[:2]
    )
    by_sigma = None
    if wants[2] and sigma is not None:
        by_sigma = delays.new_empty(delays.shape if sigma.dim() else (_programs(delays)[0],))
    weights = None if weights is None else weights.contiguous()
    sigma = None if sigma is None else sigma.contiguous()
    gauss, outs = interpolation == "gauss", (by_delay, by_weight, by_sigma)
    taps_gradients(grad.contiguous(), delays.contiguous(), weights, sigma, gauss, epsilon, *outs)
    if by_sigma is not None and sigma is not None and not sigma.dim():
        by_sigma = by_sigma.sum()
    return by_delay, by_weight, by_sigma


def _programs(delays: Tensor) -> tuple[int, int, int, int]:
    """How many programs, the synapses and taps per synapse, and for how many of each a program has place."""
    count = delays.shape[-1]
    synapses, place = delays.numel() // count, 1 << (count - 1).bit_length()
    block = max(16, _BLOCK // place)
    return -(-synapses // block), synapses, place, block


@operator("make_taps(Tensor delays, Tensor? weights, Tensor? sigma, bool gauss, float epsilon, Tensor(a!) out) -> ()")
def make_taps(
    delays: Tensor, weights: Tensor | None, sigma: Tensor | None, gauss: bool, epsilon: float, out: Tensor
) -> None:
    """Taps (K, *S) of delays (*S, N); all contiguous."""
    from .engines.kernels import bumps as kernels

    programs, synapses, place, block = _programs(delays)
    each = sigma is not None and sigma.dim() > 0
    with torch.cuda.device_of(out):
        kernels.make_taps[(programs,)](
            delays, weights, sigma, out, synapses, out.shape[0], epsilon, delays.shape[-1], gauss, each, place, block
        )


@operator("whole_taps(Tensor delays, Tensor? weights, Tensor(a!) out) -> ()")
def whole_taps(delays: Tensor, weights: Tensor | None, out: Tensor) -> None:
    """Taps (K, *S) of delays (*S, N) rounded to whole steps; all contiguous."""
    from .engines.kernels import bumps as kernels

    programs, synapses, place, block = _programs(delays)
    with torch.cuda.device_of(out):
        kernels.whole_taps[(programs,)](delays, weights, out, synapses, out.shape[0], delays.shape[-1], place, block)


@operator(
    "taps_gradients(Tensor grad, Tensor delays, Tensor? weights, Tensor? sigma, bool gauss, float epsilon,"
    " Tensor(a!)? by_delay, Tensor(b!)? by_weight, Tensor(c!)? by_sigma) -> ()"
)
def taps_gradients(
    grad: Tensor,
    delays: Tensor,
    weights: Tensor | None,
    sigma: Tensor | None,
    gauss: bool,
    epsilon: float,
    by_delay: Tensor | None,
    by_weight: Tensor | None,
    by_sigma: Tensor | None,
) -> None:
    """The gradients (*S, N) of what is not None; of one width for all, the sum of each program."""
    from .engines.kernels import bumps as kernels

    programs, synapses, place, block = _programs(delays)
    each = sigma is not None and sigma.dim() > 0
    with torch.cuda.device_of(grad):
        kernels.taps_gradients[(programs,)](
            grad, delays, weights, sigma, by_delay, by_weight, by_sigma, synapses, grad.shape[0], epsilon,
            delays.shape[-1], gauss, each, place, block,
        )  # fmt: skip
