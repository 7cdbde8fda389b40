"""Which tensor is the state that was left, and which is another one."""

import torch

from delayplug.surgery.identity import any_nonzero, has_graph, is_copy, is_same_state, version_of, was_zeroed


def test_the_same_state_may_be_detached_but_not_written_to() -> None:
    state = torch.ones(3, requires_grad=True) * 2
    version = version_of(state)
    assert is_same_state(state, state, version)
    assert is_same_state(state.detach(), state, version)
    assert not is_same_state(state.clone(), state, version)
    assert not is_same_state(state[:2], state, version)
    state.detach().add_(1)
    assert not is_same_state(state.detach(), state, version)


def test_what_is_no_tensor_is_compared_by_identity() -> None:
    value = [0.0]
    assert is_same_state(value, value, 0)
    assert not is_same_state([0.0], value, 0)
    assert not is_same_state(torch.zeros(1), 0.0, 0)


def test_empty_states_are_never_the_same_but_by_identity() -> None:
    empty = torch.zeros(0)
    assert is_same_state(empty, empty, 0)
    assert not is_same_state(torch.zeros(0), empty, 0)


def test_zeroed_in_place() -> None:
    held = (torch.ones(2), torch.ones(2), "no tensor")
    versions = tuple(map(version_of, held))
    assert not was_zeroed(held, versions)
    held[0].zero_()
    assert was_zeroed(held, versions)
    held[1].add_(1)
    assert not was_zeroed(held, versions)  # what was written to is not all zero


def test_copies_are_known_unless_they_are_zero() -> None:
    state = torch.tensor([0.0, 1.0])
    assert is_copy(state.view(1, 2), state)
    assert is_copy(state.clone(), state)
    assert not is_copy(state + 1, state)
    assert not is_copy(state.double(), state)
    assert not is_copy(torch.zeros(2), torch.zeros(2))
    assert not is_copy(torch.zeros(0), torch.zeros(0))


def test_versions_of_inference_tensors_are_not_counted() -> None:
    with torch.inference_mode():
        state = torch.zeros(2)
        state.add_(1)
    assert version_of(state) == 0
    assert version_of(3) == 0


def test_graphs_and_zeros() -> None:
    leaf = torch.zeros(2, requires_grad=True)
    assert has_graph((None, leaf * 1))
    assert not has_graph((leaf, leaf.detach(), 3))
    assert any_nonzero((torch.zeros(2), torch.ones(1)))
    assert not any_nonzero((torch.zeros(2), torch.zeros(0)))
