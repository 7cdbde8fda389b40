"""Watching a model run: what each of its modules is given, down to the operations between them.

A graph of modules is true only if nothing happens between modules that it does not say. So every operation outside of
the modules that are followed is looked at: those that only rearrange, add or scale are kept track of, and whatever
else touches a value is remembered with its name, in case the value goes on into a module or out of the model.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import DelayplugError, ExchangeError
from ..surgery.dataflow import Example, drive, hooked, storage_of
from ..toolkits.states import tensors_in

INPUT = "input:"  # cannot be the name of a module
STATE = "state of "


@dataclass(frozen=True)
class Mark:
    """What a value is made of: the sum of these modules' results, each times its factor; or something else, in words.

    A state that a module gives besides its result has the name of the module behind STATE.
    """

    parts: Mapping[str, float]
    other: str = ""

    def times(self, factor: float) -> "Mark":
        return Mark({name: value * factor for name, value in self.parts.items()}, self.other)

    def plus(self, other: "Mark", factor: float = 1.0) -> "Mark":
        parts = dict(self.parts)
        for name, value in other.parts.items():
            parts[name] = parts.get(name, 0.0) + value * factor
        return Mark(parts, self.other or other.other)


@dataclass
class Followed:
    """The calls of one module: what its input is made of, and what it took and gave, each time."""

    marks: list[Mark | None] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@dataclass
class Run:
    """A run of a model: the followed modules in the order of their first calls, and what each call of it gave."""

    calls: dict[str, Followed] = field(default_factory=dict)
    results: list[list[Mark | None]] = field(default_factory=list)


def follow(model: nn.Module, example: Example, modules: Mapping[str, nn.Module]) -> Run:
    """Run the model on the example and watch these modules.

    Raises:
        ExchangeError: the model does not run on it, or it is never called.
    """
    follower = _Follower()
    with ExitStack() as stack:
        stack.enter_context(hooked(model.register_forward_pre_hook(follower.begin_model, with_kwargs=True)))
        stack.enter_context(hooked(model.register_forward_hook(follower.end_model)))
        for name, module in model.named_modules():
            if name in modules:
                follower.watch(stack, name, module)
            elif name:
                follower.enclose(stack, name, module)
        stack.enter_context(follower)
        try:
            drive(model, example)
        except DelayplugError:
            raise
        except Exception as error:
            raise ExchangeError(f"the model does not run on the example: {error!r}") from error
    if not follower.run.calls:
        raise ExchangeError("no layer or neuron of the model ran on the example")
    return follower.run


# Operations that only rearrange what they are given, make copies of it, or put several such values side by side.
_ARRANGE = frozenset(
    """
    view _unsafe_view view_as reshape _reshape_alias flatten unflatten squeeze unsqueeze select unbind slice split
    split_with_sizes chunk stack cat clone detach detach_ alias _to_copy to contiguous transpose permute t movedim
    copy_ lift_fresh expand select_scatter slice_scatter
    """.split()  # noqa: SIM905
)
# Operations that take no more than the shape of a value.
_SHAPE = frozenset(
    """
    zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full
    new_empty_strided empty_strided bernoulli zero_ fill_
    """.split()  # noqa: SIM905
)


class _Follower(TorchDispatchMode):
    """Marks go with the storage of a value rather than the tensor: they reach through views and writes in place."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run = Run()
        self._marks: dict[int, tuple[StorageWeakRef, Mark]] = {}
        self._inside = 0  # depth of followed modules
        self._open: list[str] = []  # other modules that are running

    def of(self, value: Any) -> Mark | None:
        entry = self._marks.get(storage_of(value)) if isinstance(value, Tensor) else None
        return None if entry is None else entry[1]

    def mark(self, values: Iterable[Any], mark: Mark | None) -> None:
        for value in values:
            address = storage_of(value) if isinstance(value, Tensor) else 0
            if address and mark is not None:
                self._marks[address] = (StorageWeakRef(value.untyped_storage()), mark)
            elif address:
                self._marks.pop(address, None)

    # ------------------------------------------------------------------------------------------------- operations

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside:
            return func(*args, **kwargs)
        kind = func._schema.name.removeprefix("aten::")
        known = [self.of(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        mark = self._result(kind, args, kwargs, known) if any(m is not None for m in known) else None
        out = func(*args, **kwargs)
        schema = zip(args, func._schema.arguments, strict=False)
        written = [arg for arg, said in schema if said.alias_info is not None and said.alias_info.is_write]
        if mark is not None or written:
            self.mark([*tree_leaves(out), *tree_leaves(written)], mark)
        return out

    def _result(self, kind: str, args: Any, kwargs: Any, known: list[Mark | None]) -> Mark | None:
        """What the result of an operation is made of."""
        if kind in _SHAPE:
            return None
        if kind in _ARRANGE:
            if kind == "copy_":
                target, source = self.of(args[0]), self.of(args[1])
                differ = target is not None and source is not None and target != source
                return self._other("different results written into one tensor") if differ else source
            if all(mark == known[0] for mark in known):
                return known[0]
            return self._other(f"{kind} of different results")
        name = kind.removesuffix("_")
        if name in ("add", "sub") and len(args) == 2:
            sign = (1.0 if name == "add" else -1.0) * float(kwargs.get("alpha", 1))
            a, b = self.of(args[0]), self.of(args[1])
            if a is not None and b is not None and args[0].shape == args[1].shape:
                return a.plus(b, sign)
            if a is not None and _is_number(args[1], 0.0):
                return a
        if name in ("mul", "div") and len(args) == 2 and not kwargs:
            for value, other, mark in ((args[0], args[1], self.of(args[0])), (args[1], args[0], self.of(args[1]))):
                number = _number(other)
                if mark is not None and number and self.of(other) is None and (name == "mul" or value is args[0]):
                    return mark.times(number if name == "mul" else 1 / number)
        if name == "neg" and known[0] is not None:
            return known[0].times(-1.0)
        return self._other(f"the operation {kind}")

    def _other(self, what: str) -> Mark:
        return Mark({}, f"{what} in {self._open[-1] if self._open else 'the forward of the model'}")

    # ------------------------------------------------------------------------------------------------- modules

    def begin_model(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        first = args[:1] or tuple(kwargs.values())[:1]
        self.mark(tensors_in(first), Mark({INPUT: 1.0}))

    def end_model(self, module: nn.Module, args: Any, output: Any) -> None:
        self.run.results.append([self.of(value) for value in tree_leaves(output) if isinstance(value, Tensor)])

    def enclose(self, stack: ExitStack, name: str, module: nn.Module) -> None:
        """Know when a module that is not followed runs."""
        stack.enter_context(hooked(module.register_forward_pre_hook(lambda *_: self._open.append(name))))
        stack.enter_context(hooked(module.register_forward_hook(lambda *_: self._close())))

    def _close(self) -> None:
        self._open.pop()

    def watch(self, stack: ExitStack, name: str, module: nn.Module) -> None:
        """Record the calls of a module; what happens inside of it, other modules included, is its own affair."""

        def begins(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._inside += 1
            if self._inside > 1:
                return
            first = tensors_in(args[:1] or tuple(kwargs.values())[:1])
            if not first:
                raise ExchangeError(f"{name or 'the model'} was called without a tensor")
            call = self.run.calls.setdefault(name, Followed())
            call.marks.append(self.of(first[0]))
            call.inputs.append(first[0].detach().clone())

        def ends(module: nn.Module, args: Any, output: Any) -> None:
            self._inside -= 1
            if self._inside:
                return
            first, rest = (output[0], output[1:]) if isinstance(output, tuple) else (output, ())
            self.mark(tensors_in(rest), Mark({STATE + name: 1.0}))
            results = tensors_in(first)  # which a readout also gives as its state
            self.mark(results, Mark({name: 1.0}))
            if results:
                found = torch.stack(results) if isinstance(first, list) else results[0]
                self.run.calls[name].outputs.append(found.detach().clone())

        stack.enter_context(hooked(module.register_forward_pre_hook(begins, with_kwargs=True)))
        stack.enter_context(hooked(module.register_forward_hook(ends)))


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.dim() == 0 and not value.is_complex() else None
    return float(value) if isinstance(value, int | float) else None


def _is_number(value: Any, number: float) -> bool:
    return _number(value) == number
