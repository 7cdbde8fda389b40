"""Adaptive LIF neurons over a whole sequence in one kernel; `fused.run_fused` calls this for neurons that adapt.

Shapes: T steps, B batch, N = B * ... columns, one for each neuron of each sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import _triton
from ..layers.autograd import needs_graph
from ..layers.exact import mark_exact
from .dynamics import Adaptation, ChargeRule, CurrentRule, Dynamics, ResetAfter, ResetBefore
from .launches import adaptive_backward, adaptive_forward
from .placement import FULL, NUMBER, Placement, as_column, place_constants
from .recurrence import NeuronActivity, in_steps
from .surrogates import Surrogate, SurrogateForm


def run_adaptive(
    dynamics: Dynamics, x: Tensor, membrane: Tensor | None, adaptation: Tensor | None, *, is_exact: bool, in_half: bool
) -> NeuronActivity | None:
    """Run neurons with an `Adaptation` over a sequence; None for neurons that the kernels do not compute.

    The kernels compute neurons with the charge rule LEAK_INPUT_FIRST, a resting membrane of zero, no synaptic current,
    and a reset to zero in the step of the spike.

    Args:
        dynamics: of the neurons.
        x: the input, (T, B, ...), float32 on a device that runs Triton kernels.
        membrane, adaptation: the state before the first step, broadcasts to (B, ...); None: zero.
        is_exact: whether the spikes are zeros and ones.
        in_half: whether to write the spikes a second time, in half precision.
    """
    if not _is_adlif(dynamics):
        return None
    rule = dynamics.adaptation
    assert rule is not None
    placement = place_constants([dynamics.leak, dynamics.threshold, rule.decay, rule.coupling, rule.jump], x)
    scale = dynamics.scale
    if placement is None or (scale is not None and place_constants([scale], x) is None):
        return None
    # Not placed with the others: it may differ between samples, and they would then be expanded over the samples, too.
    scale = None if scale is None else scale.expand_as(x[0]).contiguous()
    states = [None if state is None else state.expand_as(x[0]).contiguous() for state in (membrane, adaptation)]
    plan = _Plan(dynamics, placement, in_half)
    spikes, membranes, adaptations, *last, half_spikes = _FusedAdaptive.apply(
        x.contiguous(), *states, scale, plan, *placement.tensors
    )
    if is_exact:
        mark_exact(spikes, half_spikes)
    shows, shows_adaptation = dynamics.shows_membrane, dynamics.shows_adaptation
    return NeuronActivity(
        output=spikes,
        spikes=spikes,
        membranes=membranes if shows else None,
        currents=None,
        membrane=last[0],
        current=None,
        adaptations=adaptations if shows_adaptation else None,
        adaptation=last[1],
    )


def _is_adlif(d: Dynamics) -> bool:
    zeros = (d.rest, d.reset, d.start)
    return (
        d.charge is ChargeRule.LEAK_INPUT_FIRST
        and d.current is CurrentRule.NONE
        and d.before is ResetBefore.NONE
        and d.after is ResetAfter.VALUE
        and all(isinstance(value, int | float) and value == 0 for value in zeros)
        and d.divisor is None
        and not d.gives_membrane
        and not (d.scale is not None and d.scale.requires_grad)
    )


@dataclass(frozen=True)
class _Plan:
    """The neurons in the form in which the kernels read them.

    Attributes:
        dynamics: of the neurons.
        placement: of leak, threshold, decay, coupling and jump, in the order of the kernels' arguments.
        in_half: whether spikes are written a second time, in half precision.
    """

    dynamics: Dynamics
    placement: Placement
    in_half: bool

    def as_dynamics(self, tensors: Sequence[Tensor | None], scale: Tensor | None) -> Dynamics:
        """The dynamics with constants that broadcast to (..., size, repeat), and all states returned at every step."""
        values = [
            number if tensor is None else as_column(tensor)
            for number, tensor in zip(self.placement.numbers, tensors, strict=True)
        ]
        leak, threshold, decay, coupling, jump = values
        return replace(
            self.dynamics,
            leak=leak,
            threshold=threshold,
            adaptation=Adaptation(decay, coupling, jump),
            scale=scale,
            shows_membrane=True,
            shows_adaptation=True,
        )


class _FusedAdaptive(torch.autograd.Function):
    """x (T, B, ...) to spikes, membranes, adaptations, the last two states, and spikes in half precision."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        membrane: Tensor | None,
        adaptation: Tensor | None,
        scale: Tensor | None,
        plan: _Plan,
        *constants: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        d, placement, trains = plan.dynamics, plan.placement, any(ctx.needs_input_grad)

        def buffer(wanted: bool) -> Tensor | None:
            return torch.empty_like(x) if wanted else None

        spikes, charged = torch.empty_like(x), buffer(trains)
        membranes, adaptations = buffer(d.shows_membrane), buffer(d.shows_adaptation or trains)
        half_spikes = None
        if plan.in_half and x.shape[-1] % 16 == 0:  # the next layer reads rows of such a size without a copy
            half_spikes = x.new_empty(x.shape, dtype=_triton.half(x.device))
        last = torch.empty_like(x[0]), torch.empty_like(x[0])
        layout = [x.shape[0], x[0].numel(), placement.size, placement.repeat]
        kinds = [*placement.kinds, NUMBER if scale is None else FULL]
        numbers, rules = [*placement.numbers, 1.0], [int(d.fires_at)]
        ctx.run = numbers, kinds, layout, rules
        adaptive_forward(
            *(x, membrane, adaptation, [*constants, scale], numbers, kinds, layout, rules),
            *(spikes, half_spikes, charged, membranes, adaptations, *last),
        )
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, membrane, adaptation, scale, charged, adaptations, *constants)
        if half_spikes is not None:
            ctx.mark_non_differentiable(half_spikes)
        return spikes, membranes, adaptations, *last, half_spikes

    @staticmethod
    def backward(ctx: Any, *outer: Tensor | None) -> tuple[Tensor | None, ...]:
        grads = outer[:-1]  # the spikes in half precision have no gradient
        is_batched = any(grad is not None and torch._C._functorch.is_legacy_batchedtensor(grad) for grad in grads)
        run = _plain_backward if needs_graph() or is_batched else _kernel_backward
        for_x, for_membrane, for_adaptation, *for_constants = run(ctx, *grads)
        return for_x, for_membrane, for_adaptation, None, None, *for_constants


