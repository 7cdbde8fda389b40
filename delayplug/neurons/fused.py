"""Neurons over a whole sequence in one kernel, forward and backward, where their toolkit gives their `Dynamics`.

Shapes: T steps, B batch, N = B * ... columns, one for each neuron of each sample.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from .. import _triton
from ..layers.autograd import is_transformed, needs_graph
from ..layers.exact import mark_exact
from .dynamics import CONSTANTS, ChargeRule, Dynamics
from .fused_adaptive import run_adaptive
from .launches import backward, forward
from .placement import FULL, Placement, as_column, place_constants
from .recurrence import NeuronActivity
from .reverse import Gradients, Saved, reverse
from .surrogates import Surrogate, SurrogateForm

_wanted: ContextVar[bool] = ContextVar("delayplug_fuses", default=True)
# Those whose gradient for the leak, or the gain, needs what charged the membrane.
_BY_DRIVE = (ChargeRule.LEAK_INPUT_FIRST, ChargeRule.LEAK_REST_FIRST, ChargeRule.LEAK_LAST)


@contextmanager
def fused_neurons(wanted: bool = True) -> Iterator[None]:
    """Within the block, neurons run in kernels where they can, as they do by themselves; or never, if not wanted."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def fuses(dynamics: Dynamics | None, device: torch.device) -> bool:
    """Whether neurons of these dynamics run in a kernel on a device, in float32."""
    return dynamics is not None and _wanted.get() and _triton.runs_on(device)


@_disable_dynamo
def run_fused(
    dynamics: Dynamics | None,
    x: Tensor,
    membrane: Tensor | None = None,
    current: Tensor | None = None,
    adaptation: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    in_half: bool = False,
) -> NeuronActivity | None:
    """A layer of neurons over a whole sequence: one kernel forward and one backward.

    The spikes are those of the toolkit's own loop in float32, and the gradients, for the input, the state before the
    first step and the constants, are equal to 1e-5. No value is looked at, so that nothing waits for the device.

    Args:
        dynamics: of the neurons; None if they are not known.
        x: the input, (T, B, ...).
        membrane: before the first step, broadcasts to (B, ...); None for fresh neurons.
        current, adaptation: likewise, for neurons that have one.
        mask: zeros and ones, which the spikes are multiplied by, as of dropout; broadcasts to (B, ...). It changes no
            membrane, and has no gradient.
        in_half: whether to write spikes of zeros and ones in bf16, too, for a layer with delays that takes them next on
            a GPU's tensor cores. The output is the same.

    Returns:
        What the neurons did; None where no kernel does this, so that the caller runs the neurons' own loop: on a device
        without kernels, in another precision, within a transform of `torch.func`, and so on.
    """
    if dynamics is None or not fuses(dynamics, x.device) or is_transformed() or x.dim() < 2 or not x.numel():
        return None
    if mask is not None and dynamics.gives_membrane:
        return None
    scale, is_exact = dynamics.scale, dynamics.scale is None or dynamics.is_unscaled
    if scale is not None and is_exact and not scale.requires_grad:
        scale = None
    if mask is not None:
        scale = mask.detach() if scale is None else scale * mask.detach()
    if scale is not None and scale.device != x.device:
        return None
    dynamics = replace(dynamics, scale=scale)
    for factor in dynamics.factors:
        x = x * factor
    start = dynamics.start
    if membrane is None and isinstance(start, Tensor) and start.requires_grad:
        membrane = start.to(x.device)
    given = [tensor for tensor in (x, membrane, current, adaptation) if tensor is not None]
    if any(t.dtype != torch.float32 or t.device != x.device or t.layout != torch.strided for t in given):
        return None
    if dynamics.adaptation is not None:
        return run_adaptive(dynamics, x, membrane, adaptation, is_exact=is_exact, in_half=in_half and is_exact)
    plan = _plan(dynamics, x)
    if plan is None:
        return None
    states = [None if state is None else state.expand_as(x[0]).contiguous() for state in (membrane, current)]
    plan = replace(plan, in_half=in_half and is_exact)
    spikes, membranes, currents, *last, _, _, half_spikes = _Fused.apply(x.contiguous(), *states, plan, *plan.tensors)
    if spikes is not None and is_exact:
        mark_exact(spikes, half_spikes)
    shows = dynamics.gives_membrane or dynamics.shows_membrane
    output = membranes if dynamics.gives_membrane else spikes
    return NeuronActivity(output, spikes, membranes if shows else None, currents, *last)


