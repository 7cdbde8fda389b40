"""Which history belongs to a neuron's state."""

import pytest
import torch

from delayplug import DelayState
from delayplug.surgery.identity import mark
from delayplug.surgery.lineage import (
    BEGIN,
    Conflict,
    Record,
    Start,
    found_start,
    made_by_call,
    memories_of,
    records_of,
    was_written,
)


def record(seed: int = 0, **options) -> Record:
    return Record(DelayState(torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(seed))), **options)


def state(*notes: Record | None, batch: int = 4) -> list[torch.Tensor]:
    tensors = [torch.zeros(batch, 5) for _ in notes]
    for tensor, note in zip(tensors, notes, strict=True):
        mark(tensor, "key", note)
    return tensors


def test_a_state_is_found_whole_or_as_a_slice_of_its_batch() -> None:
    one = record()
    tensors = state(one, one)
    assert found_start(tensors, "key") == Start(one)
    assert torch.equal(found_start(tensors, "key").state().history, one.state.history)
    part = found_start([t.detach()[1:3] for t in tensors], "key")
    assert part == Start(one, slice(1, 3, 1))
    assert torch.equal(part.state().history, one.state.history[:, 1:3])


def test_what_is_not_known_is_not_found() -> None:
    one = record()
    assert found_start([torch.zeros(4, 5)], "key") is None
    assert found_start(state(one), "another key") is None
    assert found_start([*state(None), torch.zeros(4, 5)], "key") is None
    assert found_start([*state(one), torch.zeros(4, 5)], "key") == Start(one)  # a constant beside the state


def test_a_marked_beginning_is_one() -> None:
    assert found_start(state(None, None), "key") is BEGIN


@pytest.mark.parametrize("which", [0, 1])
def test_what_was_written_to_is_not_found(which: int) -> None:
    one = record()
    tensors = state(one, one)
    assert not was_written(tensors, "key")
    tensors[which].add_(1)
    assert was_written(tensors, "key")
    assert found_start(tensors, "key") is None


def test_the_newest_record_counts_if_it_kept_the_others() -> None:
    old = record(0)
    new = record(1, older=frozenset({old.serial}))
    assert found_start(state(old, new), "key").record is new
    assert records_of(state(old, new, None), "key") == {old.serial, new.serial}
    with pytest.raises(Conflict, match="different calls"):
        found_start(state(record(0), record(1)), "key")


def test_parts_of_a_state_are_the_same_samples() -> None:
    one = record()
    first, second = state(one, one)
    with pytest.raises(Conflict, match="same samples"):
        found_start([first[:2], second[2:]], "key")
    with pytest.raises(Conflict, match="same samples"):
        found_start([first[:, :2]], "key")


def test_a_state_that_was_cut_off_from_its_graph_has_a_history_without_it() -> None:
    history = torch.rand(3, 4, 2, requires_grad=True) * 1
    one = Record(DelayState(history), had_graph=True)
    tensor = torch.zeros(4, 5, requires_grad=True) * 1
    mark(tensor, "key", one)
    whole, cut = found_start([tensor], "key"), found_start([tensor.detach()], "key")
    assert whole.state().history.requires_grad
    assert not cut.state().history.requires_grad
    assert torch.equal(cut.state().history, history)
    assert whole.is_same(Start(one))
    assert not whole.is_same(cut)


def test_starts_with_nothing_under_way_are_all_the_same() -> None:
    assert BEGIN.is_same(Start(Record(None)))
    assert Start(Record(None)).is_same(BEGIN)
    assert not BEGIN.is_same(Start(record()))
    one = record()
    assert not Start(one).is_same(Start(one, slice(0, 2, 1)))
    assert not Start(one).is_same(Start(record()))


def test_what_is_not_sure_is_nan() -> None:
    one = record()
    assert torch.equal(Start(one, sure=torch.tensor(True)).state().history, one.state.history)
    assert Start(one, sure=torch.tensor(False)).state().history.isnan().all()
    assert Start(one, sure=torch.tensor(False)).if_sure(None) is None


def test_what_a_call_made_or_wrote_to() -> None:
    passed_on, written = torch.zeros(2), torch.zeros(2)
    before = memories_of([passed_on, written])
    written.add_(1)
    made = torch.zeros(2)
    after = made_by_call([passed_on.detach(), written, made], before)
    assert [id(tensor) for tensor in after] == [id(written), id(made)]
