"""Layers as nodes: weights, whole delays, normalisation. The one place that knows the classes that hold delays."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ExchangeError
from ..layers.base import DelayLayer
from ..layers.conv import ConvDelay
from ..layers.linear import LearnableDelay
from ..layers.taps import round_delays
from ..surgery.delayed import Delayed, weights_of
from ..toolkits.vocabulary import Granularity, Turns
from .graph import Delay, Geometry, Node, Pool, Shape, Synapses


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


def of_weights(layer: nn.Module) -> Synapses:
    """A linear layer, or a convolution over one or two dimensions, without delays."""
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
        raise ExchangeError(
            f"a layer of kind {type(layer).__name__}: of the convolutions, Conv1d and Conv2d can be exchanged"
        )
    bias = None if layer.bias is None else _numbers(layer.bias)
    return Synapses(_numbers(layer.weight), bias, None if isinstance(layer, nn.Linear) else geometry_of(layer))


def geometry_of(conv: nn.Conv1d | nn.Conv2d) -> Geometry:
    """The geometry of a convolution that is padded with zeros, as many on both sides."""
    if conv.padding_mode != "zeros":
        raise ExchangeError(
            f"a convolution with padding_mode={conv.padding_mode!r}: only padding with zeros can be exchanged"
        )
    padding = Geometry.padding_of(conv.padding, conv.kernel_size, conv.dilation)
    if padding is None:
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


def of_delayed(layer: Delayed) -> list[Node]:
    """A layer to which `add_delays` gave delays, as one node or two, one after the other.

    If the second one is a `Delay`, it does not delay the bias of the first.
    """
    place, delay = layer.delay_place, layer.delay
    if place.turns is Turns.INSIDE:
        raise ExchangeError("a recurrent connection with delays: only feed-forward networks can be exchanged")
    plain = of_weights(weights_of(layer))
    if place.granularity is Granularity.AXONAL:
        return [Delay(whole_delays(delay), delay.max_delay), plain]
    if place.granularity is Granularity.DENDRITIC:
        return [plain, Delay(whole_delays(delay), delay.max_delay)]
    if not isinstance(delay, LearnableDelay | ConvDelay):
        raise ExchangeError(f"delays of kind {type(delay).__name__}")
    delays = whole_delays(delay)
    weight = plain.weight.unsqueeze(-1).expand(delays.shape)
    return [Synapses(weight, plain.bias, plain.geometry, delays, delay.max_delay)]


def of_norm(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """(scale, shift), each (C,) float64, by which a batch norm multiplies and to which it adds in `eval()`."""
    if norm.running_mean is None or norm.running_var is None:
        raise ExchangeError("a batch norm that keeps no running statistics")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    shift = shift if norm.bias is None else shift + norm.bias.double()
    return scale.detach().cpu(), shift.detach().cpu()


def norm_alone(scale: Tensor, shift: Tensor, space: int) -> Synapses:
    """A batch norm by itself as weights: a diagonal, or over space a convolution of one point with a group each."""
    if space == 0:
        return Synapses(torch.diag(scale).float(), shift.float())
    ones = (1,) * space
    geometry = Geometry(ones, (0,) * space, ones, len(scale))
    return Synapses(scale.float().view(-1, 1, *ones), shift.float(), geometry)


def normed(node: Synapses, scale: Tensor, shift: Tensor) -> Synapses:
    """Weights that include the batch norm behind them; computed in float64 and rounded once."""
    weight = (node.weight.double() * scale.view(-1, *(1,) * (node.weight.dim() - 1))).to(node.weight.dtype)
    bias = shift if node.bias is None else node.bias.double() * scale + shift
    return Synapses(weight, bias.to(node.weight.dtype), node.geometry, node.delays, node.max_delay)


def of_own_input(neuron: Delayed) -> Delay:
    """The delays in front of the weights that a neuron has for its input."""
    return Delay(whole_delays(neuron.delay), neuron.delay.max_delay)


POOLS = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)


def of_pool(pool: nn.Module, shape: Shape) -> Pool:
    """An average or a maximum over windows, of samples of a shape."""
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        return _adaptive(pool, shape)
    assert isinstance(pool, nn.AvgPool2d | nn.MaxPool2d)
    kernel, stride, padding = pair(pool.kernel_size), pair(pool.stride), pair(pool.padding)
    dilation = pair(pool.dilation) if isinstance(pool, nn.MaxPool2d) else (1, 1)
    if pool.ceil_mode and len(shape) == 3:
        each = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
        if any((n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in each):
            kind = type(pool).__name__
            raise ExchangeError(f"a {kind} with ceil_mode=True whose last window is cut: pad or cut its input before")
    if isinstance(pool, nn.MaxPool2d):
        if pool.return_indices:
            raise ExchangeError("a MaxPool2d with return_indices=True")
        return Pool("max", kernel, stride, padding, dilation)
    if pool.divisor_override is not None or (padding != (0, 0) and not pool.count_include_pad):
        raise ExchangeError("an AvgPool2d with divisor_override or count_include_pad=False")
    return Pool("average", kernel, stride, padding)


def of_groups(pool: nn.Module, size: int) -> Synapses:
    """An average over groups of features, as of a layer in which neurons vote, as weights."""
    assert isinstance(pool, nn.AvgPool2d)
    (height, window), (_, stride) = pair(pool.kernel_size), pair(pool.stride)
    if height != 1 or pair(pool.padding) != (0, 0) or pool.ceil_mode or pool.divisor_override is not None:
        raise ExchangeError("an average over features with padding, ceil_mode or divisor_override")
    starts = range(0, size - window + 1, stride)
    weight = torch.zeros(len(starts), size, device="cpu")
    for row, start in zip(weight, starts, strict=True):
        row[start : start + window] = 1 / window
    return Synapses(weight)


def _adaptive(pool: nn.AdaptiveAvgPool2d, shape: Shape) -> Pool:
    size: object = pool.output_size
    wanted = tuple(size) if isinstance(size, tuple | list) else (size, size)
    space = shape[1:]
    height, width = (n if w is None else int(w) for n, w in zip(space, wanted, strict=True))
    if space[0] % height or space[1] % width:
        raise ExchangeError(f"an AdaptiveAvgPool2d from {space} to {(height, width)}: its windows have different sizes")
    window = space[0] // height, space[1] // width
    return Pool("average", window, window, (0, 0))


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """One number for each of two dimensions, as torch takes them."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _numbers(parameter: Tensor) -> Tensor:
    numbers = parameter.detach().cpu()
    numbers = numbers if numbers.dtype == torch.float64 else numbers.float()
    if not bool(numbers.isfinite().all()):
        raise ExchangeError("weights that are NaN or infinite")
    return numbers.clone()
