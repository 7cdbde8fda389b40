"""Delays per channel with short kernels: a convolution over time of every column by itself, and its gradients.

A program makes a tile of steps x columns. Whatever it reads again for the next tap lies in the cache next to the cores,
so that input and output go through memory once. Sums are in float32, in a fixed order.

Shapes: T steps, N = B C columns (batch, then channels), K taps. x and out are (T, N), taps (K, C).
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["steps_in", "steps_out", "size"])
def depthwise(
    x,
    taps,
    out,
    steps_in,
    steps_out,
    columns,
    channels,
    size,
    BACK: tl.constexpr,
    FLAT: tl.constexpr,
    BT: tl.constexpr,
    BN: tl.constexpr,
):
    """out[t, n] = sum over k of taps[k, n % channels] x[t - k, n], with BACK of x[t + k, n].

    steps_in, steps_out: of x and out. With FLAT, for few channels, blocks are of columns, whatever sample they belong
    to; otherwise each is of one sample. The grid is blocks of columns times blocks of steps: those of the same columns
    are neighbours, since they share input.
    """
    steps = tl.cdiv(steps_out, BT)
    start = tl.program_id(0) % steps * BT
    block = tl.program_id(0) // steps
    if FLAT:
        n = block.to(tl.int64) * BN + tl.arange(0, BN)
        c = (n % channels).to(tl.int32)
        inside = n < columns
    else:
        blocks = tl.cdiv(channels, BN)
        c = block % blocks * BN + tl.arange(0, BN)
        n = (block // blocks).to(tl.int64) * channels + c
        inside = c < channels
    i = tl.arange(0, BT)
    # Four columns of a thread, whatever the type of x, so that numbers of x and of out are in the same threads.
    n = tl.max_contiguous(n, 4)
    place = i[:, None].to(tl.int64) * columns + n[None, :]
    # Only taps that meet a step of x.
    if BACK:
        first = 0
        last = tl.minimum(size, steps_in - start)
    else:
        first = tl.maximum(start - steps_in + 1, 0)
        last = tl.minimum(size, start + BT)
    total = tl.zeros((BT, BN), tl.float32)
    for k in range(first, last):
        source = start + k if BACK else start - k
        w = tl.load(taps + k * channels + c, mask=inside, other=0.0)
        rows = (i + source >= 0) & (i + source < steps_in)
        at = x + tl.cast(source, tl.int64) * columns
        total += tl.load(at + place, mask=rows[:, None] & inside[None, :], other=0).to(tl.float32) * w[None, :]
    at = out + tl.cast(start, tl.int64) * columns
    tl.store(at + place, total, mask=(i + start < steps_out)[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["steps_in", "steps_out", "batch", "size", "samples", "steps", "shares_of_steps"])
def depthwise_taps(
    x,
    grad,
    out,
    steps_in,
    steps_out,
    batch,
    channels,
    size,
    samples,
    steps,
    shares_of_steps,
    BK: tl.constexpr,
    BC: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """out[s, k, c] = sum over the samples b and steps t of share s of x[t - k, b, c] grad[t, b, c].

    samples, steps: of one share; shares go through steps first, `shares_of_steps` of them. out: (shares, K, C). The
    grid is blocks of channels x blocks of taps x shares.
    """
    c = tl.max_contiguous(tl.program_id(0) * BC + tl.arange(0, BC), 4)  # of a thread, as above
    k = tl.program_id(1) * BK + tl.arange(0, BK)
    share = tl.program_id(2)
    columns = tl.cast(batch, tl.int64) * channels
    first = share % shares_of_steps * steps
    last = tl.minimum(first + steps, steps_out)
    sample = share // shares_of_steps * samples
    inside = c < channels
    total = tl.zeros((BK, BC), tl.float32)
    for b in range(sample, tl.minimum(sample + samples, batch)):
        column = tl.cast(b, tl.int64) * channels + c
        for start in range(first, last, UNROLL):
            for u in tl.static_range(UNROLL):
                t = start + u
                g = tl.load(grad + tl.cast(t, tl.int64) * columns + column, mask=inside & (t < last), other=0.0)
                source = t - k
                mask = ((source >= 0) & (source < steps_in))[:, None] & inside[None, :]
                at = source[:, None].to(tl.int64) * columns + column[None, :]
                total += tl.load(x + at, mask=mask, other=0).to(tl.float32) * g[None, :]
    at = (share.to(tl.int64) * size + k[:, None]) * channels + c[None, :]
    tl.store(out + at, total, mask=(k < size)[:, None] & inside[None, :])
