"""Running a model on an example to see which weight layers feed which neurons, and leaving no trace of it."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from .attach import Delayed, tensors_in
from .errors import ArgumentError, DelayplugError, WiringError

_NEURON = "neuron:"  # what comes from a neuron is marked with this and its name, what comes from a layer with its name

Example = Tensor | tuple[Any, ...] | list[Any] | dict[str, Any] | Callable[[nn.Module], Any]


class Flow:
    """What a traced run saw: for each layer that was called, the neurons and the further layers that it fed."""

    def __init__(self) -> None:
        self.neurons: dict[str, set[str]] = {}
        self.layers: dict[str, set[str]] = {}
        self.calls: Counter[str] = Counter()  # of each layer
        self.arrivals: Counter[tuple[str, str]] = Counter()  # calls of a neuron with something from a layer
        self.inputs: dict[str, set[str]] = {}  # the neurons that each layer is fed by
        self.added: set[str] = set()  # layers whose result came to a neuron together with another layer's

    @property
    def called(self) -> set[str]:
        """Names of the layers that ran."""
        return set(self.neurons)


def trace(model: nn.Module, example: Example, layers: dict[str, nn.Module], neurons: dict[str, nn.Module]) -> Flow:
    """Run the model on the example and report what flowed from layers into neurons.

    Whatever the run changes in the model (buffers, states, random numbers) is put back.
    """
    flow = Flow()
    sources = _Sources()
    with ExitStack() as stack:
        stack.enter_context(preserved(model))
        for name, layer in layers.items():
            stack.enter_context(_hook(layer.register_forward_hook(_layer_hook(name, sources, flow))))
        for name, neuron in neurons.items():
            hook = neuron.register_forward_pre_hook(_neuron_pre_hook(name, sources, flow), with_kwargs=True)
            stack.enter_context(_hook(hook))
            stack.enter_context(_hook(neuron.register_forward_hook(_neuron_hook(name, sources))))
        stack.enter_context(sources)
        try:
            drive(model, example)
        except DelayplugError:
            raise
        except Exception as error:
            raise WiringError(f"the model does not run on the example: {error!r}") from error
    return flow


def drive(model: nn.Module, example: Example) -> None:
    """Run the model as the example says, without gradients: an input, arguments, or a function of the model."""
    with torch.no_grad():
        if isinstance(example, Tensor):
            model(example)
        elif isinstance(example, tuple | list):
            model(*example)
        elif isinstance(example, dict):
            model(**example)
        elif callable(example) and not isinstance(example, nn.Module):
            example(model)
        else:
            expected = "an input tensor, forward arguments (tuple or dict), or a function that drives the model"
            raise ArgumentError("example", expected, type(example).__name__)


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Put back every attribute, buffer and random state of the model that the block changes; not its parameters.

    What is under way in its delays, if it has any, is put back too.
    """
    modules = list(model.modules())
    before = [dict(module.__dict__) for module in modules]
    inner = [{k: copy.copy(v) for k, v in b.items() if isinstance(v, dict | list)} for b in before]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    memories = [(m.delay_memory, dict(m.delay_memory.__dict__)) for m in modules if isinstance(m, Delayed)]
    tensors = (*model.parameters(), *model.buffers())
    devices = list({tensor.device.index or 0 for tensor in tensors if tensor.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, attributes, containers in zip(modules, before, inner, strict=True):
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for name, content in containers.items():
                _refill(attributes[name], content)
        for memory, attributes in memories:
            memory.__dict__.update(attributes)
        with torch.no_grad():
            for buffer, value in buffers:
                # A state may have been freed or resized in place; then the object is not a buffer any more.
                if buffer.shape == value.shape:
                    buffer.detach().copy_(value)


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        container.clear()
        container.update(content)
    else:
        container[:] = content


class _Sources(TorchFunctionMode):
    """While active, every tensor carries the names of the weight layers and neurons that it comes from directly."""

    def __init__(self) -> None:
        super().__init__()
        self._names: Any = WeakIdKeyDictionary()

    def of(self, values: Any) -> frozenset[str]:
        """Names of the layers behind all tensors in `values`."""
        return frozenset().union(*(self._names.get(tensor, frozenset()) for tensor in tensors_in(values)))

    def set(self, values: Any, names: Iterable[str]) -> None:
        """From here on, all tensors in `values` come from these layers."""
        for tensor in tensors_in(values):
            self._names[tensor] = frozenset(names)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        names = self.of((args, kwargs))
        if names:
            self.set(out, names | self.of(out))
        return out


@contextmanager
def _hook(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _layer_hook(name: str, sources: _Sources, flow: Flow) -> Callable[..., None]:
    def hook(layer: nn.Module, args: Any, output: Any) -> None:
        flow.neurons.setdefault(name, set())
        flow.calls[name] += 1
        for source in sources.of(args):
            if source.startswith(_NEURON):
                flow.inputs.setdefault(name, set()).add(source.removeprefix(_NEURON))
            else:
                flow.layers.setdefault(source, set()).add(name)
        sources.set(output, {name})

    return hook


def _neuron_pre_hook(name: str, sources: _Sources, flow: Flow) -> Callable[..., None]:
    def hook(neuron: nn.Module, args: Any, kwargs: Any) -> None:
        inputs = args[:1] or tuple(kwargs.values())[:1]  # what follows is its state
        layers = [source for source in sources.of(inputs) if not source.startswith(_NEURON)]
        if len(layers) > 1:
            flow.added.update(layers)
        for source in layers:
            flow.neurons.setdefault(source, set()).add(name)
            flow.arrivals[source, name] += 1

    return hook


def _neuron_hook(name: str, sources: _Sources) -> Callable[..., None]:
    def hook(neuron: nn.Module, args: Any, output: Any) -> None:
        sources.set(output, {_NEURON + name})

    return hook
