"""Neurons over a sequence in one kernel forward and one backward.

A program takes BLOCK of the N = B * ... columns through all T steps. It loads four steps at a time, so that it waits
for memory once for each four. A constant is a number, one value in memory, or one of SIZE that lie REPEAT columns
apart; the rules are the values of the enumerations in `dynamics` and `surrogates`, by their names there. The forward
kernel rounds after each operation, as torch does: it must be launched with enable_fp_fusion=False.
"""

import triton
import triton.language as tl

# Of a constant: how it is passed.
NUMBER, ONE, EACH, FULL = 0, 1, 2, 3


@triton.jit
def _constant(pointer, number, column, place, ok, KIND: tl.constexpr):
    value = number
    if KIND == 1:
        value = tl.load(pointer)
    elif KIND == 2:
        value = tl.load(pointer + place, mask=ok, other=1.0)
    elif KIND == 3:
        value = tl.load(pointer + column, mask=ok, other=0.0)
    return value


@triton.jit
def _is_spike(z, AT: tl.constexpr):
    if AT:
        spike = (z >= 0.0).to(tl.float32)
    else:
        spike = (z > 0.0).to(tl.float32)
    return spike


@triton.jit
def _reset(h, d, threshold, reset, BEFORE: tl.constexpr, AFTER: tl.constexpr):
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
    spikes, charged, membranes, drives, currents,
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
        r = _is_spike(v - threshold, AT)
        if BEFORE == 1:
            h = _charge((1.0 - r) * v, u, leak, rest, gain, CHARGE)
        elif BEFORE == 2:
            h = _charge(v, u, leak, rest, gain, CHARGE) - r * threshold
        else:
            h = _charge(v, u, leak, rest, gain, CHARGE)
            h = h - h * r
    v = h
    if FIRES:
        s = _is_spike(h - threshold, AT)
        if BEFORE == 0:
            v = _reset(h, s, threshold, reset, BEFORE, AFTER)
        else:
            v = _reset(h, s - r, threshold, reset, BEFORE, AFTER)
        if spikes is not None:
            if SCALE:
                tl.store(spikes + at, s * scale, mask=ok)
            else:
                tl.store(spikes + at, s, mask=ok)
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
    spikes, charged, membranes, drives, currents, membrane, current, T, N, SIZE, REPEAT,
    LEAK: tl.constexpr, REST: tl.constexpr, GAIN: tl.constexpr, SYNAPSE: tl.constexpr, THRESHOLD: tl.constexpr,
    RESET: tl.constexpr, SCALE: tl.constexpr, START: tl.constexpr,
    CHARGE: tl.constexpr, CURRENT: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr, FIRES: tl.constexpr,
    AT: tl.constexpr, DIVIDES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x (T, N) to all that is passed and not None, each (T, N), and the last membrane and current, (N,).

    Of `charged` the membranes before the reset, of `membranes` those after it, of `drives` the drive u, and of
    `currents` the current after the step.
    """
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = c < N
    p = (c // REPEAT) % SIZE
    leak = _constant(leak_p, leak_n, c, p, ok, LEAK)
    rest = _constant(rest_p, rest_n, c, p, ok, REST)
    gain = _constant(gain_p, gain_n, c, p, ok, GAIN)
    synapse = _constant(synapse_p, synapse_n, c, p, ok, SYNAPSE)
    threshold = _constant(threshold_p, threshold_n, c, p, ok, THRESHOLD)
    reset = _constant(reset_p, reset_n, c, p, ok, RESET)
    scale = _constant(scale_p, scale_n, c, p, ok, SCALE)
    v = tl.zeros((BLOCK,), tl.float32) + _constant(start_p, start_n, c, p, ok, START)
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
            spikes, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        v, i = _forward_step(
            x1, v, i, at1, ok, leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        v, i = _forward_step(
            x2, v, i, at2, ok, leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        v, i = _forward_step(
            x3, v, i, at3, ok, leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        at = at3 + N
    for _ in range(T % 4):
        v, i = _forward_step(
            tl.load(x + at, mask=ok, other=0.0), v, i, at, ok,
            leak, rest, gain, synapse, threshold, reset, scale, divisor,
            spikes, charged, membranes, drives, currents,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, SCALES, DIVIDES,
        )  # fmt: skip
        at += N
    tl.store(membrane + c, v, mask=ok)
    if CURRENT != 0:
        tl.store(current + c, i, mask=ok)


@triton.jit
def _surrogate(z, a, b, c, FORM: tl.constexpr):
    """`surrogates.derivative`."""
    m = tl.abs(z)
    if FORM == 0:
        g = z * 0.0 + a
    elif FORM == 1:
        g = tl.where(z > 0.0, a, 0.0)
    elif FORM == 2:
        g = tl.where(z < 0.0, a, b)
    elif FORM == 3:
        g = tl.where(m < a, b, c)
    elif FORM == 4:
        g = tl.maximum(a - b * m, 0.0)
    elif FORM == 5:
        y = 1.5707963267948966 * a * z
        g = (0.5 * a) / (1.0 + y * y)
    elif FORM == 6:
        y = 1.0 + a * m
        g = b / (y * y)
    elif FORM == 7:
        y = 1.0 + a * m
        g = tl.where(z > b, 1.0 / (y * y), 0.0)
    elif FORM == 8:
        e = tl.exp(-a * m)
        g = b * e / ((1.0 + e) * (1.0 + e))
    elif FORM == 9:
        g = b * tl.exp(-a * tl.abs(z - c))
    elif FORM == 10:
        y = a * z
        g = b * tl.exp(-y * y)
    elif FORM == 11:
        y = z / a
        y = 1.0 + y * y
        g = 1.0 / (y * tl.sqrt(y))
    elif FORM == 12:
        g = 1.0 / (1.0 / a + m)
    elif FORM == 13:
        g = tl.minimum(1.0 / m, a)
    elif FORM == 14:
        e = tl.exp(-a * m)
        g = tl.where(z < 0.0, a * e / ((1.0 + e) * (1.0 + e)), b / (1.0 + m))
    elif FORM == 15:
        g = tl.exp(-a * tl.log(1.0 + 2.0 / (a - 1.0) * m))
    else:
        g = tl.where(z <= 0.0, a, 1.0 / tl.maximum(z, 1.0))
    return g


@triton.jit
def _optional(pointer, at, ok):
    value = 0.0
    if pointer is not None:
        value = tl.load(pointer + at, mask=ok, other=0.0)
    return value


@triton.jit
def _backward_step(
    gs, h, before, is_first, at, ok, N, gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale,
    leak, rest, gain, synapse, threshold, reset, scale, start, divisor, a, b, c,
    x, membranes, drives, first_current, g_membranes, g_currents, gx,
    NEEDS_LAST: tl.constexpr, NEEDS_DRIVE: tl.constexpr, SAVED: tl.constexpr,
    CHARGE: tl.constexpr, CURRENT: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr, FIRES: tl.constexpr,
    AT: tl.constexpr, DETACHED: tl.constexpr, FORM: tl.constexpr, SCALE: tl.constexpr, DIVIDES: tl.constexpr,
    column, LEARNS_SYNAPSE: tl.constexpr,
):  # fmt: skip
    """One step backward.

    From gs, gv and gi, the gradients for the spikes of the step and for the membrane and current after it, to those
    for the input, which is stored, and for the membrane and current before it; the s_ are sums for the constants.
    `h` is the charged membrane of the step and `before` that of the step before it.
    """
    if g_membranes is not None:
        gv += tl.load(g_membranes + at, mask=ok, other=0.0)
    # The membrane before the step.
    v = before
    if NEEDS_LAST:
        if SAVED:
            v = tl.load(membranes + (at - N), mask=ok & (is_first == 0), other=0.0)
        elif FIRES:
            v = _reset(before, _is_spike(before - threshold, AT), threshold, reset, 0, AFTER)
        v = tl.where(is_first != 0, start, v)
    r = tl.zeros_like(h)
    if BEFORE != 0:
        r = _is_spike(v - threshold, AT)
    # After the spike.
    gh = gv
    if FIRES:
        s = _is_spike(h - threshold, AT)
        d = s - r
        if SCALE:
            s_scale += gs * s
            gs = gs * scale
        if AFTER == 1:
            if BEFORE == 0:
                gh = gv * (1.0 - s)
                s_reset += gv * s
                if not DETACHED:
                    gs += gv * (reset - h)
            else:
                gh = gv * (1.0 - d)
                if not DETACHED:
                    gs -= gv * h
        elif AFTER == 2:
            s_threshold -= gv * d
            if not DETACHED:
                gs -= gv * threshold
        gz = gs * _surrogate(h - threshold, a, b, c, FORM)
        gh += gz
        s_threshold -= gz
    # Before it.
    if BEFORE == 2:
        s_threshold -= gh * r
    elif BEFORE == 3:
        gh = gh * (1.0 - r)
    # What was charged.
    w = v
    if BEFORE == 1:
        w = (1.0 - r) * v
    u = tl.zeros_like(h)
    if NEEDS_DRIVE:
        if CURRENT == 0:
            u = tl.load(x + at, mask=ok, other=0.0)
            if DIVIDES:
                u = u / divisor
        else:
            u = tl.load(drives + at, mask=ok, other=0.0)
    if CHARGE == 0:
        gv = gh
        gu = gh
    elif CHARGE == 1:
        gv = gh * leak
        gu = gh
        s_leak += gh * w
    elif CHARGE == 5:
        gv = gh - gh * leak
        gu = gh * gain
        s_rest += gh * leak
        s_gain += gh * u
        s_leak += gh * (rest - w)
    elif CHARGE == 6:
        gv = gh - gh * leak
        gu = gh
        s_rest += gh * leak
        s_leak += gh * (rest - w)
    elif CHARGE == 7:
        gu = gh / leak
        gv = gh - gu
        s_rest += gu
    elif CHARGE == 8:
        gu = gh
        gv = gh - gh / leak
        s_rest += gh / leak
    else:
        gu = gh * leak
        gv = gh - gu
        s_rest += gu
        s_leak += gh * (u + rest - w)
    if BEFORE == 1:
        gv = gv * (1.0 - r)
    # The current.
    if CURRENT != 0:
        if g_currents is not None:
            gi += tl.load(g_currents + at, mask=ok, other=0.0)
    if CURRENT == 1:
        gu += gi
        gi = gu * synapse
        if LEARNS_SYNAPSE:
            first = tl.zeros_like(h)
            if first_current is not None:
                first = tl.load(first_current + column, mask=ok, other=0.0)
            last = tl.load(drives + (at - N), mask=ok & (is_first == 0), other=0.0)
            s_synapse += gu * tl.where(is_first != 0, first, last)
    elif CURRENT == 2:
        s_synapse += gi * u
        gu += gi + gi * synapse
        gi = gu
    if gx is not None:
        if DIVIDES:
            tl.store(gx + at, gu / divisor, mask=ok)
        else:
            tl.store(gx + at, gu, mask=ok)
    return gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale


@triton.jit
def _save(pointer, c, value, ok):
    if pointer is not None:
        tl.store(pointer + c, value, mask=ok)


@triton.jit(do_not_specialize=["T", "N", "SIZE", "REPEAT"])
def backward(
    x, leak_p, rest_p, gain_p, synapse_p, threshold_p, reset_p, scale_p, start_p,
    leak_n, rest_n, gain_n, synapse_n, threshold_n, reset_n, scale_n, start_n, divisor, a, b, c, first_current,
    charged, membranes, drives, g_spikes, g_membranes, g_currents, g_membrane, g_current,
    gx, g_start, g_first_current, g_leak, g_rest, g_gain, g_synapse, g_threshold, g_reset, g_scale,
    T, N, SIZE, REPEAT,
    LEAK: tl.constexpr, REST: tl.constexpr, GAIN: tl.constexpr, SYNAPSE: tl.constexpr, THRESHOLD: tl.constexpr,
    RESET: tl.constexpr, SCALE: tl.constexpr, START: tl.constexpr,
    NEEDS_LAST: tl.constexpr, NEEDS_DRIVE: tl.constexpr, SAVED: tl.constexpr, LEARNS_SYNAPSE: tl.constexpr,
    CHARGE: tl.constexpr, CURRENT: tl.constexpr, BEFORE: tl.constexpr, AFTER: tl.constexpr, FIRES: tl.constexpr,
    AT: tl.constexpr, DIVIDES: tl.constexpr, DETACHED: tl.constexpr, FORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of `forward`.

    Those that come in are g_spikes, g_membranes and g_currents, (T, N), and g_membrane and g_current, (N,), of the
    last state; those that go out gx (T, N), and (N,) for the state before the first step and, as sums over the steps,
    for the constants. Each may be None.
    """
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = column < N
    p = (column // REPEAT) % SIZE
    leak = _constant(leak_p, leak_n, column, p, ok, LEAK)
    rest = _constant(rest_p, rest_n, column, p, ok, REST)
    gain = _constant(gain_p, gain_n, column, p, ok, GAIN)
    synapse = _constant(synapse_p, synapse_n, column, p, ok, SYNAPSE)
    threshold = _constant(threshold_p, threshold_n, column, p, ok, THRESHOLD)
    reset = _constant(reset_p, reset_n, column, p, ok, RESET)
    scale = _constant(scale_p, scale_n, column, p, ok, SCALE)
    start = _constant(start_p, start_n, column, p, ok, START)
    SCALES: tl.constexpr = SCALE != 0
    zero = tl.zeros((BLOCK,), tl.float32)
    gv = zero
    gi = zero
    if g_membrane is not None:
        gv += tl.load(g_membrane + column, mask=ok, other=0.0)
    if g_current is not None:
        gi += tl.load(g_current + column, mask=ok, other=0.0)
    s_leak = zero
    s_rest = zero
    s_gain = zero
    s_synapse = zero
    s_threshold = zero
    s_reset = zero
    s_scale = zero
    # From the last step on. The charged membrane of a step is loaded with the step behind it, as the one before it.
    at = column.to(tl.int64) + (T - 1).to(tl.int64) * N
    h = zero + _optional(charged, at, ok)
    left = T
    for _ in range(T // 4):
        at1 = at - N
        at2 = at1 - N
        at3 = at2 - N
        h1 = zero + _optional(charged, at1, ok)
        h2 = zero + _optional(charged, at2, ok)
        h3 = zero + _optional(charged, at3, ok)
        h4 = zero + _optional(charged, at3 - N, ok & (left > 4))
        gs0 = zero + _optional(g_spikes, at, ok)
        gs1 = zero + _optional(g_spikes, at1, ok)
        gs2 = zero + _optional(g_spikes, at2, ok)
        gs3 = zero + _optional(g_spikes, at3, ok)
        gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale = _backward_step(
            gs0, h, h1, 0, at, ok, N, gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale,
            leak, rest, gain, synapse, threshold, reset, scale, start, divisor, a, b, c,
            x, membranes, drives, first_current, g_membranes, g_currents, gx, NEEDS_LAST, NEEDS_DRIVE, SAVED,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, DETACHED, FORM, SCALES, DIVIDES, column, LEARNS_SYNAPSE,
        )  # fmt: skip
        gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale = _backward_step(
            gs1, h1, h2, 0, at1, ok, N, gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale,
            leak, rest, gain, synapse, threshold, reset, scale, start, divisor, a, b, c,
            x, membranes, drives, first_current, g_membranes, g_currents, gx, NEEDS_LAST, NEEDS_DRIVE, SAVED,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, DETACHED, FORM, SCALES, DIVIDES, column, LEARNS_SYNAPSE,
        )  # fmt: skip
        gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale = _backward_step(
            gs2, h2, h3, 0, at2, ok, N, gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale,
            leak, rest, gain, synapse, threshold, reset, scale, start, divisor, a, b, c,
            x, membranes, drives, first_current, g_membranes, g_currents, gx, NEEDS_LAST, NEEDS_DRIVE, SAVED,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, DETACHED, FORM, SCALES, DIVIDES, column, LEARNS_SYNAPSE,
        )  # fmt: skip
        gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale = _backward_step(
            gs3, h3, h4, left == 4, at3, ok, N, gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale,
            leak, rest, gain, synapse, threshold, reset, scale, start, divisor, a, b, c,
            x, membranes, drives, first_current, g_membranes, g_currents, gx, NEEDS_LAST, NEEDS_DRIVE, SAVED,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, DETACHED, FORM, SCALES, DIVIDES, column, LEARNS_SYNAPSE,
        )  # fmt: skip
        h = h4
        at = at3 - N
        left -= 4
    for _ in range(T % 4):
        before = zero + _optional(charged, at - N, ok & (left > 1))
        gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale = _backward_step(
            zero + _optional(g_spikes, at, ok), h, before, left == 1, at, ok, N, gv, gi,
            s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale,
            leak, rest, gain, synapse, threshold, reset, scale, start, divisor, a, b, c,
            x, membranes, drives, first_current, g_membranes, g_currents, gx, NEEDS_LAST, NEEDS_DRIVE, SAVED,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, DETACHED, FORM, SCALES, DIVIDES, column, LEARNS_SYNAPSE,
        )  # fmt: skip
        h = before
        at -= N
        left -= 1
    _save(g_start, column, gv, ok)
    _save(g_first_current, column, gi, ok)
    _save(g_leak, column, s_leak, ok)
    _save(g_rest, column, s_rest, ok)
    _save(g_gain, column, s_gain, ok)
    _save(g_synapse, column, s_synapse, ok)
    _save(g_threshold, column, s_threshold, ok)
    _save(g_reset, column, s_reset, ok)
    _save(g_scale, column, s_scale, ok)
