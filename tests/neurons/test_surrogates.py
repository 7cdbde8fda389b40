"""Surrogate derivatives: the formulas, finite everywhere, and no form without one."""

import math
from collections.abc import Callable

import pytest
import torch

from delayplug import Form, Surrogate
from delayplug.neurons.surrogates import derivative

A, B, C = 2.0, 0.75, 0.25


def logistic(y: float) -> float:
    return 1 / (1 + math.exp(-y))


FORMULAS: dict[Form, Callable[[float], float]] = {
    Form.CONSTANT: lambda z: A,
    Form.SPIKE: lambda z: A if z > 0 else 0,
    Form.STEP: lambda z: A if z < 0 else B,
    Form.RECTANGLE: lambda z: B if abs(z) < A else C,
    Form.TRIANGLE: lambda z: max(0, A - B * abs(z)),
    Form.ARCTAN: lambda z: A / 2 / (1 + (math.pi / 2 * A * z) ** 2),
    Form.FAST_SIGMOID: lambda z: B / (1 + A * abs(z)) ** 2,
    Form.SPARSE_FAST_SIGMOID: lambda z: 1 / (1 + A * abs(z)) ** 2 if z > B else 0,
    Form.SIGMOID: lambda z: B * logistic(A * z) * (1 - logistic(A * z)),
    Form.EXPONENTIAL: lambda z: B * math.exp(-A * abs(z - C)),
    Form.GAUSSIAN: lambda z: B * math.exp(-((A * z) ** 2)),
    Form.CIRCLE: lambda z: A**3 / (A**2 + z**2) ** 1.5,
    Form.INVERSE: lambda z: 1 / (1 / A + abs(z)),
    Form.CLIPPED_INVERSE: lambda z: min(1 / abs(z), A) if z else A,
    Form.SIGMOID_LOG: lambda z: A * logistic(A * z) * (1 - logistic(A * z)) if z < 0 else B / (1 + z),
    Form.POWER: lambda z: (1 + 2 * abs(z) / (A - 1)) ** -A,
    Form.LOG_TAIL: lambda z: A if z <= 0 else 1 if z <= 1 else 1 / z,
}
AT = [-3.0, -2.0, -1.0, -0.75, -0.3, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0]


@pytest.mark.parametrize("form", Form, ids=lambda form: form.name)
def test_formulas(form: Form) -> None:
    got = derivative(Surrogate(form, A, B, C), torch.tensor(AT))
    torch.testing.assert_close(got, torch.tensor([float(FORMULAS[form](z)) for z in AT]))


@pytest.mark.parametrize("form", Form, ids=lambda form: form.name)
def test_finite_far_from_the_threshold(form: Form) -> None:
    z = torch.tensor([-1e9, -100.0, 100.0, 1e9])
    assert derivative(Surrogate(form, 25.0, B, C), z).isfinite().all()
