"""Running a model on an example to see what flows where, and leaving no trace of it."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import ArgumentError, DelayplugError, WiringError
from ..neurons.fused import fused_neurons
from ..toolkits.states import tensors_in
from .called import ModelWatch, watch_of
from .delayed import Delayed

_NEURON = "neuron:"  # what comes from a neuron is marked with this and its name, what comes from a layer with its name

Mark = TypeVar("Mark")

Example = Tensor | tuple[Any, ...] | list[Any] | dict[str, Any] | Callable[[nn.Module], Any]


@dataclass(frozen=True)
class Call:
    """One call of a layer or of a neuron.

    Attributes:
        name: of the module.
        is_neuron: which of the two it is.
        is_sequence: the neuron took a whole sequence.
        shape: of its first input.
        layers, neurons: whose results, directly, its first input is made of.
        outer: (name, shape of the first input) of the modules around it, outermost first.
    """

    name: str
    is_neuron: bool
    shape: torch.Size
    layers: frozenset[str]
    neurons: frozenset[str]
    outer: tuple[tuple[str, torch.Size], ...] = ()
    is_sequence: bool = False


@dataclass
class Flow:
    """What a run of a model showed.

    Attributes:
        calls: of layers and neurons, in order.
        outputs: shape of the last output of each layer.
        selected: dimensions along which the results of a layer were taken apart.
        moved: layers whose results had their dimensions exchanged.
        placed: dimensions of the result of a layer that are the time of a neuron's input, by where that lies in memory.
        runs: how often the model was called.
    """

    calls: list[Call] = field(default_factory=list)
    outputs: dict[str, torch.Size] = field(default_factory=dict)
    selected: dict[str, set[int]] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    placed: dict[str, set[int]] = field(default_factory=dict)
    runs: int = 0


def trace(
    model: nn.Module,
    example: Example,
    layers: dict[str, nn.Module],
    neurons: dict[str, nn.Module],
    is_sequence: Callable[[nn.Module], bool],
) -> Flow:
    """Run the model on the example and report what flowed from layers into neurons.

    `is_sequence` says whether a neuron takes sequences, as it is set when it is called.

    Whatever the run changes in the model (buffers, states, random numbers) is put back.
    """
    tracer = _Tracer()
    # Kernels of neurons would be operations that nobody else knows.
    with preserved(model), ExitStack() as stack:
        for name, module in model.named_modules():
            if any(module.children()):
                tracer.enclose(stack, name, module)
        stack.enter_context(model.register_forward_pre_hook(tracer.count_run))
        for name, layer in layers.items():
            tracer.follow(stack, name, layer)
        for name, neuron in neurons.items():
            tracer.follow(stack, name, neuron, is_sequence)
        tracer.drive(model, example, WiringError)
    return tracer.flow


def drive(model: nn.Module, example: Example) -> None:
    """Run the model as the example says: on an input or on arguments, without gradients, or a function of the model."""
    if callable(example) and not isinstance(example, nn.Module | Tensor):
        example(model)  # with gradients: it may train, as its user does
        return
    with torch.no_grad():
        if isinstance(example, Tensor):
            model(example)
        elif isinstance(example, tuple | list):
            model(*example)
        elif isinstance(example, dict):
            model(**example)
        else:
            expected = "an input tensor, forward arguments (tuple or dict), or a function that drives the model"
            raise ArgumentError("example", expected, type(example).__name__)


def _other_layout(model: nn.Module, example: Example) -> str:
    """What to pass in place of an example tensor on which the model does not run; "" if that cannot be told."""
    if not isinstance(example, Tensor) or example.dim() < 2 or example.shape[0] == 0:
        return ""
    swapped = example.transpose(0, 1).contiguous()
    layouts = (
        (swapped, "runs with its first two dimensions exchanged: time must come first, example=x.transpose(0, 1)"),
        (example[0], "runs on x[0]: it takes single steps (B, ...). Pass one, or a function that loops over the time"),
        (
            torch.stack((example, example)),
            "runs on several such steps: time must come first, (T, B, ...), as in example=x.expand(T, *x.shape)",
        ),
    )
    for layout, advice in layouts:
        try:
            with preserved(model):
                drive(model, layout)
        except Exception:
            continue
        return f". It {advice}"
    return ""


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Put back every attribute, parameter, buffer and random state of the model that the block changes.

    The states of its delays, if it has any, are put back too.
    """
    modules = list(model.modules())
    before = [dict(module.__dict__) for module in modules]
    inner = [{k: copy.copy(v) for k, v in b.items() if isinstance(v, dict | list)} for b in before]
    tensors = (*model.parameters(), *model.buffers())
    values = [tensor.detach().clone() for tensor in tensors]
    grads = [(p, p.grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()]
    memories = [(m.delay_memory, m.delay_memory.snapshot()) for m in modules if isinstance(m, Delayed)]
    watch = watch_of(model) or ModelWatch()
    steps_needed, watch.steps_needed = watch.steps_needed, 0  # the lengths of our own sequences tell nothing
    devices = list({tensor.device.index or 0 for tensor in tensors if tensor.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, attributes, containers in zip(modules, before, inner, strict=True):
            _refill(module.__dict__, attributes)
            for name, content in containers.items():
                _refill(attributes[name], content)
        for memory, snapshot in memories:
            memory.restore(snapshot)
        watch.steps_needed = steps_needed
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                # A state may have been freed or resized in place; then the object is not a buffer any more.
                if tensor.shape == value.shape and not torch.equal(tensor, value):
                    tensor.detach().copy_(value)
            for parameter, grad, old in grads:
                parameter.grad = grad
                if grad is not None and old is not None:
                    grad.copy_(old)


def _refill(container: dict[Any, Any] | list[Any], content: Any) -> None:
    container.clear()
    container.extend(content) if isinstance(container, list) else container.update(content)


class StorageMarks(Generic[Mark]):
    """A mark on each tensor, such as where its values come from, that views and writes in place share.

    A mark belongs to the storage, not to the tensor: a view has the mark of its base, and whoever marks what an
    operation has written to in place marks every view of it. A weak reference to each marked storage keeps its address
    from being used again for another one; its memory is freed as usual.

    >>> marks, x = StorageMarks[str](), torch.zeros(2, 3)
    >>> marks.put([x], "input")
    >>> marks.get(x.view(6)), marks.get(x + 1)
    ('input', None)
    """

    def __init__(self) -> None:
        self._marks: dict[int, tuple[StorageWeakRef, Mark]] = {}

    def get(self, value: object) -> Mark | None:
        """The mark of a tensor; None if it has none, and for everything that is no tensor."""
        entry = self._marks.get(storage_of(value)) if isinstance(value, Tensor) else None
        return None if entry is None else entry[1]

    def put(self, values: Iterable[object], mark: Mark | None) -> None:
        """Mark all tensors among the values; None takes their marks away."""
        for value in values:
            storage = storage_of(value) if isinstance(value, Tensor) else 0
            if not isinstance(value, Tensor) or not storage:
                continue
            if mark is None:
                self._marks.pop(storage, None)
            else:
                self._marks[storage] = (StorageWeakRef(value.untyped_storage()), mark)


def storage_of(tensor: Tensor) -> int:
    """What tensors share that are views of each other; 0 where that cannot be told."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # functorch's wrappers have none
        return 0


def results_of(operation: OpOverload, args: tuple[object, ...], out: object) -> list[Tensor]:
    """The tensors that an operation, as `__torch_dispatch__` sees it, returned or wrote to in place."""
    arguments = zip(args, operation._schema.arguments, strict=False)
    written = [arg for arg, said in arguments if said.alias_info is not None and said.alias_info.is_write]
    return [value for value in (*tree_leaves(out), *tree_leaves(written)) if isinstance(value, Tensor)]


class Tracer(TorchDispatchMode):
    """While active, sees every operation, and knows which of the enclosed modules are running.

    Attributes:
        running: (name, shape of the first input) of these, outermost first.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[tuple[str, torch.Size]] = []

    def enclose(self, stack: ExitStack, name: str, module: nn.Module) -> None:
        """Until the end of the block, know when a module runs, and on what."""

        def begins(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            inputs = tensors_in((args, kwargs))
            self.running.append((name, inputs[0].shape if inputs else torch.Size()))

        def ends(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            self.running.pop()

        stack.enter_context(module.register_forward_pre_hook(begins, with_kwargs=True, prepend=True))
        stack.enter_context(module.register_forward_hook(ends))

    def drive(self, model: nn.Module, example: Example, failure: type[DelayplugError]) -> None:
        """Run the model on the example while active; raises `failure` if it does not run."""
        try:
            with fused_neurons(False), self:  # a kernel would hide what a neuron does
                drive(model, example)
        except DelayplugError:
            raise
        except Exception as error:
            advice = _other_layout(model, example)
            raise failure(f"the model does not run on the example: {error!r}{advice}") from error


class _Tracer(Tracer):
    """While active, tensors are marked with the names of the layers and neurons that they come from directly."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Flow()
        self._names: StorageMarks[frozenset[str]] = StorageMarks()
        self._in_neurons = 0
        self._results: dict[str, Tensor] = {}  # the last one of each layer

    def count_run(self, model: nn.Module, args: tuple[object, ...]) -> None:
        """Forward pre-hook of the model."""
        self.flow.runs += 1

    def of(self, values: Iterable[object]) -> frozenset[str]:
        """Names behind all tensors among the values."""
        return frozenset().union(*filter(None, map(self._names.get, values)))

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        kwargs = kwargs or {}
        out: object = func(*args, **kwargs)
        if torch._C._current_graph_task_id() != -1:  # a backward pass: what it moves about are gradients
            return out
        names = self.of(tree_leaves((args, kwargs)))
        if names:
            if not self._in_neurons:  # what they do with their input says nothing about it
                self._look(func, args, names)
            for result in results_of(func, args, out):
                if not isinstance(result, nn.Parameter):
                    self._names.put([result], names | self.of([result]))
        return out

    def _look(self, func: OpOverload, args: tuple[Any, ...], names: frozenset[str]) -> None:
        """Record what an operation says about where the time is."""
        kind = func._schema.name.removeprefix("aten::")
        layers = [name for name in names if not name.startswith(_NEURON)]
        if kind in ("transpose", "permute", "t", "movedim", "swapaxes"):
            self.flow.moved.update(layers)
        elif kind in ("select", "unbind"):
            dims = args[0].dim()
            for name in layers:
                self.flow.selected.setdefault(name, set()).add((args[1] if len(args) > 1 else 0) % dims)

    def _time_in(self, layer: str, x: Tensor, is_sequence: bool) -> Iterator[int]:
        """The dimensions of a layer's result that may be the time of a neuron's input, if it lies in the same memory.

        That input is one entry along such a dimension or, if it is a sequence, has it first.
        """
        result = self._results.get(layer)
        if result is None or not storage_of(x) or storage_of(x) != storage_of(result):
            return
        for dim in range(result.dim()):
            if is_sequence:
                if x.dim() == result.dim() and (x.shape[0], x.stride(0)) == (result.shape[dim], result.stride(dim)):
                    yield dim
                continue
            index, rest = divmod(int(x.storage_offset()) - int(result.storage_offset()), max(1, result.stride(dim)))
            if x.dim() == result.dim() - 1 and not rest and 0 <= index < result.shape[dim]:
                entry = result.select(dim, index)
                if entry.shape == x.shape and entry.stride() == x.stride():
                    yield dim

    # ------------------------------------------------------------------------------------------------- modules

    def follow(
        self, stack: ExitStack, name: str, module: nn.Module, is_sequence: Callable[[nn.Module], bool] | None = None
    ) -> None:
        """Record the calls of a layer, or of a neuron (which comes with `is_sequence`), and mark what comes from it."""
        is_neuron = is_sequence is not None

        def begins(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            first = tensors_in(args[:1] or tuple(kwargs.values())[:1])  # what follows is its state
            names = self.of(first)
            neurons = frozenset(n.removeprefix(_NEURON) for n in names if n.startswith(_NEURON))
            layers = frozenset(n for n in names if not n.startswith(_NEURON))
            shape = first[0].shape if first else torch.Size()
            outer = tuple(pair for pair in self.running if pair[0] != name)
            sequence = is_sequence is not None and is_sequence(module)
            for layer in layers if is_neuron else ():
                self.flow.placed.setdefault(layer, set()).update(self._time_in(layer, first[0], sequence))
            self._in_neurons += is_neuron
            self.flow.calls.append(Call(name, is_neuron, shape, layers, neurons, outer, sequence))

        def ends(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            self._in_neurons -= is_neuron
            results = tensors_in(output)
            if results:
                self.flow.outputs[name] = results[0].shape
                if not is_neuron:
                    self._results[name] = results[0]
            self._names.put(results, frozenset({_NEURON + name if is_neuron else name}))

        stack.enter_context(module.register_forward_pre_hook(begins, with_kwargs=True))
        stack.enter_context(module.register_forward_hook(ends))
