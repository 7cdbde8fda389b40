"""Whether a state that no call has left is that of a beginning, and where a neuron keeps its state."""

import pytest
import snntorch
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from delayplug import DelayState
from delayplug.surgery.beginnings import (
    Beginnings,
    begins_for_sure,
    changed_attributes,
    held_by,
    is_beginning,
    is_learned,
    tensor_attributes,
)
from delayplug.surgery.lineage import Record
from delayplug.toolkits.plugins import toolkit

LEAKY = snntorch.Leaky(beta=0.9)


def asked(state: list[torch.Tensor], *known: torch.Tensor) -> tuple[bool, bool]:
    answers = is_beginning(toolkit("snntorch"), LEAKY, state, Beginnings.of(list(known)))
    return bool(answers[0]), bool(answers[1])


def test_a_toolkit_knows_its_own_beginning() -> None:
    assert asked([torch.zeros(2, 3)]) == (True, False)
    assert asked([torch.full((2, 3), 0.1)]) == (False, False)
    assert asked([torch.zeros(2, 3), torch.ones(2, 3)]) == (False, False)


def test_an_earlier_beginning_is_known_again_by_its_values() -> None:
    start = torch.tensor([[0.1, 0.2]]).expand(3, 2)
    assert asked([start.clone()], start) == (False, True)
    assert asked([start[:1].clone()], start) == (False, True)
    assert asked([torch.tensor([[0.1, 0.2]]).repeat(5, 1)], start) == (False, True)  # another batch
    assert asked([torch.tensor([[0.1, 0.3]]).repeat(5, 1)], start) == (False, False)
    assert asked([start.double()], start) == (False, False)
    several = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert asked([several.repeat(2, 1)], several) == (False, False)  # no value of one sample
    assert asked([start.clone(), start.clone()], start) == (False, False)


def test_a_beginning_that_was_overwritten_is_forgotten() -> None:
    start = torch.full((2, 3), 0.1)
    beginnings = Beginnings.of([start])
    assert beginnings.value(0) is not None
    start.add_(0.1)
    assert beginnings.value(0) is None
    assert beginnings.value(1) is None


def test_parameters_are_learned_beginnings() -> None:
    v0 = nn.Parameter(torch.ones(3))
    assert is_learned(v0)
    assert is_learned(v0.expand(2, -1))
    assert not is_learned(nn.Parameter(torch.ones(3), requires_grad=False))
    assert not is_learned(v0 * 1)
    assert asked([v0.expand(2, -1)]) == (False, True)


UNDER_WAY = Record(DelayState(torch.ones(2, 1, 3)))
ARRIVED = Record(DelayState(torch.zeros(2, 1, 3)))


@pytest.mark.parametrize(
    ("state", "left", "record", "begins"),
    [
        ((True, False), (False, False), UNDER_WAY, True),
        ((True, False), (True, False), UNDER_WAY, False),  # a copy of the last state looks the same
        ((True, False), (True, False), ARRIVED, True),  # but nothing would be lost
        ((True, False), (True, False), Record(None), True),
        ((True, False), (True, False), None, True),
        ((False, True), (True, False), UNDER_WAY, True),
        ((False, True), (False, True), UNDER_WAY, False),
        ((False, False), (False, False), None, False),
    ],
)
def test_what_begins_for_sure(state, left, record, begins: bool) -> None:
    assert begins_for_sure(state, left, record) is begins
    tensors = [tuple(map(torch.tensor, answers)) for answers in (state, left)]
    assert begins_for_sure(*tensors, record) is begins


class Foreign(nn.Module):
    """A neuron whose state its toolkit does not name."""

    def __init__(self) -> None:
        super().__init__()
        self.other, self.weight = torch.zeros(2), nn.Parameter(torch.zeros(2))
        self.register_buffer("v", torch.zeros(2))
        self.name = "no tensor"


def test_attributes_that_a_call_has_changed() -> None:
    node = Foreign()
    before = tensor_attributes(node)
    assert before.keys() == {"other", "v"}
    assert changed_attributes(node, before) == ()
    node.v = torch.zeros(2)
    assert changed_attributes(node, before) == ("v",)
    node.other.add_(1)
    node.new = torch.zeros(1)
    assert set(changed_attributes(node, before)) == {"v", "other", "new"}


def test_what_a_neuron_holds() -> None:
    node = neuron.LIFNode()
    node.v, node.fatigue = torch.ones(2), torch.zeros(2)
    held = held_by(toolkit("spikingjelly"), node, ("fatigue", "gone"))
    assert held[0] is node.v
    assert held[1] is node.fatigue
    assert len(held) == 2
