"""One product of complex matrices for each frequency, on tensor cores.

Factors come as planes of bf16 (see `spectra.split`): real and imaginary first parts, then, for products of float32's
grade, the second ones, of which the small products a1 b2 and a2 b1 are added up before a1 b1. Tensor cores cut off bits
where they add, so the sum over each slice of the depth begins at zero, and slices are added up outside of them.
"""

import triton
import triton.language as tl


@triton.jit
def _small_products(a1, a2, b1, b2, total, PARTS: tl.constexpr):
    """total + a2 b1 + a1 b2; nothing is added for single parts."""
    if PARTS == 2:
        total = tl.dot(a2, b1, total)
        total = tl.dot(a1, b2, total)
    return total


@triton.jit(do_not_specialize=["rows_out"])
def complex_product(
    a,
    b,
    out,
    rows,
    rows_out,
    columns,
    depth,
    a_plane,
    a_f,
    a_m,
    a_d,
    b_plane,
    b_f,
    b_d,
    b_n,
    out_plane,
    out_f,
    out_m,
    PARTS: tl.constexpr,
    ADD: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """out[f] = a[f] b[f], with ADD out[f] + a[f] b[f]; (rows, depth) times (depth, columns).

    a, b: planes (2 PARTS, F, ...) with strides of the plane, the frequency and both dimensions; rows, columns and depth
    are those in memory, multiples of 16, rows_out those that are wanted. out: planes (2, F, rows_out, columns) of
    float32. The grid is F times the number of tiles.
    """
    tiles_n = tl.cdiv(columns, BN)
    tiles = tl.cdiv(rows_out, BM) * tiles_n
    f = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    m = tile // tiles_n * BM + tl.arange(0, BM)
    n = tile % tiles_n * BN + tl.arange(0, BN)
    d = tl.arange(0, BK)
    at_a = a + f * a_f + (m[:, None] * a_m + d[None, :] * a_d)
    at_b = b + f * b_f + (d[:, None] * b_d + n[None, :] * b_n)
    real = tl.zeros((BM, BN), tl.float32)
    imaginary = tl.zeros((BM, BN), tl.float32)
    for start in range(0, depth, BK):
        mask_a = (m < rows)[:, None] & (d < depth - start)[None, :]
        mask_b = (d < depth - start)[:, None] & (n < columns)[None, :]
        a_real = tl.load(at_a, mask=mask_a, other=0.0)
        a_imag = tl.load(at_a + a_plane, mask=mask_a, other=0.0)
        b_real = tl.load(at_b, mask=mask_b, other=0.0)
        b_imag = tl.load(at_b + b_plane, mask=mask_b, other=0.0)
        zero = tl.zeros((BM, BN), tl.float32)
        if PARTS == 2:
            a_real_2 = tl.load(at_a + 2 * a_plane, mask=mask_a, other=0.0)
            a_imag_2 = tl.load(at_a + 3 * a_plane, mask=mask_a, other=0.0)
            b_real_2 = tl.load(at_b + 2 * b_plane, mask=mask_b, other=0.0)
            b_imag_2 = tl.load(at_b + 3 * b_plane, mask=mask_b, other=0.0)
        else:
            a_real_2, a_imag_2, b_real_2, b_imag_2 = a_real, a_imag, b_real, b_imag
        real += tl.dot(a_real, b_real, _small_products(a_real, a_real_2, b_real, b_real_2, zero, PARTS))
        real -= tl.dot(a_imag, b_imag, _small_products(a_imag, a_imag_2, b_imag, b_imag_2, zero, PARTS))
        crossed = _small_products(a_real, a_real_2, b_imag, b_imag_2, zero, PARTS)
        crossed = _small_products(a_imag, a_imag_2, b_real, b_real_2, crossed, PARTS)
        crossed = tl.dot(a_imag, b_real, tl.dot(a_real, b_imag, crossed))
        imaginary += crossed
        at_a += BK * a_d
        at_b += BK * b_d
    place = out + f * out_f + m[:, None].to(tl.int64) * out_m + n[None, :]
    mask = (m < rows_out)[:, None] & (n < columns)[None, :]
    if ADD:
        real += tl.load(place, mask=mask, other=0.0)
        imaginary += tl.load(place + out_plane, mask=mask, other=0.0)
    tl.store(place, real, mask=mask)
    tl.store(place + out_plane, imaginary, mask=mask)
