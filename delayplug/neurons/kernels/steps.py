"""A step of a recurrent connection, forward and back in time: what several steps send, through a delay per neuron.

Shapes: B batch, H neurons, N = B H columns (batch, then neurons), K taps, S states of a neuron. A program takes BLOCK
columns. Taps are loaded eight at a time, so that it waits for memory once for these.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def _sent(total, window, taps, n, h, ok, N, H, K):
    """total + sum over k of taps[k, h] window[k, n]."""
    if taps is None:
        total += tl.load(window + n, mask=ok, other=0.0)
    else:
        for start in range(0, K, 8):
            for u in tl.static_range(8):
                k = start + u
                there = ok & (k < K)
                tap = tl.load(taps + k * H + h, mask=there, other=0.0)
                total += tap * tl.load(window + k.to(tl.int64) * N + n, mask=there, other=0.0)
    return total


@triton.jit(do_not_specialize=["N", "H", "K"])
def delayed(window, taps, out, N, H, K, BLOCK: tl.constexpr):
    """out[n] = sum over k of taps[k, h] window[k, n]: (K, N) and (K, H), or None for a single step, to (N,)."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = n < N
    total = _sent(tl.zeros((BLOCK,), tl.float32), window, taps, n, n % H, ok, N, H, K)
    tl.store(out + n, total, mask=ok)


@triton.jit(do_not_specialize=["N", "H", "K", "STRIDE"])
def back(
    grad, window, taps, slopes, states, for_spikes, for_drives, before, N, H, K, STRIDE,
    STATES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A step back in time.

    From the gradients for the spikes of the step by what follows the layer, `grad` (N,), by what they sent to later
    steps, `window` and `taps` as above, and those for the states after the step, `states` (S, N), to those for the
    spikes in all and for the drives, (N,), and for the states before the step, `before` (S, N).

    slopes: of the spikes and then of each state after the step, by the drive and by each state before it, (N,) each,
    STRIDE numbers apart.
    """
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = n < N
    stride = tl.cast(STRIDE, tl.int64)
    g = _sent(tl.load(grad + n, mask=ok, other=0.0), window, taps, n, n % H, ok, N, H, K)
    tl.store(for_spikes + n, g, mask=ok)
    WIDTH: tl.constexpr = STATES + 1
    for i in tl.static_range(WIDTH):
        total = tl.load(slopes + i * stride + n, mask=ok, other=0.0) * g
        for s in tl.static_range(STATES):
            slope = tl.load(slopes + ((s + 1) * WIDTH + i) * stride + n, mask=ok, other=0.0)
            total += slope * tl.load(states + s * N + n, mask=ok, other=0.0)
        if i == 0:
            tl.store(for_drives + n, total, mask=ok)
        else:
            tl.store(before + (i - 1) * N + n, total, mask=ok)
