"""Delays to taps: the temporal kernel of a connection as a pure function of its parameters.

A synapse with delay d (in steps, continuous, 0..D) and weight w acts on its input as a kernel over K = D + 1 steps,

    tap[k] = w * bump(k - d) / sum_j bump(j - d),        k = 0..D,

summed over the N taps of a synapse that has several. The bump is

    gauss      exp(-z^2 / (2 sigma^2))      DCLS "gauss", with sigma = |SIG| + 0.27
    triangle   max(0, sigma - |z|)          DCLS "max",   with sigma = |SIG| + 1
    linear     max(0, 1 - |z|)              DCLS "v1"

(Khalfaoui-Hassani, Pellegrini, Masquelier, "Dilated Convolution with Learnable Spacings: beyond bilinear
interpolation", 2023; Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024, section 3.2.) DCLS counts positions from
the other end and from the middle; see `delayplug.layers.linear.LearnableDelay.from_dcls`.

Shapes: S the shape of the connection, (O, I) per synapse or (C,) per channel; N taps per synapse; K = D + 1.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import ArgumentError, choice_error
from .autograd import gradients, is_transformed, needs_graph
from .construct import can_construct, construct, construct_backward, construct_whole
from .engines.scratch import Scratch

Interpolation = Literal["gauss", "triangle", "linear"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)

# What DCLS adds to its |SIG| parameter: the narrowest width that still passes a gradient to the delay.
SIGMA_FLOOR: dict[str, float] = {"gauss": 0.27, "triangle": 1.0}

# Elements of a part of the kernel: few enough for a handful of temporaries not to leave a CPU's cache for good.
_CPU_PART = 1 << 18
_LEAST_SYNAPSES = 1 << 12  # of a part: shorter rows of the kernel are slow to read and to write


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
        (D + 1, *S): the weight that the input of k steps ago has, for each k. Differentiable in all three.
    """
    check_interpolation(interpolation)
    if (sigma is None) != (interpolation == "linear"):
        expected = "None" if interpolation == "linear" else "a width in steps"
        raise ArgumentError("sigma", f"{expected} with interpolation={interpolation!r}", sigma)
    if is_transformed():
        return _plain(delays, weights, sigma, max_delay + 1, interpolation)
    result: Tensor = _Taps.apply(delays, weights, sigma, max_delay + 1, interpolation)
    return result


def integer_taps(delays: Tensor, weights: Tensor | None, *, max_delay: int) -> Tensor:
    """The kernel with delays rounded to whole steps: exactly one nonzero k per tap, holding exactly its weight.

    Shapes as in `taps`, delays of integers included. Differentiable in the weights; rounding passes no gradient to the
    delays. A delay that is NaN or out of range makes the taps of its synapse NaN: that takes no waiting for a device.
    """
    if can_construct(delays) and not is_transformed() and not _learns(weights):
        return construct_whole(delays, weights, max_delay + 1)
    rounded = round_delays(delays)
    index = rounded.long().clamp(0, max_delay)
    values = torch.ones_like(delays) if weights is None else weights
    values = values.masked_fill(index != rounded, math.nan).movedim(-1, 0)
    index = index.movedim(-1, 0)  # (N, *S)
    zeros = values.new_zeros((max_delay + 1, *delays.shape[:-1]))
    if is_transformed():
        return zeros.scatter_add(0, index, values)
    return zeros.scatter_add_(0, index, values)  # a copy of a large kernel costs as much as the rest


def check_interpolation(interpolation: str) -> None:
    """Raise ArgumentError unless there is such an interpolation."""
    if interpolation not in INTERPOLATIONS:
        raise choice_error("interpolation", INTERPOLATIONS, interpolation)


def round_delays(delays: Tensor) -> Tensor:
    """Delays in whole steps; halves go up. Does not pass a gradient."""
    return (delays.detach() + 0.5).floor()


def _learns(weights: Tensor | None) -> bool:
    return weights is not None and weights.requires_grad and torch.is_grad_enabled()


