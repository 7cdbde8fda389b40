"""What a neuron computes in one step, by its live tensors and in the very order of its toolkit's operations.

A `Cell` says what a neuron computes, in numbers, for exchange. `Dynamics` says how, down to the rounding, so that a
kernel fires the same spikes; its tensors are those of the neuron, on its device and with their gradients. With x the
input, v the membrane and i the current (where a neuron has one) before a step, and H the step function:

    r = H(v - threshold)                     where `before` is a reset of the last step's spikes, without a gradient
    u = x; or from the current, see `CurrentRule`
    h = the membrane as charged by u, see `ChargeRule`, and lowered by r, see `ResetBefore`
    s = H(h - threshold)                     H(0) is 1 if `fires_at`, else 0; its derivative is the surrogate
    v <- h, lowered by s, see `ResetAfter`

A neuron with an `Adaptation` w is charged by u - w, and the step ends with the next w.

Shapes: T steps, B batch.
"""

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from .surrogates import Surrogate


class ChargeRule(IntEnum):
    """How the drive u charges the membrane v; the order of the operations is part of it.

    ADD: v + u.
    DECAY: leak v + u.
    LEAK_INPUT_FIRST: v + leak ((u + rest) - v).
    LEAK_REST_FIRST: v + leak ((rest - v) + u).
    LEAK_LAST: v + (u - (v - rest)) leak.
    LEAK_AND_GAIN: (v + leak (rest - v)) + gain u.
    LEAK_AND_ADD: (v - (v - rest) leak) + u.
    DIVIDED: v + (u - (v - rest)) / leak, where leak is a time constant.
    DIVIDED_AND_ADD: (v - (v - rest) / leak) + u, likewise.
    """

    ADD = 0
    DECAY = 1
    LEAK_INPUT_FIRST = 2
    LEAK_REST_FIRST = 3
    LEAK_LAST = 4
    LEAK_AND_GAIN = 5
    LEAK_AND_ADD = 6
    DIVIDED = 7
    DIVIDED_AND_ADD = 8


class CurrentRule(IntEnum):
    """How the input x becomes the drive u of the membrane.

    NONE: u = x.
    DECAY: i <- synapse i + x, and u is that.
    JUMP: u = i + x, and i <- u + synapse u, where synapse is negative.
    """

    NONE = 0
    DECAY = 1
    JUMP = 2


class ResetBefore(IntEnum):
    """What the spike r of the membrane that the last step left does; it has no gradient.

    NONE: nothing.
    ZERO: (1 - r) v is charged.
    SUBTRACT: r threshold is subtracted from the charged membrane.
    ZERO_ALL: the charged membrane is set to zero where r, so that the input is lost.
    """

    NONE = 0
    ZERO = 1
    SUBTRACT = 2
    ZERO_ALL = 3


class ResetAfter(IntEnum):
    """What the spike s does to the membrane h in its own step.

    With a `ResetBefore` other than NONE, s - r stands for s.

    NONE: nothing.
    VALUE: the membrane becomes `reset`; after a `ResetBefore`, h - (s - r) h.
    SUBTRACT: h - s threshold.
    """

    NONE = 0
    VALUE = 1
    SUBTRACT = 2


@dataclass(frozen=True, eq=False)  # tensors do not compare as one
class Adaptation:
    """A second state w of a neuron, zero at first, that is subtracted from the input that charges the membrane.

    With v the membrane after a step and s its spikes, before they are scaled: w <- decay w + (coupling v + jump s).
    An adaptive LIF neuron (adLIF), discretised by symplectic Euler, has decay = beta, coupling = (1 - beta) a and
    jump = (1 - beta) b: Baronig, Ferrand, Sabathiel, Legenstein, "Advancing spatio-temporal processing through
    adaptation in spiking neural networks", Nature Communications 2025.

    Attributes:
        decay, coupling, jump: numbers, or tensors that broadcast to (B, ...).
    """

    decay: float | Tensor
    coupling: float | Tensor
    jump: float | Tensor


