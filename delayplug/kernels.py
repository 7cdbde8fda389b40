"""Delays to taps: the temporal kernel of a connection as a pure function of its parameters.

A synapse with delay d (in steps, continuous, 0..D) and weight w acts on its input as a kernel over K = D + 1 steps,

    tap[k] = w * bump(k - d) / sum_j bump(j - d),        k = 0..D,

summed over the N taps of a synapse that has several. The bump is

    gauss      exp(-z^2 / (2 sigma^2))      DCLS "gauss", with sigma = |SIG| + 0.27
    triangle   max(0, sigma - |z|)          DCLS "max",   with sigma = |SIG| + 1
    linear     max(0, 1 - |z|)              DCLS "v1"

(Khalfaoui-Hassani, Pellegrini, Masquelier, "Dilated Convolution with Learnable Spacings: beyond bilinear
interpolation", 2023; Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024, section 3.2.) DCLS counts positions from
the other end and from the middle; see `delayplug.layers.LearnableDelay.from_dcls`.

Shapes: S the shape of the connection, (O, I) per synapse or (C,) per channel; N taps per synapse; K = D + 1.
"""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import ArgumentError

Interpolation = Literal["gauss", "triangle", "linear"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)

# What DCLS adds to its |SIG| parameter: the narrowest width that still passes a gradient to the delay.
SIGMA_FLOOR: dict[str, float] = {"gauss": 0.27, "triangle": 1.0}

# Elements of one block of the kernel: small enough for its handful of temporaries to stay in a CPU's cache.
_CPU_BLOCK = 1 << 16


def taps(
    delays: Tensor, weights: Tensor | None, sigma: Tensor | None, *, max_delay: int, interpolation: Interpolation
) -> Tensor:
    """Build the kernel of a connection from continuous delays.

    Args:
        delays: (*S, N), in steps, between 0 and `max_delay` (not checked here: that would wait for the device).
        weights: (*S, N), or None for weights of one.
        sigma: width of the bump in steps, () or (*S, N); None for "linear".
        max_delay: D, in steps.
        interpolation: "gauss", "triangle" or "linear".

    Returns:
        (D + 1, *S): the weight that the input of k steps ago has, for each k. Differentiable once, in all three.
    """
    if interpolation not in INTERPOLATIONS:
        raise ArgumentError("interpolation", f"one of {', '.join(INTERPOLATIONS)}", repr(interpolation))
    if (sigma is None) != (interpolation == "linear"):
        expected = "None" if interpolation == "linear" else "a width in steps"
        raise ArgumentError("sigma", f"{expected} with interpolation={interpolation!r}", sigma)
    result: Tensor = _Taps.apply(delays, weights, sigma, max_delay + 1, interpolation)
    return result


def integer_taps(delays: Tensor, weights: Tensor | None, *, max_delay: int) -> Tensor:
    """The kernel with delays rounded to whole steps: exactly one nonzero k per tap, holding exactly its weight.

    Shapes as in `taps`. Differentiable in the weights; rounding passes no gradient to the delays.
    """
    index = round_delays(delays).long().movedim(-1, 0)  # (N, *S)
    values = torch.ones_like(delays) if weights is None else weights
    values = values.movedim(-1, 0)
    zeros = values.new_zeros((max_delay + 1, *delays.shape[:-1]))
    return zeros.scatter_add(0, index, values)


def round_delays(delays: Tensor) -> Tensor:
    """Delays in whole steps; halves go up. Does not pass a gradient."""
    return (delays.detach() + 0.5).floor()


