"""A forward is replaced within a block, and is afterwards what it was."""

import pytest
import torch
from torch import nn

from delayplug.surgery.patch import replaced_forward


def test_a_call_runs_the_replacement_and_its_hooks() -> None:
    layer, seen = nn.Linear(2, 2), []
    layer.register_forward_hook(lambda module, args, output: seen.append(output))
    with replaced_forward(layer, lambda x: x + 1):
        assert layer(torch.zeros(2)).tolist() == [1, 1]
    assert len(seen) == 1
    assert "forward" not in vars(layer)
    assert layer.forward.__func__ is nn.Linear.forward


def test_blocks_nest_around_a_forward_that_the_user_replaced() -> None:
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x * 0  # type: ignore[method-assign]
    x = torch.ones(2)
    with replaced_forward(layer, lambda x: x + 1):
        with replaced_forward(layer, lambda x: x + 2):
            assert layer(x).tolist() == [3, 3]
        assert layer(x).tolist() == [2, 2]
    assert layer(x).tolist() == [0, 0]


def test_an_error_puts_it_back() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), replaced_forward(layer, lambda x: 1 / 0):
        layer(torch.ones(2))
    assert "forward" not in vars(layer)
