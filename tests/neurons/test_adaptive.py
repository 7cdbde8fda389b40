"""Learned constants within bounds, and a step with them."""

import math
from typing import Any

import pytest
import torch

from delayplug import AdaptiveParameters, ArgumentError, Surrogate, SurrogateForm, adaptive_step


def test_the_bounds_of_the_paper() -> None:
    """Each end of 0..1 is a bound: 5 and 25 ms, 60 and 300 ms, 0 and q, 0 and 2q."""
    parameters = AdaptiveParameters(2, step_ms=10.0, strength=12.0)
    ends = torch.tensor([0.0, 1.0])
    with torch.no_grad():
        for parameter in parameters.parameters():
            parameter.copy_(ends)
    constants = parameters.constants()
    alpha, beta = ([math.exp(-10 / tau) for tau in taus] for taus in ((5, 25), (60, 300)))
    expected = {
        "leak": [1 - value for value in alpha],
        "decay": beta,
        "coupling": [0, (1 - beta[1]) * 12],
        "jump": [0, (1 - beta[1]) * 24],
    }
    assert list(constants._fields) == list(expected)
    for name, values in expected.items():
        assert getattr(constants, name).tolist() == pytest.approx(values, rel=1e-5)


def test_drawn_uniformly_and_clamped() -> None:
    torch.manual_seed(0)
    parameters = AdaptiveParameters(1000, step_ms=4.0)
    assert [name for name, _ in parameters.named_parameters()] == ["tau_u", "tau_w", "a", "b"]
    for parameter in parameters.parameters():
        assert 0 <= float(parameter.min()) < 0.01
        assert 0.99 < float(parameter.max()) <= 1
        parameter.data.mul_(3).sub_(1)
        before = parameter.detach().clone()
        parameters.clamp_()
        assert torch.equal(parameter, before.clamp(0, 1))
        assert parameter.requires_grad
    assert "1000, step_ms=4.0" in repr(parameters)


def test_other_bounds() -> None:
    parameters = AdaptiveParameters(4, step_ms=1.0, strength=0.0, membrane_ms=(7.0, 7.0), adaptation_ms=(50.0, 50.0))
    constants = parameters.constants()
    assert constants.leak.tolist() == pytest.approx([1 - math.exp(-1 / 7)] * 4)
    assert constants.decay.tolist() == pytest.approx([math.exp(-1 / 50)] * 4)
    assert not constants.coupling.any()
    assert not constants.jump.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "a number of neurons"),
        ({"step_ms": 0.0}, "step_ms"),
        ({"step_ms": math.nan}, "step_ms"),
        ({"strength": -1.0}, "strength"),
        ({"membrane_ms": (5.0, 1.0)}, "membrane_ms"),
        ({"adaptation_ms": (0.0, 1.0)}, "adaptation_ms"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        AdaptiveParameters(**{"size": 3, "step_ms": 1.0, **options})


def test_a_step_is_the_dynamics() -> None:
    torch.manual_seed(0)
    parameters, x = AdaptiveParameters(3, step_ms=10.0), torch.rand(2, 3) * 4
    v, w = torch.rand(2, 3) * 0.5, torch.rand(2, 3)
    spikes, membrane, adaptation = adaptive_step(parameters.constants(), x, v, w, lambda h: (h > 1.0).float())
    dynamics = parameters.dynamics(threshold=1.0, surrogate=Surrogate(SurrogateForm.ARCTAN, 5.0))
    charged = v + dynamics.leak * ((x - w) - v)
    assert torch.equal(spikes, (charged > 1.0).float())
    assert torch.equal(membrane, charged * (1 - spikes))
    assert dynamics.adaptation is not None
    expected = dynamics.adaptation.decay * w + dynamics.adaptation.coupling * membrane
    torch.testing.assert_close(adaptation, expected + dynamics.adaptation.jump * spikes)
    with pytest.raises(ArgumentError, match="an input for 3 neurons"):
        adaptive_step(parameters.constants(), x[:, :1], v, w, torch.relu)


def test_whether_the_reset_has_a_gradient() -> None:
    parameters, zeros = AdaptiveParameters(3, step_ms=10.0), torch.zeros(2, 3)
    x = torch.full((2, 3), 4.0).requires_grad_()
    grads = []
    for is_detached in (True, False):
        _, membrane, _ = adaptive_step(
            parameters.constants(), x, zeros, zeros, lambda h: torch.sigmoid(h), is_detached=is_detached
        )
        grads.append(torch.autograd.grad(membrane.sum(), x)[0])
    assert not torch.equal(*grads)
