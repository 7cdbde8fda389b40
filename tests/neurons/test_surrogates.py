"""Surrogate derivatives: the formulas, finite everywhere, and no form without one."""

import math
from collections.abc import Callable

import pytest
import torch

from delayplug import Surrogate, SurrogateForm
from delayplug.neurons.surrogates import derivative

A, B, C = 2.0, 0.75, 0.25


def logistic(y: float) -> float:
    return 1 / (1 + math.exp(-y))


FORMULAS: dict[SurrogateForm, Callable[[float], float]] = {
    SurrogateForm.CONSTANT: lambda z: A,
    SurrogateForm.SPIKE: lambda z: A if z > 0 else 0,
    SurrogateForm.STEP: lambda z: A if z < 0 else B,
    SurrogateForm.RECTANGLE: lambda z: B if abs(z) < A else C,
    SurrogateForm.TRIANGLE: lambda z: max(0, A - B * abs(z)),
    SurrogateForm.ARCTAN: lambda z: A / 2 / (1 + (math.pi / 2 * A * z) ** 2),
    SurrogateForm.FAST_SIGMOID: lambda z: B / (1 + A * abs(z)) ** 2,
    SurrogateForm.SPARSE_FAST_SIGMOID: lambda z: 1 / (1 + A * abs(z)) ** 2 if z > B else 0,
    SurrogateForm.SIGMOID: lambda z: B * logistic(A * z) * (1 - logistic(A * z)),
    SurrogateForm.EXPONENTIAL: lambda z: B * math.exp(-A * abs(z - C)),
    SurrogateForm.GAUSSIAN: lambda z: B * math.exp(-((A * z) ** 2)),
    SurrogateForm.CIRCLE: lambda z: A**3 / (A**2 + z**2) ** 1.5,
    SurrogateForm.INVERSE: lambda z: 1 / (1 / A + abs(z)),
    SurrogateForm.CLIPPED_INVERSE: lambda z: min(1 / abs(z), A) if z else A,
    SurrogateForm.SIGMOID_LOG: lambda z: A * logistic(A * z) * (1 - logistic(A * z)) if z < 0 else B / (1 + z),
    SurrogateForm.POWER: lambda z: (1 + 2 * abs(z) / (A - 1)) ** -A,
    SurrogateForm.LOG_TAIL: lambda z: A if z <= 0 else 1 if z <= 1 else 1 / z,
}
AT = [-3.0, -2.0, -1.0, -0.75, -0.3, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0]


@pytest.mark.parametrize("form", SurrogateForm, ids=lambda form: form.name)
def test_formulas(form: SurrogateForm) -> None:
    got = derivative(Surrogate(form, A, B, C), torch.tensor(AT))
    torch.testing.assert_close(got, torch.tensor([float(FORMULAS[form](z)) for z in AT]))


@pytest.mark.parametrize("form", SurrogateForm, ids=lambda form: form.name)
def test_finite_far_from_the_threshold(form: SurrogateForm) -> None:
    z = torch.tensor([-1e9, -100.0, 100.0, 1e9])
    assert derivative(Surrogate(form, 25.0, B, C), z).isfinite().all()