@dataclass(frozen=True, eq=False)
class Dynamics:
    """One layer of neurons. A number holds for all neurons; a tensor, on the neurons' device, broadcasts to (B, ...).

    Attributes:
        charge: how the membrane is charged.
        leak: the factor, or with the DIVIDED ones the time constant in steps, a number.
        rest: where the membrane leaks to.
        gain: of the drive, with LEAK_AND_GAIN.
        current: how the input becomes the drive.
        synapse: the factor of the current.
        threshold: None for a readout that never fires.
        fires_at: whether it fires at its threshold, too, or only above.
        before, after: how it is reset.
        reset: the membrane after a spike, with `ResetAfter.VALUE`.
        is_detached: whether the spike of `after` has no gradient.
        surrogate: the derivative of the spike.
        scale: what the spikes are multiplied by, a tensor; None for spikes of 1.
        is_unscaled: whether the scale is known to be 1, so that the spikes are known to be exact in bf16.
        start: the membrane of a fresh neuron. A current begins at zero.
        divisor: what the input is divided by before all else.
        factors: what the input is multiplied by before all else, one after the other.
        gives_membrane: whether the output is the membrane after the step in place of spikes.
        adaptation: the second state of a neuron that adapts; None for others.
        shows_membrane, shows_current, shows_adaptation: whether the neuron's forward returns these, too, at every step.
    """

    charge: ChargeRule
    leak: float | Tensor = 0.0
    rest: float | Tensor = 0.0
    gain: float | Tensor = 1.0
    current: CurrentRule = CurrentRule.NONE
    synapse: float | Tensor = 0.0
    threshold: float | Tensor | None = None
    fires_at: bool = False
    before: ResetBefore = ResetBefore.NONE
    after: ResetAfter = ResetAfter.NONE
    reset: float | Tensor = 0.0
    is_detached: bool = False
    surrogate: Surrogate | None = None
    scale: Tensor | None = None
    is_unscaled: bool = False
    start: float | Tensor = 0.0
    divisor: float | None = None
    factors: tuple[float | Tensor, ...] = ()
    gives_membrane: bool = False
    shows_membrane: bool = False
    shows_current: bool = False
    adaptation: Adaptation | None = None
    shows_adaptation: bool = False

    def __post_init__(self) -> None:
        fires = self.threshold is not None
        if fires and self.surrogate is None:
            raise ValueError("expected a surrogate for a neuron with a threshold")
        if not fires and self.adaptation is not None:
            raise ValueError("expected a threshold for a neuron that adapts")
        if not fires and (self.before or self.after or not self.gives_membrane):
            raise ValueError("expected a threshold for a neuron that fires or is reset")
        if self.before and self.after is ResetAfter.VALUE and (isinstance(self.reset, Tensor) or self.reset != 0):
            raise ValueError("expected a reset to zero for a neuron that is reset before and after a spike")
        if self.charge in (ChargeRule.DIVIDED, ChargeRule.DIVIDED_AND_ADD) and isinstance(self.leak, Tensor):
            raise ValueError("expected a number for a time constant to divide by")

    def used(self) -> dict[str, float | Tensor | None]:
        """Those of `CONSTANTS` that it takes by its rules, by their names."""
        takes = {
            "leak": self.charge is not ChargeRule.ADD,
            "rest": self.charge not in (ChargeRule.ADD, ChargeRule.DECAY),
            "gain": self.charge is ChargeRule.LEAK_AND_GAIN,
            "synapse": self.current is not CurrentRule.NONE,
            "threshold": True,
            "reset": self.after is ResetAfter.VALUE and self.before is ResetBefore.NONE,
            "scale": True,
        }
        return {name: getattr(self, name) for name in CONSTANTS if takes[name]}

    def tensors(self) -> tuple[Tensor, ...]:
        """Those of its constants that are tensors."""
        w = self.adaptation
        adapting = () if w is None else (w.decay, w.coupling, w.jump)
        return tuple(value for value in (*self.used().values(), self.start, *adapting) if isinstance(value, Tensor))


# The constants that may have a gradient, in the order in which the kernels take them.
CONSTANTS = ("leak", "rest", "gain", "synapse", "threshold", "reset", "scale")
