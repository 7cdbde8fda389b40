"""One step of a recurrent connection, forward or backward in time: the product with its weights, and delays per neuron.

Products run on tensor cores. As in `layers.engines.kernels.rows`, a float32 factor is split into a sum of two bf16
numbers: the weights are passed already split, as w1 and w2, and the other factor is split here. Without w2, both
factors are only rounded to bf16.

Shapes: B batch, H neurons, N = B H, K taps, S states of a neuron. Rows of weights (H, H) are padded with zeros to
DEPTH, a multiple of 16. Taps are loaded eight at a time, so that a program waits for memory once per eight.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from ...layers.engines.kernels.cut import rounded


@triton.jit
def _through(
    a, w1, w2, m, n, B, H, EXACT: tl.constexpr, BACK: tl.constexpr, DEPTH: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A tile of the product: the sum over d of a[m, d] w[n, d], or with BACK of a[m, d] w[d, n].

    EXACT: bf16 represents `a` exactly, so that it is not split.
    """
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, DEPTH, BK):
        d = start + tl.arange(0, BK)
        inside = (m < B)[:, None] & (d < H)[None, :]
        whole = tl.load(a + m[:, None] * H + d[None, :], mask=inside, other=0.0)
        first = rounded(whole)
        at = d[:, None] * DEPTH + n[None, :] if BACK else n[None, :] * DEPTH + d[:, None]
        valid = (d < H)[:, None] & (n < H)[None, :]
        w = tl.load(w1 + at, mask=valid, other=0.0)
        a1 = first.to(w.dtype)
        if w2 is not None:
            part = tl.dot(a1, tl.load(w2 + at, mask=valid, other=0.0))
            if not EXACT:
                part = tl.dot(rounded(whole - first).to(w.dtype), w, part)
            total += tl.dot(a1, w, part)
        else:
            total = tl.dot(a1, w, total)
    return total


@triton.jit
def _delayed(total, window, taps, at, h, ok, first, last, N, H):
    """total + the sum over k from `first` to `last` - 1 of taps[k, h] window[k, at]."""
    for start in range(first, last, 8):
        for u in tl.static_range(8):
            k = start + u
            valid = ok & (k < last)
            tap = tl.load(taps + k * H + h, mask=valid, other=0.0)
            total += tap * tl.load(window + tl.cast(k, tl.int64) * N + at, mask=valid, other=0.0)
    return total


@triton.jit(do_not_specialize=["B"])
def arrive(
    x, sent, w1, w2, out, B, H: tl.constexpr, EXACT: tl.constexpr, DEPTH: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out[b, h] = x[b, h] + sum over d of sent[b, d] w[h, d]. The grid is (blocks of samples, blocks of neurons)."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    at = m[:, None] * H + n[None, :]
    ok = (m < B)[:, None] & (n < H)[None, :]
    total = _through(sent, w1, w2, m, n, B, H, EXACT, False, DEPTH, BM, BN, BK)
    tl.store(out + at, tl.load(x + at, mask=ok, other=0.0) + total, mask=ok)


@triton.jit(do_not_specialize=["N", "H", "K"])
def send(spikes, window, taps, out, N, H, K, BLOCK: tl.constexpr):
    """Store the spikes (N,) as last row of the window (K, N); out[n] = sum over k of taps[k, n % H] window[k, n]."""
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = n < N
    h = n % H
    s = tl.load(spikes + n, mask=ok, other=0.0)
    tl.store(window + tl.cast(K - 1, tl.int64) * N + n, s, mask=ok)
    total = s * tl.load(taps + (K - 1) * H + h, mask=ok, other=0.0)
    tl.store(out + n, _delayed(total, window, taps, n, h, ok, 0, K - 1, N, H), mask=ok)


@triton.jit(do_not_specialize=["B", "K", "STRIDE"])
def back(
    grad, drives, window, taps, w1, w2, slopes, states, for_spikes, for_drives, before, B, K, STRIDE,
    H: tl.constexpr, STATES: tl.constexpr, DEPTH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One step of the backward pass.

    It reads gradients for the spikes of the step from the layers that follow, `grad` (B, H); for the drives of the next
    step, `drives` (B, H); and for the states after the step, `states` (S, B, H). It writes gradients for the spikes
    from the whole recurrence, `for_spikes` (B, H); for the drives, `for_drives` (B, H); and for the states before the
    step, `before` (S, B, H).

    window: (K, B, H), gradients for the delayed spikes: row 0 of the next step, which is written, and the other rows of
    the steps after that, which are read. slopes: derivatives of the spikes and then of each state after the step by
    the drive and by each state before the step, (B, H) each, STRIDE numbers apart. The grid is that of `arrive`.
    """
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    N = B * H
    at = m[:, None] * H + n[None, :]
    ok = (m < B)[:, None] & (n < H)[None, :]
    h = n[None, :] + m[:, None] * 0
    stride = tl.cast(STRIDE, tl.int64)
    # Load first and multiply then: the product is moved to the layout of the loaded numbers only once.
    g = tl.load(grad + at, mask=ok, other=0.0)
    if taps is not None:
        g = _delayed(g, window, taps, at, h, ok, 1, K, N, H)
    sent = _through(drives, w1, w2, m, n, B, H, False, True, DEPTH, BM, BN, BK)
    tl.store(window + at, sent, mask=ok)
    if taps is None:
        g += sent
    else:
        g += sent * tl.load(taps + h, mask=ok, other=0.0)
    tl.store(for_spikes + at, g, mask=ok)
    WIDTH: tl.constexpr = STATES + 1
    for i in tl.static_range(WIDTH):
        total = tl.load(slopes + i * stride + at, mask=ok, other=0.0) * g
        for s in tl.static_range(STATES):
            slope = tl.load(slopes + ((s + 1) * WIDTH + i) * stride + at, mask=ok, other=0.0)
            total += slope * tl.load(states + s * N + at, mask=ok, other=0.0)
        if i == 0:
            tl.store(for_drives + at, total, mask=ok)
        else:
            tl.store(before + (i - 1) * N + at, total, mask=ok)
