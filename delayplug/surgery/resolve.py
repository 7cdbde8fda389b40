"""From what a call of a neuron goes on: which history belongs to its state, or that a sequence begins."""

from typing import NamedTuple, NoReturn

from torch import Tensor, nn

from ..errors import SequenceError
from ..layers.state import DelayState
from ..toolkits.capabilities import streams
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode, Turns
from .beginnings import Attributes, Beginnings, begins_for_sure, held_by, is_beginning, is_learned
from .called import Calls
from .identity import has_graph, mark, mark_of
from .lineage import BEGIN, Conflict, Memories, Record, Start, found_start, was_written
from .link import Link
from .offer import Offer

_MAYBE = (True, True)  # where nobody knows which state the last call left


class Snapshot(NamedTuple):
    """All that a `Memory` remembers between two calls. What it was made with is no part of it."""

    last: Record | None = None  # of the neuron's last call
    left: tuple[Tensor, ...] = ()  # the state that the call left, detached
    given: Start | None = None  # the next call goes on from it, whatever the neuron's state
    offer: Offer | None = None
    passes: bool = False  # the neuron's state was passed to its last call
    call: int = 0  # of the model, in which the last call of the neuron was
    beginnings: Beginnings = Beginnings()
    names: tuple[str, ...] | None = None  # attributes with the neuron's state that its toolkit does not name
    within: bool = False  # in a block of `new_sequence`
    carried: bool = False  # somebody else says where a sequence begins, and sets the state
    state: DelayState | None = None  # of the delay while it is carried
    attributes: Attributes | None = None  # of the neuron before its first call
    empty: Memories | None = None  # the state before a call for which the layer delivered nothing
    length: int = 0  # of the present sequence, in steps
    single: int = 0  # sequences in a row that had one step
    held: int = 0  # tensors of the state that the last call left on the neuron, where its toolkit does not name them
    missed: int = 0  # times in a row that the layer ran and the neuron did not


