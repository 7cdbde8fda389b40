"""What an adapter hands out: a description that costs nothing, and seven answers."""

import dataclasses

import pytest

from delayplug import Backend, Toolkit


def test_a_description_imports_nothing() -> None:
    def toolkit() -> Toolkit:
        raise AssertionError("it was asked for")

    backend = Backend(name="mine", package="mine", extra="delayplug-mine", toolkit=toolkit)
    with pytest.raises(dataclasses.FrozenInstanceError):
        backend.name = "other"
    with pytest.raises(AssertionError, match="asked for"):
        backend.toolkit()


@pytest.mark.parametrize("missing", sorted(Toolkit.__abstractmethods__))
def test_a_toolkit_answers_every_question(missing: str) -> None:
    answers = {name: lambda self, *_: None for name in Toolkit.__abstractmethods__ if name != missing}
    with pytest.raises(TypeError, match=missing):
        type("Forgetful", (Toolkit,), answers)()


def test_the_questions_are_these() -> None:
    state = {"held_state", "passed_state", "returned_state", "reset_signal"}
    assert Toolkit.__abstractmethods__ == {"is_neuron", "is_spiking", "mode", *state}