def _plain(delays: Tensor, weights: Tensor | None, sigma: Tensor | None, size: int, interpolation: str) -> Tensor:
    """`taps` in plain operations of torch, with temporaries (K, *S, N)."""
    k = torch.arange(size, dtype=delays.dtype, device=delays.device).view(-1, *(1,) * delays.dim())
    z = k - delays
    if interpolation == "gauss":
        assert sigma is not None
        bump = (-0.5 * (z / sigma).square()).exp()
    else:  # the slope of relu is zero at its corner, as in `_bump_by_delay`
        bump = ((1 if sigma is None else sigma) - z.abs()).relu()
    tap = bump / (bump.sum(0) + _epsilon(delays.dtype))
    return (tap if weights is None else tap * weights).sum(-1)


class _Taps(torch.autograd.Function):
    """`taps` for some synapses at a time, without a (K, *S, N) temporary; the backward pass recomputes the bumps.

    Shapes: M synapses in a row, of which a slice is worked on.
    """

    @staticmethod
    def forward(
        ctx: Any, delays: Tensor, weights: Tensor | None, sigma: Tensor | None, size: int, interpolation: str
    ) -> Tensor:
        ctx.interpolation, ctx.at_once = interpolation, can_construct(delays)
        if ctx.at_once:
            ctx.save_for_backward(delays, weights, sigma, None)
            return construct(delays, weights, sigma, size, interpolation, _epsilon(delays.dtype))
        shape, count = delays.shape[:-1], delays.shape[-1]
        out = delays.new_empty((size, *shape))
        norms = delays.new_empty((count, *shape))
        flat_out, flat_norms = out.view(size, -1), norms.view(count, -1)
        k = torch.arange(size, dtype=delays.dtype, device=delays.device).view(-1, 1)
        scratch = Scratch(delays)
        for n, (d, width, weight) in enumerate(_each_tap(delays, sigma, weights)):
            for part in _parts(size, d):
                z = torch.sub(k, d[part], out=scratch("z", size, d[part].numel()))
                bump = _bump(z, _at(width, part), interpolation, out=z)
                norm = torch.add(bump.sum(0), _epsilon(delays.dtype)).reciprocal_()
                flat_norms[n, part] = norm
                factor = norm if weight is None else norm * weight[part]
                if n == 0:
                    torch.mul(bump, factor, out=flat_out[:, part])
                else:
                    flat_out[:, part].addcmul_(bump, factor)
        ctx.save_for_backward(delays, weights, sigma, norms)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if needs_graph():
            return *_plain_gradients(ctx, grad), None, None
        # With e the bump, G the gradient of the taps and n = 1 / sum e, for any parameter p of the bump:
        #   dL/dw = n sum(G e),   dL/dp = w n [sum(G e') - n sum(G e) sum(e')],   e' = de/dp
        delays, weights, sigma, norms = ctx.saved_tensors
        wants = ctx.needs_input_grad[:3]
        if ctx.at_once:
            there = delays, weights, sigma
            return *construct_backward(grad, *there, ctx.interpolation, _epsilon(delays.dtype), wants), None, None
        # Each of them by tap first, and with the synapses in a row.
        by_delay, by_weight, by_sigma = (norms.new_empty(norms.shape).flatten(1) if want else None for want in wants)
        size, flat_grad, flat_norms = grad.shape[0], grad.reshape(grad.shape[0], -1), norms.flatten(1)
        gauss = ctx.interpolation == "gauss"
        k = torch.arange(grad.shape[0], dtype=delays.dtype, device=delays.device).view(-1, 1)
        scratch = Scratch(delays)
        for n, (d, whole_width, weight) in enumerate(_each_tap(delays, sigma, weights)):
            for part in _parts(grad.shape[0], d):
                width, norm, g = _at(whole_width, part), flat_norms[n, part], flat_grad[:, part]
                weighted = norm if weight is None else norm * weight[part]
                z = torch.sub(k, d[part], out=scratch("z", size, d[part].numel()))
                bump = _bump(z, width, ctx.interpolation, out=scratch("bump", size, d[part].numel()))
                mean = torch.mul(g, bump, out=scratch("weighted", size, d[part].numel())).sum(0).mul_(norm)
                if by_weight is not None:
                    by_weight[n, part] = mean
                # The slope by the delay is made in the memory of z: last.
                for by, slope_of, power in ((by_sigma, _bump_by_sigma, -3), (by_delay, _bump_by_delay, -2)):
                    if by is not None:
                        slope = slope_of(z, bump, ctx.interpolation)
                        total = slope.sum(0)
                        factor = weighted * width**power if gauss else weighted
                        by[n, part] = factor * (slope.mul_(g).sum(0) - mean * total)
        grads = [
            None if by_tap is None else by_tap.view(norms.shape).movedim(0, -1)
            for by_tap in (by_delay, by_weight, by_sigma)
        ]
        if grads[2] is not None and sigma.dim() == 0:
            grads[2] = grads[2].sum()
        return *grads, None, None


