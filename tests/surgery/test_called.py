"""How the whole model is called."""

import pytest
import torch
from torch import nn

from delayplug.surgery.called import Call, Calls, ModelWatch, watch_of
from delayplug.surgery.identity import mark
from delayplug.surgery.lineage import BEGIN, Record


class Keeping(nn.Module):
    """Has whatever it is given as attributes."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x < 0).any()):
            raise ValueError("negative")
        return x


def call_of(model: nn.Module, *tensors: torch.Tensor, neurons: frozenset[int] = frozenset()) -> Call:
    return Call(model, list(tensors), neurons)


def test_what_can_have_carried_a_state_into_a_call() -> None:
    x, kept, of_neuron, buffer = torch.zeros(1), torch.zeros(2), torch.zeros(3), torch.zeros(4)
    model, neuron = Keeping(kept=kept), Keeping(v=of_neuron)
    model.neuron = neuron
    model.register_buffer("buffer", buffer)
    found = call_of(model, x, neurons=frozenset({id(neuron)})).tensors()
    assert {id(t) for t in found} == {id(x), id(kept), id(buffer)}
    assert any(t is of_neuron for t in call_of(model, x).tensors())


def test_a_longer_list_is_a_recording() -> None:
    states, recorded = [torch.zeros(1)], [torch.zeros(1), torch.zeros(1)]
    found = call_of(Keeping(states=states, recorded=recorded), neurons=frozenset({0})).tensors()
    assert [id(t) for t in found] == [id(states[0])]


def test_a_call_holds_no_argument() -> None:
    x = torch.zeros(1)
    call = call_of(Keeping(), x)
    assert len(call.tensors()) == 1
    del x
    assert call.tensors() == []


def test_calls_are_numbered() -> None:
    first, second = call_of(Keeping()), call_of(Keeping())
    assert 0 < first.serial < second.serial


def test_where_a_call_goes_on_from() -> None:
    one, other = Record(None), Record(None)
    mine, of_another = torch.zeros(2, 3), torch.zeros(2, 3)
    mark(mine, "key", one)
    mark(of_another, "key", other)
    assert call_of(Keeping(), torch.zeros(2), mine).start("key").record is one
    assert call_of(Keeping(state=mine)).start("key").record is one
    assert call_of(Keeping(state=of_another), mine).start("key").record is one  # arguments before attributes
    assert call_of(Keeping(), mine, of_another).start("key") is BEGIN
    assert call_of(Keeping(), torch.zeros(2)).start("key") is BEGIN


def test_whether_a_state_was_made_within_the_call() -> None:
    x, state = torch.rand(2, 5), torch.zeros(2, 3)
    assert call_of(Keeping(), x).made_inside([state], "key")
    assert not call_of(Keeping(), x, state).made_inside([state], "key")
    assert not call_of(Keeping(), x, torch.ones(2, 3)).made_inside([state], "key")  # it may be a copy of that
    assert not call_of(Keeping(kept=state), x).made_inside([state[:1]], "key")
    assert call_of(Keeping(v0=nn.Parameter(torch.ones(2, 3))), x).made_inside([state], "key")
    other = torch.zeros(4)
    mark(other, "key", Record(None))
    assert not call_of(Keeping(), x, other).made_inside([state], "key")  # some state came in


class Follower:
    """Sees the calls."""

    def __init__(self) -> None:
        self.neuron, self.calls, self.broken = nn.Identity(), Calls(), 0

    def interrupted(self) -> None:
        self.broken += 1


@pytest.mark.parametrize("saved_by_0_1", [False, True])
def test_a_watch_shows_the_innermost_call_and_its_end(saved_by_0_1: bool) -> None:
    model, follower = Keeping(), Follower()
    outer = nn.Sequential(model)
    if saved_by_0_1:  # it had no hook at the end of a call
        watch = ModelWatch.__new__(ModelWatch)
        watch.__setstate__({"memories": [follower], "plans": []})
        model.register_forward_pre_hook(watch, with_kwargs=True)
    else:
        watch = ModelWatch()
        watch.memories.append(follower)
        watch.attach(model)
    seen = []
    model.register_forward_pre_hook(lambda module, args: seen.append(follower.calls.current.model))
    for _ in range(2):
        assert follower.calls.current is None
        outer(torch.zeros(1))
        assert follower.calls.stack == []
    assert seen == [model, model]
    assert follower.broken == 0
    with pytest.raises(ValueError, match="negative"):
        outer(-torch.ones(1))
    assert follower.calls.stack == []
    assert follower.broken == 1


def test_a_watch_comes_and_goes() -> None:
    model, watch = Keeping(), ModelWatch()
    model.register_forward_hook(lambda module, args, output: None)
    assert watch_of(model) is None
    watch.attach(model)
    assert watch_of(model) is watch
    watch.detach(model)
    assert watch_of(model) is None
    assert not model._forward_pre_hooks
    assert len(model._forward_hooks) == 1
