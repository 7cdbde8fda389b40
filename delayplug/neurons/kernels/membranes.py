"""Neurons over a sequence in one kernel.

A program takes BLOCK of the N = B * ... columns through all T steps. It loads four steps at a time, so that it waits
for memory once for each four. A constant is a number, one value in memory, one of SIZE that lie REPEAT columns apart,
or one for each column (KIND 0 to 3). The rules are the values of the enumerations in `dynamics` and `surrogates`, by
their names there. The kernel rounds after each operation, as torch does: it is launched with enable_fp_fusion=False.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: SIM108  (Triton takes either branch by itself)

import triton
import triton.language as tl


@triton.jit
def constant(pointer, number, column, place, ok, KIND: tl.constexpr):
    value = number
    if KIND == 1:
        value = tl.load(pointer)
    elif KIND == 2:
        value = tl.load(pointer + place, mask=ok, other=1.0)
    elif KIND == 3:
        value = tl.load(pointer + column, mask=ok, other=0.0)
    return value


@triton.jit
def is_spike(z, AT: tl.constexpr):
    if AT:
        spike = (z >= 0.0).to(tl.float32)
    else:
        spike = (z > 0.0).to(tl.float32)
    return spike


@triton.jit
def after_spike(h, d, threshold, reset, BEFORE: tl.constexpr, AFTER: tl.constexpr):
    """The membrane after the spikes d of the charged membrane h."""
    v = h
    if AFTER == 1:
        if BEFORE == 0:
            v = tl.where(d > 0.0, reset, h)
        else:
            v = h - d * h
    elif AFTER == 2:
        v = h - d * threshold
    return v


@triton.jit
def _charge(v, u, leak, rest, gain, CHARGE: tl.constexpr):
    if CHARGE == 0:
        h = v + u
    elif CHARGE == 1:
        h = leak * v + u
    elif CHARGE == 2:
        h = v + leak * ((u + rest) - v)
    elif CHARGE == 3:
        h = v + leak * ((rest - v) + u)
    elif CHARGE == 4:
        h = v + (u - (v - rest)) * leak
    elif CHARGE == 5:
        h = (v + leak * (rest - v)) + gain * u
    elif CHARGE == 6:
        h = (v - (v - rest) * leak) + u
    elif CHARGE == 7:
        h = v + tl.div_rn(u - (v - rest), leak)
    else:
        h = (v - tl.div_rn(v - rest, leak)) + u
    return h


@triton.jit
def _forward_step(
    x, v, i, at, ok, leak, rest, gain, synapse, threshold, reset, scale, divisor,
    spikes, in_half, charged, membranes, drives, currents,
    CHARGE: tl.constexpr, CURRENT: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr,
    FIRES: tl.constexpr, AT: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
):  # fmt: skip
    """One step of input x from the membrane v and the current i, which are returned as they are after it."""
    u = x
    if DIVIDES:
        u = tl.div_rn(x, divisor)
    if CURRENT == 1:
        u = synapse * i + u
        i = u
    elif CURRENT == 2:
        u = i + u
        i = u + synapse * u
    if BEFORE == 0:
        h = _charge(v, u, leak, rest, gain, CHARGE)
    else:
        r = is_spike(v - threshold, AT)
        if BEFORE == 1:
            h = _charge((1.0 - r) * v, u, leak, rest, gain, CHARGE)
        elif BEFORE == 2:
            h = _charge(v, u, leak, rest, gain, CHARGE) - r * threshold
        else:
            h = _charge(v, u, leak, rest, gain, CHARGE)
            h = h - h * r
    v = h
    if FIRES:
        s = is_spike(h - threshold, AT)
        if BEFORE == 0:
            v = after_spike(h, s, threshold, reset, BEFORE, AFTER)
        else:
            v = after_spike(h, s - r, threshold, reset, BEFORE, AFTER)
        if spikes is not None:
            if SCALE:
                s = s * scale
            tl.store(spikes + at, s, mask=ok)
            if in_half is not None:
                tl.store(in_half + at, s.to(in_half.dtype.element_ty), mask=ok)
    if charged is not None:
        tl.store(charged + at, h, mask=ok)
    if membranes is not None:
        tl.store(membranes + at, v, mask=ok)
    if CURRENT != 0:
        if drives is not None:
            tl.store(drives + at, u, mask=ok)
        if currents is not None:
            tl.store(currents + at, i, mask=ok)
    return v, i


@triton.jit(do_not_specialize=["T", "N", "SIZE", "REPEAT"])
def forward(
    x, leak_p, rest_p, gain_p, synapse_p, threshold_p, reset_p, scale_p, start_p,
    leak_n, rest_n, gain_n, synapse_n, threshold_n, reset_n, scale_n, start_n, divisor, first_current,
    spikes, in_half, charged, membranes, drives, currents, membrane, current, T, N, SIZE, REPEAT,
    LEAK: tl.constexpr, REST: tl.constexpr, GAIN: tl.constexpr, SYNAPSE: tl.constexpr, THRESHOLD: tl.constexpr,
    RESET: tl.constexpr, SCALE: tl.constexpr, START: tl.constexpr,
    CHARGE: tl.constexpr, CURRENT: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr, FIRES: tl.constexpr,
    AT: tl.constexpr, DIVIDES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x (T, N) to all that is passed and not None, each (T, N), and the last membrane and current, (N,).

    `in_half` has the spikes once more, in another dtype. Of `charged` the membranes before the reset, of `membranes`
    those after it, of `drives` the drive u, and of `currents` the current after the step.
    """
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = c < N
    p = (c // REPEAT) % SIZE
    leak = constant(leak_p, leak_n, c, p, ok, LEAK)
    rest = constant(rest_p, rest_n, c, p, ok, REST)
    gain = constant(gain_p, gain_n, c, p, ok, GAIN)
    synapse = constant(synapse_p, synapse_n, c, p, ok, SYNAPSE)
    threshold = constant(threshold_p, threshold_n, c, p, ok, THRESHOLD)
    reset = constant(reset_p, reset_n, c, p, ok, RESET)
    scale = constant(scale_p, scale_n, c, p, ok, SCALE)
    v = tl.zeros((BLOCK,), tl.float32) + constant(start_p, start_n, c, p, ok, START)
    i = tl.zeros((BLOCK,), tl.float32)
    if first_current is not None:
        i = tl.load(first_current + c, mask=ok, other=0.0)
    SCALES: tl.constexpr = SCALE != 0
    at = c.to(tl.int64)
    for _ in range(T // 4):
        at1 = at + N
        at2 = at1 + N
        at3 = at2 + N
        x0 = tl.load(x + at, mask=ok, other=0.0)
        x1 = tl.load(x + at1, mask=ok, other=0.0)
        x2 = tl.load(x + at2, mask=ok, other=0.0)
        x3 = tl.load(x + at3, mask=ok, other=0.0)
        v, i = _forward_step(
            x0, v, i, at, ok, leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, in_half, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        v, i = _forward_step(
            x1, v, i, at1, ok, leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, in_half, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        v, i = _forward_step(
            x2, v, i, at2, ok, leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, in_half, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        v, i = _forward_step(
            x3, v, i, at3, ok, leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, in_half, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        at = at3 + N
    for _ in range(T % 4):
        v, i = _forward_step(
            tl.load(x + at, mask=ok, other=0.0), v, i, at, ok,
            leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, in_half, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        at += N
    tl.store(membrane + c, v, mask=ok)
    if CURRENT != 0:
        tl.store(current + c, i, mask=ok)
