"""Layers whose spikes are fed back to them by a recurrent connection, with or without delays, over a whole sequence.

    u[t] = x[t] + sum over k of W (taps[k] s[t - 1 - k]),        s[t] = spikes of the neurons driven by u

A spike of step t arrives in step t + 1 at the earliest, since a recurrent connection takes one step; a delay of d steps
adds d to that.
(Queant, Rançon, Cottereau, Masquelier, "DelRec: learning delays in recurrent spiking neural networks", arXiv
2509.24852, 2025.)

Each step depends on the one before it, so the forward pass runs step by step, without recording an autograd graph. Then
the local derivatives of the neurons (`_slopes`) are computed for all steps at once, and the backward pass is a loop
back in time over them. It gives the gradients for u or for s; autograd gets all others from these, for the whole
sequence at once.

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
from ..layers.engines.products import in_parts
from ..layers.exact import mark_exact
from ..layers.precision import full_precision, parts
from .dynamics import Dynamics
from .fused import run_fused
from .recurrence import NeuronActivity, in_steps
from .step_launches import arrive, back, send


@dataclass(frozen=True, eq=False)  # tensors do not compare as one
class Feedback:
    """The weights and delays of a recurrent connection, as tensors without an autograd graph.

    Attributes:
        weight: (H, H), receiving by sending neurons; None if the taps contain the weights.
        taps: tap k weighs the spikes of 1 + k steps ago: (K, H), one delay for each sending neuron; (K, H, H), one for
            each synapse, receiving by sending neurons; None without delays, where all spikes arrive one step later.

    Raises:
        ArgumentError: both or neither of `weight` and taps (K, H, H).
    """

    weight: Tensor | None
    taps: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.weight is None) != self.is_synaptic:
            raise ArgumentError("weight", "None with taps (K, H, H), else a tensor (H, H)", self.weight)

    @property
    def is_synaptic(self) -> bool:
        """Whether each synapse has its own taps."""
        return self.taps is not None and self.taps.dim() == 3

    @property
    def reach(self) -> int:
        """K, the number of taps: the oldest spikes that still arrive are K steps old."""
        return 1 if self.taps is None else self.taps.shape[0]


def run_recurrent(dynamics: Dynamics, x: Tensor, feedback: Feedback, over_time: Callable[[Tensor], Tensor]) -> Tensor:
    """Run neurons with a recurrent connection over a whole sequence, from their initial state.

    No tensor is read on the host, so that a call never waits for a GPU and can be captured as a CUDA graph.

    Args:
        dynamics: of the neurons, which must have a threshold.
        x: the input from other layers, (T, B, H).
        feedback: the recurrent connection.
        over_time: the same connection as a differentiable function of a whole sequence: from spikes (T, B, H), each
            those of the step before, to the input that arrives through it at each step, (T, B, H). Called only if
            gradients are enabled.

    Returns:
        The spikes, (T, B, H). They have gradients for x, for the parameters of `over_time`, and for the constants of
        the neurons; these gradients cannot be differentiated again.

    Raises:
        ArgumentError: the neurons have no threshold, x has another shape, or the call is within a transform of
            `torch.func`.
    """
    if dynamics.threshold is None:
        raise ArgumentError("dynamics", "neurons that fire", "a readout")
    if x.dim() != 3:
        raise ArgumentError("x", "shape (T, B, H)", tuple(x.shape))
    if is_transformed():
        raise ArgumentError("x", "a call outside of the transforms of torch.func", "one within")
    with torch.no_grad(), full_precision(x.device):
        run = _forward(dynamics, x.detach(), feedback)
    is_exact = _is_exact(dynamics)
    past = mark_exact(run.past) if is_exact else run.past
    spikes = past[feedback.reach :]
    if torch.is_grad_enabled():
        drive = x + over_time(past[feedback.reach - 1 : -1])  # the values of run.drive, with a graph
        if any(tensor.requires_grad for tensor in dynamics.tensors()):
            # `_Spikes` gives the gradient of the whole recurrence for the spikes; from there, the gradients of the
            # constants are those of neurons without a recurrent connection.
            source = _activity(dynamics, _WithValues.apply(drive, run.drive)).output
            spikes = _Spikes.apply(source, spikes, False, feedback, _slopes(dynamics, run))
        elif drive.requires_grad:
            spikes = _Spikes.apply(drive, spikes, True, feedback, _slopes(dynamics, run))
    return mark_exact(spikes) if is_exact else spikes


def _is_exact(dynamics: Dynamics) -> bool:
    """Whether the spikes are zeros and ones."""
    return dynamics.scale is None or dynamics.is_unscaled


class _State(NamedTuple):
    """The state of neurons, (B, H) at one step or (T, B, H) over time; None for variables that they do not have."""

    membrane: Tensor | None = None
    current: Tensor | None = None
    adaptation: Tensor | None = None

    @classmethod
    def after(cls, activity: NeuronActivity) -> "_State":
        return cls(activity.membrane, activity.current, activity.adaptation)

    @property
    def variables(self) -> list[Tensor]:
        """The variables that these neurons have, in the order of the fields."""
        return [variable for variable in self if variable is not None]

    def replaced(self, variables: Sequence[Tensor]) -> "_State":
        """A state with other tensors for these variables, in the same order."""
        remaining = iter(variables)
        return _State(*(None if variable is None else next(remaining) for variable in self))


_INITIAL = _State()


class _Run(NamedTuple):
    """The result of a forward pass.

    Attributes:
        past: K steps without spikes, followed by the spikes of all steps, (K + T, B, H).
        drive: the total input u of the neurons, (T, B, H).
        state: of the neurons before each step, (T, B, H).
    """

    past: Tensor
    drive: Tensor
    state: _State


def _forward(dynamics: Dynamics, x: Tensor, feedback: Feedback) -> _Run:
    steps, reach = x.shape[0], feedback.reach
    past, drive = x.new_zeros((reach + steps, *x.shape[1:])), torch.empty_like(x)
    connection, sent = _Connection(feedback, x, exact=_is_exact(dynamics)), None
    before: list[list[Tensor]] = []
    state = _INITIAL
    for t, x_t in enumerate(x.unbind(0)):
        if sent is None:  # no spikes before the first step
            drive[t] = x_t
        else:
            connection.add(x_t, sent, out=drive[t])
        activity = _activity(dynamics, drive[t : t + 1], state)
        after = _State.after(activity)
        if not before:
            zero = torch.zeros_like(x_t)
            state = after.replaced([zero + dynamics.start, *(zero for _ in after.variables[1:])])
        assert activity.spikes is not None
        sent = connection.send(activity.spikes[0], past[t + 1 : t + 1 + reach])
        before.append(state.variables)
        state = after
    return _Run(past, drive, state.replaced([torch.stack(variable) for variable in zip(*before, strict=True)]))


class _Connection:
    """The recurrent connection in one direction: forward for spikes, or backward for gradients.

    Args:
        feedback: its weights and taps.
        x: the sequence that it will carry; only its dtype and device are used.
        back: whether backward: from the gradients of what arrives to those of what was sent.
        exact: whether bf16 represents the numbers that are sent exactly.
    """

    def __init__(self, feedback: Feedback, x: Tensor, back: bool = False, exact: bool = False) -> None:
        taps, weight = feedback.taps, feedback.weight
        # Forward, the oldest step of a window comes first in memory, so the largest delay does as well.
        taps = taps if taps is None or back else taps.flip(0)
        self.taps = None if taps is None else taps.contiguous()
        # The weights as bf16 terms for the kernels; None where torch computes the products.
        self.terms: tuple[Tensor, Tensor | None] | None = None
        if weight is None:  # taps of each synapse are weights (K H, H)
            assert taps is not None
            self.matrix, self.taps = (taps if back else taps.mT).flatten(0, 1), None
        else:
            self.matrix = weight if back else weight.t()
            if x.dtype == torch.float32 and _triton.runs_on(x.device):
                self.terms = in_parts(weight, parts())
        self._is_synaptic, self._is_exact = weight is None, exact and taps is None

    def send(self, step: Tensor, window: Tensor) -> Tensor:
        """Store a step (B, H) as the last one of the window (K, B, H), and return the delayed steps, for `add`.

        These are (B, H), summed over the taps of each neuron, or (B, K H), to be multiplied by the taps of each
        synapse.
        """
        if self.terms is not None and self.taps is not None:
            send(step, window, self.taps, out := torch.empty_like(step))
            return out
        window[-1] = step
        return self.delayed(window)

    def delayed(self, window: Tensor) -> Tensor:
        """The delayed steps of a complete window (K, B, H), as `send` returns them."""
        if self._is_synaptic:
            return window.movedim(0, 1).flatten(1)
        if self.taps is None:
            return window[0]
        total = window[0] * self.taps[0]
        for step, tap in zip(window[1:].unbind(0), self.taps[1:].unbind(0), strict=True):
            total.addcmul_(step, tap)
        return total

    def add(self, x: Tensor, sent: Tensor, out: Tensor) -> None:
        """Write into `out` x (B, H) plus the product of what was sent with the weights."""
        if self.terms is None:
            torch.addmm(x, sent, self.matrix, out=out)
        else:
            arrive(x, sent, *self.terms, self._is_exact, out)


def _activity(dynamics: Dynamics, x: Tensor, state: _State = _INITIAL) -> NeuronActivity:
    activity = run_fused(dynamics, x, *state)
    return in_steps(dynamics, x, *state) if activity is None else activity


@torch.enable_grad()
def _slopes(dynamics: Dynamics, run: _Run) -> Tensor:
    """The local derivatives of the neurons in each step, ((S + 1) (S + 1), T, B, H) with S state variables.

    Row n (S + 1) + m is the derivative of output n (the spikes, then each state variable after the step) by input m
    (the drive, then each state variable before the step). All steps are computed at once, as samples of one batch.
    """
    inputs = [tensor.flatten(0, 1).requires_grad_() for tensor in (run.drive, *run.state.variables)]
    activity = _activity(dynamics, inputs[0].unsqueeze(0), run.state.replaced(inputs[1:]))
    outputs = (activity.output, *_State.after(activity).variables)
    slopes = run.drive.new_empty((len(outputs) * len(inputs), *run.drive.shape))
    for n, output in enumerate(outputs):
        grads = torch.autograd.grad(output, inputs, torch.ones_like(output), retain_graph=True, materialize_grads=True)
        for slope, grad in zip(slopes[n * len(inputs) :], grads, strict=False):
            slope.copy_(grad.view_as(slope))
    return slopes


class _WithValues(torch.autograd.Function):
    """The values of the second tensor, with the autograd graph of the first."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Spikes(torch.autograd.Function):
    """Return the spikes unchanged; the gradient for `source` is that of the whole recurrence.

    `source` is the drive (`is_drive`), or the output of the same neurons for this drive, computed without recurrence.
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
    """The gradients for the drives and for the spikes, both (T, B, H), of the whole recurrence.

    Args:
        grad: for the spikes from the layers that follow, (T, B, H).
        feedback: the recurrent connection.
        slopes: as `_slopes` returns them.
    """
    grad, connection, reach = grad.contiguous(), _Connection(feedback, grad, back=True), feedback.reach
    # The gradients for the delayed spikes of later steps; with taps of each synapse, those for the drives.
    later = grad.new_zeros((len(grad) + reach, *grad.shape[1:]))
    # For drives with one more step, zero, after the last one.
    for_drives, for_spikes = grad.new_zeros((len(grad) + 1, *grad.shape[1:])), torch.empty_like(grad)
    width = math.isqrt(slopes.shape[0])  # the drive and the states
    states = grad.new_zeros((2, width - 1, *grad.shape[1:]))  # gradients for the state after and before a step
    for t in reversed(range(len(grad))):
        window, after, before = later[t + 1 : t + 1 + reach], states[t % 2 - 1], states[t % 2]
        if connection.terms is not None:
            factors = (connection.taps, *connection.terms)
            arguments = (window, *factors, slopes[:, t], after, for_spikes[t], for_drives[t], before)
            back(grad[t], for_drives[t + 1], *arguments)
            continue
        if feedback.is_synaptic:
            window[0] = for_drives[t + 1]
            torch.addmm(grad[t], connection.delayed(window), connection.matrix, out=for_spikes[t])
        else:
            torch.mm(for_drives[t + 1], connection.matrix, out=window[0])
            torch.add(grad[t], connection.delayed(window), out=for_spikes[t])
        for n, total in enumerate((for_drives[t], *before.unbind(0))):
            torch.mul(slopes[n, t], for_spikes[t], out=total)
            for s, state in enumerate(after.unbind(0)):
                total.addcmul_(slopes[(s + 1) * width + n, t], state)
    return for_drives[:-1], for_spikes
