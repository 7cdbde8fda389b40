"""When does a sequence begin? What a delayed layer keeps between two calls, and how it learns that it is void.

Toolkits reset neurons, not delays, and most of them tell nobody. So a delay watches the neuron that it feeds (its
`Memory` has hooks there) and the call of the model (`ModelWatch`): where the neuron starts afresh, so does the delay;
where a state is carried on, what is under way in the delay is carried on with it.
"""

import warnings
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ..errors import SequenceError
from ..layers.base import DelayState
from ..neurons.loops import eager
from ..toolkits.capabilities import streams
from ..toolkits.states import tensors_in
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode, Turns


class Memory:
    """What a delayed layer keeps between calls, and its watch over the neuron that tells when a sequence begins.

    A sequence begins when

    - the neuron's own state is no longer the object that its last call left (it was reset), or
    - for a neuron whose caller keeps the state: the model is called without the state that the neuron returned last, or
    - the shape of the batch changes, or
    - `forget` is called.

    A neuron whose state was cut off from the graph has its delay cut off too. Layer and neuron must take turns: as many
    steps as the layer has given, in one call or in several, the neuron takes before the layer runs again.
    """

    carried = False  # somebody else says where a sequence begins, and sets the state: nothing is to be found out

    def __init__(self, neuron: nn.Module, toolkit: Toolkit, turns: Turns = Turns.TOGETHER) -> None:
        self.neuron, self.toolkit, self.turns = neuron, toolkit, turns
        self.state: DelayState | None = None
        self.fold: int | None = None  # steps in the present call of the container that folds time into the batch
        self._held: tuple[object, ...] | None = None  # what the neuron's last call left on it
        self._versions: tuple[int, ...] = ()  # of these
        self._dropped = False  # the model was called without the state that the neuron returned last
        self._caller_keeps_state = False  # in that call
        self._returned: tuple[Tensor, ...] = ()  # state of the last call, detached: it shares storage with the caller's
        self._had_graph = False
        self._continues = False
        self._length = 0  # of the present sequence, in calls
        self._single = 0  # sequences in a row that had one step
        self._missed = 0  # calls of the model in a row in which the layer ran and the neuron did not
        self._given = 0  # steps that the layer has given and the neuron not yet taken
        self._is_fed = False  # this call of the neuron takes what the layer gave

    def mode(self) -> Mode:
        """Whether a call of the layer is one step or a whole sequence."""
        if self.turns is Turns.SEQUENCE_THEN_STEPS:
            return Mode.SEQUENCE
        return Mode.STEP if self.turns is Turns.STEPS_THEN_SEQUENCE else Mode(self.toolkit.mode(self.neuron))

    def read(self, shape: torch.Size, steps: int | None) -> DelayState | None:
        """The state to go on from, None at the beginning of a sequence.

        Args:
            shape: of one step of what is delayed.
            steps: how many this call has; None if it is a single one.
        """
        if self.carried:
            return self.state
        if self.state is not None and self.state.history.shape[1:] != shape:
            self.state = None
        if self._given and self.turns is Turns.STEPS_THEN_SEQUENCE:
            self._given += 1
            return self.state
        never_ran = self._held is None  # since the sequence began
        if not never_ran:
            held = self.toolkit.held_state(self.neuron)
            if not self._goes_on():
                self.state = None
            elif streams(self.toolkit).cuts_graph(self.neuron) or (self._had_graph and held and not _has_graph(held)):
                self.detach()
        if self._given and (never_ran or self.state is not None):
            self._fail("was not called between two calls of its delayed input")
        self._continues = self.state is not None
        self._count(single=steps is None and self.turns is Turns.TOGETHER)
        self._given = 1 if steps is None else steps
        return self.state

    def _count(self, single: bool) -> None:
        """Warn where every step is a sequence of its own: then no delay ever delivers anything."""
        if self._continues:
            self._length += 1
            return
        self._single = self._single + 1 if self._length == 1 and single else 0
        self._length = 1
        if self._single == 3:
            warnings.warn(
                f"every call of {type(self.neuron).__name__} seems to begin a new sequence, so that what is delayed "
                "never arrives. Carry its state from step to step, as the very tensors that it returned (or tuples, "
                "lists, dicts or dataclasses of them)",
                stacklevel=2,
            )

    def forget(self) -> None:
        """The next call begins a sequence."""
        self.state, self._held, self._returned = None, None, ()
        self._given, self._dropped = 0, False

    def detach(self) -> None:
        """Cut what is under way off from the graph."""
        if self.state is not None:
            self.state = self.state.detach()
        self._had_graph = False

    def model_begins(self) -> None:
        """The model is called: whatever was on its way in the last call, which an error may have ended, is gone."""
        if self._given and not self.carried:
            self._missed += 1
            if self._missed > 1:
                self._fail("was not called after its delayed input")
            self.forget()

    def model_called(self, tensors: list[Tensor]) -> None:
        """The model is called, and `tensors` are all that its caller can have kept a state in."""
        if self.state is None or not self._caller_keeps_state:
            return
        carried = [tensor for tensor in tensors if self._is_mine(tensor)]
        if not carried:
            self.forget()
            self._dropped = True
        elif self._had_graph and not _has_graph(carried):
            self.detach()

    @eager
    def see_fold(self, container: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the module whose input still has the time, which it will fold into the batch."""
        inputs = tensors_in((args, kwargs))
        self.fold = inputs[0].shape[0] if inputs else None

    @eager
    def before_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the neuron: does it agree that this is not the first step?"""
        if self.carried:
            return
        passed = self.toolkit.passed_state(neuron, args, kwargs)
        goes_on = passed is None or any(self._is_mine(tensor) for tensor in passed)
        self._is_fed, self._missed = self._given > 0, 0
        if not self._is_fed:  # another layer's call, or one that this layer has no part in
            if passed is None and not self._goes_on():
                self.state = None  # a reset that the layer itself will come too late to see
            elif goes_on and self.state is not None and self._is_held():
                self._fail("was called twice for one call of its delayed input")
            return
        self._take(args, kwargs)
        self._caller_keeps_state = passed is not None
        if self._dropped and passed and any(bool(tensor.any()) for tensor in passed):
            warnings.warn(
                f"{type(neuron).__name__} was given a state that it did not return, so its delayed input starts with "
                "nothing under way. To carry a state, pass on the very tensors (detaching them is fine)",
                stacklevel=2,
            )
        self._dropped = False
        continues, self._continues = self._continues, True  # further steps of what the layer gave go on in any case
        if continues and passed is None and not self._is_held():
            self.forget()
            raise SequenceError(
                f"{type(neuron).__name__} was reset after its delayed input had run for this step: reset it before"
            )
        if passed is None or not continues or goes_on:
            return
        if _has_graph(passed) or (passed and not any(bool(tensor.any()) for tensor in self._returned)):
            return  # an edited state, of which zeros can be one
        if not any(bool(tensor.any()) for tensor in passed):  # none, or zeros, is a new one
            self.forget()
            raise SequenceError(
                f"{type(neuron).__name__} was given a new state in the middle of what its delayed input takes for one "
                "sequence. Call delayplug.reset_delays(model) before each sequence, or run the whole sequence in one "
                "call model(...), not model.forward(...), of the module that was given to add_delays. (States kept on "
                "the model, such as recordings, look like states carried on.)"
            )

    def _take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The neuron takes what it was given."""
        inputs = tensors_in((args[:1], kwargs))
        sequence = self.toolkit.mode(self.neuron) == Mode.SEQUENCE and inputs
        taken, given = inputs[0].shape[0] if sequence else 1, self._given
        # The rest of a sequence that the neuron takes step by step is taken by its next calls.
        self._given = given - taken if self.turns is Turns.SEQUENCE_THEN_STEPS else 0
        if taken > given or (taken < given and self.turns is not Turns.SEQUENCE_THEN_STEPS):
            self._fail(f"takes {taken} steps where its delayed input was given {given}")

    @eager
    def after_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Forward hook of the neuron: remember the state it is left in."""
        if self.carried:
            return
        self._held = self.toolkit.held_state(neuron)
        self._versions = tuple(map(_version, self._held))
        if not self._is_fed:
            return
        returned = self.toolkit.returned_state(neuron, output)
        self._had_graph = _has_graph((*self._held, *returned))
        self._returned = tuple(tensor.detach() for tensor in returned)

    def _goes_on(self) -> bool:
        """Whether the neuron holds what its last call left, and that was not set to zero."""
        return self._is_held() and not _zeroed(self.toolkit.held_state(self.neuron), self._versions)

    def _is_held(self) -> bool:
        """Whether the neuron still holds the very state that its last call left."""
        held = self.toolkit.held_state(self.neuron)
        if self._held is None or len(held) != len(self._held):
            return False
        return all(map(_unchanged, held, self._held, self._versions))

    def _is_mine(self, tensor: Tensor) -> bool:
        """Whether the tensor is a state that the neuron returned last, or a copy of one."""
        return any(_same(tensor, returned) for returned in self._returned)

    def _fail(self, what: str) -> NoReturn:
        self.forget()
        raise SequenceError(
            f"{type(self.neuron).__name__} {what}. A delayed layer and its neuron must take turns: pass example= to "
            "add_delays, which then sees how they do, or leave this layer out with filter_fn"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "probe" in state:  # saved by delayplug 0.1
            state = {**state, "toolkit": state["probe"], "turns": Turns(state["turns"])}
            del state["probe"]
        self.__dict__.update(state)

    def __getstate__(self) -> dict[str, Any]:
        # A tensor with a graph cannot be copied; whoever copies a model between two steps wants its values.
        return {**self.__dict__, "state": None if self.state is None else self.state.detach()}


class InnerMemory(Memory):
    """The memory of a layer that its own neuron calls, or of a neuron's own input.

    There the neuron is called first, with all that tells whether it goes on. If it calls its layer several times for
    one step, as snnTorch's reset to zero does, all these calls see the same.
    """

    def __init__(self, neuron: nn.Module, toolkit: Toolkit) -> None:
        super().__init__(neuron, toolkit, Turns.INSIDE)
        self._start: DelayState | None = None  # what this call of the neuron goes on from

    def read(self, shape: torch.Size, steps: int | None) -> DelayState | None:
        if self._start is not None and self._start.history.shape[1:] != shape:
            self._start = None
        return self._start

    def forget(self) -> None:
        super().forget()
        self._start = None

    def model_begins(self) -> None:
        """Nothing is ever on its way between a layer and a neuron that calls it."""

    def model_called(self, tensors: list[Tensor]) -> None:
        """The call of the neuron tells more."""

    @eager
    def before_neuron(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._is_fed = True
        if self.state is None or self.carried:
            self._start = self.state
            return
        passed = self.toolkit.passed_state(neuron, args, kwargs)
        if passed is None:
            passed = tuple(state for state in self.toolkit.held_state(neuron) if isinstance(state, Tensor))
            goes_on = self._goes_on()
        else:
            goes_on = any(self._is_mine(tensor) for tensor in passed) or _has_graph(passed)
            if not goes_on and any(bool(tensor.any()) for tensor in passed):
                warnings.warn(
                    f"{type(neuron).__name__} was given a state that it did not return, so its delays start with "
                    "nothing under way. To carry a state, pass on the very tensors (detaching them is fine)",
                    stacklevel=2,
                )
        if goes_on and (
            streams(self.toolkit).cuts_graph(neuron) or (self._had_graph and passed and not _has_graph(passed))
        ):
            self.detach()
        self._start = self.state if goes_on else None


class ModelWatch:
    """Forward pre-hook of the whole model: shows the memories what its caller passes."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []
        self.plans: list[Any] = []  # by which the delays were made: for `describe_delays`

    @eager
    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for memory in self.memories:
            memory.model_begins()
        waiting = [memory for memory in self.memories if memory.state is not None and not memory.carried]
        if waiting:
            # A state may also be kept on a module of the user's own, as an attribute or a buffer.
            neurons = {id(memory.neuron) for memory in self.memories}
            kept = [_attributes(m, len(neurons)) for m in model.modules() if id(m) not in neurons]
            tensors = tensors_in((args, kwargs, kept), objects=True)
            for memory in waiting:
                memory.model_called(tensors)


# What every module has, and what a delayed layer adds: no place for a state of the user's.
_NOT_A_STATE = frozenset((*nn.Module().__dict__, "delay_memory", "delay_place", "delay_handles"))


def _attributes(module: nn.Module, neurons: int) -> list[Any]:
    """What a module of the user's keeps that can be the states of so many neurons; a longer list is a recording."""
    own = [value for name, value in module.__dict__.items() if name not in _NOT_A_STATE]
    own = [value for value in own if not isinstance(value, list) or len(value) <= neurons]
    return [*own, *module._buffers.values()]


def _has_graph(values: Any) -> bool:
    return any(isinstance(value, Tensor) and value.grad_fn is not None for value in values)


def _version(value: object) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def _unchanged(now: object, then: object, version: int) -> bool:
    """Whether a state is the one of then, be it cut off from the graph (`v = v.detach()` shares memory and version)."""
    if now is then or not (isinstance(now, Tensor) and isinstance(then, Tensor)):
        return now is then
    return now.shape == then.shape and _storage(now) == _storage(then) and now.numel() > 0 and _version(now) == version


def _zeroed(held: tuple[object, ...], versions: tuple[int, ...]) -> bool:
    """Whether a state was reset in place since its versions were taken."""
    changed = [h for h, v in zip(held, versions, strict=True) if isinstance(h, Tensor) and _version(h) != v]
    return bool(changed) and not any(bool(tensor.any()) for tensor in changed)


def _same(tensor: Tensor, returned: Tensor) -> bool:
    """Whether they share memory, or are equal and not just zeros, with which every state begins."""
    if _storage(tensor) == _storage(returned) and tensor.numel():
        return True
    if tensor.shape != returned.shape or tensor.dtype != returned.dtype or tensor.device != returned.device:
        return False
    return bool(torch.equal(tensor, returned)) and bool(tensor.any())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
