"""The gradients of `Dynamics` over a sequence in plain operations of torch, from what a kernel saved.

They are themselves differentiable, and can be batched: the backward pass of a kernel is neither. Neurons that adapt
are run again instead, see `fused_adaptive`. Shapes: T steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .dynamics import ChargeRule, CurrentRule, Dynamics, ResetAfter, ResetBefore
from .recurrence import Spike
from .surrogates import derivative


class Saved(NamedTuple):
    """What the pass forward left.

    Attributes:
        charged: the membranes before the reset, (T, ...); None for a readout whose leak is not learned.
        membranes: those after it, where they cannot be told from `charged`.
        drives: what charged the membranes, where the gradient of a constant needs it.
        start: the membrane before the first step, broadcasts to (...).
        current: likewise; None for neurons without one, and for zeros.
    """

    charged: Tensor | None
    membranes: Tensor | None
    drives: Tensor | None
    start: float | Tensor
    current: Tensor | None


class Gradients(NamedTuple):
    """The gradients for what came out of a sequence: each (T, ...), and of the last state (...). None for zeros."""

    spikes: Tensor | None
    membranes: Tensor | None
    currents: Tensor | None
    membrane: Tensor | None
    current: Tensor | None
    charged: Tensor | None
    drives: Tensor | None


def reverse(
    d: Dynamics, saved: Saved, grads: Gradients, like: Tensor
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """The gradients for the input (T, ...), the first membrane and current (...), and each constant, summed over time.

    Args:
        d: of the neurons, with constants that broadcast to (...).
        saved: by the pass forward.
        grads: for its outputs.
        like: any tensor (T, ...), for its shape.
    """
    sums: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        sums[name] = sums[name] + value if name in sums else value

    zero, inputs = torch.zeros_like(like[0]), []
    gv = zero if grads.membrane is None else grads.membrane
    gi = zero if grads.current is None else grads.current
    for t in reversed(range(like.shape[0])):
        h = zero if saved.charged is None else saved.charged[t]
        v = _before(d, saved, t, zero)
        u = zero if saved.drives is None else saved.drives[t]
        gv = gv + _at(grads.membranes, t)
        gs = zero + _at(grads.spikes, t)
        r = zero
        if d.before is not ResetBefore.NONE and d.threshold is not None:
            z = (v - d.threshold).detach()
            r = (z >= 0 if d.fires_at else z > 0).to(z.dtype)
        gh = gv
        if d.threshold is not None and d.surrogate is not None:
            s = Spike.apply(h - d.threshold, d.surrogate, d.fires_at)
            spike = (s.detach() if d.is_detached else s) - r
            if d.scale is not None:
                add("scale", gs * s)
                gs = gs * d.scale
            if d.after is ResetAfter.VALUE:
                gh = gv * (1 - spike)
                add("reset", gv * spike)
                gs = gs if d.is_detached else gs + gv * ((d.reset - h) if d.before is ResetBefore.NONE else -h)
            elif d.after is ResetAfter.SUBTRACT:
                add("threshold", -gv * spike)
                gs = gs if d.is_detached else gs - gv * d.threshold
            gz = gs * derivative(d.surrogate, h - d.threshold)
            gh = gh + gz
            add("threshold", -gz)
        gh = gh + _at(grads.charged, t)
        if d.before is ResetBefore.SUBTRACT:
            add("threshold", -gh * r)
        elif d.before is ResetBefore.ZERO_ALL:
            gh = gh * (1 - r)
        w = (1 - r) * v if d.before is ResetBefore.ZERO else v
        gv, gu = _charge(d, gh, w, u, add)
        gv = gv * (1 - r) if d.before is ResetBefore.ZERO else gv
        gu = gu + _at(grads.drives, t)
        gi = gi + _at(grads.currents, t)
        if d.current is CurrentRule.DECAY:
            gu = gu + gi
            gi = gu * d.synapse
            before = saved.drives[t - 1] if t and saved.drives is not None else saved.current
            add("synapse", gu * (zero if before is None else before))
        elif d.current is CurrentRule.JUMP:
            add("synapse", gi * u)
            gu = gi = gu + gi + gi * d.synapse
        inputs.append(gu if d.divisor is None else gu / d.divisor)
    return torch.stack(inputs[::-1]), gv, gi, sums


def _at(sequence: Tensor | None, t: int) -> float | Tensor:
    return 0.0 if sequence is None else sequence[t]


def _before(d: Dynamics, saved: Saved, t: int, zero: Tensor) -> Tensor:
    """The membrane before a step."""
    if t == 0:
        return zero + saved.start
    if saved.membranes is not None:
        return saved.membranes[t - 1]
    if saved.charged is None:
        return zero
    h = saved.charged[t - 1]
    if d.threshold is None or d.surrogate is None or d.after is ResetAfter.NONE:
        return h
    s: Tensor = Spike.apply(h - d.threshold, d.surrogate, d.fires_at)
    s = s.detach() if d.is_detached else s
    return (1 - s) * h + s * d.reset if d.after is ResetAfter.VALUE else h - s * d.threshold


def _charge(d: Dynamics, gh: Tensor, w: Tensor, u: Tensor, add: Callable[[str, Tensor], None]) -> tuple[Tensor, Tensor]:
    """From the gradient for a charged membrane to those for the membrane w and the drive u that charged it."""
    leak, rest = d.leak, d.rest
    match d.charge:
        case ChargeRule.ADD:
            return gh, gh
        case ChargeRule.DECAY:
            add("leak", gh * w)
            return gh * leak, gh
        case ChargeRule.LEAK_AND_GAIN | ChargeRule.LEAK_AND_ADD:
            add("rest", gh * leak)
            add("leak", gh * (rest - w))
            if d.charge is ChargeRule.LEAK_AND_ADD:
                return gh - gh * leak, gh
            add("gain", gh * u)
            return gh - gh * leak, gh * d.gain
        case ChargeRule.DIVIDED | ChargeRule.DIVIDED_AND_ADD:
            add("rest", gh / leak)
            return gh - gh / leak, gh / leak if d.charge is ChargeRule.DIVIDED else gh
        case ChargeRule.LEAK_INPUT_FIRST | ChargeRule.LEAK_REST_FIRST | ChargeRule.LEAK_LAST:
            add("rest", gh * leak)
            add("leak", gh * (u + rest - w))
            return gh - gh * leak, gh * leak
