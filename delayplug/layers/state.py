"""What a delay carries from step to step: its last inputs, and the kernel with what it was made from."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ArgumentError


class DelayState(NamedTuple):
    """What a delay carries from one step to the next.

    history: (D, *input of one step), such as (D, *batch, I) or (D, B, C, *trailing): the last D inputs, oldest first.
    kernel: the taps in the form `step` uses, or None before the first step. Part of the state so that a sequence builds
        them once.
    made_from: what kernel and pending were made from, compared at each step with what the layer has then; None for a
        pending that comes from a file and is taken as it is, and while torch.compile traces.
    pending: (K, *batch, O), what is known of the next outputs in event-driven steps (see `engines.events`), else None.
    tape: where history lies and the place behind it, so that it need not be copied; None where a gradient is wanted.

    A copy or a pickle holds the history alone, for whatever layer it meets then: the next step makes the rest.
    """

    history: Tensor
    kernel: Tensor | None = None
    made_from: "Origin | None" = None
    pending: Tensor | None = None
    tape: "tuple[Tape, int] | None" = None

    def detach(self) -> "DelayState":
        """The same inputs, cut off from the graph; the next step makes the kernel again."""
        return DelayState(self.history.detach())

    def __reduce__(self) -> tuple[type["DelayState"], tuple[Tensor]]:
        # The history can be a view into a tape, all of which would be copied. One with a graph torch refuses to copy.
        return DelayState, (self.history if self.history.requires_grad else self.history.clone(),)


class Origin:
    """What a kernel was made from: the tensors themselves, their versions, and flags such as the mode.

    Tensors are compared by identity, and held for that: the id of a tensor that is gone can be that of a new one. A
    class without `__dict__` and not a tuple, so that whoever looks for the tensors of a state does not find these.
    """

    __slots__ = ("_key", "_sources")

    def __init__(self, sources: list[Tensor], flags: tuple[bool, ...]) -> None:
        self._sources, self._key = sources, _key(sources, flags)

    def is_current(self, sources: list[Tensor], flags: tuple[bool, ...]) -> bool:
        """Whether a kernel made now would be made from the same tensors with the same values."""
        return self._key == _key(sources, flags)


def _key(sources: list[Tensor], flags: tuple[bool, ...]) -> list[object]:
    # Tensors made under inference_mode do not count their versions; nor can anything change them in training.
    return [flags, *((id(source), 0 if source.is_inference() else source._version) for source in sources)]


class Tape:
    """Memory that inputs are written to one behind the other, so that a window over the last of them moves for free.

    A state is a place on a tape. What lies before it never changes; an input that comes next is written behind it. If
    another sequence has gone on from the same place, or the tape is full, a new one begins with what is still needed.
    """

    def __init__(self, history: Tensor) -> None:
        """A tape that holds these inputs (D, ...), with room for D + 1 more."""
        self.written = history.shape[0]  # how many inputs it holds: the place behind the last one
        self._data = history.new_empty((2 * self.written + 1, *history.shape[1:]))
        self._data[: self.written] = history

    def has_room(self, place: int) -> bool:
        """Whether the next input can be written here."""
        # What was made in inference mode can be written to only there.
        open_ = torch.is_inference_mode_enabled() or not self._data.is_inference()
        return open_ and place == self.written < self._data.shape[0]

    def write(self, x: Tensor, length: int) -> Tensor:
        """Add an input; returns the last `length` ones, (length, ...), without copying them."""
        self._data[self.written] = x
        self.written += 1
        return self._data[self.written - length : self.written]


def window_over(state: DelayState, x: Tensor, learns: bool) -> tuple[Tensor, tuple[Tape, int] | None]:
    """The last K inputs with x, (K, *x), oldest first, and the tape of the next state.

    On a tape nothing is copied. Where a gradient is wanted, of the kernel (`learns`) or of the inputs, the window is a
    copy and there is no tape: what is saved for a backward pass must not be written to.
    """
    learns = learns or (torch.is_grad_enabled() and (x.requires_grad or state.history.requires_grad))
    if learns or torch.compiler.is_compiling():
        return torch.cat((state.history, x.unsqueeze(0))), None
    tape = state.tape[0] if state.tape is not None and state.tape[0].has_room(state.tape[1]) else None
    tape = Tape(state.history) if tape is None else tape
    return tape.write(x, state.history.shape[0] + 1), (tape, tape.written)


def check_state(state: DelayState, max_delay: int, shape: tuple[int, ...]) -> None:
    """Raise ArgumentError unless the state is one of steps of this shape."""
    if state.history.shape != (max_delay, *shape):
        raise ArgumentError(
            "state",
            f"a history of shape {(max_delay, *shape)}",
            tuple(state.history.shape),
            "Start a new sequence with initial_state(...) when the batch changes",
        )
