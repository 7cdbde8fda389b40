"""The gradients of neurons over a sequence in one kernel, which goes backward in time.

As `membranes.forward` a program takes BLOCK columns, and loads four steps at a time. What the forward kernel did not
save it computes again: the spikes, and the membranes after them, from the charged membranes.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: SIM102  (Triton takes either branch by itself)

import triton
import triton.language as tl

from .membranes import after_spike, constant, is_spike


@triton.jit
def surrogate(z, a, b, c, FORM: tl.constexpr):
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
def optional(pointer, at, ok):
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
            v = after_spike(before, is_spike(before - threshold, AT), threshold, reset, 0, AFTER)
        v = tl.where(is_first != 0, start, v)
    r = tl.zeros_like(h)
    if BEFORE != 0:
        r = is_spike(v - threshold, AT)
    # After the spike.
    gh = gv
    if FIRES:
        s = is_spike(h - threshold, AT)
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
        gz = gs * surrogate(h - threshold, a, b, c, FORM)
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
def save(pointer, c, value, ok):
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
    leak = constant(leak_p, leak_n, column, p, ok, LEAK)
    rest = constant(rest_p, rest_n, column, p, ok, REST)
    gain = constant(gain_p, gain_n, column, p, ok, GAIN)
    synapse = constant(synapse_p, synapse_n, column, p, ok, SYNAPSE)
    threshold = constant(threshold_p, threshold_n, column, p, ok, THRESHOLD)
    reset = constant(reset_p, reset_n, column, p, ok, RESET)
    scale = constant(scale_p, scale_n, column, p, ok, SCALE)
    start = constant(start_p, start_n, column, p, ok, START)
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
    h = zero + optional(charged, at, ok)
    left = T
    for _ in range(T // 4):
        at1 = at - N
        at2 = at1 - N
        at3 = at2 - N
        h1 = zero + optional(charged, at1, ok)
        h2 = zero + optional(charged, at2, ok)
        h3 = zero + optional(charged, at3, ok)
        h4 = zero + optional(charged, at3 - N, ok & (left > 4))
        gs0 = zero + optional(g_spikes, at, ok)
        gs1 = zero + optional(g_spikes, at1, ok)
        gs2 = zero + optional(g_spikes, at2, ok)
        gs3 = zero + optional(g_spikes, at3, ok)
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
            gs3, h3, h4, left == 4, at3, ok, N, gv, gi,
            s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale,
            leak, rest, gain, synapse, threshold, reset, scale, start, divisor, a, b, c,
            x, membranes, drives, first_current, g_membranes, g_currents, gx, NEEDS_LAST, NEEDS_DRIVE, SAVED,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, DETACHED, FORM, SCALES, DIVIDES, column, LEARNS_SYNAPSE,
        )  # fmt: skip
        h = h4
        at = at3 - N
        left -= 4
    for _ in range(T % 4):
        before = zero + optional(charged, at - N, ok & (left > 1))
        gv, gi, s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale = _backward_step(
            zero + optional(g_spikes, at, ok), h, before, left == 1, at, ok, N, gv, gi,
            s_leak, s_rest, s_gain, s_synapse, s_threshold, s_reset, s_scale,
            leak, rest, gain, synapse, threshold, reset, scale, start, divisor, a, b, c,
            x, membranes, drives, first_current, g_membranes, g_currents, gx, NEEDS_LAST, NEEDS_DRIVE, SAVED,
            CHARGE, CURRENT, BEFORE, AFTER, FIRES, AT, DETACHED, FORM, SCALES, DIVIDES, column, LEARNS_SYNAPSE,
        )  # fmt: skip
        h = before
        at -= N
        left -= 1
    save(g_start, column, gv, ok)
    save(g_first_current, column, gi, ok)
    save(g_leak, column, s_leak, ok)
    save(g_rest, column, s_rest, ok)
    save(g_gain, column, s_gain, ok)
    save(g_synapse, column, s_synapse, ok)
    save(g_threshold, column, s_threshold, ok)
    save(g_reset, column, s_reset, ok)
    save(g_scale, column, s_scale, ok)
