"""A state of any make, as plain leaves and back."""

import io
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from delayplug import ArgumentError, DelayState, tensors_in
from delayplug.toolkits.states import from_leaves, mapped, to_leaves, with_own_containers


class Pair(NamedTuple):
    v: Tensor
    i: Tensor | None


@dataclass(frozen=True)
class Held:
    spikes: Tensor
    steps: int


def state() -> dict[str, Any]:
    return {
        "pair": Pair(torch.arange(3.0), None),
        "held": Held(torch.ones(2), 4),
        "list": [torch.zeros(1), (torch.full((2, 2), 2.0),)],
        "delay": DelayState(torch.rand(4, 2, generator=torch.Generator().manual_seed(0))),
    }


def test_leaves_go_through_a_file_and_back() -> None:
    file = io.BytesIO()
    torch.save(to_leaves(state()), file)
    file.seek(0)
    back = from_leaves(state(), torch.load(file, weights_only=True))
    assert isinstance(back["pair"], Pair)
    assert back["held"].steps == 4
    assert isinstance(back["list"][1], tuple)
    pairs = zip(tensors_in(state()), tensors_in(back), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs)


def test_leaves_are_copies_without_a_graph() -> None:
    v = torch.ones(2, requires_grad=True) * 2
    leaf = to_leaves({"v": v})["state.v"]
    assert isinstance(leaf, Tensor)
    assert not leaf.requires_grad
    leaf.zero_()
    assert v.sum() == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state.pair.v": None}, "state.pair.v"),
        ({"state.pair.v": torch.zeros(4)}, r"shape \(3,\)"),
        ({"state.pair.v": torch.zeros(3, dtype=torch.float64)}, "torch.float32"),
        ({"state.pair.v": torch.tensor([0, torch.nan, 0])}, "finite values"),
        ({"state.held.steps": "4"}, "a value like 4"),
        ({"state.other": torch.zeros(1)}, "nothing but the network's own entries"),
    ],
)
def test_leaves_of_something_else_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        from_leaves(state(), to_leaves(state()) | change)


def test_a_missing_leaf_is_named() -> None:
    leaves = to_leaves(state())
    del leaves["state.held.spikes"]
    with pytest.raises(ArgumentError, match=r"state\.held\.spikes"):
        from_leaves(state(), leaves)


def test_what_is_no_container_cannot_be_saved() -> None:
    with pytest.raises(ArgumentError, match="tensors and numbers in containers, got object"):
        to_leaves([object()])


def test_own_containers_hold_the_same_leaves() -> None:
    before = state()
    after = with_own_containers(before)
    assert after is not before
    assert after["list"] is not before["list"]
    assert all(a is b for a, b in zip(tensors_in(before), tensors_in(after), strict=True))


def test_every_leaf_is_changed_once_and_a_delay_state_is_one() -> None:
    before, seen = state(), []

    def change(leaf: Any) -> Any:
        seen.append(leaf)
        return leaf + 1 if isinstance(leaf, Tensor) else leaf

    after = mapped(before, change)
    tensors = [leaf for leaf in seen if isinstance(leaf, Tensor)]
    expected = [t + 1 if any(t is leaf for leaf in tensors) else t for t in tensors_in(before)]
    assert all(torch.equal(a, b) for a, b in zip(tensors_in(after), expected, strict=True))
    assert sum(isinstance(leaf, DelayState) for leaf in seen) == 1


def test_tensors_in_everything_that_holds_some() -> None:
    class Thing:
        def __init__(self) -> None:
            self.inside = torch.ones(1)

    assert len(tensors_in(state())) == 5
    assert tensors_in(Thing()) == []
    assert len(tensors_in([Thing()], objects=True)) == 1
    assert tensors_in((torch.nn.Linear(1, 1), "text", Tensor)) == []
