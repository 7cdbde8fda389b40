"""What dynamics are made of, and that rules which do not go together are refused."""

from typing import Any

import pytest
import torch

from delayplug import ChargeRule, CurrentRule, Dynamics, ResetAfter, ResetBefore, Surrogate, SurrogateForm
from delayplug.neurons.dynamics import CONSTANTS

ARCTAN = Surrogate(SurrogateForm.ARCTAN, 2.0)
FIRES: dict[str, Any] = {"threshold": 1.0, "surrogate": ARCTAN}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.0}, "a surrogate"),
        ({"after": ResetAfter.VALUE, "gives_membrane": True}, "a threshold"),
        ({}, "a threshold"),  # nothing comes out
        ({**FIRES, "before": ResetBefore.ZERO, "after": ResetAfter.VALUE, "reset": 0.5}, "a reset to zero"),
        ({**FIRES, "charge": ChargeRule.DIVIDED, "leak": torch.tensor(2.0)}, "a number"),
    ],
)
def test_rules_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dynamics(**{"charge": ChargeRule.DECAY, **options})


def test_the_constants_that_its_rules_take() -> None:
    tensors = {name: torch.tensor(0.5) for name in CONSTANTS}
    plain = Dynamics(ChargeRule.ADD, surrogate=ARCTAN, **tensors)
    assert plain.used().keys() == {"threshold", "scale"}
    assert len(plain.tensors()) == 2
    full = Dynamics(
        ChargeRule.LEAK_AND_GAIN,
        current=CurrentRule.JUMP,
        after=ResetAfter.VALUE,
        surrogate=ARCTAN,
        start=torch.tensor(1.0),
        **tensors,
    )
    assert full.used().keys() == set(CONSTANTS)
    assert len(full.tensors()) == len(CONSTANTS) + 1
    reset = Dynamics(ChargeRule.DECAY, before=ResetBefore.ZERO, after=ResetAfter.VALUE, **FIRES)
    assert "reset" not in reset.used()  # it is zero
