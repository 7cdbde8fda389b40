"""Products of shifted rows on tensor cores: a convolution over time, and its gradients.

With time first, activations (T, B, C) are T B rows, and the input of k steps ago lies k B rows above: a convolution
over time is one product of matrices per tap, on shifted rows of the same memory, without padding or unfolding.

Factors come in parts of bf16 (see `cut`): of a and w, the products a1 w2, a2 w1 and a1 w1 are added up, the small ones
first; a factor without a second part is exact, or is wanted no better. Whether a2 holds anything but zeros only the
device may know: then one launch is made with it and one without it, of which one does nothing. Tensor cores cut off
bits where they add: with more than one product the sum over each slice of the depth begins at zero, and slices are
added up outside of them.

Shapes: I inputs, O outputs, K taps; rows in memory are padded with zeros to multiples of 16 numbers.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "rows_a", "batch", "taps"])  # batches of other sizes compile nothing
def shifted_product(
    a1,
    a2,
    w1,
    w2,
    rest,
    out,
    rows,
    rows_a,
    batch,
    taps,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BACK: tl.constexpr,
    WANTED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """out[m, o] = sum over k, i of a[m - k batch, i] w[k, o, i].

    With BACK, the gradient for the input: out[m, i] = sum over k, o of a[m + k batch, o] w[k, o, i].

    a: (rows_a, I) padded, with BACK (rows_a, O) padded; w: (K, O, I), its rows padded; out: (rows, O) or (rows, I).
    a2 and w2 may be None. Nothing is done unless rest, where it is not None, is WANTED. The grid is blocks of rows x
    blocks of columns.
    """
    WIDTH: tl.constexpr = (INPUTS + 15) // 16 * 16
    DEPTH: tl.constexpr = (OUTPUTS + 15) // 16 * 16 if BACK else WIDTH
    COLUMNS: tl.constexpr = INPUTS if BACK else OUTPUTS
    SLICES: tl.constexpr = (DEPTH + BK - 1) // BK
    # Blocks that meet few taps, those of the first steps (with BACK of the last ones), come last.
    block = tl.program_id(0) if BACK else tl.num_programs(0) - 1 - tl.program_id(0)
    start = block.to(tl.int64) * BM
    end = tl.minimum(start + BM, rows)
    zero = start * 0  # of 64 bits, which makes sums with it as wide
    # Only taps that meet a row of `a`.
    if BACK:
        first_tap = zero
        end_tap = tl.where(start < rows_a, (rows_a - 1 - start) // batch + 1, 0)
    else:
        first_tap = tl.where(start >= rows_a, (start - rows_a) // batch + 1, 0)
        end_tap = (end - 1) // batch + 1
    first = (first_tap * SLICES).to(tl.int32)
    last = (tl.minimum(end_tap, taps) * SLICES).to(tl.int32)
    if rest is not None:
        runs = tl.load(rest) == WANTED
        end = tl.where(runs, end, start)
        last = tl.where(runs, last, first)
    m = tl.arange(0, BM)
    d = tl.arange(0, BK)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    in_a = m[:, None] * DEPTH + d[None, :]
    in_w = d[:, None] * WIDTH + n[None, :] if BACK else d[:, None] + n[None, :] * WIDTH
    total = tl.zeros((BM, BN), tl.float32)
    for s in range(first, last):
        k = zero + s // SLICES
        offset = (s % SLICES) * BK
        row = start + k * batch if BACK else start - k * batch
        above = tl.minimum(tl.maximum(-row, 0), BM).to(tl.int32)
        below = tl.minimum(tl.maximum(rows_a - row, 0), BM).to(tl.int32)
        mask_a = ((m >= above) & (m < below))[:, None] & (offset + d < DEPTH)[None, :]
        if BACK:
            mask_w = (offset + d < OUTPUTS)[:, None] & (n < WIDTH)[None, :]
            tap = (k * OUTPUTS + offset) * WIDTH
        else:
            mask_w = (offset + d < DEPTH)[:, None] & (n < OUTPUTS)[None, :]
            tap = k * OUTPUTS * WIDTH + offset
        at = row * DEPTH + offset
        a = tl.load(a1 + at + in_a, mask=mask_a, other=0.0)
        w = tl.load(w1 + tap + in_w, mask=mask_w, other=0.0)
        if w2 is not None:
            part = tl.dot(a, tl.load(w2 + tap + in_w, mask=mask_w, other=0.0))
            if a2 is not None:
                part = tl.dot(tl.load(a2 + at + in_a, mask=mask_a, other=0.0), w, part)
            total += tl.dot(a, w, part)
        else:
            total = tl.dot(a, w, total)
    place = m[:, None] * COLUMNS + n[None, :]
    total = total.to(out.dtype.element_ty)
    tl.store(out + start * COLUMNS + place, total, mask=(m < end - start)[:, None] & (n < COLUMNS)[None, :])


@triton.jit(do_not_specialize=["rows", "rows_a", "batch"])
def taps_product(
    a1,
    a2,
    g1,
    g2,
    rest,
    out,
    rows,
    rows_a,
    batch,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    WANTED: tl.constexpr,
    BI: tl.constexpr,
    BO: tl.constexpr,
    BR: tl.constexpr,
):
    """out[s, k, o, i] = sum over some rows m, the s-th share of all, of a[m - k batch, i] g[m, o].

    a: (rows_a, I) padded; g: (rows, O) padded; out: (shares, K, O, I). a2 and g2 may be None. Nothing is done unless
    rest, where it is not None, is WANTED. The grid is taps x blocks of inputs and outputs x shares; nothing is added up
    between programs, so that results are always the same.
    """
    WIDTH_A: tl.constexpr = (INPUTS + 15) // 16 * 16
    WIDTH_G: tl.constexpr = (OUTPUTS + 15) // 16 * 16
    BLOCKS: tl.constexpr = (OUTPUTS + BO - 1) // BO
    k = tl.program_id(0).to(tl.int64)
    i = (tl.program_id(1) // BLOCKS) * BI + tl.arange(0, BI)
    o = (tl.program_id(1) % BLOCKS) * BO + tl.arange(0, BO)
    r = tl.arange(0, BR)
    in_a = r[None, :] * WIDTH_A + i[:, None]
    in_g = r[:, None] * WIDTH_G + o[None, :]
    zero = k * 0  # of 64 bits, which makes sums with it as wide
    # Rows of `a` that meet one of g at this tap.
    met = tl.maximum(tl.minimum(rows - k * batch, rows_a), 0)
    slices = tl.cdiv(met, BR).to(tl.int32)
    share = tl.cdiv(slices, tl.num_programs(2))
    first = tl.program_id(2) * share
    last = tl.minimum(first + share, slices)
    outputs = OUTPUTS
    if rest is not None:
        runs = tl.load(rest) == WANTED
        last = tl.where(runs, last, first)
        outputs = tl.where(runs, OUTPUTS, 0)
    total = tl.zeros((BI, BO), tl.float32)
    for s in range(first, last):
        row = (zero + s) * BR
        inside = r < tl.minimum(met - row, BR).to(tl.int32)
        mask_a = inside[None, :] & (i < WIDTH_A)[:, None]
        mask_g = inside[:, None] & (o < WIDTH_G)[None, :]
        at_a = row * WIDTH_A
        at_g = (row + k * batch) * WIDTH_G
        a = tl.load(a1 + at_a + in_a, mask=mask_a, other=0.0)
        g = tl.load(g1 + at_g + in_g, mask=mask_g, other=0.0)
        if g2 is not None:
            part = tl.dot(a, tl.load(g2 + at_g + in_g, mask=mask_g, other=0.0))
            if a2 is not None:
                part = tl.dot(tl.load(a2 + at_a + in_a, mask=mask_a, other=0.0), g, part)
            total += tl.dot(a, g, part)
        else:
            total = tl.dot(a, g, total)
    at = (tl.program_id(2) * tl.num_programs(0) + k) * OUTPUTS * INPUTS
    place = o[None, :] * INPUTS + i[:, None]
    tl.store(out + at + place, total, mask=(i < INPUTS)[:, None] & (o < outputs)[None, :])
