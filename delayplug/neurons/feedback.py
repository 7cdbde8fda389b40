"""A layer of neurons that hears its own spikes: a recurrent connection, with delays or without, over a whole sequence.

    u[t] = x[t] + sum over k of W (taps[k] s[t - 1 - k]),        s[t] = spikes of the neurons driven by u

A spike of step t arrives in step t + 1 at the earliest, since a loop takes a step; a delay of d steps adds d to that.
(Queant, Rançon, Cottereau, Masquelier, "DelRec: learning delays in recurrent spiking neural networks", arXiv
2509.24852, 2025.)

The steps depend on each other: they run one after the other, without a graph. What a step of the neurons does to small
changes is then known for all steps at once, and the backward pass is a loop back in time with these slopes. It gives
the gradients for u or for s; all others follow from one of these for the whole sequence at once.

Shapes: T steps, B batch, H neurons, K taps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _triton
from ..errors import ArgumentError
from ..layers.autograd import is_transformed, needs_graph
from ..layers.exact import mark_exact
from ..layers.precision import full_precision
from .dynamics import Dynamics
from .fused import run_fused
from .recurrence import NeuronActivity, in_steps
from .step_launches import back, delayed


@dataclass(frozen=True, eq=False)  # tensors do not compare as one
class Feedback:
    """The weights and delays of a recurrent connection, as values without a graph.

    Attributes:
        weight: (H, H), receivers by senders; None if the taps hold the weights.
        taps: the weight of the spikes of 1 + k steps ago: (K, H), of each sending neuron; (K, H, H), of each synapse,
            receivers by senders; None for spikes that all arrive one step later.
    """

    weight: Tensor | None
    taps: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.weight is None) != self.is_synaptic:
            raise ArgumentError("weight", "None with taps (K, H, H), else a tensor (H, H)", self.weight)

    @property
    def is_synaptic(self) -> bool:
        """Whether each synapse has taps of its own."""
        return self.taps is not None and self.taps.dim() == 3

    @property
    def reach(self) -> int:
        """K: the last spikes that arrive are those of so many steps ago."""
        return 1 if self.taps is None else self.taps.shape[0]


def run_recurrent(dynamics: Dynamics, x: Tensor, feedback: Feedback, over_time: Callable[[Tensor], Tensor]) -> Tensor:
    """A layer of fresh neurons with a recurrent connection, over a whole sequence.

    On a GPU no value is looked at, so that nothing waits for the device.

    Args:
        dynamics: of the neurons, which fire.
        x: what arrives from outside, (T, B, H).
        feedback: the recurrent connection.
        over_time: what arrives at each step through the same connection, (T, B, H), with its graph, where the argument
            are the spikes of the step before each, (T, B, H). Called where a graph is recorded.

    Returns:
        The spikes, (T, B, H). Gradients go to x, to what `over_time` learns, and to the constants of the neurons; they
        cannot be differentiated again.

    Raises:
        ArgumentError: a readout, an input of another shape, or a call within a transform of `torch.func`.
    """
    if dynamics.threshold is None:
        raise ArgumentError("dynamics", "neurons that fire", "a readout")
    if x.dim() != 3:
        raise ArgumentError("x", "shape (T, B, H)", tuple(x.shape))
    if is_transformed():
        raise ArgumentError("x", "a call outside of the transforms of torch.func", "one within")
    with torch.no_grad(), full_precision(x.device):
        run = _forward(dynamics, x.detach(), feedback)
    is_exact = dynamics.scale is None or dynamics.is_unscaled
    past = mark_exact(run.past) if is_exact else run.past
    spikes = past[feedback.reach :]
    if torch.is_grad_enabled():
        drive = x + over_time(past[feedback.reach - 1 : -1])  # for its graph
        if any(tensor.requires_grad for tensor in dynamics.tensors()):
            # By the gradient for the spikes, that of the whole recurrence, neurons learn as if nothing was fed back.
            drive = _activity(dynamics, _Valued.apply(drive, run.drive)).output
            spikes = _Spikes.apply(drive, spikes, False, feedback, _slopes(dynamics, run))
        elif drive.requires_grad:
            spikes = _Spikes.apply(drive, spikes, True, feedback, _slopes(dynamics, run))
    return mark_exact(spikes) if is_exact else spikes


class _Run(NamedTuple):
    """A sequence.

    Attributes:
        past: K steps of silence, and the spikes, (K + T, B, H).
        drive: of the neurons, (T, B, H).
        states: of the neurons before each step, each (T, B, H).
    """

    past: Tensor
    drive: Tensor
    states: tuple[Tensor, ...]


def _forward(dynamics: Dynamics, x: Tensor, feedback: Feedback) -> _Run:
    steps, reach, weight = x.shape[0], feedback.reach, feedback.weight
    past, drive = x.new_zeros((reach + steps, *x.shape[1:])), torch.empty_like(x)
    taps = None if feedback.taps is None else feedback.taps.flip(0)  # oldest first, as spikes lie in memory
    matrix = _rows(taps, of_senders=True) if weight is None else weight.t()
    before: list[tuple[Tensor, ...]] = []
    states: tuple[Tensor, ...] = ()
    for t, x_t in enumerate(x.unbind(0)):
        window = past[t : t + reach]
        torch.addmm(x_t, _in_a_row(window) if weight is None else _delayed(window, taps), matrix, out=drive[t])
        activity = _activity(dynamics, drive[t : t + 1], states)
        if not states:  # those of fresh neurons
            fresh = torch.zeros_like(x_t)
            states = (fresh + dynamics.start, *(fresh for _ in _states(activity)[1:]))
        assert activity.spikes is not None
        past[reach + t] = activity.spikes[0]
        before.append(states)
        states = _states(activity)
    return _Run(past, drive, tuple(torch.stack(state) for state in zip(*before, strict=True)))


def _has_kernels(x: Tensor) -> bool:
    """Whether a step of a connection with delays per neuron runs in kernels."""
    return x.dtype == torch.float32 and _triton.runs_on(x.device)


def _activity(dynamics: Dynamics, x: Tensor, states: Sequence[Tensor] = ()) -> NeuronActivity:
    membrane, second = (*states, None, None)[:2]
    given = (membrane, second, None) if dynamics.adaptation is None else (membrane, None, second)
    activity = run_fused(dynamics, x, *given)
    return in_steps(dynamics, x, *given) if activity is None else activity


def _states(activity: NeuronActivity) -> tuple[Tensor, ...]:
    """What the neurons carry to the next step: membranes, and currents or adaptations if they have some."""
    second = activity.current if activity.adaptation is None else activity.adaptation
    return (activity.membrane,) if second is None else (activity.membrane, second)


def _rows(taps: Tensor | None, *, of_senders: bool) -> Tensor:
    """(K H, H) of taps (K, H, H), which whatever several steps send, or what several receive, is multiplied by."""
    assert taps is not None
    return (taps.mT if of_senders else taps).flatten(0, 1)


def _in_a_row(window: Tensor) -> Tensor:
    """(K, B, H) to (B, K H)."""
    return window.movedim(0, 1).flatten(1)


def _delayed(window: Tensor, taps: Tensor | None) -> Tensor:
    """(B, H) of the steps (K, B, H), each times its tap."""
    if taps is None:
        return window[0]
    if _has_kernels(window):
        total = torch.empty_like(window[0])
        delayed(window, taps, total)
        return total
    total = window[0] * taps[0]
    for step, tap in zip(window[1:].unbind(0), taps[1:].unbind(0), strict=True):
        total.addcmul_(step, tap)
    return total


@torch.enable_grad()
def _slopes(dynamics: Dynamics, run: _Run) -> Tensor:
    """What a small change of the drive, or of a state before the step, does to the spikes and to the states after it.

    Of the spikes and then of each of S states the slope by the drive and by each state, ((S + 1) (S + 1), T, B, H): of
    all steps at once, as if they were samples of a batch.
    """
    inputs = [part.flatten(0, 1).requires_grad_() for part in (run.drive, *run.states)]
    activity = _activity(dynamics, inputs[0].unsqueeze(0), inputs[1:])
    outputs = (activity.output, *_states(activity))
    slopes = run.drive.new_empty((len(outputs) * len(inputs), *run.drive.shape))
    for n, output in enumerate(outputs):
        found = torch.autograd.grad(output, inputs, torch.ones_like(output), retain_graph=True, materialize_grads=True)
        for slope, part in zip(slopes[n * len(inputs) :], found, strict=False):
            slope.copy_(part.view_as(slope))
    return slopes


class _Valued(torch.autograd.Function):
    """The second tensor, with the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Spikes(torch.autograd.Function):
    """The spikes as they are; the gradient for what they are made from is that of the whole recurrence.

    `source` are the drives, or the spikes of neurons to which nothing is fed back.
    """

    @staticmethod
    def forward(ctx: Any, source: Tensor, spikes: Tensor, is_drive: bool, feedback: Feedback, slopes: Tensor) -> Tensor:
        ctx.is_drive = is_drive
        ctx.save_for_backward(feedback.weight, feedback.taps, slopes)
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if needs_graph():
            raise NotImplementedError("the gradients of recurrent neurons cannot be differentiated again")
        weight, taps, slopes = ctx.saved_tensors
        with full_precision(grad.device):
            for_drives, for_spikes = _backward(grad, Feedback(weight, taps), slopes)
        return for_drives if ctx.is_drive else for_spikes, None, None, None, None


