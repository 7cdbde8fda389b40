"""The delays of a model: their names, their weights, the inputs that they delay, and what they have stored.

Shapes: S that of the delays, (O, I, N), (C,) or that of a convolution's kernel; O outputs, I inputs, C channels, N
taps, g groups; * the dimensions of space.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..layers.base import DelayLayer
from ..layers.conv import ConvDelay, Convolution
from ..layers.linear import LearnableDelay
from ..layers.taps import round_delays
from ..toolkits.vocabulary import Granularity
from .delayed import Delayed, weights_of


def named_delays(model: nn.Module) -> Iterator[tuple[str, DelayLayer]]:
    """(name, delay) of every layer of delays in a model; for a layer with delays, the name of that layer."""
    layers = {id(layer.delay): name for name, layer in delayed_layers(model)}
    for name, module in model.named_modules():
        if isinstance(module, DelayLayer):
            yield layers.get(id(module), name), module


def delayed_layers(model: nn.Module) -> Iterator[tuple[str, Delayed]]:
    """(name, layer) of the layers to which `add_delays` gave delays; raises ArgumentError if it is no module."""
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", "a torch.nn.Module", type(model).__name__)
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Delayed))


def all_delays(model: nn.Module) -> list[tuple[str, DelayLayer]]:
    """`named_delays` as a list; raises ArgumentError if there are none."""
    delays = list(named_delays(model))
    if not delays:
        raise ArgumentError("model", "a model with delays", type(model).__name__, "add_delays gives it some")
    return delays


def learned_delays(model: nn.Module) -> list[tuple[str, DelayLayer]]:
    """`all_delays`; raises ArgumentError also if some are frozen."""
    delays = all_delays(model)
    frozen = [name or "the model" for name, delay in delays if not delay.delays.is_floating_point()]
    if frozen:
        raise ArgumentError(
            "model", "learned delays", f"frozen ones in {', '.join(frozen)}", "freeze_delays comes last"
        )
    return delays


def strengths(model: nn.Module) -> dict[str, Tensor]:
    """How strong the connection of each delay is: name of the layer to the absolute values of `weights`, (*S)."""
    return {name: weight.abs() for name, weight in weights(model).items()}


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The weight of the connection of each delay: name of the layer to a detached tensor (*S).

    Per synapse it is the synapse's weight. Per channel it is the root of the sum of squares of the weights that the
    channel feeds (axonal) or is made from (dendritic), and one where these are not known: for a delay that stands
    alone, or a layer with a forward of its own.
    """
    layers = {id(layer.delay): layer for _, layer in delayed_layers(model)}
    return {name: _weight(delay, layers.get(id(delay))).detach() for name, delay in named_delays(model)}


def _weight(delay: DelayLayer, layer: Delayed | None) -> Tensor:
    ones = torch.ones_like(delay.delays)
    if layer is None:
        return ones if delay.weight is None else delay.weight
    module, granularity = weights_of(layer), layer.delay_place.granularity
    if layer.delay_place.weight:
        own: Tensor = getattr(layer, layer.delay_place.weight)
        return own.to(ones).unsqueeze(-1).expand_as(ones)
    if not isinstance(module, nn.Linear | Convolution):
        return ones
    weight = module.weight.to(ones)
    if granularity is Granularity.SYNAPTIC:
        return weight.unsqueeze(-1).expand_as(ones)
    transposed, groups = (module.transposed, module.groups) if isinstance(module, Convolution) else (False, 1)
    # A convolution's weight has its first dimension whole, and the second within each group.
    first = (granularity is Granularity.AXONAL) == transposed
    # Of (g A, B, *), each of the g B channels becomes a row.
    rows = weight if first else weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    norms: Tensor = rows.flatten(1).norm(dim=1)
    return norms if norms.shape == ones.shape else ones


def inputs(delay: DelayLayer) -> Tensor:
    """int64 (*S): the input channel that each delay delays; for delays per channel, the channel."""
    shape, device = delay.delays.shape, delay.delays.device
    if isinstance(delay, ConvDelay) and not delay.geometry.transposed:  # (O, I / g, *)
        groups, per_group = delay.geometry.groups, shape[1]
        start = torch.arange(groups, device=device).repeat_interleave(shape[0] // groups) * per_group
        index = start.view(-1, 1) + torch.arange(per_group, device=device)
        return index.view(*shape[:2], *(1,) * (len(shape) - 2)).expand(shape)
    if isinstance(delay, LearnableDelay) and delay.out_features is not None:  # (O, I, N)
        return torch.arange(shape[1], device=device).view(1, -1, 1).expand(shape)
    return torch.arange(shape[0], device=device).view(-1, *(1,) * (len(shape) - 1)).expand(shape)


def buffer_cells(delay: DelayLayer) -> int:
    """Past inputs to be stored at each point of space: for each input channel as many as its longest delay in steps."""
    steps = round_delays(delay.delays).flatten()
    index = inputs(delay).flatten()
    longest = steps.new_zeros(int(index.max()) + 1).scatter_reduce(0, index, steps, "amax")
    return int(longest.sum())


def the_delay(layer: nn.Module) -> tuple[str, DelayLayer]:
    """The name and delays of a layer that has one `DelayLayer`, or is one."""
    delays = all_delays(layer)
    if len(delays) != 1:
        names = ", ".join(name for name, _ in delays)
        advice = "Take one of its layers with .get_submodule(name)"
        raise ArgumentError("layer", "a layer with one set of delays", f"a model with those of {names}", advice)
    return delays[0]
