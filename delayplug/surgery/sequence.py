"""When does a sequence begin, and what does a call go on from? What a delayed layer remembers between two calls.

The history of a delay belongs to the state that the neuron carries (see `lineage`). Where the neuron holds its state,
the layer looks at it before it computes. Where the caller passes the state, the layer comes first: it computes from
what it expects, and when the neuron is called with another state, the output is computed again from the right history
and put in its place. What can be neither followed nor known as a beginning is refused with `SequenceError`.
"""

import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SequenceError
from ..layers.state import DelayState
from ..toolkits.vocabulary import Mode, Turns
from .beginnings import Beginnings, changed_attributes, held_by, tensor_attributes
from .called import Call
from .copying import Copyable
from .identity import has_graph, version_of
from .lineage import ALL, BEGIN, Record, Start, made_by_call, memories_of, records_of
from .offer import Again, Changed, Offer, input_of, place_in, with_input
from .resolve import Snapshot, not_empty


class Memory(Copyable):
    """What a delayed layer remembers between calls, and how it knows from what a call goes on.

    A call of the layer makes an offer: its output, computed from the history that it expects to be right. The call of
    the neuron takes the offer, with the state that tells which history is right, and leaves a state, to which the next
    one belongs. Layer and neuron must be called alternately: as many steps as the layer has delivered, in one call or
    in several, the neuron takes before the layer runs again.
    """

    # ------------------------------------------------------------------------------------------ seen from outside

    def snapshot(self) -> Snapshot:
        """All that is remembered now, for `restore`; later calls do not change it, `detach` does."""
        offer = self._now.offer
        return self._now if offer is None else self._now._replace(offer=replace(offer))

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from what `snapshot` returned."""
        self._now = snapshot

    @property
    def carried(self) -> bool:
        """Whether somebody else carries the state, see `carry`."""
        return self._now.carried

    @property
    def folded_steps(self) -> int:
        """How many steps the present call has, where the time is folded into the batch."""
        return self.link.folded_steps

    @property
    def is_waiting(self) -> bool:
        """Whether the layer has delivered what the neuron has not taken."""
        return self._now.offer is not None

    def length_after(self, call: int) -> int:
        """How many steps the present sequence has after the call of the model with this serial; 0 if that ran none."""
        return self._now.length if self._now.call == call else 0

    @contextmanager
    def carry(self, state: DelayState | None) -> Iterator[None]:
        """Within the block somebody else, such as a stream, carries the state: the delay goes on from this one.

        With None it begins a sequence. At the end of the block `state` is the next one; after it the memory is as it
        was before.
        """
        before = self.snapshot()
        self._now = before._replace(state=state, carried=True)
        try:
            yield
        finally:
            self.restore(before)

    @contextmanager
    def one_sequence(self) -> Iterator[None]:
        """Within the block every call goes on from the last one, whatever the neuron's state is."""
        self.forget()
        self._now = self._now._replace(within=True)
        try:
            yield
        finally:
            self._now = self._now._replace(within=False)

    def forget(self) -> None:
        """The next call begins a sequence."""
        self._now = self._now._replace(last=None, left=(), given=BEGIN, offer=None)

    def detach(self) -> None:
        """Cut the inputs that have not arrived yet off from the graph."""
        now = self._now
        if now.last is not None and now.last.state is not None:
            now.last.state, now.last.had_graph = now.last.state.detach(), False
        if now.given is not None:
            self._now = now._replace(given=now.given._replace(cut=True))

    def interrupted(self) -> None:
        """The call of the model has ended with an error: what the layer delivered is gone."""
        if not self.carried:
            self._now = self._now._replace(offer=None)

    # ----------------------------------------------------------------------------------------------- the layer

    def read(self, shape: torch.Size, steps: int | None) -> DelayState | None:
        """The state to go on from, None at the beginning of a sequence.

        Args:
            shape: of one step of what is delayed.
            steps: how many this call has; None if it is a single one.
        """
        if self.carried:
            return self._now.state
        offer, call = self._now.offer, self.call_serial()
        if offer is not None and self.turns is Turns.STEPS_THEN_SEQUENCE and offer.call == call and not offer.taken:
            offer.steps += 1
            return offer.state
        self._seen = None
        start = self._expected(shape)
        if offer is not None:
            self._drop(offer, begins=start.record is None)
        new = Offer(start, steps=1 if steps is None else steps, call=call, seen=self._seen)
        self._now = self._now._replace(offer=new)
        return start.state()

    def write(self, state: DelayState) -> None:
        """Remember the state after a call of the layer."""
        now = self._now
        if now.carried:
            self._now = now._replace(state=state)
        elif now.offer is not None:
            now.offer.state = state

    def delivered(self, output: Any, again: Again | None) -> None:
        """The layer has run: its output, and how to run it once more from another state."""
        offer = self._now.offer
        if self.carried or offer is None:
            return
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            offer.output, offer.version, offer.again = first, version_of(first), again
        self.link.delivered(self)

    def _expected(self, shape: torch.Size) -> Start:
        """From what the layer computes before its neuron is called."""
        now = self._now
        if now.given is not None or now.within:
            start = now.given or Start(now.last)
            if not self._fits(start, shape):
                self._unknown(f"got a batch of shape {tuple(shape[:1])}, which is not that of the last call")
            return start
        call = self.calls.current
        if now.passes:
            is_first = call is not None and call.serial != now.call
            start = call.start(self.link) if is_first and call is not None else self._after_last()
        elif self._is_apart(call):
            return BEGIN
        else:
            start = self._start_of(None)
            self._seen = [(tensor, version_of(tensor)) for tensor in not_empty(self._state(None))]
        return self._fitting(start, shape)

    def _after_last(self) -> Start:
        """What goes on from the last call: without its graph if nobody has the state any more but without that."""
        last = self._now.last
        return Start(
            last, cut=last is not None and last.had_graph and not any(ref() is not None for ref in last.tensors)
        )

    def _fitting(self, start: Start, shape: torch.Size) -> Start:
        """The start for a batch of this shape: where a state is passed, a smaller batch is the first of it."""
        if self._fits(start, shape) or start.record is None or start.record.state is None:
            return start
        held, wanted = start.record.state.history.shape[1:], shape
        smaller = len(held) == len(wanted) > 1 and held[1:] == wanted[1:] and wanted[0] < held[0]
        if self._now.passes and smaller and start.samples == ALL:
            return start._replace(samples=slice(0, wanted[0], 1))
        return BEGIN

    def _fits(self, start: Start, shape: torch.Size) -> bool:
        state = None if start.record is None else start.record.state
        if state is None:
            return True
        history = state.history if start.samples == ALL else state.history[:, start.samples]
        return history.shape[1:] == shape

    def _is_apart(self, call: Call | None) -> bool:
        """Whether the neuron that a copy of the layer knows is no part of the model that is called."""
        if self.knows_its_neuron or call is None:
            return False
        self.knows_its_neuron = any(module is self.neuron for module in call.model.modules())
        return not self.knows_its_neuron

    def _drop(self, offer: Offer, *, begins: bool) -> None:
        """The layer runs again, and its neuron has not taken all that it delivered before."""
        if offer.call == self.call_serial() and not begins:
            self._fail("was not called between two calls of its delayed input")
        if not offer.taken:
            self._now = self._now._replace(missed=self._now.missed + 1)
            if self._now.missed > 1:
                self._fail("was not called after its delayed input")

    # ---------------------------------------------------------------------------------------------- the neuron

    def before_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Changed | None:
        """Forward pre-hook of the neuron."""
        return self.before(neuron, self.toolkit.passed_state(neuron, args, kwargs), args, kwargs)

    def before(
        self,
        neuron: nn.Module,
        passed: tuple[Tensor, ...] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Changed | None:
        """The neuron is called with this state: which history is right? Returns the arguments if they change."""
        if self.carried:
            return None
        self.neuron, self.knows_its_neuron = neuron, True
        now, offer = self._now, self._now.offer
        x = input_of(args, kwargs)
        if now.names is None and now.attributes is None:
            self._now = now._replace(attributes=tensor_attributes(neuron))
        if offer is None:
            self._take_nothing(passed, x)
            return None
        state = not_empty(self._state(passed))
        start = offer.start if passed is None and offer.is_for(state) else self._taking(offer, passed, x)
        steps = self._steps_taken(x, offer)
        if not start.is_same(offer.start):
            self._compute_again(offer, start, x)
        offer.taken, offer.before, offer.opened = offer.taken + steps, memories_of(state), True
        if now.passes is not (passed is not None) or now.missed:
            self._now = self._now._replace(passes=passed is not None, missed=0)
        if offer.replaced is None or x is None:
            return None
        place = place_in(offer, x)
        if place is None:
            self._unknown("takes an input that is no step of what its delayed input delivered")
        return with_input(args, kwargs, x, offer.replaced.select(*place) if place else offer.replaced)

    def _taking(self, offer: Offer, passed: tuple[Tensor, ...] | None, x: Tensor | None) -> Start:
        """From what the neuron's call goes on; within a sequence that the layer has delivered, that is checked."""
        if offer.taken == 0:
            return self._start_of(passed, x)
        now = self._now
        tensors = not_empty(self._state(passed))
        start = None if now.given is not None or now.within else self._found(tensors)
        known = not tensors or (start is not None and start.record is now.last)
        if now.last is None or not now.last.in_middle or not (known or now.within):
            self._unknown("got another state in the middle of what its delayed input takes for one sequence")
        return offer.start

    def _steps_taken(self, x: Tensor | None, offer: Offer) -> int:
        """How many steps the neuron takes of what the layer delivered."""
        is_sequence = x is not None and self.toolkit.mode(self.neuron) == Mode.SEQUENCE
        taken, left = x.shape[0] if is_sequence and x is not None else 1, offer.steps - offer.taken
        # The rest of a sequence that the neuron takes step by step is taken by its next calls.
        if taken > left or (taken < left and self.turns is not Turns.SEQUENCE_THEN_STEPS):
            self._fail(f"takes {taken} steps where its delayed input got {left}")
        return taken

    def _compute_again(self, offer: Offer, start: Start, x: Tensor | None) -> None:
        """The layer once more, from the right history; its output will be put in the place of the first one."""
        if offer.again is None or offer.state is None or x is None or place_in(offer, x) is None:
            lies_between = "something lies between the two, so that its output cannot be put right"
            if start.record is offer.start.record and start.samples == offer.start.samples:
                self._now = self._now._replace(offer=None)
                raise SequenceError(
                    f"{type(self.neuron).__name__} got its state without the graph that its delayed input has: "
                    f"{lies_between}. Cut both off: delayplug.detach_delays(model) where the state is detached"
                )
            self._unknown(
                "goes on from another state than the last one, which its delayed input could not know, and "
                f"{lies_between}"
            )
        if not self._fits(start, offer.state.history.shape[1:]):
            self._unknown(f"got the state of another batch than its input, {tuple(x.shape)}")
        output, state = offer.again(start.state())
        first = output[0] if isinstance(output, tuple) else output
        offer.start, offer.state, offer.replaced = start, state, first

    def _take_nothing(self, passed: tuple[Tensor, ...] | None, x: Tensor | None) -> None:
        """The neuron is called, and the layer has delivered nothing for it: it is fed by another layer."""
        state, now = self._state(passed), self._now
        if now.given is not None or now.within:
            self._now = now._replace(empty=None)
            return  # what its user says is about the next call that it is fed for
        try:
            start = self._start_of(passed, x)
        except SequenceError:
            self._now = self._now._replace(empty=None)
            return  # what the state belongs to is not known, and the layer has no part in this call
        if start.record is not None and start.record.state is not None:
            self._fail("was called twice for one call of its delayed input")
        self._now = self._now._replace(empty=memories_of(not_empty(state)))

    def after_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        """Forward hook of the neuron."""
        if not self.carried:
            held = held_by(self.toolkit, neuron, self.state_names)
            self.after(neuron, held, self.toolkit.returned_state(neuron, output))

    def after(self, neuron: nn.Module, held: tuple[object, ...], returned: tuple[Tensor, ...]) -> None:
        """The neuron has been called: what is under way now belongs to the state that it left.

        Args:
            neuron: which was called.
            held: what it holds now.
            returned: the state tensors that it returned.
        """
        now, offer = self._now, self._now.offer
        if self.carried or (offer is None and now.empty is None) or (offer is not None and not offer.opened):
            return
        before = now.empty if offer is None else offer.before
        names = now.names or ()
        left = not_empty((*held, *returned))
        made = made_by_call(left, before or [])
        if now.names is None:
            if not made or not self.toolkit.shows_state(neuron):  # look for what the call has changed
                names = changed_attributes(neuron, now.attributes or {})
                held = held_by(self.toolkit, neuron, names)
                left = not_empty((*held, *returned))
                made = made_by_call(left, before or [])
                if not now.beginnings.values:
                    now = now._replace(beginnings=Beginnings.before_call(names, now.attributes or {}))
            self._now = now = now._replace(names=names, attributes=None)
        if offer is None:
            self._now = now._replace(empty=None)
            self._note(made, Record(None))
            return
        older = [tensor for tensor in left if all(tensor is not other for other in made)]
        self._note_again(older)
        done = offer.taken >= offer.steps
        record = Record(
            state=offer.start.if_sure(offer.state) if done else None,
            had_graph=has_graph(made),
            tensors=tuple(map(weakref.ref, made)),
            in_middle=not done,
            older=records_of(older, self.link),
        )
        self._note(made, record)
        offer.opened = False
        holds = any(isinstance(value, Tensor) and value.numel() for value in held)
        length, single = self._lengths(offer) if done else (now.length, now.single)
        self._now = now._replace(
            last=record,
            left=tuple(tensor.detach() for tensor in made),
            held=len(not_empty(held)) if names else 0,
            given=None,
            offer=None if done else offer,
            call=self.call_serial(),
            passes=now.passes or (not holds and bool(not_empty(returned))),
            length=length,
            single=single,
        )
        if single == 3 > now.single:
            warnings.warn(
                f"every call of {type(self.neuron).__name__} seems to begin a new sequence, so that what is delayed "
                "never arrives. Carry its state from step to step, as the very tensors that it returned (or tuples, "
                "lists, dicts or dataclasses of them)",
                stacklevel=2,
            )

    def _lengths(self, offer: Offer) -> tuple[int, int]:
        """Of the present sequence in steps, and how many in a row were of one step: then no delay delivers anything."""
        now = self._now
        if offer.start.record is not None and offer.start.record.state is not None:
            return now.length + offer.steps, now.single
        is_step = self.turns is Turns.TOGETHER and self.mode() is Mode.STEP
        return offer.steps, now.single + 1 if now.length == 1 and is_step else 0

    def see_fold(self, container: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """A hook of models that delayplug 0.1 saved: that of the link."""
        self.link.see_fold(container, args, kwargs)
