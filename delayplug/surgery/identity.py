"""What is known of a tensor: marks on its memory, which its views and detached copies share, and its version.

A neuron's state is handed on as the very tensor, detached, or as a slice of its batch: all of these share one memory,
on which a mark is found again. The mark lives as long as the memory does. Nothing here reads values, so that no device
is waited for.
"""

from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

from torch import Tensor

_MARKS = "_delayplug_marks"


# Where a tensor lies in its memory: shape, stride, offset.
Place = tuple[tuple[int, ...], tuple[int, ...], int]


class Mark(NamedTuple):
    """What was noted on the memory of a tensor.

    note: what is known of it.
    version: of the tensor at that time.
    places: where the tensor lies in its memory; several if tensors with one memory have the same note.
    copies: of the tensors, where versions are not counted: in inference mode.
    """

    note: Any
    version: int
    places: tuple[Place, ...]
    copies: tuple[Tensor, ...] = ()


def memory_of(tensor: Tensor) -> object:
    """The memory of a tensor, as an object to compare by identity; of a tensor without one, the tensor itself."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # within torch.func and vmap, and of sparse tensors
        return tensor


def mark(tensor: Tensor, key: Hashable, note: Any) -> None:
    """Leave a note on the memory of a tensor, in place of another one of the same key."""
    attributes = memory_of(tensor).__dict__
    marks = attributes.get(_MARKS)
    if marks is None:
        marks = attributes[_MARKS] = {}
    before = marks.get(key)
    others, copies = (before.places, before.copies) if before is not None and before.note is note else ((), ())
    if tensor.is_inference():
        copies = (*copies, tensor.clone())
    marks[key] = Mark(note, version_of(tensor), (*others, _place(tensor)), copies)


def mark_of(tensor: Tensor, key: Hashable) -> Mark | None:
    """What was noted on the memory of a tensor."""
    marks = memory_of(tensor).__dict__.get(_MARKS)
    return None if marks is None else marks.get(key)


def unchanged(tensor: Tensor, marked: Mark) -> bool | Tensor:
    """Whether nothing was written to the tensor since it was marked.

    `tensor.data` counts its own versions, from 0 on; what is written through it cannot be seen. In inference mode
    nothing is counted, and the values tell: on a device as a tensor of one bool, which nobody has waited for.
    """
    if marked.copies:
        parts = zip((_samples(_place(tensor), place) for place in marked.places), marked.copies, strict=True)
        found = next(((samples, copy) for samples, copy in parts if samples is not None), None)
        if found is None:
            return True  # it is no part of what was marked, which is found out elsewhere
        samples, copy = found
        same = (tensor == (copy[samples] if copy.dim() else copy)).all()
        return bool(same) if same.device.type == "cpu" else same
    version = version_of(tensor)
    return version == marked.version or version == 0


def is_as_marked(tensor: Tensor, marked: Mark) -> bool:
    """Whether a tensor lies where it was marked, and nothing was written to it since; False if that takes more."""
    return not marked.copies and version_of(tensor) == marked.version and marked.places == (_place(tensor),)


def samples_of(tensor: Tensor, marked: Mark) -> slice | None:
    """Which samples, of the first dimension, of a marked tensor a tensor in its memory is; None if it is no such part.

    All of them are `slice(None)`.
    """
    place = _place(tensor)
    found = (_samples(place, other) for other in sorted(marked.places, key=lambda other: other != place))
    return next((samples for samples in found if samples is not None), None)


def _samples(place: Place, marked: Place) -> slice | None:
    (shape, stride, offset), (all_shape, all_stride, start) = place, marked
    if shape == all_shape and offset == start and _same_stride(shape, stride, all_stride):
        return slice(None)
    if len(shape) != len(all_shape) or not shape or shape[1:] != all_shape[1:]:
        return None
    if not _same_stride(shape[1:], stride[1:], all_stride[1:]):
        return None
    count, unit = shape[0], all_stride[0]
    if count == 0:
        return slice(0, 0)
    if unit == 0:
        return None  # all samples are one: any of them could be meant
    first, rest = divmod(offset - start, unit)
    step, over = (1, 0) if count == 1 else divmod(stride[0], unit)
    stop = first + (count - 1) * step + 1
    if rest or over or first < 0 or step < 1 or stop > all_shape[0]:
        return None
    return slice(first, stop, step)


def version_of(value: object) -> int:
    """How often a tensor was written to in place; 0 where that is not counted."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def has_graph(values: Iterable[object]) -> bool:
    """Whether one of the values is a tensor that was computed with gradients."""
    return any(isinstance(value, Tensor) and value.grad_fn is not None for value in values)


def _place(tensor: Tensor) -> Place:
    return tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())


def _same_stride(shape: tuple[int, ...], one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(a == b or size < 2 for size, a, b in zip(shape, one, other, strict=True))
