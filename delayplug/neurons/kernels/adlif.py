"""Adaptive LIF neurons over a sequence in one kernel, and their gradients in another; see `dynamics.Adaptation`.

As in `membranes` and `gradients`, the kernels of neurons without adaptation, a program computes BLOCK columns and loads
four steps at a time. Operations are in the order of `recurrence.in_steps`, so that they are rounded in the same way.

Shapes: T steps, N columns, one for each neuron of each sample.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from .gradients import optional, save, surrogate
from .membranes import constant, is_spike


@triton.jit
def _forward_step(
    x, v, w, at, ok, leak, threshold, decay, coupling, jump, scale,
    spikes, in_half, charged, membranes, adaptations, AT: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """One step from the input x, the membrane v and the adaptation w; returns v and w after it."""
    h = v + leak * ((x - w) - v)
    s = is_spike(h - threshold, AT)
    v = tl.where(s > 0.0, 0.0, h)
    w = decay * w + (coupling * v + jump * s)
    if SCALES:
        s = s * scale
    tl.store(spikes + at, s, mask=ok)
    if in_half is not None:
        tl.store(in_half + at, s.to(in_half.dtype.element_ty), mask=ok)
    save(charged, at, h, ok)
    save(membranes, at, v, ok)
    save(adaptations, at, w, ok)
    return v, w


@triton.jit(do_not_specialize=["T", "N", "SIZE", "REPEAT"])
def forward(
    x, leak_p, threshold_p, decay_p, coupling_p, jump_p, scale_p,
    leak_n, threshold_n, decay_n, coupling_n, jump_n, scale_n, first_membrane, first_adaptation,
    spikes, in_half, charged, membranes, adaptations, membrane, adaptation, T, N, SIZE, REPEAT,
    LEAK: tl.constexpr, THRESHOLD: tl.constexpr, DECAY: tl.constexpr, COUPLING: tl.constexpr, JUMP: tl.constexpr,
    SCALE: tl.constexpr, AT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Run neurons on x (T, N); write the outputs (T, N) that are not None, and the last membrane and adaptation, (N,).

    Outputs: `spikes`; `in_half`, the spikes again in half precision; `charged`, the membranes before the reset;
    `membranes` and `adaptations`, the states after each step.
    """
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = c < N
    p = (c // REPEAT) % SIZE
    leak = constant(leak_p, leak_n, c, p, ok, LEAK)
    threshold = constant(threshold_p, threshold_n, c, p, ok, THRESHOLD)
    decay = constant(decay_p, decay_n, c, p, ok, DECAY)
    coupling = constant(coupling_p, coupling_n, c, p, ok, COUPLING)
    jump = constant(jump_p, jump_n, c, p, ok, JUMP)
    scale = constant(scale_p, scale_n, c, p, ok, SCALE)
    SCALES: tl.constexpr = SCALE != 0
    v = tl.zeros((BLOCK,), tl.float32) + optional(first_membrane, c, ok)
    w = tl.zeros((BLOCK,), tl.float32) + optional(first_adaptation, c, ok)
    at = c.to(tl.int64)
    for _ in range(T // 4):
        at1 = at + N
        at2 = at1 + N
        at3 = at2 + N
        x0 = tl.load(x + at, mask=ok, other=0.0)
        x1 = tl.load(x + at1, mask=ok, other=0.0)
        x2 = tl.load(x + at2, mask=ok, other=0.0)
        x3 = tl.load(x + at3, mask=ok, other=0.0)
        v, w = _forward_step(
            x0, v, w, at, ok, leak, threshold, decay, coupling, jump, scale,
            spikes, in_half, charged, membranes, adaptations, AT, SCALES,
        )  # fmt: skip
        v, w = _forward_step(
            x1, v, w, at1, ok, leak, threshold, decay, coupling, jump, scale,
            spikes, in_half, charged, membranes, adaptations, AT, SCALES,
        )  # fmt: skip
        v, w = _forward_step(
            x2, v, w, at2, ok, leak, threshold, decay, coupling, jump, scale,
            spikes, in_half, charged, membranes, adaptations, AT, SCALES,
        )  # fmt: skip
        v, w = _forward_step(
            x3, v, w, at3, ok, leak, threshold, decay, coupling, jump, scale,
            spikes, in_half, charged, membranes, adaptations, AT, SCALES,
        )  # fmt: skip
        at = at3 + N
    for _ in range(T % 4):
        v, w = _forward_step(
            tl.load(x + at, mask=ok, other=0.0), v, w, at, ok, leak, threshold, decay, coupling, jump, scale,
            spikes, in_half, charged, membranes, adaptations, AT, SCALES,
        )  # fmt: skip
        at += N
    tl.store(membrane + c, v, mask=ok)
    tl.store(adaptation + c, w, mask=ok)


@triton.jit
def _backward_step(
    gs, x, h, w, v, at, ok, gv, gw, s_leak, s_threshold, s_decay, s_coupling, s_jump,
    leak, threshold, decay, coupling, jump, scale, a, b, c, g_membranes, g_adaptations, gx,
    AT: tl.constexpr, DETACHED: tl.constexpr, FORM: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """One step backward.

    gs, gv and gw are the gradients for the spikes of the step and for the membrane and adaptation after it. Stores the
    gradient for the input, and returns those for the membrane and adaptation before the step, and the sums s_... of the
    gradients for the constants. `h` is the membrane before the reset of this step; `v` and `w` are the membrane and the
    adaptation before the step.
    """
    gv += optional(g_membranes, at, ok)
    gw += optional(g_adaptations, at, ok)
    s = is_spike(h - threshold, AT)
    after = tl.where(s > 0.0, 0.0, h)
    if SCALES:
        gs = gs * scale
    # The adaptation.
    s_decay += gw * w
    s_coupling += gw * after
    s_jump += gw * s
    gv += gw * coupling
    gs += gw * jump
    # The reset and the spike.
    if not DETACHED:
        gs -= gv * h
    gz = gs * surrogate(h - threshold, a, b, c, FORM)
    s_threshold -= gz
    gh = tl.where(s > 0.0, 0.0, gv) + gz
    # The charge.
    gu = gh * leak
    s_leak += gh * ((x - w) - v)
    save(gx, at, gu, ok)
    return gh - gu, gw * decay - gu, s_leak, s_threshold, s_decay, s_coupling, s_jump


@triton.jit
def _state_before(h, threshold, first, is_first, AT: tl.constexpr):
    """The membrane before a step: h, the previous step's, after its reset; `first` in the first step."""
    return tl.where(is_first != 0, first, tl.where(is_spike(h - threshold, AT) > 0.0, 0.0, h))


@triton.jit(do_not_specialize=["T", "N", "SIZE", "REPEAT"])
def backward(
    x, leak_p, threshold_p, decay_p, coupling_p, jump_p, scale_p,
    leak_n, threshold_n, decay_n, coupling_n, jump_n, scale_n, a, b, c, first_membrane, first_adaptation,
    charged, adaptations, g_spikes, g_membranes, g_adaptations, g_membrane, g_adaptation,
    gx, g_first_membrane, g_first_adaptation, g_leak, g_threshold, g_decay, g_coupling, g_jump,
    T, N, SIZE, REPEAT,
    LEAK: tl.constexpr, THRESHOLD: tl.constexpr, DECAY: tl.constexpr, COUPLING: tl.constexpr, JUMP: tl.constexpr,
    SCALE: tl.constexpr, AT: tl.constexpr, DETACHED: tl.constexpr, FORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradients of `forward`.

    It reads g_spikes, g_membranes and g_adaptations, (T, N), and g_membrane and g_adaptation, (N,), for the state after
    the last step. It writes gx (T, N); g_first_membrane and g_first_adaptation (N,), for the state before the first
    step; and sums over the steps for the constants, (N,) each. Each may be None.
    """
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = column < N
    p = (column // REPEAT) % SIZE
    leak = constant(leak_p, leak_n, column, p, ok, LEAK)
    threshold = constant(threshold_p, threshold_n, column, p, ok, THRESHOLD)
    decay = constant(decay_p, decay_n, column, p, ok, DECAY)
    coupling = constant(coupling_p, coupling_n, column, p, ok, COUPLING)
    jump = constant(jump_p, jump_n, column, p, ok, JUMP)
    scale = constant(scale_p, scale_n, column, p, ok, SCALE)
    SCALES: tl.constexpr = SCALE != 0
    zero = tl.zeros((BLOCK,), tl.float32)
    first_v = zero + optional(first_membrane, column, ok)
    first_w = zero + optional(first_adaptation, column, ok)
    gv = zero + optional(g_membrane, column, ok)
    gw = zero + optional(g_adaptation, column, ok)
    s_leak = zero
    s_threshold = zero
    s_decay = zero
    s_coupling = zero
    s_jump = zero
    # Backward from the last step. The membrane before the reset is loaded one step early: it gives the state before.
    at = column.to(tl.int64) + (T - 1).to(tl.int64) * N
    h = tl.load(charged + at, mask=ok, other=0.0)
    left = T
    for _ in range(T // 4):
        at1 = at - N
        at2 = at1 - N
        at3 = at2 - N
        at4 = at3 - N
        more = ok & (left > 4)
        h1 = tl.load(charged + at1, mask=ok, other=0.0)
        h2 = tl.load(charged + at2, mask=ok, other=0.0)
        h3 = tl.load(charged + at3, mask=ok, other=0.0)
        h4 = tl.load(charged + at4, mask=more, other=0.0)
        w1 = tl.load(adaptations + at1, mask=ok, other=0.0)
        w2 = tl.load(adaptations + at2, mask=ok, other=0.0)
        w3 = tl.load(adaptations + at3, mask=ok, other=0.0)
        w4 = tl.where(left > 4, tl.load(adaptations + at4, mask=more, other=0.0), first_w)
        x0 = tl.load(x + at, mask=ok, other=0.0)
        x1 = tl.load(x + at1, mask=ok, other=0.0)
        x2 = tl.load(x + at2, mask=ok, other=0.0)
        x3 = tl.load(x + at3, mask=ok, other=0.0)
        gs0 = zero + optional(g_spikes, at, ok)
        gs1 = zero + optional(g_spikes, at1, ok)
        gs2 = zero + optional(g_spikes, at2, ok)
        gs3 = zero + optional(g_spikes, at3, ok)
        gv, gw, s_leak, s_threshold, s_decay, s_coupling, s_jump = _backward_step(
            gs0, x0, h, w1, _state_before(h1, threshold, first_v, 0, AT), at, ok, gv, gw,
            s_leak, s_threshold, s_decay, s_coupling, s_jump, leak, threshold, decay, coupling, jump, scale, a, b, c,
            g_membranes, g_adaptations, gx, AT, DETACHED, FORM, SCALES,
        )  # fmt: skip
        gv, gw, s_leak, s_threshold, s_decay, s_coupling, s_jump = _backward_step(
            gs1, x1, h1, w2, _state_before(h2, threshold, first_v, 0, AT), at1, ok, gv, gw,
            s_leak, s_threshold, s_decay, s_coupling, s_jump, leak, threshold, decay, coupling, jump, scale, a, b, c,
            g_membranes, g_adaptations, gx, AT, DETACHED, FORM, SCALES,
        )  # fmt: skip
        gv, gw, s_leak, s_threshold, s_decay, s_coupling, s_jump = _backward_step(
            gs2, x2, h2, w3, _state_before(h3, threshold, first_v, 0, AT), at2, ok, gv, gw,
            s_leak, s_threshold, s_decay, s_coupling, s_jump, leak, threshold, decay, coupling, jump, scale, a, b, c,
            g_membranes, g_adaptations, gx, AT, DETACHED, FORM, SCALES,
        )  # fmt: skip
        gv, gw, s_leak, s_threshold, s_decay, s_coupling, s_jump = _backward_step(
            gs3, x3, h3, w4, _state_before(h4, threshold, first_v, left == 4, AT), at3, ok, gv, gw,
            s_leak, s_threshold, s_decay, s_coupling, s_jump, leak, threshold, decay, coupling, jump, scale, a, b, c,
            g_membranes, g_adaptations, gx, AT, DETACHED, FORM, SCALES,
        )  # fmt: skip
        h = h4
        at = at4
        left -= 4
    for _ in range(T % 4):
        more = ok & (left > 1)
        before = tl.load(charged + (at - N), mask=more, other=0.0)
        w = tl.where(left > 1, tl.load(adaptations + (at - N), mask=more, other=0.0), first_w)
        gv, gw, s_leak, s_threshold, s_decay, s_coupling, s_jump = _backward_step(
            zero + optional(g_spikes, at, ok), tl.load(x + at, mask=ok, other=0.0), h, w,
            _state_before(before, threshold, first_v, left == 1, AT), at, ok, gv, gw,
            s_leak, s_threshold, s_decay, s_coupling, s_jump, leak, threshold, decay, coupling, jump, scale, a, b, c,
            g_membranes, g_adaptations, gx, AT, DETACHED, FORM, SCALES,
        )  # fmt: skip
        h = before
        at -= N
        left -= 1
    save(g_first_membrane, column, gv, ok)
    save(g_first_adaptation, column, gw, ok)
    save(g_leak, column, s_leak, ok)
    save(g_threshold, column, s_threshold, ok)
    save(g_decay, column, s_decay, ok)
    save(g_coupling, column, s_coupling, ok)
    save(g_jump, column, s_jump, ok)