class _Taps(torch.autograd.Function):
    """`taps` block by block over k, without a (K, *S, N) temporary; the backward pass recomputes the bumps."""

    @staticmethod
    def forward(
        ctx: Any, delays: Tensor, weights: Tensor | None, sigma: Tensor | None, size: int, interpolation: str
    ) -> Tensor:
        shape = delays.shape[:-1]
        out = delays.new_zeros((size, *shape))
        # With one tap the bumps can be scaled where they stand; more taps need a place of their own.
        bumps = out if delays.shape[-1] == 1 else torch.empty_like(out)
        norms = torch.empty((delays.shape[-1], *shape), dtype=delays.dtype, device=delays.device)
        for n, (d, width) in enumerate(_each_tap(delays, sigma)):
            total = torch.zeros_like(d)
            for block, k in _blocks(size, d):
                bump = _bump(torch.sub(k, d, out=bumps[block]), width, interpolation)
                total += bump.sum(0)
            norms[n] = 1 / (total + _epsilon(delays.dtype))
            factor = norms[n] if weights is None else norms[n] * weights[..., n]
            if bumps is out:
                out.mul_(factor)
            else:
                out.addcmul_(bumps, factor)
        ctx.save_for_backward(delays, weights, sigma, norms)
        ctx.interpolation = interpolation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # With e the bump, G the gradient of the taps and n = 1 / sum e, for any parameter p of the bump:
        #   dL/dw = n sum(G e),   dL/dp = w n [sum(G e') - n sum(G e) sum(e')],   e' = de/dp
        delays, weights, sigma, norms = ctx.saved_tensors
        wants_delays, wants_weights, wants_sigma = ctx.needs_input_grad[:3]
        grad_delays = torch.empty_like(delays) if wants_delays else None
        grad_weights = torch.empty_like(delays) if wants_weights else None
        grad_sigma = torch.empty_like(delays) if wants_sigma else None
        for n, (d, width) in enumerate(_each_tap(delays, sigma)):
            norm = norms[n]
            weighted = norm if weights is None else norm * weights[..., n]
            sum_ge, sum_gd, sum_d, sum_gs, sum_s = (torch.zeros_like(d) for _ in range(5))
            for block, k in _blocks(grad.shape[0], d):
                z, g = k - d, grad[block]
                bump = _bump(z.clone(), width, ctx.interpolation)
                sum_ge += (g * bump).sum(0)
                by_sigma = _bump_by_sigma(z, bump, ctx.interpolation) if wants_sigma else None
                if wants_delays:
                    by_delay = _bump_by_delay(z, bump, ctx.interpolation)
                    sum_d += by_delay.sum(0)
                    sum_gd += by_delay.mul_(g).sum(0)
                if by_sigma is not None:
                    sum_s += by_sigma.sum(0)
                    sum_gs += by_sigma.mul_(g).sum(0)
            if grad_weights is not None:
                grad_weights[..., n] = sum_ge * norm
            if grad_delays is not None:
                scale = width**-2 if ctx.interpolation == "gauss" else 1.0
                grad_delays[..., n] = weighted * scale * (sum_gd - sum_ge * norm * sum_d)
            if grad_sigma is not None:
                scale = width**-3 if ctx.interpolation == "gauss" else 1.0
                grad_sigma[..., n] = weighted * scale * (sum_gs - sum_ge * norm * sum_s)
        if grad_sigma is not None and sigma.dim() == 0:
            grad_sigma = grad_sigma.sum()
        return grad_delays, grad_weights, grad_sigma, None, None


def _epsilon(dtype: torch.dtype) -> float:
    # DCLS adds 1e-7 to the sum. Below float64 that is rounding noise, and leaving it out makes a delay of zero with
    # linear interpolation exactly the plain layer; what remains only keeps 0 / 0 from becoming NaN.
    return 1e-7 if dtype == torch.float64 else 1e-30


def _each_tap(delays: Tensor, sigma: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """(delays, width) of each tap n, shapes S and S or ()."""
    for n, d in enumerate(delays.unbind(-1)):
        width = d.new_ones(()) if sigma is None else sigma if sigma.dim() == 0 else sigma[..., n]
        yield d.contiguous(), width


def _blocks(size: int, d: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices over k that keep a block in cache on a CPU (one block elsewhere), each with its k as (len, 1, ..)."""
    length = max(1, _CPU_BLOCK // max(1, d.numel())) if d.device.type == "cpu" else size
    k = torch.arange(size, dtype=d.dtype, device=d.device).view(-1, *(1,) * d.dim())
    for start in range(0, size, length):
        block = slice(start, min(start + length, size))
        yield block, k[block]


def _bump(z: Tensor, width: Tensor, interpolation: str) -> Tensor:
    """The bump at distance z, in place."""
    if interpolation == "gauss":
        return z.square_().mul_(-0.5 * width**-2).exp_()
    return z.abs_().neg_().add_(width).clamp_(min=0)


def _bump_by_delay(z: Tensor, bump: Tensor, interpolation: str) -> Tensor:
    """d bump / d delay; for "gauss" without its factor 1 / sigma^2."""
    return z * bump if interpolation == "gauss" else z.sign().mul_(bump > 0)


def _bump_by_sigma(z: Tensor, bump: Tensor, interpolation: str) -> Tensor:
    """d bump / d sigma; for "gauss" without its factor 1 / sigma^3."""
    return z.square().mul_(bump) if interpolation == "gauss" else (bump > 0).to(bump.dtype)
