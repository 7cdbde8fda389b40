"""What a network weighs and what a step of it costs: bytes to store, multiply-adds, and events."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.base import DelayLayer
from ..surgery.apply import named_delays
from ..surgery.dataflow import Example, drive, preserved
from ..surgery.delayed import Delayed
from ..toolkits.states import tensors_in
from ..toolkits.vocabulary import Granularity

_CONVOLUTIONS = nn.modules.conv._ConvNd


@dataclass(frozen=True)
class LayerCost:
    """One layer with weights.

    Attributes:
        layer: dotted name.
        operations: multiply-adds of one step of one sample, if every input is weighed.
        events: those of them whose input is not zero, on average over the steps of the example; what a step by events
            does.
    """

    layer: str
    operations: float
    events: float


@dataclass(frozen=True)
class Costs:
    """What `costs` returns.

    Attributes:
        state_bytes: of all tensors in the state_dict.
        delay_bytes: of the delays among them, and of sigma.
        layers: per layer, if there was an example to run.
    """

    state_bytes: int
    delay_bytes: int
    layers: tuple[LayerCost, ...] = ()

    @property
    def operations(self) -> float | None:
        """Multiply-adds of one step of one sample; None without an example."""
        return sum(layer.operations for layer in self.layers) if self.layers else None

    @property
    def events(self) -> float | None:
        """Those whose input is not zero; None without an example."""
        return sum(layer.events for layer in self.layers) if self.layers else None


def costs(model: nn.Module, example: Example | None = None) -> Costs:
    """How large a model's state is, and with an example how much work a step of it takes.

    Counted are linear layers, convolutions and layers of delays, delayed or not; neurons are not. A synapse with a
    delay that is not rounded weighs max_delay + 1 inputs at each step, one with a whole delay a single one.

    Args:
        model: any module; it is left as it is.
        example: what to run it on, as for `add_delays`; it is run in the mode that the model is in.

    Raises:
        ArgumentError: `model` is not a module, or the example is of no known kind.
    """
    sizes = {key: v.numel() * v.element_size() for key, v in model.state_dict().items() if isinstance(v, Tensor)}
    names = {id(module): name for name, module in model.named_modules()}
    delays = [f"{names[id(delay)]}.".removeprefix(".") for _, delay in named_delays(model)]
    of_delays = sum(size for key, size in sizes.items() if key.endswith(("delays", "sigma")) and _starts(key, delays))
    counts = {} if example is None else _counted(model, example)
    layers = tuple(
        LayerCost(name, count.operations / count.steps, count.events / count.steps)
        for name, count in counts.items()
        if count.steps
    )
    return Costs(sum(sizes.values()), of_delays, layers)


def _starts(key: str, prefixes: list[str]) -> bool:
    return any(key in (f"{prefix}delays", f"{prefix}sigma") for prefix in prefixes)


@dataclass
class _Count:
    operations: float = 0
    events: float = 0
    steps: int = 0  # times samples
    handles: list[Any] = field(default_factory=list)


def _counted(model: nn.Module, example: Example) -> dict[str, _Count]:
    counts: dict[str, _Count] = {}
    handles = []
    for name, module in _layers(model):
        counts[name] = _Count()
        handles.append(module.register_forward_hook(_counting(counts[name], module), with_kwargs=True))
    try:
        with preserved(model):
            drive(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What has weights or delays, without what lies inside of such a layer."""
    inside: set[int] = set()
    for name, module in model.named_modules():
        if id(module) not in inside and (isinstance(module, nn.Linear | _CONVOLUTIONS | DelayLayer) or _weighs(module)):
            inside.update(map(id, module.modules()))
            yield name, module


def _weighs(module: nn.Module) -> bool:
    return isinstance(module, Delayed) and isinstance(_owner(module), nn.Linear | _CONVOLUTIONS)


def _owner(module: Any) -> Any:
    inner = module.delay_place.inner if isinstance(module, Delayed) else ""
    return getattr(module, inner) if inner else module


def _counting(count: _Count, module: nn.Module) -> Callable[..., None]:
    owner = _owner(module)
    delay = module if isinstance(module, DelayLayer) else getattr(module, "delay", None)

    synaptic = delay is owner or (
        isinstance(module, Delayed) and module.delay_place.granularity is Granularity.SYNAPTIC
    )

    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        x, y = tensors_in((args, kwargs))[0], tensors_in(output)[0]
        taps = 1
        if isinstance(delay, DelayLayer) and synaptic:
            per_synapse = delay.delays.shape[-1] if delay.delays.dim() > 1 else 1
            taps = per_synapse * (1 if delay._rounds else delay.max_delay + 1)
        steps, operations = _work(owner, x, y)
        count.steps += steps
        count.operations += operations * taps
        count.events += operations * taps * float((x != 0).double().mean())

    return hook


def _work(owner: Any, x: Tensor, y: Tensor) -> tuple[int, float]:
    """(steps times samples, multiply-adds) of one call, for one tap."""
    conv = isinstance(owner, _CONVOLUTIONS)
    space = len(owner.kernel_size) if conv else getattr(owner, "dims", 0)
    channels = getattr(owner, "in_channels", None) or owner.in_features
    if isinstance(owner, DelayLayer):
        if owner.delays.dim() == 1:  # per channel, of anything
            return x.numel() // channels, x.numel()
        behind = owner.delays.shape[1:-1]  # (I,) or (C / groups, *kernel)
        transposed = getattr(getattr(owner, "geometry", None), "transposed", False)
    else:
        behind, transposed = owner.weight.shape[1:], getattr(owner, "transposed", False)
    sample = channels * int(torch.Size(x.shape[x.dim() - space :]).numel())
    return x.numel() // sample, (x if transposed else y).numel() * torch.Size(behind).numel()
