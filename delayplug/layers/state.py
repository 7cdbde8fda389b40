"""What a delay carries from step to step: its last inputs, and the kernel with what it was made from."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ArgumentError
from .autograd import is_transformed
from .checks import check_count
from .engines.events import Launch
from .sums import Ages, Sums

_INDICES = (torch.bool, torch.int64, torch.int32)


class DelayState(NamedTuple):
    """What a delay carries from one step to the next.

    history: (D, *input of one step), such as (D, *batch, I) or (D, B, C, *trailing): the last D inputs, oldest first.
    kernel: the taps in the form that `step`, its event-driven way or `chunk` uses, or None before the first of these.
        Part of the state so that a sequence builds them once.
    made_from: what kernel and pending were made from, compared at each step with what the layer has then; None for a
        pending that comes from a file and is taken as it is, and while torch.compile traces.
    pending: (K, *batch, O), what is known of the next outputs in event-driven steps (see `engines.events`), else None.
    tape: where history lies and the place behind it, so that it need not be copied; None where a gradient is wanted.
    sums: what the inputs have given so far, see `layers.sums`; None where nobody adds it up. While steps go on from it,
        history holds the values of the inputs and `past()` has their graphs, too.

    A copy or a pickle holds the history alone, for whatever layer it meets then: the next step makes the rest.
    """

    history: Tensor
    kernel: Tensor | Launch | Ages | None = None
    made_from: "Origin | None" = None
    pending: Tensor | None = None
    tape: "tuple[Tape, int] | None" = None
    sums: Sums | None = None

    def past(self) -> Tensor:
        """(D, *x), the last D inputs, oldest first, with their graphs if they have any."""
        sums = self.known_sums()
        return self.history if sums is None else sums.with_graphs(self.history)

    def known_sums(self) -> Sums | None:
        """The sums, None if they belong to another state."""
        return self.sums if self.sums is not None and self.sums.history is self.history else None

    def detach(self) -> "DelayState":
        """The same inputs, cut off from the graph; the next step makes the kernel again."""
        history, sums = self.history.detach(), self.known_sums()
        return DelayState(history, sums=None if sums is None else sums.cut(history))

    def select(self, index: slice | Tensor) -> "DelayState":
        """The state of some samples of the batch: cut, permuted or repeated. A slice copies nothing.

        Args:
            index: of the first dimension of the batch (B): a slice, whole numbers (n,), or a mask (B,) of bool. A mask
                on a GPU waits for it.

        Raises:
            ArgumentError: the index is something else, or the state is one of inputs without a batch.
        """
        self._check_batch()
        batch = self.history.shape[1]
        if isinstance(index, slice):
            if index.indices(batch) == (0, batch, 1):
                return self
        elif not isinstance(index, Tensor) or index.dim() != 1 or index.dtype not in _INDICES:
            got = f"{index.dtype} {tuple(index.shape)}" if isinstance(index, Tensor) else repr(index)
            raise ArgumentError("index", f"a slice, int64 (n,) or a mask of bool ({batch},)", got)
        elif index.dtype == torch.bool:
            if index.shape[0] != batch:
                raise ArgumentError("index", f"a mask of bool ({batch},)", tuple(index.shape))
            index = index.nonzero().squeeze(1)
        pending = None if self.pending is None else self.pending[:, index]
        return self._replace(history=self.past()[:, index], pending=pending, tape=None, sums=None)

    def extended(self, count: int) -> "DelayState":
        """The state of a batch with `count` more samples behind, for which nothing is under way.

        Raises:
            ArgumentError: the count is no integer >= 0, or the state is one of inputs without a batch.
        """
        check_count("count", count, 0)
        self._check_batch()
        if count == 0:
            return self
        history, pending = (None if part is None else _extended(part, count) for part in (self.past(), self.pending))
        assert history is not None
        return self._replace(history=history, pending=pending, tape=None, sums=None)

    def _check_batch(self) -> None:
        if self.history.dim() < 3:
            raise ArgumentError("state", "a history (D, B, ...) of a batch", tuple(self.history.shape))

    def __reduce__(self) -> tuple[type["DelayState"], tuple[Tensor]]:
        # The history can be a view into a tape, all of which would be copied. One with a graph torch refuses to copy.
        history = self.past()
        return DelayState, (history if history.requires_grad else history.clone(),)


def _extended(part: Tensor, count: int) -> Tensor:
    return torch.cat((part, part.new_zeros((part.shape[0], count, *part.shape[2:]))), 1)


class Origin:
    """What a kernel was made from: the tensors themselves, their versions, and flags such as the form and the mode.

    Tensors are compared by identity, and held for that: the id of a tensor that is gone can be that of a new one. A
    class without `__dict__` and not a tuple, so that whoever looks for the tensors of a state does not find these.
    """

    __slots__ = ("_key", "_sources")

    def __init__(self, sources: list[Tensor], flags: tuple[str | bool, ...]) -> None:
        self._sources, self._key = sources, _key(sources, flags)

    def detach(self) -> "Origin":
        """Itself: for users who detach a state field by field. A kernel without its graph is made again."""
        return self

    def is_current(self, sources: list[Tensor], flags: tuple[str | bool, ...]) -> bool:
        """Whether a kernel made now would be made from the same tensors with the same values."""
        return self._key == _key(sources, flags)


def _key(sources: list[Tensor], flags: tuple[str | bool, ...]) -> list[object]:
    # Tensors made under inference_mode do not count their versions; nor can anything change them in training.
    return [flags, *((id(source), 0 if source.is_inference() else source._version) for source in sources)]


class Built:
    """What was made from some delays and weights, and copies of these."""

    def __init__(self, delays: Tensor, weight: Tensor | None, max_delay: int, value: Any) -> None:
        self._delays, self._max_delay, self.value = delays.detach().clone(), max_delay, value
        self._weight = None if weight is None else weight.detach().clone()

    def fits(self, delays: Tensor, weight: Tensor | None, max_delay: int) -> bool:
        """Whether the same would be made from these, entry by entry; waits for the device."""
        # What was made in inference mode cannot be saved for a gradient outside of it.
        usable = torch.is_inference_mode_enabled() or not self._delays.is_inference()
        return usable and max_delay == self._max_delay and _same(delays, self._delays) and _same(weight, self._weight)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


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


def window_over(
    state: DelayState, x: Tensor, learns: bool, *, values: bool = False
) -> tuple[Tensor, tuple[Tape, int] | None]:
    """The last K inputs with x, (K, *x), oldest first, and the tape of the next state.

    On a tape nothing is copied. Where a gradient is wanted, of the kernel (`learns`) or of the inputs, the window is a
    copy and there is no tape: what is saved for a backward pass must not be written to. Nor is there one within
    transforms of torch.func, which cannot batch writing to memory from outside. With `values`, a gradient of the
    inputs is not wanted.
    """
    traced = torch.compiler.is_compiling() or is_transformed()
    history, x = state.history, x.detach() if values else x
    if not values and not traced and torch.is_grad_enabled():
        history = state.past()
    learns = learns or (torch.is_grad_enabled() and (x.requires_grad or history.requires_grad))
    if learns or traced:
        return torch.cat((history, x.unsqueeze(0))), None
    tape = state.tape[0] if state.tape is not None and state.tape[0].has_room(state.tape[1]) else None
    tape = Tape(history) if tape is None else tape
    return tape.write(x, history.shape[0] + 1), (tape, tape.written)


def check_state(state: DelayState, max_delay: int, shape: tuple[int, ...]) -> None:
    """Raise ArgumentError unless the state is one of steps of this shape."""
    if state.history.shape != (max_delay, *shape):
        raise ArgumentError(
            "state",
            f"a history of shape {(max_delay, *shape)}",
            tuple(state.history.shape),
            "Start a new sequence with initial_state(...) when the batch changes",
        )
