"""What a network costs: bytes of its state, and multiply-adds and events of one step."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from torch import Tensor, nn

from ..layers.base import DelayLayer
from ..layers.conv import ConvDelay, Convolution
from ..layers.frozen import Frozen
from ..layers.linear import LearnableDelay
from ..surgery.dataflow import Example, drive, preserved
from ..surgery.delayed import Delayed, weights_of
from ..surgery.find import named_delays
from ..toolkits.states import tensors_in
from ..toolkits.vocabulary import Granularity

_Layer = nn.Linear | Convolution | LearnableDelay | ConvDelay


@dataclass(frozen=True)
class LayerCost:
    """One layer with weights.

    Attributes:
        layer: dotted name.
        operations: multiply-adds of one step of one sample, whatever its input.
        events: those of them whose input is not zero, on average over the steps of the example: what event-driven
            hardware computes.
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
    """How large a model's state is, and with an example how many operations a step of it takes.

    Counted are linear layers, convolutions and layers of delays, delayed or not; neurons are not. A synapse whose delay
    is not rounded multiplies max_delay + 1 past inputs at each step, one with an integer delay a single one.

    Args:
        model: any module; it is not changed.
        example: what to run it on, as for `add_delays`; the model stays in its mode, train or eval.

    Raises:
        ArgumentError: `model` is not a module, or the example is none of the kinds that `add_delays` takes.
    """
    of_delays = [value for _, delay in named_delays(model) for value in (delay.delays, delay.sigma)]
    layers = () if example is None else tuple(_counted(model, example))
    return Costs(_bytes(model.state_dict().values()), _bytes(of_delays), layers)


def _bytes(values: Iterable[object]) -> int:
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


@dataclass
class _Count:
    operations: float = 0
    events: float = 0
    steps: int = 0  # times samples


def _counted(model: nn.Module, example: Example) -> Iterator[LayerCost]:
    counts: dict[str, _Count] = {}
    with preserved(model), ExitStack() as stack:
        for name, module in _layers(model):
            counts[name] = _Count()
            stack.enter_context(module.register_forward_hook(_counting(counts[name], module), with_kwargs=True))
        drive(model, example)
    for name, count in counts.items():
        if count.steps:
            yield LayerCost(name, count.operations / count.steps, count.events / count.steps)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers with weights or delays, without the modules inside of such a layer."""
    inside: set[int] = set()
    for name, module in model.named_modules():
        if id(module) not in inside and isinstance(weights_of(module), _Layer):
            inside.update(map(id, module.modules()))
            yield name, module


def _counting(count: _Count, module: nn.Module) -> Callable[..., None]:
    owner = weights_of(module)
    assert isinstance(owner, _Layer)
    delay: nn.Module | None = module  # that multiplies by the weights
    if isinstance(module, Delayed):
        delay = module.delay if module.delay_place.granularity is Granularity.SYNAPTIC else None

    def hook(module: nn.Module, args: object, kwargs: object, output: object) -> None:
        x, y = tensors_in((args, kwargs))[0], tensors_in(output)[0]
        taps = _taps(delay) if isinstance(delay, DelayLayer) else 1
        steps, operations = _work(owner, x, y)
        count.steps += steps
        count.operations += operations * taps
        count.events += operations * taps * float((x != 0).double().mean())

    return hook


def _taps(delay: DelayLayer) -> int:
    """How many past inputs each synapse multiplies in one step."""
    per_synapse = delay.delays.shape[-1] if delay.delays.dim() > 1 else 1
    rounded = isinstance(delay, Frozen) or (delay.round_in_eval and not delay.training)
    return per_synapse * (1 if rounded else delay.max_delay + 1)


def _work(layer: _Layer, x: Tensor, y: Tensor) -> tuple[int, int]:
    """(steps times samples, multiply-adds) of one call, for one tap."""
    channels = layer.in_features if isinstance(layer, nn.Linear | LearnableDelay) else layer.in_channels
    if isinstance(layer, LearnableDelay) and layer.out_features is None:  # per channel, of anything
        return x.numel() // channels, x.numel()
    space, transposed = 0, False
    weights = layer.delays.shape[1:-1] if isinstance(layer, LearnableDelay | ConvDelay) else layer.weight.shape[1:]
    if isinstance(layer, ConvDelay):
        space, transposed = layer.dims, layer.geometry.transposed
    elif isinstance(layer, Convolution):
        space, transposed = len(layer.kernel_size), layer.transposed
    sample = channels * x.shape[x.dim() - space :].numel()
    return x.numel() // sample, (x if transposed else y).numel() * weights.numel()
