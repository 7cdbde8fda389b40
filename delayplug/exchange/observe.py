"""Watching a model run: what the input of each of its modules consists of, down to the operations between them.

A graph of modules is right only if nothing happens between the modules that the graph lacks. So every operation outside
of the followed modules is looked at: values that it only rearranges, adds or scales are followed through it, and any
other operation is recorded by name, in case its result reaches a module or the output of the model.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..errors import ExchangeError
from ..surgery.dataflow import Example, StorageMarks, Tracer, results_of
from ..toolkits.states import tensors_in
from .graph import unused

INPUT = "input:"  # cannot be the name of a module
STATE = "state of "


@dataclass(frozen=True)
class Mark:
    """What a value is made of.

    Attributes:
        parts: names of modules, or INPUT, with a factor each: the value is the sum of their results times these. A
            state that a module returns besides its result has the name of the module behind STATE.
        other: if the value is no such sum, the reason, for an error.
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
    """The calls of one module: what its input was made of, its input and its result, each time."""

    marks: list[Mark | None] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@dataclass
class Run:
    """A run of a model.

    Attributes:
        calls: of the followed modules, in the order of their first calls.
        results: for each call of the model, what each tensor that it returned is made of; None if of no module.
        operations: modules in place of operations that the model calls as functions, such as a pooling; they have
            calls, too.
        input: the shape of what the model was called with first; None if that is not one tensor.
    """

    calls: dict[str, Followed] = field(default_factory=dict)
    results: list[list[Mark | None]] = field(default_factory=list)
    operations: dict[str, nn.Module] = field(default_factory=dict)
    input: torch.Size | None = None


def follow(model: nn.Module, example: Example, modules: Mapping[str, nn.Module], spiking: Iterable[str] = ()) -> Run:
    """Run the model on the example and watch these modules, of which some give spikes, which are never below zero.

    Raises:
        ExchangeError: the model does not run on it, or it is never called.
    """
    follower = _Follower({name for name, _ in model.named_modules()}, spiking)
    with ExitStack() as stack:
        stack.enter_context(model.register_forward_pre_hook(follower.begin_model, with_kwargs=True))
        stack.enter_context(model.register_forward_hook(follower.end_model))
        for name, module in model.named_modules():
            if name in modules:
                follower.watch(stack, name, module)
            elif name:
                follower.enclose(stack, name, module)
        follower.drive(model, example, ExchangeError)
    if not follower.run.calls:
        raise ExchangeError("no layer or neuron of the model ran on the example")
    return follower.run


# Operations that only rearrange or copy their input, or put several values side by side.
_ARRANGE = frozenset(
    """
    view _unsafe_view view_as reshape _reshape_alias flatten unflatten squeeze unsqueeze select unbind slice split
    split_with_sizes chunk stack cat clone detach detach_ alias _to_copy to contiguous transpose permute t movedim
    copy_ lift_fresh expand select_scatter slice_scatter
    """.split()  # noqa: SIM905
)
# Operations whose result depends on the shape of their input only.
_SHAPE = frozenset(
    """
    zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full
    new_empty_strided empty_strided bernoulli zero_ fill_
    """.split()  # noqa: SIM905
)


# Operations that are nodes of a graph, and the modules that do the same, with the same arguments behind the input.
_POOLS: dict[str, Callable[..., nn.Module]] = {
    "max_pool2d_with_indices": lambda kernel, stride=(), padding=0, dilation=1, ceil_mode=False: nn.MaxPool2d(
        kernel, stride or None, padding, dilation, ceil_mode=ceil_mode
    ),
    "avg_pool2d": lambda kernel, stride=(), *rest, **options: nn.AvgPool2d(kernel, stride or None, *rest, **options),
    "_adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
}


