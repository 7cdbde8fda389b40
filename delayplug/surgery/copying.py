"""Copies of a memory, and what of it goes into a file."""

import copy
from dataclasses import replace
from typing import Any, Self

from torch import nn

from ..toolkits.vocabulary import Turns
from .beginnings import Beginnings, held_by
from .identity import mark, mark_of, unchanged
from .lineage import Record
from .link import Link
from .resolve import Resolver, Snapshot, not_empty


class Copyable(Resolver):
    """What is under way goes with a copy and into a file, without its graph.

    The state that a neuron holds is copied with the neuron; the copy is marked as the state is.
    """

    def replica(self) -> Self:
        """The memory of a replica of the layer, for one call of it: nothing is under way, its neuron is not known."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__, knows_its_neuron=False, is_replica=True)
        new._now = Snapshot(names=self._now.names, beginnings=self._now.beginnings)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = self.replica()
        new.is_replica = False
        memo[id(self)] = new
        new.neuron = _copy_of(self.neuron, memo)
        now, link = self._now, self.link
        copies: dict[int, Record] = {}

        def copied(record: Record) -> Record:
            if record.serial not in copies:
                state = None if record.state is None else record.state.detach()
                copies[record.serial] = replace(record, state=state, had_graph=False)
            return copies[record.serial]

        held = not_empty(held_by(self.toolkit, self.neuron, self.state_names))
        for tensor in (*held, *now.left):  # the copy of the neuron shares the memory of these copies
            marked = mark_of(tensor, link)
            if marked is not None and unchanged(tensor, marked) is not False:
                note = None if marked.note is None else copied(marked.note)
                mark(copy.deepcopy(tensor.detach(), memo), link, note)
        new._now = now._replace(
            last=None if now.last is None else copied(now.last),
            left=tuple(copy.deepcopy(tensor, memo) for tensor in now.left),
            given=None if now.given is None else now.given._replace(cut=True),
            offer=None,
            call=0,
            carried=False,
        )
        return new

    def __getstate__(self) -> dict[str, object]:
        now = self._now
        held = not_empty(held_by(self.toolkit, self.neuron, self.state_names))
        marks = [(tensor, mark_of(tensor, self.link)) for tensor in (*held, *now.left)]
        state = self.state
        return {
            "neuron": self.neuron,
            "toolkit": self.toolkit,
            "turns": self.turns,
            "link": self.link,
            "state": None if state is None else state.detach(),
            # The very tensors, so that those of the neuron are known again.
            "held": tuple(t for t, m in marks if m is not None and m.note is now.last),
            "left": now.left,
            "names": now.names,
            "passes": now.passes,
            "given": now.given is not None,
            "beginnings": tuple(tensor for tensor, _ in now.beginnings.values),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Models saved by delayplug 0.1 have other names here, and no link.
        renamed = {"probe": "toolkit", "_held": "held", "_returned": "left", "_caller_keeps_state": "passes"}
        state = {renamed.get(name, name): value for name, value in state.items()}
        self.neuron, self.toolkit, self.turns = state["neuron"], state["toolkit"], Turns(state["turns"])
        self.link = state.get("link") or Link(self.toolkit, self.turns)
        self.knows_its_neuron = False
        held = not_empty(tuple(state.get("held") or ()))
        left = tuple(state.get("left") or ())
        self._now = Snapshot(
            passes=bool(state.get("passes")),
            names=state.get("names"),
            beginnings=Beginnings.of(list(state.get("beginnings", ()))),
        )
        if state.get("given"):
            self.go_on_from(state["state"])
            return
        tensors = not_empty((*held, *left))
        if state["state"] is not None and tensors:  # else its neuron was reset since
            record = Record(state["state"])
            self._now = self._now._replace(last=record, left=tuple(tensor.detach() for tensor in tensors))
            self._note(tensors, record)


def _copy_of(neuron: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy of a neuron; the neuron itself if it cannot be copied now, for a copy of the layer alone.

    A state with a graph cannot be copied. A copy of the whole model fails by itself, when it comes to the neuron.
    """
    before = set(memo)
    try:
        copied: nn.Module = copy.deepcopy(neuron, memo)
    except RuntimeError:
        for key in set(memo) - before:  # halves of copies
            del memo[key]
        return neuron
    return copied