def _plain_gradients(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    delays, weights, sigma, _ = ctx.saved_tensors
    size, interpolation, there = grad.shape[0], ctx.interpolation, (delays, weights, sigma)
    inputs = [value for value in there if value is not None]
    wanted = [want for want, value in zip(ctx.needs_input_grad[:3], there, strict=True) if value is not None]

    def plain(*values: Tensor) -> Tensor:
        some = iter(values)
        d, w, s = (None if value is None else next(some) for value in there)
        assert d is not None
        return _plain(d, w, s, size, interpolation)

    found = iter(gradients(plain, inputs, grad, wanted))
    return [None if value is None else next(found) for value in there]


def _epsilon(dtype: torch.dtype) -> float:
    # DCLS adds 1e-7 to the sum. Below float64 that is rounding noise, and leaving it out makes a delay of zero with
    # linear interpolation exactly the plain layer; what remains only keeps 0 / 0 from becoming NaN.
    return 1e-7 if dtype == torch.float64 else 1e-30


def _each_tap(
    delays: Tensor, sigma: Tensor | None, weights: Tensor | None
) -> Iterator[tuple[Tensor, "Width", Tensor | None]]:
    """(delays, width, weights) of each tap n, shapes (M,), (M,), () or a number, and (M,)."""
    one: Width = _number(delays.new_ones(()) if sigma is None else sigma)
    for n in range(delays.shape[-1]):
        width = sigma[..., n].flatten() if sigma is not None and sigma.dim() > 0 else one
        yield delays[..., n].flatten(), width, None if weights is None else weights[..., n].flatten()


# Of the bump: by synapse (M,), or one for all. That is a number where it can be read without waiting for a device.
Width = Tensor | float


def _number(width: Tensor) -> Width:
    traced = torch.compiler.is_compiling() or type(width) not in (Tensor, torch.nn.Parameter)
    return width if traced or width.dim() > 0 or width.device.type != "cpu" else width.item()


def _parts(size: int, d: Tensor) -> Iterator[slice]:
    """Slices over the synapses that keep all their bumps in a CPU's cache; one slice elsewhere."""
    length = max(_LEAST_SYNAPSES, _CPU_PART // size) if d.device.type == "cpu" else max(1, d.numel())
    return (slice(start, start + length) for start in range(0, d.numel(), length))


def _at(width: Width, part: slice) -> Width:
    return width if isinstance(width, float) or width.dim() == 0 else width[part]


def _bump(z: Tensor, width: Width, interpolation: str, out: Tensor) -> Tensor:
    """The bump at distance z, (K, M); `out` may be z."""
    if interpolation != "gauss":
        return torch.abs(z, out=out).neg_().add_(width).clamp_(min=0)
    # Where a bump is next to nothing it stays a normal number: below that a CPU's exp is ten times as slow.
    least = math.log(torch.finfo(z.dtype).tiny) + 8
    scale = -0.5 * width**-2
    if not isinstance(scale, float):
        return torch.mul(z, z, out=out).mul_(scale).clamp_(min=least).exp_()
    torch.addcmul(z.new_zeros(()), z, z, value=scale, out=out)
    wide = scale * z.shape[0] ** 2 > least  # at all distances, which are less than K
    return (out if wide else out.clamp_(min=least)).exp_()


def _bump_by_delay(z: Tensor, bump: Tensor, interpolation: str) -> Tensor:
    """d bump / d delay; for "gauss" without its factor 1 / sigma^2."""
    return z.mul_(bump) if interpolation == "gauss" else z.sign().mul_(bump > 0)


def _bump_by_sigma(z: Tensor, bump: Tensor, interpolation: str) -> Tensor:
    """d bump / d sigma; for "gauss" without its factor 1 / sigma^3."""
    return z.square().mul_(bump) if interpolation == "gauss" else (bump > 0).to(bump.dtype)
