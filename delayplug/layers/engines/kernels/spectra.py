"""Sequences to windows that are transformed one by one, spectra to factors of products, and back.

A transform wants the steps of a window side by side in memory, products want one frequency of all windows, and
activations have time first: all that is here moves numbers between these three, tile by tile.

Complex numbers are read and written as int64, whose low half is the real part: one number, one access. Two real columns
go through one complex transform on their way back: of a + i b, with the spectra A and B of two real sequences, the
spectrum is A + i B, and at the frequencies beyond the middle conj(A) + i conj(B).

Shapes: T steps, R rows, C columns, J windows of each row, n steps of a transform, F = n // 2 + 1 frequencies.
"""

import triton
import triton.language as tl

from .cut import rounded


@triton.jit
def _real(z):
    """The low half of an int64."""
    return z.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _imaginary(z):
    """The high half of an int64."""
    return (z >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _complex(real, imaginary):
    """Both halves of an int64."""
    low = real.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
    return low | (imaginary.to(tl.int32, bitcast=True).to(tl.int64) << 32)


@triton.jit
def _store_pair(out, f, size, a_real, a_imag, b_real, b_imag, mask):
    """Two spectra as one at f and at size - f; out points to frequency 0."""
    tl.store(out + f, _complex(a_real - b_imag, a_imag + b_real), mask=mask)
    beyond = mask & (f > 0) & (2 * f < size)
    tl.store(out + (size - f), _complex(a_real + b_imag, b_real - a_imag), mask=beyond)


@triton.jit
def _block(columns, lines):
    """Of a row, blocks of columns and blocks of lines (steps or frequencies), which one a program has.

    The blocks of lines are neighbours, then those of columns: so memory is read and written in long stretches at any
    time, whichever of both lies side by side.
    """
    pid = tl.program_id(0)
    return (pid // lines // columns).to(tl.int64), pid // lines % columns, pid % lines


@triton.jit(do_not_specialize=["steps", "count", "stride", "length"])
def windows(
    x,
    out,
    steps,
    count,
    stride,
    length,
    columns,
    size,
    stride_t,
    stride_r,
    stride_c,
    BT: tl.constexpr,
    BC: tl.constexpr,
):
    """out[r, j, c, t] = x[j stride + t, r, c] for t < length, 0 beyond and outside of x. out: (R, J, C, n) float32.

    The grid is R J times blocks of columns times blocks of n.
    """
    row, of_c, of_n = _block(tl.cdiv(columns, BC), tl.cdiv(size, BT))
    c = of_c * BC + tl.arange(0, BC)
    n = of_n * BT + tl.arange(0, BT)
    t = (row % count).to(tl.int32) * stride + n
    at = row // count * stride_r + t[:, None].to(tl.int64) * stride_t + c[None, :].to(tl.int64) * stride_c
    mask = ((n < length) & (t < steps))[:, None] & (c < columns)[None, :]
    value = tl.load(x + at, mask=mask, other=0).to(tl.float32)
    place = (row * columns + c[None, :]) * size + n[:, None]
    tl.store(out + place, value, mask=(n < size)[:, None] & (c < columns)[None, :])


@triton.jit(do_not_specialize=["first"])
def split(
    spectrum,
    out,
    columns,
    frequencies,
    first,
    stride_row,
    stride_f,
    stride_plane,
    CONJUGATE: tl.constexpr,
    PARTS: tl.constexpr,
    BC: tl.constexpr,
    BF: tl.constexpr,
):
    """A spectrum (rows, C, F) as planes of bf16: out[p, f, first + row, c], p the real and the imaginary first part,
    then the second ones. Columns of out beyond those of the spectrum become zeros.

    CONJUGATE: of the conjugated spectrum. stride_row: columns of out. The grid is rows times blocks of columns of
    out times blocks of frequencies.
    """
    row, of_c, of_f = _block(tl.cdiv(stride_row, BC), tl.cdiv(frequencies, BF))
    c = of_c * BC + tl.arange(0, BC)
    f = of_f * BF + tl.arange(0, BF)
    at = (row * columns + c[:, None]) * frequencies + f[None, :]
    z = tl.load(spectrum + at, mask=(c < columns)[:, None] & (f < frequencies)[None, :], other=0)
    real, imaginary = _real(z), _imaginary(z)
    if CONJUGATE:
        imaginary = -imaginary
    place = f[None, :].to(tl.int64) * stride_f + (first + row) * stride_row + c[:, None]
    mask = (c < stride_row)[:, None] & (f < frequencies)[None, :]
    real_1, imaginary_1 = rounded(real), rounded(imaginary)
    tl.store(out + place, real_1.to(out.dtype.element_ty), mask=mask)
    tl.store(out + stride_plane + place, imaginary_1.to(out.dtype.element_ty), mask=mask)
    if PARTS == 2:
        out += 2 * stride_plane
        tl.store(out + place, rounded(real - real_1).to(out.dtype.element_ty), mask=mask)
        tl.store(out + stride_plane + place, rounded(imaginary - imaginary_1).to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["first"])
def pair(
    planes,
    out,
    pairs,
    frequencies,
    size,
    first,
    stride_row,
    stride_f,
    stride_plane,
    BP: tl.constexpr,
    BF: tl.constexpr,
):
    """Planes (2, F, rows, C), real and imaginary, of rows from `first` on, two columns as one: out (rows, C / 2, n).

    planes: as int64, so two columns are one number, and strides are counted in these. The grid is rows times blocks
    of pairs times blocks of frequencies.
    """
    row, of_p, of_f = _block(tl.cdiv(pairs, BP), tl.cdiv(frequencies, BF))
    p = of_p * BP + tl.arange(0, BP)
    f = of_f * BF + tl.arange(0, BF)
    mask = (p < pairs)[:, None] & (f < frequencies)[None, :]
    at = f[None, :].to(tl.int64) * stride_f + (first + row) * stride_row + p[:, None]
    real = tl.load(planes + at, mask=mask, other=0)
    imaginary = tl.load(planes + stride_plane + at, mask=mask, other=0)
    place = out + (row * pairs + p[:, None]) * size
    _store_pair(place, f[None, :], size, _real(real), _real(imaginary), _imaginary(real), _imaginary(imaginary), mask)


@triton.jit(do_not_specialize=["steps", "count", "stride", "length"])
def overlap(
    z,
    out,
    steps,
    count,
    stride,
    length,
    columns,
    pairs,
    size,
    stride_t,
    stride_r,
    scale,
    BT: tl.constexpr,
    BP: tl.constexpr,
):
    """out[t, r, c] = scale times the sum over j of the column c of z[r, j, c // 2, t - j stride], its first `length`.

    z: (R, J, C / 2, n) complex, two columns in one; those of out are side by side. Windows are added from the first to
    the last. The grid is R times blocks of pairs times blocks of steps.
    """
    r, of_p, of_t = _block(tl.cdiv(pairs, BP), tl.cdiv(steps, BT))
    p = of_p * BP + tl.arange(0, BP)
    start = of_t * BT
    t = start + tl.arange(0, BT)
    first = tl.maximum(start - length + stride, 0) // stride
    last = tl.minimum((start + BT - 1) // stride + 1, count)
    even = tl.zeros((BT, BP), tl.float32)
    odd = tl.zeros((BT, BP), tl.float32)
    for j in range(first, last):
        n = t - j * stride
        mask = ((n >= 0) & (n < length))[:, None] & (p < pairs)[None, :]
        value = tl.load(z + ((r * count + j) * pairs + p[None, :]) * size + n[:, None], mask=mask, other=0)
        even += _real(value)
        odd += _imaginary(value)
    place = out + r * stride_r + t[:, None].to(tl.int64) * stride_t + 2 * p[None, :]
    tl.store(place, even * scale, mask=(t < steps)[:, None] & (2 * p < columns)[None, :])
    tl.store(place + 1, odd * scale, mask=(t < steps)[:, None] & (2 * p + 1 < columns)[None, :])


@triton.jit
def filter_pair(
    x, taps, out, columns, pairs, frequencies, size, CONJUGATE: tl.constexpr, BP: tl.constexpr, BF: tl.constexpr
):
    """Spectra x (rows, C, F) times those of taps (C, F), conjugated or not, two columns as one: out (rows, C / 2, n).

    The grid is rows times blocks of pairs times blocks of frequencies.
    """
    row, of_p, of_f = _block(tl.cdiv(pairs, BP), tl.cdiv(frequencies, BF))
    p = of_p * BP + tl.arange(0, BP)[:, None]
    f = of_f * BF + tl.arange(0, BF)[None, :]
    mask = (p < pairs) & (f < frequencies)
    both = mask & (2 * p + 1 < columns)
    at = 2 * p.to(tl.int64) * frequencies + f
    a = tl.load(x + row * columns * frequencies + at, mask=mask, other=0)
    b = tl.load(x + row * columns * frequencies + at + frequencies, mask=both, other=0)
    v = tl.load(taps + at, mask=mask, other=0)
    w = tl.load(taps + at + frequencies, mask=both, other=0)
    sign = -1.0 if CONJUGATE else 1.0
    v_real, v_imag, w_real, w_imag = _real(v), sign * _imaginary(v), _real(w), sign * _imaginary(w)
    a_real = _real(a) * v_real - _imaginary(a) * v_imag
    a_imag = _real(a) * v_imag + _imaginary(a) * v_real
    b_real = _real(b) * w_real - _imaginary(b) * w_imag
    b_imag = _real(b) * w_imag + _imaginary(b) * w_real
    place = out + (row * pairs + p) * size
    _store_pair(place, f, size, a_real, a_imag, b_real, b_imag, mask)


@triton.jit(do_not_specialize=["rows", "share"])
def correlation(x, grad, out, rows, share, numbers, BLOCK: tl.constexpr):
    """out[s] = sum over the rows of share s, so many of them, of conj(x) grad; x, grad: (rows, numbers) complex.

    The grid is blocks of numbers x shares.
    """
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < numbers
    first = tl.program_id(1) * share
    real = tl.zeros((BLOCK,), tl.float32)
    imaginary = tl.zeros((BLOCK,), tl.float32)
    for row in range(first, tl.minimum(first + share, rows)):
        at = tl.cast(row, tl.int64) * numbers + place
        a = tl.load(x + at, mask=mask, other=0)
        g = tl.load(grad + at, mask=mask, other=0)
        real += _real(a) * _real(g) + _imaginary(a) * _imaginary(g)
        imaginary += _real(a) * _imaginary(g) - _imaginary(a) * _real(g)
    tl.store(out + tl.program_id(1).to(tl.int64) * numbers + place, _complex(real, imaginary), mask=mask)
