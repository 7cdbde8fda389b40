"""The states of all random generators."""

import io
import random
from typing import Any

import numpy as np
import pytest
import torch

from delayplug.bench.training.random_states import random_states, set_own_states, set_random_states, states_of_all


def draw() -> list[float]:
    """From each generator of the CPU; a Gaussian leaves the second half of a pair behind."""
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(()))]


def test_generators_go_on_where_they_were_after_a_checkpoint() -> None:
    draw()
    buffer = io.BytesIO()
    torch.save(random_states(), buffer)
    expected = [draw() for _ in range(3)]
    buffer.seek(0)
    set_random_states(torch.load(buffer, weights_only=True))
    assert [draw() for _ in range(3)] == expected


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The states of two GPUs, which are not there."""
    states = [torch.tensor([n], dtype=torch.uint8) for n in (1, 2)]

    def set_state(state: torch.Tensor, device: int) -> None:
        states[device] = state

    for name, fake in {
        "is_available": lambda: True,
        "device_count": lambda: len(states),
        "get_rng_state_all": lambda: list(states),
        "set_rng_state": set_state,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return states


def test_the_states_of_every_gpu_are_held(gpus: list[torch.Tensor]) -> None:
    states = random_states()
    assert [int(state) for state in states["cuda"]] == [1, 2]
    gpus[:] = [torch.zeros(1, dtype=torch.uint8)] * 2
    set_random_states(states)
    assert [int(state) for state in gpus] == [1, 2]
    one: Any = {**states, "cuda": states["cuda"][:1]}  # of a machine with fewer
    gpus[1] = torch.tensor([9], dtype=torch.uint8)
    set_random_states(one)
    assert [int(state) for state in gpus] == [1, 9]


def test_one_process_has_one_state() -> None:
    states = states_of_all()
    expected = draw()
    set_own_states(states)
    assert (len(states), draw()) == (1, expected)
    set_own_states([])  # the run had no such process: its generators go on
    assert draw() != expected
