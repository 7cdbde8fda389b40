"""Surrogate gradients by their form: what stands in for the derivative of a spike at distance z from the threshold.

The toolkits have the same forms under different names and with different parameters; an adapter says which one a
neuron has. A kernel knows them by their number, `SurrogateForm`, and computes them as `derivative` does.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor


class SurrogateForm(IntEnum):
    """A surrogate derivative of z, the membrane less the threshold, with the parameters a, b, c.

    CONSTANT: a. Straight through with a = 1; no gradient with a = 0.
    SPIKE: a where z > 0, else 0.
    STEP: a where z < 0, else b.
    RECTANGLE: b where abs(z) < a, else c.
    TRIANGLE: max(0, a - b abs(z)).
    ARCTAN: (a / 2) / (1 + (pi / 2 a z)^2).
    FAST_SIGMOID: b / (1 + a abs(z))^2. SuperSpike and SoftSign, too.
    SPARSE_FAST_SIGMOID: 1 / (1 + a abs(z))^2 where z > b, else 0.
    SIGMOID: b s (1 - s) with s = sigmoid(a z). The square of a hyperbolic secant, too.
    EXPONENTIAL: b exp(-a abs(z - c)).
    GAUSSIAN: b exp(-(a z)^2).
    CIRCLE: 1 / (1 + (z / a)^2)^(3/2).
    INVERSE: 1 / (1 / a + abs(z)).
    CLIPPED_INVERSE: min(1 / abs(z), a).
    SIGMOID_LOG: a s (1 - s) with s = sigmoid(a z) where z < 0, else b / (1 + z).
    POWER: (1 + 2 abs(z) / (a - 1))^-a.
    LOG_TAIL: a where z <= 0, 1 up to z = 1, and 1 / z beyond.
    """

    CONSTANT = 0
    SPIKE = 1
    STEP = 2
    RECTANGLE = 3
    TRIANGLE = 4
    ARCTAN = 5
    FAST_SIGMOID = 6
    SPARSE_FAST_SIGMOID = 7
    SIGMOID = 8
    EXPONENTIAL = 9
    GAUSSIAN = 10
    CIRCLE = 11
    INVERSE = 12
    CLIPPED_INVERSE = 13
    SIGMOID_LOG = 14
    POWER = 15
    LOG_TAIL = 16


@dataclass(frozen=True)
class Surrogate:
    """A surrogate gradient.

    Attributes:
        form: of the derivative.
        a, b, c: its parameters; those that a form does not have are ignored.
    """

    form: SurrogateForm
    a: float = 1.0
    b: float = 1.0
    c: float = 0.0


def derivative(surrogate: Surrogate, z: Tensor) -> Tensor:
    """The surrogate derivative at z, the membrane less the threshold, of any shape; differentiable.

    It is finite for every finite z, also where a toolkit's formula gives infinity by infinity.
    """
    a, b, c = surrogate.a, surrogate.b, surrogate.c
    match surrogate.form:
        case SurrogateForm.CONSTANT:
            return torch.full_like(z, a)
        case SurrogateForm.SPIKE:
            return (z > 0).to(z.dtype) * a
        case SurrogateForm.STEP:
            return torch.where(z < 0, torch.full_like(z, a), torch.full_like(z, b))
        case SurrogateForm.RECTANGLE:
            return torch.where(z.abs() < a, torch.full_like(z, b), torch.full_like(z, c))
        case SurrogateForm.TRIANGLE:
            return torch.relu(a - b * z.abs())
        case SurrogateForm.ARCTAN:
            return (a / 2) / (1 + (math.pi / 2 * a * z) ** 2)
        case SurrogateForm.FAST_SIGMOID:
            return b / (1 + a * z.abs()) ** 2
        case SurrogateForm.SPARSE_FAST_SIGMOID:
            return (z > b).to(z.dtype) / (1 + a * z.abs()) ** 2
        case SurrogateForm.SIGMOID:
            s = torch.sigmoid(a * z)
            return b * s * (1 - s)
        case SurrogateForm.EXPONENTIAL:
            return b * torch.exp(-a * (z - c).abs())
        case SurrogateForm.GAUSSIAN:
            return b * torch.exp(-((a * z) ** 2))
        case SurrogateForm.CIRCLE:
            return (1 + (z / a) ** 2) ** -1.5
        case SurrogateForm.INVERSE:
            return 1 / (1 / a + z.abs())
        case SurrogateForm.CLIPPED_INVERSE:
            return torch.clamp_max(1 / z.abs(), a)
        case SurrogateForm.SIGMOID_LOG:
            s = torch.sigmoid(a * z)
            return torch.where(z < 0, a * s * (1 - s), b / (1 + z.clamp_min(0)))
        case SurrogateForm.POWER:
            return (1 + 2 / (a - 1) * z.abs()) ** -a
        case SurrogateForm.LOG_TAIL:
            return torch.where(z <= 0, torch.full_like(z, a), 1 / z.clamp_min(1))