def _kernel_backward(ctx: Any, *grads: Tensor | None) -> list[Tensor | None]:
    x, membrane, adaptation, scale, charged, adaptations, *constants = ctx.saved_tensors
    plan: _Plan = ctx.plan
    wants_x, wants_membrane, wants_adaptation, _, _, *wants = ctx.needs_input_grad

    def buffer(wanted: bool, like: Tensor) -> Tensor | None:
        return torch.empty_like(like) if wanted else None

    outs = buffer(wants_x, x), buffer(wants_membrane, x[0]), buffer(wants_adaptation, x[0])
    learned = [number for number, wanted in enumerate(wants) if wanted]
    sums = [torch.empty_like(x[0]) for _ in learned]
    surrogate = plan.dynamics.surrogate or Surrogate(SurrogateForm.CONSTANT)
    numbers, kinds, layout, rules = ctx.run
    rules = [*rules, int(plan.dynamics.is_detached), int(surrogate.form)]
    incoming = [None if grad is None else grad.contiguous() for grad in grads]
    parameters = [surrogate.a, surrogate.b, surrogate.c]
    adaptive_backward(
        *(x, membrane, adaptation, [*constants, scale], numbers, kinds, layout, rules, parameters),
        *(charged, adaptations, incoming, *outs, sums, learned),
    )
    totals: list[Tensor | None] = [None] * len(constants)
    for number, total in zip(learned, sums, strict=True):
        totals[number] = plan.placement.total(total, constants[number])
    return [*outs, *totals]


def _plain_backward(ctx: Any, *grads: Tensor | None) -> list[Tensor | None]:
    """The gradients of the neurons run again in torch's operations: these can be differentiated again, and batched."""
    x, membrane, adaptation, scale, _, _, *constants = ctx.saved_tensors
    plan: _Plan = ctx.plan
    placement, graph = plan.placement, needs_graph()
    wanted = [need for n, need in enumerate(ctx.needs_input_grad) if n not in (3, 4)]  # not the scale and the plan
    with torch.enable_grad():
        # Views, so that the gradient for x does not include the path through a state that was computed from x.
        inputs = [None if t is None else t.view_as(t) for t in (x, membrane, adaptation, *constants)]
        x, membrane, adaptation, *constants = inputs
        columns = placement.columns(x, 1)
        assert columns is not None
        activity = in_steps(
            plan.as_dynamics(constants, placement.columns(scale, 0)),
            *(columns, placement.columns(membrane, 0), None, placement.columns(adaptation, 0)),
        )
        outputs = (
            activity.spikes,
            activity.membranes,
            activity.adaptations,
            activity.membrane,
            activity.adaptation,
        )
        pairs = [
            (out, grad.reshape(out.shape))
            for out, grad in zip(outputs, grads, strict=True)
            if out is not None and grad is not None
        ]
        positions = [n for n, need in enumerate(wanted) if need]
        input_grads = torch.autograd.grad(
            [out for out, _ in pairs],
            [leaf for n in positions if (leaf := inputs[n]) is not None],
            [grad for _, grad in pairs],
            create_graph=graph,
            allow_unused=True,
        )
    results: list[Tensor | None] = [None] * len(wanted)
    for n, grad in zip(positions, input_grads, strict=True):
        results[n] = grad
    return results
