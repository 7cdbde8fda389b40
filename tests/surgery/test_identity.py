"""What is known of a tensor: marks on its memory, found again by views and detached copies, and its version."""

import gc
import weakref

import pytest
import torch

from delayplug.surgery.identity import (
    has_graph,
    is_as_marked,
    mark,
    mark_of,
    memory_of,
    samples_of,
    unchanged,
    version_of,
)


class Note:
    """Something that can be referred to weakly."""


def test_a_mark_is_found_by_all_that_shares_the_memory() -> None:
    tensor, note = torch.ones(4, 3, requires_grad=True) * 2, Note()
    mark(tensor, "key", note)
    for same in (tensor, tensor.detach(), tensor[1:3], tensor.view(3, 4), tensor.data):
        found = mark_of(same, "key")
        assert found is not None
        assert found.note is note
    assert mark_of(tensor.clone(), "key") is None
    assert mark_of(tensor[[0, 1]], "key") is None
    assert mark_of(tensor, "another key") is None
    mark(tensor, "key", None)
    assert mark_of(tensor, "key").note is None


def test_a_mark_lives_as_long_as_the_memory() -> None:
    tensor, note = torch.ones(4), Note()
    alive = weakref.ref(note)
    mark(tensor, "key", note)
    view = tensor[:2]
    del note, tensor
    gc.collect()
    assert alive() is not None
    del view
    gc.collect()
    assert alive() is None


def test_what_was_written_to_is_changed() -> None:
    tensor = torch.zeros(4)
    mark(tensor, "key", None)
    assert unchanged(tensor.detach(), mark_of(tensor, "key")) is True
    tensor[1:2].add_(0)
    assert unchanged(tensor, mark_of(tensor, "key")) is False
    mark(tensor, "key", None)
    assert unchanged(tensor, mark_of(tensor, "key")) is True


def test_in_inference_mode_values_tell_what_was_written_to() -> None:
    with torch.inference_mode():
        tensor = torch.zeros(4, 2)
        assert version_of(tensor) == 0
        mark(tensor, "key", None)
        part = tensor[1:3]
        assert bool(unchanged(tensor, mark_of(tensor, "key"))) is True
        assert bool(unchanged(part, mark_of(tensor, "key"))) is True
        tensor[0] = 1
        assert bool(unchanged(tensor, mark_of(tensor, "key"))) is False
        assert bool(unchanged(part, mark_of(tensor, "key"))) is True


BATCH = torch.arange(24.0).view(6, 4)


@pytest.mark.parametrize(
    ("part", "samples"),
    [
        (BATCH, slice(None)),
        (BATCH[:2], slice(0, 2, 1)),
        (BATCH[3:], slice(3, 6, 1)),
        (BATCH[1:6:2], slice(1, 6, 2)),
        (BATCH[2:3], slice(2, 3, 1)),
        (BATCH[:0], slice(0, 0)),
        (BATCH.view(6, 4), slice(None)),
        (BATCH[:, :2], None),
        (BATCH.t(), None),
        (BATCH.view(4, 6), None),
        (BATCH[0], None),
        (BATCH.view(3, 8), None),
    ],
)
def test_samples_of_a_batch(part: torch.Tensor, samples: slice | None) -> None:
    mark(BATCH, "key", None)
    assert samples_of(part, mark_of(part, "key")) == samples
    if samples is not None:
        assert torch.equal(BATCH[samples], part)


def test_samples_of_a_value_repeated_along_the_batch_are_not_known() -> None:
    expanded = torch.ones(3).expand(4, 3)
    mark(expanded, "key", None)
    assert samples_of(expanded, mark_of(expanded, "key")) == slice(None)
    assert samples_of(expanded[:2], mark_of(expanded, "key")) is None


def test_several_states_in_one_memory() -> None:
    both, note = torch.zeros(2, 3, 4), Note()
    mark(both[0], "key", note)
    mark(both[1], "key", note)
    found = mark_of(both, "key")
    assert samples_of(both[0], found) == samples_of(both[1], found) == slice(None)
    assert samples_of(both[1, 1:], found) == slice(1, 3, 1)
    assert samples_of(both, found) is None
    mark(both[1], "key", Note())  # of another note: the first is no more
    assert samples_of(both[1], mark_of(both, "key")) == slice(None)
    assert samples_of(both[0], mark_of(both, "key")) is None


@pytest.mark.real("memory of sparse tensors")
def test_a_tensor_without_memory_is_its_own() -> None:
    sparse = torch.eye(2).to_sparse()
    assert memory_of(sparse) is sparse
    dense = torch.zeros(2)
    assert memory_of(dense) is memory_of(dense.detach())
    assert memory_of(dense) is not memory_of(torch.zeros(2))


def test_versions_count_what_is_written() -> None:
    tensor = torch.zeros(2)
    before = version_of(tensor)
    tensor.add_(1)
    assert version_of(tensor) == before + 1
    assert version_of(3) == 0


def test_graphs() -> None:
    leaf = torch.zeros(2, requires_grad=True)
    assert has_graph((None, leaf * 1))
    assert not has_graph((leaf, leaf.detach(), 3))


def test_as_marked_is_where_it_was_and_not_written_to() -> None:
    tensor = torch.zeros(4, 3)
    mark(tensor, "key", None)
    marked = mark_of(tensor, "key")
    assert is_as_marked(tensor, marked)
    assert is_as_marked(tensor.detach(), marked)
    assert not is_as_marked(tensor[:2], marked)
    assert not is_as_marked(tensor.view(3, 4), marked)
    tensor.zero_()
    assert not is_as_marked(tensor, marked)
    with torch.inference_mode():
        uncounted = torch.zeros(2)
        mark(uncounted, "key", None)
        assert not is_as_marked(uncounted, mark_of(uncounted, "key")), "only its values tell"