# ------------------------------------------------------------------------------------------------ constants


@dataclass(frozen=True)
class _Plan:
    """How kernels take the constants of neurons: those of `CONSTANTS`, and the membrane of fresh neurons.

    Attributes:
        placement: of these constants, the membrane last.
        in_half: whether spikes are written a second time, in half precision.
    """

    dynamics: Dynamics
    placement: Placement
    in_half: bool = False

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors of `CONSTANTS`, differentiable; None for numbers."""
        return self.placement.tensors[:-1]

    def rules(self) -> list[int]:
        d = self.dynamics
        rules = (d.charge, d.current, d.before, d.after, d.threshold is not None, d.fires_at, d.divisor is not None)
        return [int(rule) for rule in rules]

    def as_dynamics(self, tensors: Sequence[Tensor | None]) -> Dynamics:
        """The dynamics with constants that broadcast to (..., size, repeat)."""
        given = zip(CONSTANTS, tensors, strict=True)
        columns: dict[str, Any] = {name: as_column(t) for name, t in given if t is not None}
        return replace(self.dynamics, **columns)


def _plan(dynamics: Dynamics, x: Tensor) -> _Plan | None:
    """None if the constants do not go together with x."""
    used = dynamics.used()
    start = dynamics.start.detach() if isinstance(dynamics.start, Tensor) else dynamics.start
    placement = place_constants([*(used.get(name) for name in CONSTANTS), start], x)
    return None if placement is None else _Plan(dynamics, placement)


# ------------------------------------------------------------------------------------------------ autograd


class _Fused(torch.autograd.Function):
    """x (T, B, ...) to a `NeuronActivity`, and what the backward pass needs: charged membranes and drives, (T, B, ...).

    These are outputs, too, so that a backward pass that is itself differentiated can go through them. The last output
    are the spikes in half precision, for `mark_exact`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, membrane: Tensor | None, current: Tensor | None, plan: _Plan, *constants: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        d, fires, has_current = plan.dynamics, plan.dynamics.threshold is not None, bool(plan.dynamics.current)
        learned = [place for place, needed in enumerate(ctx.needs_input_grad[4:]) if needed]
        names, trains = {CONSTANTS[place] for place in learned}, any(ctx.needs_input_grad)
        needs_last = trains and (bool(d.before) or "leak" in names)
        needs_drive = not names.isdisjoint({"gain", "synapse"}) or ("leak" in names and d.charge in _BY_DRIVE)
        saves_membranes = needs_last and bool(d.before) and bool(d.after)
        saves_charged = trains and (fires or needs_last)
        # Without a reset after the spike the charged membranes are the membranes.
        shows = d.gives_membrane or d.shows_membrane or saves_membranes or (saves_charged and not d.after)

        def some(wanted: bool, like: Tensor = x) -> Tensor | None:
            return torch.empty_like(like) if wanted else None

        spikes, membranes = some(fires), some(shows)
        half_spikes = None
        if fires and plan.in_half and x.shape[-1] % 16 == 0:  # products take rows of such a size as they are
            half_spikes = x.new_empty(x.shape, dtype=_triton.half(x.device))
        charged = some(saves_charged and bool(d.after))
        drives, currents = some(needs_drive and has_current), some(d.shows_current and has_current)
        last, last_current = torch.empty_like(x[0]), some(has_current, x[0])
        placement = plan.placement
        start = placement.tensors[-1] if membrane is None else membrane
        kinds = [*placement.kinds[:-1], placement.kinds[-1] if membrane is None else FULL]
        numbers = [*placement.numbers, 1.0 if d.divisor is None else d.divisor]
        ctx.run = (numbers, kinds, [x.shape[0], x[0].numel(), placement.size, placement.repeat], plan.rules())
        numbers, kinds, layout, rules = ctx.run
        forward(
            *(x, current, [*constants, start], numbers, kinds, layout, rules),
            *(spikes, half_spikes, charged, membranes, drives, currents),
            *(last, last_current),
        )
        ctx.plan, ctx.learned, ctx.is_given, ctx.shape = plan, learned, membrane is not None, x.shape
        ctx.needs = [int(needs) for needs in (needs_last, needs_drive, saves_membranes, "synapse" in names)]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            *(x if needs_drive and not has_current else None, current, start),
            *(membranes if saves_charged and not d.after else charged, membranes if saves_membranes else None),
            *(drives, *constants),
        )
        if half_spikes is not None:
            ctx.mark_non_differentiable(half_spikes)
        return spikes, membranes, currents, last, last_current, charged, drives, half_spikes

    @staticmethod
    def backward(ctx: Any, *outer: Tensor | None) -> tuple[Tensor | None, ...]:
        grads = outer[:-1]  # spikes in half precision have none
        wanted: tuple[bool, ...] = ctx.needs_input_grad
        is_plain = needs_graph() or any(grad is not None for grad in grads[5:]) or _are_batched(grads)
        run = _plain_backward if is_plain else _kernel_backward
        for_x, for_membrane, for_current, sums = run(ctx, *grads)
        constants = ctx.saved_tensors[6:]
        summed = [
            None if (total := sums.get(name)) is None or constant is None else ctx.plan.placement.total(total, constant)
            for name, constant in zip(CONSTANTS, constants, strict=True)
        ]
        states = (for_membrane if wanted[1] else None, for_current if wanted[2] else None)
        return (for_x if wanted[0] else None, *states, None, *summed)


