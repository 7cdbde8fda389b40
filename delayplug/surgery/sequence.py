"""When does a sequence begin? What a delayed layer remembers between two calls, and when it starts afresh.

Toolkits reset neurons, not delays, and most of them tell nobody. So a delay watches the neuron that it feeds (its
`Memory` has hooks there) and the call of the model (`ModelWatch`): where the neuron starts afresh, so does the delay;
where a state is carried on, the inputs under way in the delay are carried on with it.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from ..errors import SequenceError
from ..layers.state import DelayState
from ..neurons.loops import eager
from ..toolkits.capabilities import streams
from ..toolkits.states import tensors_in
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode, Turns
from .identity import any_nonzero, has_graph, is_copy, is_same_state, version_of, was_zeroed


class Snapshot(NamedTuple):
    """All that a `Memory` remembers between two calls. What it was made with is no part of it."""

    state: DelayState | None = None  # of the delay; None at the beginning of a sequence
    start: DelayState | None = None  # from which the present call of the neuron goes on, for a delay inside of it
    folded: int | None = None  # steps in the present call of the module that folds the time into the batch
    carried: bool = False  # somebody else says where a sequence begins, and sets the state
    held: tuple[object, ...] | None = None  # what the neuron's last call in this sequence left on it
    versions: tuple[int, ...] = ()  # of the tensors in `held`
    returned: tuple[Tensor, ...] = ()  # the state of that call, detached: it shares storage with the caller's
    had_graph: bool = False  # the state that it left or returned had a graph
    passed: bool = False  # its caller passed it a state
    dropped: bool = False  # the model was called without the state that the neuron returned last
    continues: bool = False  # the next call of the neuron takes steps that go on from earlier ones
    pending: int = 0  # steps that the layer has delivered and the neuron has not taken yet
    is_fed: bool = False  # the present call of the neuron takes what the layer delivered
    length: int = 0  # of the present sequence, in calls of the layer
    single: int = 0  # sequences in a row that had one step
    missed: int = 0  # calls of the model in a row in which the layer ran and the neuron did not


class Memory:
    """What a delayed layer remembers between calls, and its watch over the neuron that tells when a sequence begins.

    A sequence begins when

    - the neuron's own state is no longer the object that its last call left (it was reset), or
    - for a neuron whose caller keeps the state: the model is called without the state that the neuron returned last, or
    - the shape of the batch changes, or
    - `forget` is called.

    A neuron whose state was cut off from the graph has its delay cut off too. Layer and neuron must be called
    alternately: as many steps as the layer has delivered, in one call or in several, the neuron takes before the layer
    runs again.

    Attributes:
        neuron: which the layer feeds.
        toolkit: knows the neuron.
        turns: how the calls of layer and neuron follow each other.
    """

    def __init__(self, neuron: nn.Module, toolkit: Toolkit, turns: Turns = Turns.TOGETHER) -> None:
        self.neuron, self.toolkit, self.turns = neuron, toolkit, turns
        self._now = Snapshot()

    # ------------------------------------------------------------------------------------------ seen from outside

    def snapshot(self) -> Snapshot:
        """All that is remembered now, for `restore`; it does not change with later calls."""
        return self._now

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from what `snapshot` returned."""
        self._now = snapshot

    @property
    def state(self) -> DelayState | None:
        """Of the delay after the last call; None at the beginning of a sequence."""
        return self._now.state

    @property
    def carried(self) -> bool:
        """Whether somebody else carries the state, see `carry`."""
        return self._now.carried

    @property
    def folded_steps(self) -> int:
        """How many steps the present call has, where the time is folded into the batch."""
        return self._now.folded or 1

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

    def mode(self) -> Mode:
        """Whether a call of the layer is one step or a whole sequence."""
        if self.turns is Turns.SEQUENCE_THEN_STEPS:
            return Mode.SEQUENCE
        return Mode.STEP if self.turns is Turns.STEPS_THEN_SEQUENCE else Mode(self.toolkit.mode(self.neuron))

    def forget(self) -> None:
        """The next call begins a sequence."""
        self._now = self._now._replace(state=None, start=None, held=None, returned=(), pending=0, dropped=False)

    def detach(self) -> None:
        """Cut the inputs that have not arrived yet off from the graph."""
        state = self.state
        self._now = self._now._replace(state=None if state is None else state.detach(), had_graph=False)

    # ------------------------------------------------------------------------------------- the layer and the model

    def read(self, shape: torch.Size, steps: int | None) -> DelayState | None:
        """The state to go on from, None at the beginning of a sequence.

        Args:
            shape: of one step of what is delayed.
            steps: how many this call has; None if it is a single one.
        """
        if self.carried:
            return self.state
        if self.state is not None and self.state.history.shape[1:] != shape:
            self.write(None)
        if self._now.pending and self.turns is Turns.STEPS_THEN_SEQUENCE:
            self._now = self._now._replace(pending=self._now.pending + 1)
            return self.state
        never_ran = self._now.held is None  # since the sequence began
        if not never_ran:
            held = self.toolkit.held_state(self.neuron)
            if not self._goes_on():
                self.write(None)
            elif self._was_detached(held):
                self.detach()
        if self._now.pending and (never_ran or self.state is not None):
            self._fail("was not called between two calls of its delayed input")
        self._count(single=steps is None and self.turns is Turns.TOGETHER)
        self._now = self._now._replace(continues=self.state is not None, pending=1 if steps is None else steps)
        return self.state

    def write(self, state: DelayState | None) -> None:
        """Remember the state after a call of the layer."""
        self._now = self._now._replace(state=state)

    def _count(self, single: bool) -> None:
        """Warn where every step is a sequence of its own: then no delay ever delivers anything."""
        now = self._now
        if now.state is not None:
            self._now = now._replace(length=now.length + 1)
            return
        self._now = now._replace(single=now.single + 1 if now.length == 1 and single else 0, length=1)
        if self._now.single == 3:
            warnings.warn(
                f"every call of {type(self.neuron).__name__} seems to begin a new sequence, so that what is delayed "
                "never arrives. Carry its state from step to step, as the very tensors that it returned (or tuples, "
                "lists, dicts or dataclasses of them)",
                stacklevel=2,
            )

    def model_begins(self) -> None:
        """The model is called: whatever was on its way in the last call, which an error may have ended, is gone."""
        if self._now.pending and not self.carried:
            self._now = self._now._replace(missed=self._now.missed + 1)
            if self._now.missed > 1:
                self._fail("was not called after its delayed input")
            self.forget()

    def model_called(self, tensors: list[Tensor]) -> None:
        """The model is called, and `tensors` are all that its caller can have carried a state in."""
        if self.state is None or not self._now.passed:
            return
        mine = [tensor for tensor in tensors if self._is_mine(tensor)]
        if not mine:
            self.forget()
            self._now = self._now._replace(dropped=True)
        elif self._now.had_graph and not has_graph(mine):
            self.detach()

    @eager
    def see_fold(self, container: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Forward pre-hook of the module whose input still has the time, which it will fold into the batch."""
        inputs = tensors_in((args, kwargs))
        self._now = self._now._replace(folded=inputs[0].shape[0] if inputs else None)

    # ---------------------------------------------------------------------------------------------- the neuron

    @eager
    def before_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the neuron: does it agree that this is not the first step?"""
        if self.carried:
            return
        passed = self.toolkit.passed_state(neuron, args, kwargs)
        goes_on = passed is None or any(self._is_mine(tensor) for tensor in passed)
        self._now = self._now._replace(is_fed=self._now.pending > 0, missed=0)
        if not self._now.is_fed:  # another layer's call, or one that this layer has no part in
            if passed is None and not self._goes_on():
                self.write(None)  # a reset that the layer itself will come too late to see
            elif goes_on and self.state is not None and self._is_held():
                self._fail("was called twice for one call of its delayed input")
            return
        self._take(args, kwargs)
        if self._now.dropped and passed and any_nonzero(passed):
            _warn_of_foreign_state(neuron, "delayed input starts")
        continues = self._now.continues
        # Further steps of what the layer delivered go on in any case.
        self._now = self._now._replace(passed=passed is not None, dropped=False, continues=True)
        if continues and passed is None and not self._is_held():
            self.forget()
            raise SequenceError(
                f"{type(neuron).__name__} was reset after its delayed input had run for this step: reset it before"
            )
        if passed is None or not continues or goes_on:
            return
        if has_graph(passed) or (passed and not any_nonzero(self._now.returned)):
            return  # an edited state, of which zeros can be one
        if not any_nonzero(passed):  # none, or zeros, is a new one
            self.forget()
            raise SequenceError(
                f"{type(neuron).__name__} got a new state in the middle of what its delayed input takes for one "
                "sequence. Call delayplug.reset_delays(model) before each sequence, or run the whole sequence in one "
                "call model(...), not model.forward(...), of the module that add_delays got. (States stored on "
                "the model, such as recordings, look like states carried on.)"
            )

    def _take(self, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """The neuron takes what the layer delivered."""
        inputs = tensors_in((args[:1], kwargs))
        sequence = self.toolkit.mode(self.neuron) == Mode.SEQUENCE and inputs
        taken, pending = inputs[0].shape[0] if sequence else 1, self._now.pending
        # The rest of a sequence that the neuron takes step by step is taken by its next calls.
        by_steps = self.turns is Turns.SEQUENCE_THEN_STEPS
        self._now = self._now._replace(pending=pending - taken if by_steps else 0)
        if taken > pending or (taken < pending and not by_steps):
            self._fail(f"takes {taken} steps where its delayed input got {pending}")

    @eager
    def after_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        """Forward hook of the neuron: remember the state it is left in."""
        if self.carried:
            return
        held = self.toolkit.held_state(neuron)
        self._now = self._now._replace(held=held, versions=tuple(map(version_of, held)))
        if not self._now.is_fed:
            return
        returned = self.toolkit.returned_state(neuron, output)
        self._now = self._now._replace(
            had_graph=has_graph((*held, *returned)), returned=tuple(tensor.detach() for tensor in returned)
        )

    def _goes_on(self) -> bool:
        """Whether the neuron holds what its last call left, and that was not set to zero."""
        return self._is_held() and not was_zeroed(self.toolkit.held_state(self.neuron), self._now.versions)

    def _is_held(self) -> bool:
        """Whether the neuron still holds the very state that its last call left."""
        now, then = self.toolkit.held_state(self.neuron), self._now.held
        if then is None or len(now) != len(then):
            return False
        return all(map(is_same_state, now, then, self._now.versions))

    def _was_detached(self, state: tuple[object, ...]) -> bool:
        """Whether the state from which the neuron goes on was cut off from the graph."""
        cut = self._now.had_graph and bool(state) and not has_graph(state)
        return cut or streams(self.toolkit).cuts_graph(self.neuron)

    def _is_mine(self, tensor: Tensor) -> bool:
        """Whether the tensor is a state that the neuron returned last, or a copy of one."""
        return any(is_copy(tensor, returned) for returned in self._now.returned)

    def _fail(self, what: str) -> NoReturn:
        self.forget()
        raise SequenceError(
            f"{type(self.neuron).__name__} {what}. A delayed layer and its neuron must be called alternately: pass "
            "example= to add_delays, which then sees how they are, or leave this layer out with filter_fn"
        )

    # ------------------------------------------------------------------------------------------ copies and files

    def __getstate__(self) -> dict[str, object]:
        # A tensor with a graph cannot be copied; whoever copies a model between two steps wants its values.
        made_with = {"neuron": self.neuron, "toolkit": self.toolkit, "turns": self.turns}
        states = {"state": self._now.state, "start": self._now.start}
        detached = {name: None if state is None else state.detach() for name, state in states.items()}
        return {**made_with, **self._now._asdict(), **detached}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Models saved by delayplug 0.1 have other names here.
        renamed = {"probe": "toolkit", "fold": "folded", "_given": "pending", "_caller_keeps_state": "passed"}
        state = {renamed.get(name, name.removeprefix("_")): value for name, value in state.items()}
        self.neuron, self.toolkit, self.turns = state["neuron"], state["toolkit"], Turns(state["turns"])
        self._now = Snapshot(**{name: state[name] for name in Snapshot._fields if name in state})


class InnerMemory(Memory):
    """The memory of a layer that its own neuron calls, or of a neuron's own input.

    There the neuron is called first, with all that tells whether it goes on. If it calls its layer several times for
    one step, as snnTorch's reset to zero does, all these calls see the same. No input ever waits between the two, and
    the call of the model tells nothing: `pending` and `passed` stay as they begin.
    """

    def __init__(self, neuron: nn.Module, toolkit: Toolkit) -> None:
        super().__init__(neuron, toolkit, Turns.INSIDE)

    def read(self, shape: torch.Size, steps: int | None) -> DelayState | None:
        if self._now.start is not None and self._now.start.history.shape[1:] != shape:
            self._now = self._now._replace(start=None)
        return self._now.start

    @eager
    def before_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._now = self._now._replace(is_fed=True)
        if self.state is None or self.carried:
            self._now = self._now._replace(start=self.state)
            return
        passed = self.toolkit.passed_state(neuron, args, kwargs)
        if passed is None:
            passed = tuple(state for state in self.toolkit.held_state(neuron) if isinstance(state, Tensor))
            goes_on = self._goes_on()
        else:
            goes_on = any(self._is_mine(tensor) for tensor in passed) or has_graph(passed)
            if not goes_on and any_nonzero(passed):
                _warn_of_foreign_state(neuron, "delays start")
        if goes_on and self._was_detached(passed):
            self.detach()
        self._now = self._now._replace(start=self.state if goes_on else None)


class ModelWatch:
    """Forward pre-hook of the whole model: shows the memories what the caller passes."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []
        self.plans: list[object] = []  # by which the delays were made: for `describe_delays`

    @eager
    def __call__(self, model: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        for memory in self.memories:
            memory.model_begins()
        waiting = [memory for memory in self.memories if memory.state is not None and not memory.carried]
        if waiting:
            # A state may also be on a module of the user's own, as an attribute or a buffer.
            neurons = {id(memory.neuron) for memory in self.memories}
            attributes = [_attributes(m, len(neurons)) for m in model.modules() if id(m) not in neurons]
            tensors = tensors_in((args, kwargs, attributes), objects=True)
            for memory in waiting:
                memory.model_called(tensors)


def watch_of(model: nn.Module) -> ModelWatch | None:
    """The hook through which a model's delays see how it is called, if it has delays."""
    hooks = model._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, ModelWatch)), None)


# What every module has, and what a delayed layer adds: no place for a state of the user's.
_NOT_A_STATE = frozenset((*nn.Module().__dict__, "delay_memory", "delay_place", "delay_handles"))


def _attributes(module: nn.Module, neurons: int) -> list[object]:
    """The attributes of a module of the user's that can be states of so many neurons; a longer list is a recording."""
    own = [value for name, value in module.__dict__.items() if name not in _NOT_A_STATE]
    own = [value for value in own if not isinstance(value, list) or len(value) <= neurons]
    return [*own, *module.buffers(recurse=False)]


def _warn_of_foreign_state(neuron: nn.Module, what_starts: str) -> None:
    warnings.warn(
        f"{type(neuron).__name__} got a state that it did not return, so its {what_starts} with nothing under "
        "way. To carry a state, pass on the very tensors (detaching them is fine)",
        stacklevel=3,
    )