class Resolver:
    """Knows from what a call of a neuron goes on, or raises.

    Attributes:
        neuron: which the layer feeds.
        toolkit: knows the neuron.
        turns: how the calls of layer and neuron follow each other.
        link: finds the memory from the neuron; marks of states are by it.
        knows_its_neuron: False for a copy until its neuron has been called.
        is_replica: of `DataParallel`, which has not seen the calls before this one.
    """

    is_replica = False

    def __init__(self, neuron: nn.Module, toolkit: Toolkit, turns: Turns = Turns.TOGETHER) -> None:
        self.neuron, self.toolkit, self.turns = neuron, toolkit, turns
        self.link = Link(toolkit, turns)
        self.knows_its_neuron = True
        self._now = Snapshot()
        self._seen: list[tuple[Tensor, int]] | None = None  # by the present call of the layer

    @property
    def state(self) -> DelayState | None:
        """Of the delay, from which the next call goes on if nothing else is said; None if nothing is under way."""
        now = self._now
        if now.carried:
            return now.state
        if now.given is not None:
            return now.given.state()
        return None if now.last is None else now.last.state

    @property
    def batch(self) -> int | None:
        """The number of samples that the last call left, if the next goes on from it; else None."""
        sizes = [tensor.shape[0] for tensor in self._now.left if tensor.dim() and self._now.given is None]
        return sizes[0] if sizes else None

    @property
    def calls(self) -> Calls:
        """The calls of the model that are under way."""
        return self.link.calls

    @property
    def state_names(self) -> tuple[str, ...]:
        """Attributes of the neuron with a state that its toolkit does not name."""
        return self._now.names or ()

    def go_on_from(self, state: DelayState | None) -> None:
        """The next call goes on from this state, whatever that of the neuron is; with None it begins a sequence."""
        start = BEGIN if state is None else Start(Record(state, had_graph=state.past().requires_grad))
        self._now = self._now._replace(given=start, offer=None)

    def mode(self) -> Mode:
        """Whether a call of the layer is one step or a whole sequence."""
        if self.turns is Turns.SEQUENCE_THEN_STEPS:
            return Mode.SEQUENCE
        return Mode.STEP if self.turns is Turns.STEPS_THEN_SEQUENCE else Mode(self.toolkit.mode(self.neuron))

    def call_serial(self) -> int:
        call = self.calls.current
        return 0 if call is None else call.serial

    def _state(self, passed: tuple[Tensor, ...] | None) -> tuple[object, ...]:
        """The state that a call of the neuron goes on from: passed to it, or what it holds."""
        return held_by(self.toolkit, self.neuron, self.state_names) if passed is None else passed

    def _start_of(self, passed: tuple[Tensor, ...] | None, x: Tensor | None = None) -> Start:
        """From what a call of the neuron with this state goes on.

        Args:
            passed: the state that the call is passed; None if the neuron goes on from what it holds.
            x: the input of the neuron, where it is known already.

        Raises:
            SequenceError: it is neither a beginning nor a state that the neuron left.
        """
        now = self._now
        state = self._state(passed)
        tensors = not_empty(state)
        if now.given is not None:
            is_cut = now.given.record is not None and now.given.record.had_graph and tensors and not has_graph(tensors)
            return now.given._replace(cut=True) if is_cut else now.given
        if now.within:
            return BEGIN if now.last is None else Start(now.last)
        if not self.toolkit.shows_state(self.neuron):
            self._refuse_unclear(passed, tensors)
        if not tensors:
            unseen = now.last is not None and not now.left and passed is None and self.mode() is Mode.STEP
            if unseen and now.last is not None and now.last.state is not None:
                self._unknown("does not show its state")
            return BEGIN
        if x is not None and self._is_made_again(tensors, x):
            return BEGIN
        start = self._found(tensors)
        if start is not None and start.record is not None:
            if start.record.in_middle:
                self._unknown("got a state from the middle of what its delayed input had delivered at once")
            cuts = start.record.had_graph and streams(self.toolkit).cuts_graph(self.neuron)
            return start._replace(cut=True) if cuts else start
        if start is None:
            missed = x is None and now.offer is not None
            if not self._begins(tensors, in_call=passed is not None, missed=missed):
                self._unknown("got a state that it did not leave, or that was written to since")
            self._note([t for t in tensors if not is_learned(t)], None)
        self._now = self._now._replace(beginnings=Beginnings.of(tensors))
        return BEGIN

    def _refuse_unclear(self, passed: tuple[Tensor, ...] | None, tensors: list[Tensor]) -> None:
        """Raise where it is not known whether a neuron goes on from the attributes that its calls change.

        Args:
            passed: the state that the call is passed; None if the neuron takes none.
            tensors: of the state that the call goes on from.
        """
        names = self.state_names
        if not names or (passed is not None and tensors):
            return
        held = tensors if passed is None else not_empty(held_by(self.toolkit, self.neuron, names))
        marks = [(tensor, mark_of(tensor, self.link)) for tensor in held]
        left = [tensor for tensor, marked in marks if marked is not None and marked.note is not None]
        if not left:
            return
        shown = ", ".join(names)
        if passed is not None:
            self._unknown(f"was called without a state, and its last call has left {shown} on it")
        if self.mode() is Mode.SEQUENCE:
            self._unknown(f"takes a whole sequence, and its last call has left {shown} on it")
        if len(left) < len(held) or len(held) < self._now.held:
            self._unknown(f"holds a part of what its last call has left ({shown}), and the rest was replaced")

    def _found(self, tensors: list[Tensor]) -> Start | None:
        try:
            return found_start(tensors, self.link)
        except Conflict as reason:
            self._unknown(f"got a state that cannot be followed: {reason}")

    def _is_made_again(self, tensors: list[Tensor], x: Tensor) -> bool:
        """Whether the neuron will not use a state, and makes another one, since it is not of the batch of the input."""
        batch = x.shape[1:] if self.toolkit.mode(self.neuron) == Mode.SEQUENCE else x.shape
        sizes = {tensor.shape[0] for tensor in tensors if tensor.dim()}
        if not batch or sizes <= {batch[0]}:
            return False
        # No neuron can use the state of another batch; a state of one sample may stand for all.
        return 1 not in sizes or self.toolkit.is_fresh(self.neuron, tuple(tensors), x) is True

    def _begins(self, tensors: list[Tensor], *, in_call: bool, missed: bool) -> bool:
        """Whether a sequence begins with a state that the neuron did not leave.

        Args:
            tensors: the state.
            in_call: it was passed to the neuron, so that the call of the model tells whether it was made inside.
            missed: the neuron was not called for what the layer delivered last.
        """
        now = self._now
        is_first_ever = now.last is None and not missed and not self.is_replica
        if is_first_ever or all(map(is_learned, tensors)):
            return True
        if was_written(tensors, self.link):
            return False
        call = self.calls.current
        is_first = call is not None and call.serial != now.call and in_call
        if is_first and call is not None and call.made_inside(tensors, self.link):
            return True
        answers = is_beginning(self.toolkit, self.neuron, tensors, now.beginnings)
        if all(answer is False for answer in answers):
            return False
        left = is_beginning(self.toolkit, self.neuron, list(now.left), now.beginnings) if now.left else _MAYBE
        return begins_for_sure(answers, left, now.last)

    def _unknown(self, what: str) -> NoReturn:
        self._now = self._now._replace(offer=None)
        raise SequenceError(
            f"{type(self.neuron).__name__} {what}: which inputs that are under way in its delays belong to it is not "
            "known. Say so before the call: delayplug.reset_delays(model) if a sequence begins; "
            "delayplug.select_delays(model, index) if the batch of the last call was cut, grown or permuted; "
            "delayplug.set_delay_state(model, state) with the delay_state(model) of the time from which it goes on; or "
            "run a whole sequence within `with delayplug.new_sequence(model):`, whatever happens to the states in it"
        )

    def _note(self, tensors: list[Tensor], record: Record | None) -> None:
        for tensor in tensors:
            mark(tensor, self.link, record)

    def _note_again(self, tensors: list[Tensor]) -> None:
        """A call has taken these tensors as they are now: what was written to them before it counts no more."""
        for tensor in tensors:
            marked = mark_of(tensor, self.link)
            if marked is not None:
                mark(tensor, self.link, marked.note)

    def _fail(self, what: str) -> NoReturn:
        self._now = self._now._replace(offer=None)
        raise SequenceError(
            f"{type(self.neuron).__name__} {what}. A delayed layer and its neuron must be called alternately, as "
            "modules. To call one of them by itself, as in a notebook, call delayplug.reset_delays(model) before each "
            "such call, and before the model's next one; so also after a call that failed. Else pass example= to "
            "add_delays, which then sees how they are called, or leave this layer out with filter_fn. A copy of a "
            "layer that was put into another model knows no neuron there: add delays to that model"
        )


def not_empty(state: tuple[object, ...]) -> list[Tensor]:
    """The tensors of a state that have values, each once."""
    tensors = {id(value): value for value in state if isinstance(value, Tensor) and value.numel()}
    return list(tensors.values())
