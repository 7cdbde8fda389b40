"""Hooks for all stateful layers: those of the user, and not the layers that delays have made stateful."""

import copy
from typing import Any

import norse.torch as norse
import pytest
import torch
from torch import Tensor, nn

from delayplug import add_delays, remove_delays

F, H = 4, 5


def network() -> norse.SequentialState:
    torch.manual_seed(0)
    return norse.SequentialState(
        nn.Linear(F, H), norse.LIFCell(), norse.SequentialState(nn.Linear(H, H), norse.LIFCell()), norse.LIFCell()
    )


def seen_by(net: Any, register: Any) -> list[Any]:
    """What hooks see of a step."""
    seen: list[Any] = []
    register(lambda module, inputs, output: seen.append((type(module).__name__, type(output[1]).__name__)))
    net(torch.rand(3, F))
    return seen


def test_hooks_fire_for_the_layers_that_the_user_made_stateful() -> None:
    plain, net = network(), add_delays(network(), 3)
    expected = seen_by(plain, plain.register_forward_state_hooks)
    assert [kind for kind, _ in expected] == ["LIFCell", "SequentialState", "LIFCell"]
    assert seen_by(net, net.register_forward_state_hooks) == expected
    with pytest.raises(ValueError, match="already in place"):
        net.register_forward_state_hooks(lambda *_: None)
    net.remove_forward_state_hooks()
    assert seen_by(net, lambda hook: None) == []
    inner = net[2]
    assert seen_by(net, inner.register_forward_state_hooks) == [("LIFCell", "LIFFeedForwardState")]


def test_the_delays_still_have_their_state() -> None:
    net = add_delays(network(), 3, init=2, interpolation="linear")
    net.register_forward_state_hooks(lambda *_: None)
    assert net.stateful_layers == [True, True, True, True]
    state = None
    for _ in range(3):
        _, state = net(torch.rand(3, F), state)
    assert isinstance(state[0].history, Tensor)


@pytest.mark.parametrize("which", ["copy", "copy of the plain"])
def test_copies_register_for_themselves(which: str) -> None:
    net = network()
    other = copy.deepcopy(net) if which == "copy of the plain" else None
    add_delays(net, 3)
    other = other or copy.deepcopy(net)
    assert len(seen_by(other, other.register_forward_state_hooks)) == 3
    assert not net.forward_state_hooks
    assert not any(module._forward_hooks for module in net if isinstance(module, nn.Linear))


def test_taken_out_it_is_the_method_of_the_class() -> None:
    net = add_delays(network(), 3)
    assert "register_forward_state_hooks" in vars(net)
    remove_delays(net)
    assert "register_forward_state_hooks" not in vars(net)
    assert "register_forward_state_hooks" not in vars(net[2])
    assert len(seen_by(net, net.register_forward_state_hooks)) == 3
