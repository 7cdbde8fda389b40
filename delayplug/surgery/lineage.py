"""Which history belongs to a neuron's state.

When a neuron returns from a call, what is under way in its delayed input is noted as a `Record` on the memory of the
state tensors that it left or returned. Whoever hands on such a tensor, detached or as a slice of its batch, hands on
that record; this is how streams that take turns, restored states and batches that shrink keep their own histories.
"""

import itertools
import weakref
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..layers.state import DelayState
from .identity import Mark, is_as_marked, mark_of, memory_of, samples_of, unchanged, version_of

_serials = itertools.count()
ALL = slice(None)


@dataclass(eq=False, slots=True)
class Record:
    """What is under way after a call of a neuron.

    Attributes:
        state: of the delay; None if nothing is under way.
        had_graph: the neuron's state had a graph.
        tensors: the state's, as long as somebody has them.
        in_middle: the layer has delivered more steps than the neuron has taken.
        older: serial numbers of the records whose tensors are still a part of the neuron's state, as a membrane of one
            step ago.
        serial: number of the record.
    """

    state: DelayState | None
    had_graph: bool = False
    tensors: tuple[weakref.ref[Tensor], ...] = ()
    in_middle: bool = False
    older: frozenset[int] = frozenset()
    serial: int = field(default_factory=_serials.__next__)


class Start(NamedTuple):
    """Where a call of a delayed layer goes on from; without a record it begins a sequence.

    record: what was under way.
    samples: which of its batch.
    cut: without the graph.
    sure: whether the neuron's state is as it was left, where only its values tell and nobody has waited for them.
    """

    record: Record | None = None
    samples: slice = ALL
    cut: bool = False
    sure: Tensor | None = None

    def state(self) -> DelayState | None:
        """Of the delay; None if nothing is under way."""
        state = None if self.record is None else self.record.state
        if state is None:
            return None
        state = state if self.samples == ALL else state.select(self.samples)
        return self.if_sure(state.detach() if self.cut else state)

    def if_sure(self, state: DelayState | None) -> DelayState | None:
        """The state, all NaN if it is not sure: then whatever is computed from it cannot be taken for right."""
        if state is None or self.sure is None:
            return state
        return DelayState(torch.where(self.sure, state.past(), torch.nan))

    def is_same(self, other: "Start") -> bool:
        """Whether a call goes on from the same inputs."""
        mine, others = self.record, other.record
        if mine is None or others is None or mine.state is None or others.state is None:
            return (mine is None or mine.state is None) and (others is None or others.state is None)
        return mine is others and self.samples == other.samples and self.cut == other.cut


BEGIN = Start()


class Conflict(Exception):  # noqa: N818  not an error by itself: whoever asked decides
    """The tensors of a state belong to different histories; the text says how."""


def found_start(tensors: list[Tensor], key: Hashable) -> Start | None:
    """Where a state of these tensors goes on from, by the marks on their memory; None if it was never seen as it is.

    Of several records the one whose call kept the tensors of the others counts.

    Raises:
        Conflict: the tensors are of different calls, or of different samples, or no samples of a batch.
    """
    if len(tensors) == 1:  # the usual case, in short
        marked = mark_of(tensors[0], key)
        if marked is not None and marked.note is not None and is_as_marked(tensors[0], marked):
            return Start(marked.note, ALL, marked.note.had_graph and tensors[0].grad_fn is None)
    marks = [(t, m) for t in tensors if (m := mark_of(t, key)) is not None]
    answers = [unchanged(t, m) for t, m in marks]
    found = marks if all(answer is not False for answer in answers) else []  # else something was written to
    records = {m.note.serial: m.note for _, m in found if m.note is not None}
    if not records:
        whole = len(found) == len(tensors)
        return BEGIN if whole else None  # all of them are known as those of a beginning
    newest = records[max(records)]
    if not newest.older.issuperset(records.keys() - {newest.serial}):
        raise Conflict("its tensors were returned by different calls")
    samples = [samples_of(t, m) for t, m in found if m.note is newest]
    if samples[0] is None or any(s != samples[0] for s in samples):
        raise Conflict("its tensors are not the same samples of the batch that was returned")
    if samples[0] != ALL and not _has_one_batch(newest.state, found[0][0].dim(), found[0][1]):
        raise Conflict("its batch has several dimensions, of which it is a part")
    cut = newest.had_graph and not any(t.grad_fn is not None for t, _ in found)
    open_answers = [answer for answer in answers if isinstance(answer, Tensor)]
    return Start(newest, samples[0], cut, torch.stack(open_answers).all() if open_answers else None)


def _has_one_batch(state: DelayState | None, dims: int, marked: Mark) -> bool:
    """Whether the samples of a marked tensor are those of a delay's state, which has a batch of several in one."""
    sizes = [shape[0] for shape, _, _ in marked.places if len(shape) == dims]
    return state is None or state.history.shape[1] in sizes


def was_written(tensors: list[Tensor], key: Hashable) -> bool:
    """Whether one of the tensors was written to since its memory was marked."""
    marks = ((t, mark_of(t, key)) for t in tensors)
    return any(m is not None and unchanged(t, m) is False for t, m in marks)


Memories = list[tuple[object, int]]


def memories_of(tensors: list[Tensor]) -> Memories:
    """The memory of each tensor and its version, as they are before a call."""
    return [(memory_of(t), version_of(t)) for t in tensors]


def made_by_call(tensors: list[Tensor], before: Memories) -> list[Tensor]:
    """Those tensors of a state after a call that the call made or wrote to, and did not just pass on."""

    def passed_on(tensor: Tensor) -> bool:
        memory, version = memory_of(tensor), version_of(tensor)
        return any(memory is other and version == then for other, then in before)

    return [tensor for tensor in tensors if not passed_on(tensor)]


def records_of(tensors: list[Tensor], key: Hashable) -> frozenset[int]:
    """Serial numbers of the records on these tensors."""
    marks: list[Mark] = [m for t in tensors if (m := mark_of(t, key)) is not None]
    return frozenset(m.note.serial for m in marks if m.note is not None)
