"""A neuron in numbers, step by step: what a network of one toolkit tells another one, or a file.

With x the input, i the current (where a neuron has one) and v the membrane,

    i <- (1 - synapse) i + x                       (without a current, i = x)
    v <- v + leak (rest - v) + gain i
    s  = v > threshold
    v <- reset where s, or v - threshold           (see `Reset`)

This is forward Euler, with the decayed current used in the same step, for the equations of NIR (Pedersen et al.,
"Neuromorphic intermediate representation", Nature Communications 15, 2024): leak = dt / tau, gain = R dt / tau,
synapse = dt / tau_syn, with w_in dt / tau_syn = 1. A membrane begins at `rest`, and one that does not leak at `reset`;
a current begins at zero.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from ..errors import ExchangeError

_SAME = 1e-6  # relative: numbers that went through float32 and back


class Reset(StrEnum):
    """What a spike does to the membrane.

    VALUE: it becomes `Cell.reset` in the step of the spike. SUBTRACT: the threshold is subtracted in that step.
    SUBTRACT_NEXT_STEP: it is subtracted in the next step, after the leak. SUBTRACT_WHILE_ABOVE: it is subtracted in the
    step of the spike, and again in the next one if the membrane is still above it. ZERO_NEXT_STEP: the next step sets
    the membrane to zero and drops its input.
    """

    VALUE = "value"
    SUBTRACT = "subtract"
    SUBTRACT_NEXT_STEP = "subtract-next-step"
    SUBTRACT_WHILE_ABOVE = "subtract-while-above"
    ZERO_NEXT_STEP = "zero-next-step"

    @classmethod
    def _missing_(cls, value: object) -> "Reset | None":
        # As files written by delayplug 0.1 have it.
        old = {
            "subtract in the next step": cls.SUBTRACT_NEXT_STEP,
            "snnTorch: subtract, again while the membrane stays above": cls.SUBTRACT_WHILE_ABOVE,
            "snnTorch: zero in the next step, dropping its input": cls.ZERO_NEXT_STEP,
        }
        return old.get(str(value))


@dataclass(frozen=True)
class Cell:
    """One layer of neurons. Numbers are float64 tensors, () or one for each neuron.

    Attributes:
        leak: part of the membrane that a step loses, 0..1; 0 for a neuron that does not leak.
        gain: what a step adds to the membrane per unit of input.
        rest: where the membrane leaks to.
        threshold: the neuron fires above it, not at it; None for a readout, whose output is its membrane.
        reset: the membrane after a spike, with `Reset.VALUE`.
        rule: what a spike does to the membrane.
        synapse: part of the current that a step loses, 0..1; None for a neuron without a current.
    """

    leak: Tensor
    gain: Tensor
    rest: Tensor
    threshold: Tensor | None
    reset: Tensor
    rule: Reset = Reset.VALUE
    synapse: Tensor | None = None

    @classmethod
    def of(
        cls,
        *,
        leak: float | Tensor,
        gain: float | Tensor = 1.0,
        rest: float | Tensor = 0.0,
        threshold: float | Tensor | None,
        reset: float | Tensor = 0.0,
        rule: Reset = Reset.VALUE,
        synapse: float | Tensor | None = None,
    ) -> "Cell":
        """From numbers and tensors of any dtype and device.

        Raises:
            ExchangeError: a number is not finite, or a leak is not in 0..1.
        """
        numbers = {"leak": leak, "gain": gain, "rest": rest, "threshold": threshold, "reset": reset, "synapse": synapse}
        made = {name: compact(value) for name, value in numbers.items() if value is not None}
        for name, value in made.items():
            if not bool(value.isfinite().all()):
                raise ExchangeError(f"{name}: expected finite numbers, got {value.flatten()[:3].tolist()}")
            if name in ("leak", "synapse") and not bool(((value >= 0) & (value <= 1)).all()):
                raise ExchangeError(
                    f"{name}: expected a part in 0..1 of what a step loses, got {value.flatten()[:3].tolist()}. A time "
                    "constant must be at least dt"
                )
        return cls(**{"threshold": None, **made}, rule=rule)  # type: ignore[arg-type]

    def needs(self, kind: str, what: str, holds: bool) -> None:
        """Raise ExchangeError unless a condition holds that neurons of a kind are made for: `kind` needs `what`."""
        if not holds:
            raise ExchangeError(f"{kind} needs {what}, and this neuron has another one")

    @staticmethod
    def close(a: Tensor, b: Tensor | float) -> bool:
        """Whether two such numbers are the same to float32 (relative difference below 1e-6)."""
        b = torch.as_tensor(b, dtype=torch.float64, device=a.device)
        if a.dim() and b.dim() and a.shape != b.shape:
            return False
        return bool(((a - b).abs() <= _SAME * b.abs()).all())

    @staticmethod
    def below(value: Tensor) -> Tensor:
        """The next smaller float32, as float64: v >= value is v > below(value), for any float32 v."""
        return torch.nextafter(value.float(), torch.tensor(-torch.inf, device=value.device)).double()

    @staticmethod
    def above(value: Tensor) -> Tensor:
        """The next larger float32, as float64; the inverse of `below`."""
        return torch.nextafter(value.float(), torch.tensor(torch.inf, device=value.device)).double()

    def only(self, kind: str, *names: str) -> None:
        """Raise ExchangeError if one of these numbers differs among the neurons: `kind` has one for all of them."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value.dim():
                raise ExchangeError(f"{kind} has one {name} for all neurons, and these have different ones")


def compact(value: float | Tensor) -> Tensor:
    """float64 on the CPU; () if it is one and the same number."""
    tensor = torch.as_tensor(value).detach().to("cpu", torch.float64)
    if tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
        return tensor.flatten()[0].clone()
    return tensor.clone()
