"""Layers as nodes: weights, whole delays, normalisation. The one place that knows the classes that hold delays."""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExchangeError
from ..layers.base import DelayLayer
from ..layers.conv import ConvDelay
from ..layers.linear import LearnableDelay
from ..layers.taps import round_delays
from ..surgery.delayed import Delayed
from ..toolkits.vocabulary import Granularity, Turns
from .graph import Delay, Geometry, Node, Pool, Synapses


def whole_delays(delay: DelayLayer) -> Tensor:
    """The delays of a layer in whole steps as `eval()` counts them, halves up: int64, of the shape of its parameter."""
    if not delay.round_in_eval:
        fractional = delay.delays.detach()
        if not bool((fractional == fractional.round()).all()):
            raise ExchangeError(
                "it has round_in_eval=False and delays between whole steps, which other formats do not have: set "
                "round_in_eval=True to have them rounded"
            )
    limited = delay.delays.detach().cpu().float().clamp(0, delay.max_delay)
    return round_delays(limited).long()


def of_weights(layer: Any) -> Synapses:
    """A linear layer or a convolution without delays."""
    bias = None if layer.bias is None else _numbers(layer.bias)
    if isinstance(layer, nn.Linear):
        return Synapses(_numbers(layer.weight), bias)
    return Synapses(_numbers(layer.weight), bias, geometry_of(layer))


def geometry_of(conv: Any) -> Geometry:
    """The geometry of a convolution over one or two dimensions, padded with zeros on both sides alike."""
    kind = type(conv).__name__
    if not isinstance(conv, nn.Conv1d | nn.Conv2d):
        raise ExchangeError(f"a layer of kind {kind}: of the convolutions, Conv1d and Conv2d can be exchanged")
    if conv.padding_mode != "zeros":
        raise ExchangeError(
            f"a convolution with padding_mode={conv.padding_mode!r}: only padding with zeros can be exchanged"
        )
    dims = len(conv.kernel_size)
    padding: Any = conv.padding
    if isinstance(padding, str):
        around = conv._reversed_padding_repeated_twice if padding == "same" else [0] * 2 * dims
        padding = tuple(around[2 * i] for i in reversed(range(dims)))
        if list(around[::2]) != list(around[1::2]):
            raise ExchangeError("a convolution with padding='same' and a kernel of even size, which pads one side more")
    return Geometry(tuple(conv.stride), tuple(padding), tuple(conv.dilation), conv.groups)


def of_delay(delay: DelayLayer) -> Synapses | Delay:
    """A `LearnableDelay` that stands by itself."""
    if isinstance(delay, LearnableDelay) and delay.out_features is None:
        return Delay(whole_delays(delay), delay.max_delay)
    if not isinstance(delay, LearnableDelay) or delay.weight is None:
        raise ExchangeError(f"a {type(delay).__name__} whose weights come with each call")
    bias = None if delay.bias is None else _numbers(delay.bias)
    return Synapses(_numbers(delay.weight), bias, None, whole_delays(delay), delay.max_delay)


def of_delayed(layer: Any, weights: Any) -> list[Node]:
    """A layer with delays, as the nodes that it is made of, one after the other; a bias behind them comes apart.

    Args:
        layer: what `add_delays` made.
        weights: the module in it that holds the weights.
    """
    place, delay = layer.delay_place, layer.delay
    if place.turns is Turns.INSIDE:
        raise ExchangeError("a recurrent connection with delays: only feed-forward networks can be exchanged")
    plain = of_weights(weights)
    if place.granularity is Granularity.AXONAL:
        return [Delay(whole_delays(delay), delay.max_delay), plain]
    if place.granularity is Granularity.DENDRITIC:
        return [plain, Delay(whole_delays(delay), delay.max_delay)]
    if not isinstance(delay, LearnableDelay | ConvDelay):
        raise ExchangeError(f"delays of kind {type(delay).__name__}")
    delays = whole_delays(delay)
    weight = plain.weight.unsqueeze(-1).expand(delays.shape)
    return [Synapses(weight, plain.bias, plain.geometry, delays, delay.max_delay)]


def is_delayed(module: nn.Module) -> bool:
    """Whether `add_delays` gave the module delays."""
    return isinstance(module, Delayed)


def of_norm(norm: Any) -> tuple[Tensor, Tensor]:
    """(scale, shift), each (C,) float64, that a batch norm is in `eval()`."""
    if norm.running_mean is None:
        raise ExchangeError("a batch norm that keeps no running statistics")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    shift = shift if norm.bias is None else shift + norm.bias.double()
    return scale.detach().cpu(), shift.detach().cpu()


def normed(node: Synapses, scale: Tensor, shift: Tensor) -> Synapses:
    """Weights with a batch norm behind them taken in; computed in float64 and rounded once."""
    weight = (node.weight.double() * scale.view(-1, *(1,) * (node.weight.dim() - 1))).to(node.weight.dtype)
    bias = shift if node.bias is None else node.bias.double() * scale + shift
    return Synapses(weight, bias.to(node.weight.dtype), node.geometry, node.delays, node.max_delay)


def of_pool(pool: Any) -> Pool:
    """An average over windows."""
    if (
        pool.ceil_mode
        or pool.divisor_override is not None
        or (_pair(pool.padding) != (0, 0) and not pool.count_include_pad)
    ):
        raise ExchangeError("an AvgPool2d with ceil_mode, divisor_override or count_include_pad=False")
    return Pool("average", _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _numbers(parameter: Tensor) -> Tensor:
    found = parameter.detach().cpu()
    found = found if found.dtype == torch.float64 else found.float()
    if not bool(found.isfinite().all()):
        raise ExchangeError("weights that are NaN or infinite")
    return found.clone()