def _backward(grad: Tensor, feedback: Feedback, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient for the spikes by what follows this layer to those for the drives and, in all, for the spikes.

    Args:
        grad: (T, B, H).
        feedback: the connection.
        slopes: as from `_slopes`.
    """
    steps, reach, weight, taps = grad.shape[0], feedback.reach, feedback.weight, feedback.taps
    grad, taps = grad.contiguous(), None if taps is None else taps.contiguous()
    # The gradients for what arrived in later steps; before the weights, if these come after the delays.
    later = grad.new_zeros((steps + reach, *grad.shape[1:]))
    matrix = _rows(taps, of_senders=False) if weight is None else weight
    for_drives, for_spikes = torch.empty_like(grad), torch.empty_like(grad)
    width = math.isqrt(slopes.shape[0])  # the drive and the states
    states = grad.new_zeros((2, width - 1, *grad.shape[1:]))  # after a step, and before it
    for t in reversed(range(steps)):
        window, after, before = later[t + 1 : t + 1 + reach], states[t % 2 - 1], states[t % 2]
        if weight is not None and _has_kernels(grad):
            back(grad[t], window, taps, slopes[:, t], after, for_spikes[t], for_drives[t], before)
        else:
            if weight is None:
                torch.addmm(grad[t], _in_a_row(window), matrix, out=for_spikes[t])
            else:
                torch.add(grad[t], _delayed(window, taps), out=for_spikes[t])
            for n, total in enumerate((for_drives[t], *before.unbind(0))):
                torch.mul(slopes[n, t], for_spikes[t], out=total)
                for s, state in enumerate(after.unbind(0)):
                    total.addcmul_(slopes[(s + 1) * width + n, t], state)
        if weight is None:
            later[t] = for_drives[t]
        else:
            torch.mm(for_drives[t], matrix, out=later[t])
    return for_drives, for_spikes
