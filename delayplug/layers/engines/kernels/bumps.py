"""The construction of taps from delays, and its gradients; the mathematics is that of `layers.taps`.

Each program makes all taps of some synapses, which lie side by side in memory.

Shapes: S synapses, N taps of each, K ages.
"""

import triton
import triton.language as tl


@triton.jit
def bump(z, form, GAUSS: tl.constexpr):
    """The bump at distance z; NaN if that is. Its form is -0.5 / width**2 with GAUSS, else its width."""
    if GAUSS:
        height = tl.exp(form * z * z)
    else:
        height = form - tl.abs(z)
        height = tl.where(height < 0, 0.0, height)
    return height


@triton.jit
def place(S, N: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr):
    """(TAPS, BLOCK): where the parameters of each tap are, and whether there is one. (BLOCK,): the synapses."""
    synapse = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tap = tl.arange(0, TAPS)
    return synapse[None, :] * N + tap[:, None], (synapse < S)[None, :] & (tap < N)[:, None], synapse


@triton.jit
def widths(sigma, at, there, EACH: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr):
    """(TAPS, BLOCK): one for each tap, one for all, or 1 without any."""
    width = tl.full((TAPS, BLOCK), 1.0, tl.float32)
    if sigma is not None:
        width = tl.load(sigma + at, mask=there, other=1.0) if EACH else width * tl.load(sigma)
    return width


@triton.jit
def make_taps(
    delays,
    weights,
    sigma,
    out,
    S,
    K,
    epsilon,
    N: tl.constexpr,
    GAUSS: tl.constexpr,
    EACH: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[k, s] = sum over n of w bump(k - d) / sum over j of bump(j - d); out (K, S), parameters (S, N).

    weights may be None; sigma is (S, N) with EACH, else one number, or None for a width of 1.
    """
    at, there, synapse = place(S, N, TAPS, BLOCK)
    d = tl.load(delays + at, mask=there, other=0.0)
    width = widths(sigma, at, there, EACH, TAPS, BLOCK)
    form = -0.5 / (width * width) if GAUSS else width
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for k in range(K):
        total += bump(k - d, form, GAUSS)
    factor = 1.0 / (total + epsilon)
    if weights is not None:
        factor *= tl.load(weights + at, mask=there, other=0.0)
    factor = tl.where(there, factor, 0.0)
    target = out + synapse
    for k in range(K):
        tl.store(target, tl.sum(bump(k - d, form, GAUSS) * factor, axis=0), mask=synapse < S)
        target += S


@triton.jit
def whole_taps(delays, weights, out, S, K, N: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr):
    """The same for delays rounded to whole steps, where the bump is 1; all taps are NaN for one out of 0..K - 1."""
    at, there, synapse = place(S, N, TAPS, BLOCK)
    rounded = tl.floor(tl.load(delays + at, mask=there, other=0.0) + 0.5)
    value = tl.full((TAPS, BLOCK), 1.0, tl.float32)
    if weights is not None:
        value = tl.load(weights + at, mask=there, other=0.0)
    value = tl.where(there, value, 0.0)
    elsewhere = tl.where((rounded >= 0) & (rounded < K), 0.0, float("nan"))
    target = out + synapse
    for k in range(K):
        tl.store(target, tl.sum(tl.where(rounded == k, value, elsewhere), axis=0), mask=synapse < S)
        target += S


@triton.jit
def taps_gradients(
    grad,
    delays,
    weights,
    sigma,
    by_delay,
    by_weight,
    by_sigma,
    S,
    K,
    epsilon,
    N: tl.constexpr,
    GAUSS: tl.constexpr,
    EACH: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients (S, N) for those of the parameters that are not None, from that of the taps (K, S).

    For one width of all, by_sigma has the sum of each program.
    """
    at, there, synapse = place(S, N, TAPS, BLOCK)
    d = tl.load(delays + at, mask=there, other=0.0)
    width = widths(sigma, at, there, EACH, TAPS, BLOCK)
    form = -0.5 / (width * width) if GAUSS else width
    # With bumps e, their slopes e' by the delay and e" by the width, and the gradient G: sums of e, G e, e', G e' ...
    zero = tl.zeros((TAPS, BLOCK), tl.float32)
    e_sum, ge_sum, d_sum, gd_sum, w_sum, gw_sum = zero, zero, zero, zero, zero, zero
    source = grad + synapse
    for k in range(K):
        g = tl.load(source, mask=synapse < S, other=0.0)[None, :]
        source += S
        z = k - d
        e = bump(z, form, GAUSS)
        e_sum += e
        ge_sum += g * e
        if by_delay is not None:
            slope = z * e if GAUSS else tl.where(e > 0, tl.where(z > 0, 1.0, tl.where(z < 0, -1.0, 0.0)), 0.0)
            d_sum += slope
            gd_sum += g * slope
        if by_sigma is not None:
            slope = z * z * e if GAUSS else tl.where(e > 0, 1.0, 0.0)
            w_sum += slope
            gw_sum += g * slope
    norm = 1.0 / (e_sum + epsilon)
    mean = ge_sum * norm
    if by_weight is not None:
        tl.store(by_weight + at, mean, mask=there)
    factor = norm
    if weights is not None:
        factor *= tl.load(weights + at, mask=there, other=0.0)
    if GAUSS:
        factor = factor / (width * width)
    if by_delay is not None:
        tl.store(by_delay + at, factor * (gd_sum - mean * d_sum), mask=there)
    if by_sigma is not None:
        if GAUSS:
            factor = factor / width
        value = factor * (gw_sum - mean * w_sum)
        if EACH:
            tl.store(by_sigma + at, value, mask=there)
        else:
            value = tl.sum(tl.sum(tl.where(there, value, 0.0), axis=1), axis=0)
            tl.store(by_sigma + tl.program_id(0), value)
