"""Loops over steps: what they stack and pass on, plain and in segments; surgery/test_compile.py has real compilers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from delayplug import over_steps
from delayplug.neurons import loops
from delayplug.neurons.loops import compiled_loops, eager


def leaky(neuron: nn.Module, x: Tensor, state: Tensor) -> tuple[Any, Tensor]:
    state = 0.5 * state + neuron(x)
    return {"spikes": (state > 0).float(), "membrane": state, "name": "leaky"}, state


def expected(neuron: nn.Module, x: Tensor) -> list[Tensor]:
    state, membranes = torch.zeros(()), []
    for x_t in x:
        state = 0.5 * state + neuron(x_t)
        membranes.append(state)
    return membranes


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """In place of the compiler: the lengths of the segments that it would have run."""
    lengths: list[int] = []

    def record(function: Any, **_: Any) -> Any:
        return lambda step, neuron, xs, state: lengths.append(len(xs)) or function(step, neuron, xs, state)

    monkeypatch.setattr(torch, "compile", record)
    return lengths


@pytest.mark.parametrize("wanted", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("steps", [1, 2, 3, 16, 17, 18, 35, 100])
def test_outputs_are_stacked_and_states_passed_on(compiled: list[int], steps: int, wanted: bool) -> None:
    torch.manual_seed(0)
    neuron, x = nn.Linear(3, 2), torch.randn(steps, 4, 3)
    with compiled_loops(wanted):
        y = over_steps(leaky, neuron, x, torch.zeros(()))
    membranes = torch.stack(expected(neuron, x))
    torch.testing.assert_close(y["membrane"], membranes)
    assert torch.equal(y["spikes"], (membranes > 0).float())
    assert y["name"] == "leaky"
    y["membrane"].square().sum().backward()
    assert neuron.weight.grad is not None
    assert bool(compiled) == (wanted and steps > 2)
    assert sum(compiled) <= steps - 1
    assert len(set(compiled)) <= 1
    assert max(compiled, default=0) <= 16


def test_few_steps_are_left_over() -> None:
    for steps in range(2, 200):
        length = loops._segment(steps)
        assert 1 < length <= 16
        assert steps % length <= steps % min(steps, 16)


def test_a_neuron_is_compiled_once_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    functions: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: functions.append(function) or function)
    neurons, x = [nn.Linear(3, 2), nn.Linear(3, 2)], torch.randn(9, 4, 3)

    def other(neuron: nn.Module, x: Tensor, state: Tensor) -> tuple[Any, Tensor]:
        return leaky(neuron, x, state)

    with compiled_loops():
        for _ in range(3):
            for neuron in neurons:
                for step in (leaky, other):
                    over_steps(step, neuron, x, torch.zeros(()))
    assert len(functions) == 4
    assert len({id(function.__code__) for function in functions}) == 4  # torch counts graphs by code object


def test_compiling_ends_with_the_block(compiled: list[int]) -> None:
    neuron, x = nn.Linear(3, 2), torch.randn(9, 4, 3)
    with compiled_loops():
        with compiled_loops(False):
            over_steps(leaky, neuron, x, torch.zeros(()))
        assert not compiled
        over_steps(leaky, neuron, x, torch.zeros(()))
        assert compiled
    compiled.clear()
    over_steps(leaky, neuron, x, torch.zeros(()))
    assert not compiled


def test_an_error_of_the_neuron_is_raised(compiled: list[int]) -> None:
    def fails(neuron: nn.Module, x: Tensor, state: int) -> tuple[Tensor, int]:
        if state == 5:
            raise ZeroDivisionError("in step 5")
        return neuron(x), state + 1

    with compiled_loops(), pytest.raises(ZeroDivisionError, match="in step 5"):
        over_steps(fails, nn.Linear(3, 2), torch.randn(9, 4, 3), 0)


def test_eager_functions_stay_out_of_graphs() -> None:
    seen = []

    @eager
    def look(x: Tensor) -> Tensor:
        seen.append(torch.compiler.is_compiling())
        return x + 1

    function = torch.compile(lambda x: look(x * 2) * 3, backend="eager")
    assert torch.equal(function(torch.ones(2)), torch.full((2,), 9.0))
    assert seen == [False]