# The gradients for x, the first membrane and current, and by their names for constants, summed over the steps.
_Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, dict[str, Tensor]]


def _are_batched(grads: tuple[Tensor | None, ...]) -> bool:
    """Whether gradients are several at once, as for `is_grads_batched=True`, which is no transform of `torch.func`."""
    return any(grad is not None and torch._C._functorch.is_legacy_batchedtensor(grad) for grad in grads)


def _kernel_backward(ctx: Any, *grads: Tensor | None) -> _Gradients:
    x, current, start, charged, membranes, drives, *constants = ctx.saved_tensors
    plan: _Plan = ctx.plan
    numbers, kinds, layout, rules = ctx.run
    wants_x, wants_membrane, wants_current, *_ = ctx.needs_input_grad
    like = next(grad for grad in grads if grad is not None)

    def some(wanted: bool, *shape: int) -> Tensor | None:
        return like.new_empty(shape) if wanted else None

    for_x = some(wants_x, *ctx.shape)
    for_membrane, for_current = some(wants_membrane, *ctx.shape[1:]), some(wants_current, *ctx.shape[1:])
    sums = [like.new_empty(ctx.shape[1:]) for _ in ctx.learned]
    surrogate = plan.dynamics.surrogate or Surrogate(SurrogateForm.CONSTANT)
    rules = [*rules, int(plan.dynamics.is_detached), int(surrogate.form)]
    parameters = [surrogate.a, surrogate.b, surrogate.c]
    given = [None if grad is None else grad.contiguous() for grad in grads[:5]]
    backward(
        *(like if x is None else x, current, [*constants, start], numbers, kinds, layout, rules, ctx.needs, parameters),
        *(charged, membranes, drives, given, for_x, for_membrane, for_current, sums, ctx.learned),
    )
    names = [CONSTANTS[place] for place in ctx.learned]
    return for_x, for_membrane, for_current, dict(zip(names, sums, strict=True))


def _plain_backward(ctx: Any, *grads: Tensor | None) -> _Gradients:
    x, current, start, charged, membranes, drives, *constants = ctx.saved_tensors
    plan: _Plan = ctx.plan
    columns = plan.placement.columns
    first: float | Tensor | None = plan.placement.numbers[-1]
    if start is not None:
        first = columns(start, 0) if ctx.is_given else as_column(start)
    if x is not None and plan.dynamics.divisor is not None:
        x = x / plan.dynamics.divisor
    assert first is not None
    charged, membranes, drives = (columns(t, 1) for t in (charged, membranes, drives if x is None else x))
    leading = (1, 1, 1, 0, 0, 1, 1)
    given = Gradients(*(columns(grad, place) for grad, place in zip(grads, leading, strict=True)))
    like = next(grad for grad in grads if grad is not None).new_empty(()).expand(ctx.shape)
    like = like.reshape(ctx.shape[0], -1, plan.placement.size, plan.placement.repeat)
    saved = Saved(charged, membranes, drives, first, columns(current, 0))
    for_x, for_membrane, for_current, sums = reverse(plan.as_dynamics(constants), saved, given, like)
    shape = ctx.shape[1:]
    return for_x.reshape(ctx.shape), for_membrane.reshape(shape), for_current.reshape(shape), sums
