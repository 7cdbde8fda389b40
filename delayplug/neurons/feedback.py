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
from ..layers.engines.products import in_parts
from ..layers.exact import mark_exact
from ..layers.precision import full_precision, parts
from .dynamics import Dynamics
from .fused import run_fused
from .recurrence import NeuronActivity, in_steps
from .step_launches import arrive, back, send


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
    is_exact = _is_exact(dynamics)
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


def _is_exact(dynamics: Dynamics) -> bool:
    """Whether the spikes are zeros and ones."""
    return dynamics.scale is None or dynamics.is_unscaled


class _State(NamedTuple):
    """What neurons carry from step to step, (B, H), or that before all steps; None for what they do not have."""

    membrane: Tensor | None = None
    current: Tensor | None = None
    adaptation: Tensor | None = None

    @classmethod
    def after(cls, activity: NeuronActivity) -> "_State":
        return cls(activity.membrane, activity.current, activity.adaptation)

    @property
    def parts(self) -> list[Tensor]:
        return [part for part in self if part is not None]

    def replaced(self, parts: Sequence[Tensor]) -> "_State":
        """With other tensors for the parts that there are."""
        others = iter(parts)
        return _State(*(None if part is None else next(others) for part in self))


_FRESH = _State()


class _Run(NamedTuple):
    """A sequence.

    Attributes:
        past: K steps of silence, and the spikes, (K + T, B, H).
        drive: of the neurons, (T, B, H).
        state: of the neurons before each step, (T, B, H).
    """

    past: Tensor
    drive: Tensor
    state: _State


def _forward(dynamics: Dynamics, x: Tensor, feedback: Feedback) -> _Run:
    steps, reach = x.shape[0], feedback.reach
    past, drive = x.new_zeros((reach + steps, *x.shape[1:])), torch.empty_like(x)
    wires, sent = _Wires(feedback, x, exact=_is_exact(dynamics)), None
    before: list[list[Tensor]] = []
    state = _FRESH
    for t, x_t in enumerate(x.unbind(0)):
        if sent is None:  # nothing, in the first step
            drive[t] = x_t
        else:
            wires.add(x_t, sent, out=drive[t])
        activity = _activity(dynamics, drive[t : t + 1], state)
        after = _State.after(activity)
        if not before:
            zero = torch.zeros_like(x_t)
            state = after.replaced([zero + dynamics.start, *(zero for _ in after.parts[1:])])
        assert activity.spikes is not None
        sent = wires.send(activity.spikes[0], past[t + 1 : t + 1 + reach])
        before.append(state.parts)
        state = after
    return _Run(past, drive, state.replaced([torch.stack(parts) for parts in zip(*before, strict=True)]))


class _Wires:
    """A connection in one direction: to what comes next, or back from there.

    Args:
        feedback: its values.
        x: a sequence that runs through it, for its dtype and device.
        back: whether in the other direction, from what arrives to what was sent.
        exact: whether bf16 represents the numbers that are sent.
    """

    def __init__(self, feedback: Feedback, x: Tensor, back: bool = False, exact: bool = False) -> None:
        taps, weight = feedback.taps, feedback.weight
        # In the order in which the steps lie in memory.
        taps = taps if taps is None or back else taps.flip(0)
        self.taps = None if taps is None else taps.contiguous()
        self.parts: tuple[Tensor, Tensor | None] | None = None
        if weight is None:  # (K H, H) in place of (H, H)
            assert taps is not None
            self.matrix, self.taps = (taps if back else taps.mT).flatten(0, 1), None
        else:
            self.matrix = weight if back else weight.t()
            if x.dtype == torch.float32 and _triton.runs_on(x.device):
                self.parts = in_parts(weight, parts())
        self._is_synaptic, self._is_exact = weight is None, exact and taps is None

    def send(self, step: Tensor, window: Tensor) -> Tensor:
        """Put a step (B, H) in the last place of the window (K, B, H); what comes out of the delays in the next one.

        That is (B, H), or (B, K H) to be multiplied by taps of each synapse.
        """
        if self.parts is not None and self.taps is not None:
            send(step, window, self.taps, out := torch.empty_like(step))
            return out
        window[-1] = step
        return self.gathered(window)

    def gathered(self, window: Tensor) -> Tensor:
        """What comes out of the delays, of a window that has all its steps."""
        if self._is_synaptic:
            return window.movedim(0, 1).flatten(1)
        if self.taps is None:
            return window[0]
        total = window[0] * self.taps[0]
        for step, tap in zip(window[1:].unbind(0), self.taps[1:].unbind(0), strict=True):
            total.addcmul_(step, tap)
        return total

    def add(self, x: Tensor, sent: Tensor, out: Tensor) -> None:
        """Write what is sent through the weights, and x (B, H)."""
        if self.parts is None:
            torch.addmm(x, sent, self.matrix, out=out)
        else:
            arrive(x, sent, *self.parts, self._is_exact, out)


def _activity(dynamics: Dynamics, x: Tensor, state: _State = _FRESH) -> NeuronActivity:
    activity = run_fused(dynamics, x, *state)
    return in_steps(dynamics, x, *state) if activity is None else activity


@torch.enable_grad()
def _slopes(dynamics: Dynamics, run: _Run) -> Tensor:
    """What a small change of the drive, or of a state before the step, does to the spikes and to the states after it.

    Of the spikes and then of each of S states the slope by the drive and by each state, ((S + 1) (S + 1), T, B, H): of
    all steps at once, as if they were samples of a batch.
    """
    inputs = [part.flatten(0, 1).requires_grad_() for part in (run.drive, *run.state.parts)]
    activity = _activity(dynamics, inputs[0].unsqueeze(0), run.state.replaced(inputs[1:]))
    outputs = (activity.output, *_State.after(activity).parts)
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
    grad, wires, reach = grad.contiguous(), _Wires(feedback, grad, back=True), feedback.reach
    # The gradients for what came out of the delays in later steps; for taps of each synapse, for what drove neurons.
    later = grad.new_zeros((len(grad) + reach, *grad.shape[1:]))
    # For drives: also of the step behind the last one.
    for_drives, for_spikes = grad.new_zeros((len(grad) + 1, *grad.shape[1:])), torch.empty_like(grad)
    width = math.isqrt(slopes.shape[0])  # the drive and the states
    states = grad.new_zeros((2, width - 1, *grad.shape[1:]))  # after a step, and before it
    for t in reversed(range(len(grad))):
        window, after, before = later[t + 1 : t + 1 + reach], states[t % 2 - 1], states[t % 2]
        if wires.parts is not None:
            arguments = (window, wires.taps, *wires.parts, slopes[:, t], after, for_spikes[t], for_drives[t], before)
            back(grad[t], for_drives[t + 1], *arguments)
            continue
        if feedback.is_synaptic:
            window[0] = for_drives[t + 1]
            torch.addmm(grad[t], wires.gathered(window), wires.matrix, out=for_spikes[t])
        else:
            torch.mm(for_drives[t + 1], wires.matrix, out=window[0])
            torch.add(grad[t], wires.gathered(window), out=for_spikes[t])
        for n, total in enumerate((for_drives[t], *before.unbind(0))):
            torch.mul(slopes[n, t], for_spikes[t], out=total)
            for s, state in enumerate(after.unbind(0)):
                total.addcmul_(slopes[(s + 1) * width + n, t], state)
    return for_drives[:-1], for_spikes
