"""`Dynamics` in plain operations of torch, step by step: what the kernels must equal, and their stand-in.

The kernels' backward pass hands over to this where it is differentiated itself. Shapes: T steps, B batch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .dynamics import ChargeRule, CurrentRule, Dynamics, ResetAfter, ResetBefore
from .surrogates import Surrogate, derivative


class NeuronActivity(NamedTuple):
    """What a layer of neurons did over a sequence.

    Attributes:
        output: the spikes, or the membranes of a neuron that gives them, (T, B, ...).
        spikes: (T, B, ...), times the scale; None for a readout.
        membranes: after each step, (T, B, ...); None where nobody asked.
        currents: after each step, likewise; None for a neuron without a current, too.
        membrane, current: after the last step, (B, ...).
        adaptations: after each step, (T, B, ...); None unless `shows_adaptation`, and for neurons that do not adapt.
        adaptation: after the last step, (B, ...), of neurons that adapt.
    """

    output: Tensor
    spikes: Tensor | None
    membranes: Tensor | None
    currents: Tensor | None
    membrane: Tensor
    current: Tensor | None
    adaptations: Tensor | None = None
    adaptation: Tensor | None = None


class Spike(torch.autograd.Function):
    """The step function with a surrogate gradient; differentiable again, and within `torch.func`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, surrogate: Surrogate, fires_at: bool) -> Tensor:
        return (z >= 0 if fires_at else z > 0).to(z.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate, bool], output: Tensor) -> None:
        z, ctx.surrogate, _ = inputs
        ctx.save_for_backward(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (z,) = ctx.saved_tensors
        return grad * derivative(ctx.surrogate, z), None, None


def in_steps(
    dynamics: Dynamics,
    x: Tensor,
    membrane: Tensor | None = None,
    current: Tensor | None = None,
    adaptation: Tensor | None = None,
) -> NeuronActivity:
    """A layer of neurons over a sequence, in plain operations.

    Args:
        dynamics: of the neurons.
        x: the input, (T, B, ...).
        membrane: before the first step, broadcasts to (B, ...); None for fresh neurons.
        current, adaptation: likewise, for neurons that have one.
    """
    d, v, i = dynamics, torch.zeros_like(x[0]) + (dynamics.start if membrane is None else membrane), None
    if d.current is not CurrentRule.NONE:
        i = torch.zeros_like(x[0]) + (0.0 if current is None else current)
    w = None if d.adaptation is None else torch.zeros_like(x[0]) + (0.0 if adaptation is None else adaptation)
    spikes, membranes, currents, adaptations = [], [], [], []
    for factor in d.factors:
        x = x * factor
    for x_t in x.unbind(0):
        u = x_t if d.divisor is None else x_t / d.divisor
        if i is not None:
            u = d.synapse * i + u if d.current is CurrentRule.DECAY else i + u
            i = u if d.current is CurrentRule.DECAY else u + d.synapse * u
        s, v = _step(d, v, u if w is None else u - w)
        if w is not None and s is not None and d.adaptation is not None:
            w = d.adaptation.decay * w + (d.adaptation.coupling * v + d.adaptation.jump * s)
        spikes.append(s if s is None or d.scale is None else s * d.scale)
        membranes.append(v)
        currents.append(i)
        adaptations.append(w)
    out = _stacked(spikes)
    over_time = torch.stack(membranes) if out is None or d.gives_membrane or d.shows_membrane else None
    output = out if out is not None and (over_time is None or not d.gives_membrane) else over_time
    assert output is not None
    over_currents = _stacked(currents) if d.shows_current else None
    return NeuronActivity(
        output, out, over_time, over_currents, v, i, _stacked(adaptations) if d.shows_adaptation else None, w
    )


def _stacked(steps: list[Tensor | None]) -> Tensor | None:
    there = [step for step in steps if step is not None]
    return torch.stack(there) if there else None


def _step(d: Dynamics, v: Tensor, u: Tensor) -> tuple[Tensor | None, Tensor]:
    """The membrane v, driven by u: spikes before they are scaled, and the next membrane."""
    if d.threshold is None or d.surrogate is None:
        return None, _charged(d, v, u)
    if d.before is ResetBefore.NONE:
        h = _charged(d, v, u)
        s = Spike.apply(h - d.threshold, d.surrogate, d.fires_at)
        spike = s.detach() if d.is_detached else s
    else:
        r = (v - d.threshold).detach()
        r = (r >= 0 if d.fires_at else r > 0).to(v.dtype)
        h = _charged(d, (1 - r) * v if d.before is ResetBefore.ZERO else v, u)
        if d.before is ResetBefore.SUBTRACT:
            h = h - r * d.threshold
        elif d.before is ResetBefore.ZERO_ALL:
            h = h - h * r
        s = Spike.apply(h - d.threshold, d.surrogate, d.fires_at)
        spike = (s.detach() if d.is_detached else s) - r
    if d.after is ResetAfter.NONE:
        v = h
    elif d.after is ResetAfter.SUBTRACT:
        v = h - spike * d.threshold
    elif d.before is ResetBefore.NONE:
        v = (1 - spike) * h + spike * d.reset
    else:
        v = h - spike * h
    return s, v


def _charged(d: Dynamics, v: Tensor, u: Tensor) -> Tensor:
    leak, rest = d.leak, d.rest
    match d.charge:
        case ChargeRule.ADD:
            return v + u
        case ChargeRule.DECAY:
            return leak * v + u
        case ChargeRule.LEAK_INPUT_FIRST:
            return v + leak * ((u + rest) - v)
        case ChargeRule.LEAK_REST_FIRST:
            return v + leak * ((rest - v) + u)
        case ChargeRule.LEAK_LAST:
            return v + (u - (v - rest)) * leak
        case ChargeRule.LEAK_AND_GAIN:
            return (v + leak * (rest - v)) + d.gain * u
        case ChargeRule.LEAK_AND_ADD:
            return (v - (v - rest) * leak) + u
        case ChargeRule.DIVIDED:
            return v + (u - (v - rest)) / leak
        case ChargeRule.DIVIDED_AND_ADD:
            return (v - (v - rest) / leak) + u