class _Follower(Tracer):
    """While active, marks tensors with what they are made of."""

    def __init__(self, names: Set[str], spiking: Iterable[str]) -> None:
        super().__init__()
        self.run = Run()
        self._names = names  # of all modules
        self._never_negative = set(spiking)
        self._functions: dict[Hashable, str] = {}  # the names of operations by what they compute
        self.marks: StorageMarks[Mark] = StorageMarks()
        self._inside = 0  # depth of followed modules

    # ------------------------------------------------------------------------------------------------- operations

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside:
            return func(*args, **kwargs)
        kind = func._schema.name.removeprefix("aten::")
        known = [self.marks.get(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        mark = self._result(kind, args, kwargs, known) if any(m is not None for m in known) else None
        out = func(*args, **kwargs)
        if kind in _POOLS and known[0] is not None and not known[0].other:
            mark = self._pooled(kind, args, kwargs, known[0], out)
        self.marks.put(results_of(func, args, out), mark)
        return out

    def _pooled(self, kind: str, args: Any, kwargs: Any, source: Mark, out: Any) -> Mark:
        """What the result of a pooling is made of: of that itself, as if it were a module."""
        key = (kind, repr((args[1:], kwargs)), tuple(source.parts.items()))  # the same at each step
        if key not in self._functions:
            name = unused(kind.removesuffix("_with_indices").strip("_"), {*self._names, *self.run.calls}.__contains__)
            self._functions[key], self.run.operations[name] = name, _POOLS[kind](*args[1:], **kwargs)
            if self._is_never_negative(source):
                self._never_negative.add(name)
        name = self._functions[key]
        call = self.run.calls.setdefault(name, Followed())
        call.marks.append(source)
        call.inputs.append(args[0].detach().clone())
        call.outputs.append((out[0] if isinstance(out, tuple) else out).detach().clone())
        return Mark({name: 1.0})

    def _is_never_negative(self, mark: Mark) -> bool:
        return not mark.other and all(n in self._never_negative and factor > 0 for n, factor in mark.parts.items())

    def _result(self, kind: str, args: Any, kwargs: Any, known: list[Mark | None]) -> Mark | None:
        """What the result of an operation is made of."""
        if kind in _SHAPE:
            return None
        if kind in _ARRANGE:
            if kind == "copy_":
                target, source = self.marks.get(args[0]), self.marks.get(args[1])
                differ = target is not None and source is not None and target != source
                return self._other("different results written into one tensor") if differ else source
            if all(mark == known[0] for mark in known):
                return known[0]
            return self._other(f"{kind} of different results")
        name = kind.removesuffix("_")
        if name in ("add", "sub") and len(args) == 2:
            sign = (1.0 if name == "add" else -1.0) * float(kwargs.get("alpha", 1))
            a, b = self.marks.get(args[0]), self.marks.get(args[1])
            if a is not None and b is not None and args[0].shape == args[1].shape:
                return a.plus(b, sign)
            if a is not None and _number(args[1]) == 0:
                return a
        if name in ("mul", "div") and len(args) == 2 and not kwargs:
            for value, factor in (args, reversed(args)):
                mark, number = self.marks.get(value), _number(factor)
                if mark is None or not number or self.marks.get(factor) is not None:
                    continue
                if name == "mul" or value is args[0]:
                    return mark.times(number if name == "mul" else 1 / number)
        if name == "relu" and known[0] is not None and self._is_never_negative(known[0]):
            return known[0]
        if kind == "repeat" and all(times == 1 for times in list(args[1])[len(args[1]) - args[0].dim() + 1 :]):
            return known[0]  # over time or batch, not over values of a sample
        if name == "neg" and known[0] is not None:
            return known[0].times(-1.0)
        return self._other(f"the operation {kind}")

    def _other(self, what: str) -> Mark:
        return Mark({}, f"{what} in {self.running[-1][0] if self.running else 'the forward of the model'}")

    # ------------------------------------------------------------------------------------------------- modules

    def begin_model(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        first = tensors_in(args[:1] or tuple(kwargs.values())[:1])
        if not self.run.results and len(first) == 1:
            self.run.input = first[0].shape
        self.marks.put(first, Mark({INPUT: 1.0}))

    def end_model(self, module: nn.Module, args: Any, output: Any) -> None:
        self.run.results.append([self.marks.get(value) for value in tree_leaves(output) if isinstance(value, Tensor)])

    def watch(self, stack: ExitStack, name: str, module: nn.Module) -> None:
        """Record the calls of a module; operations inside of it, other modules included, are not looked at."""

        def begins(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._inside += 1
            if self._inside > 1:
                return
            first = tensors_in(args[:1] or tuple(kwargs.values())[:1])
            if not first:
                raise ExchangeError(f"{name or 'the model'} was called without a tensor")
            call = self.run.calls.setdefault(name, Followed())
            call.marks.append(self.marks.get(first[0]))
            call.inputs.append(first[0].detach().clone())

        def ends(module: nn.Module, args: Any, output: Any) -> None:
            self._inside -= 1
            if self._inside:
                return
            first, rest = (output[0], output[1:]) if isinstance(output, tuple) else (output, ())
            self.marks.put(tensors_in(rest), Mark({STATE + name: 1.0}))
            results = tensors_in(first)  # which a readout also returns as its state
            self.marks.put(results, Mark({name: 1.0}))
            if results:
                output = torch.stack(results) if isinstance(first, list) else results[0]
                self.run.calls[name].outputs.append(output.detach().clone())

        stack.enter_context(module.register_forward_pre_hook(begins, with_kwargs=True))
        stack.enter_context(module.register_forward_hook(ends))


def _number(value: object) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.dim() == 0 and not value.is_complex() else None
    return float(value) if isinstance(value, int | float) else None
