"""Numbers cut into one or two parts that bf16 represents, for tensor cores.

A float32 number is the sum of its first part, which is it rounded to bf16 (8 bits), and of its second, which is what is
left rounded to bf16, up to 2**-17 of it.
"""

import triton
import triton.language as tl

BLOCK = 1024  # numbers of a program


@triton.jit
def rounded(x):
    """float32 rounded to bf16, half to even, as float32; by its bits, since Triton's interpreter does not round."""
    bits = x.to(tl.uint32, bitcast=True)
    nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16
    return tl.where(x == x, nearest.to(tl.float32, bitcast=True), x)


@triton.jit
def cut(x, first, second, rest, count, COLUMNS: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr):
    """Cut x (rows, COLUMNS) into first, and second unless that is None, (rows, STRIDE), filled up with zeros.

    count: rows * STRIDE. rest, unless it is None, is set to 1 if some number of the second part is not zero.
    """
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    column = place % STRIDE
    source = place if COLUMNS == STRIDE else place // STRIDE * COLUMNS + column
    value = tl.load(x + source, mask=(place < count) & (column < COLUMNS), other=0).to(tl.float32)
    part = rounded(value)
    tl.store(first + place, part.to(first.dtype.element_ty), mask=place < count)
    if second is not None:
        left = rounded(tl.where(value == part, 0.0, value - part))  # of infinity nothing
        tl.store(second + place, left.to(second.dtype.element_ty), mask=place < count)
        if rest is not None:  # every program that sets it sets it to the same
            tl.store(rest, 1, mask=tl.max((left != 0.0).to(tl.int32), axis=0) > 0)
