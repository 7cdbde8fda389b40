"""Snapshots differ where a user could notice a difference, and copies are independent."""

import torch
from torch import nn

from delayplug.testing import can_pickle, copies, snapshot, states
from delayplug.toolkits import plugins


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_a_snapshot_is_equal_until_something_changes() -> None:
    toolkit, model = plugins.toolkit("norse"), net()
    before = snapshot(model, toolkit)
    assert snapshot(model, toolkit) == before
    handle = model[0].register_forward_hook(lambda *_: None)
    assert snapshot(model, toolkit)["hooks"] != before["hooks"]
    handle.remove()
    model[1](torch.rand(4, 3))
    assert snapshot(model, toolkit)["values"] != before["values"]
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    assert snapshot(model, toolkit)["parameters"] != before["parameters"]


def test_states_hold_the_object_and_a_copy_of_its_content() -> None:
    model = net()
    value, content = states(model, plugins.toolkit("norse"))["1.running_mean"]
    model[1](torch.rand(4, 3))
    assert value is model[1].running_mean
    assert not torch.equal(value, content)


def test_copies_are_others_of_the_same_content() -> None:
    model = net()
    made = list(copies(model))
    assert len(made) == 3
    for copied in made:
        assert copied is not model
        assert torch.equal(copied[0].weight, model[0].weight)
        assert copied[0].weight is not model[0].weight


def test_what_cannot_be_pickled_is_only_copied() -> None:
    model = net()
    model[0].hook = lambda: None
    assert not can_pickle(model)
    assert len(list(copies(model))) == 1
