"""What belongs to each delay of a model: its weight, and the input that it delays.

Shapes: S that of the delays, (O, I, N), (C,) or that of a convolution's kernel; O outputs, I inputs, C channels, N
taps, g groups; * the dimensions of space.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..layers.base import DelayLayer
from ..layers.conv import ConvDelay, Convolution
from ..layers.linear import LearnableDelay
from ..layers.taps import round_delays
from ..toolkits.vocabulary import Granularity
from .apply import named_delays
from .delayed import Delayed


def all_delays(model: nn.Module) -> list[tuple[str, DelayLayer]]:
    """`named_delays` as a list; raises ArgumentError where there are none."""
    found = list(named_delays(model))
    if not found:
        raise ArgumentError("model", "a model with delays", type(model).__name__, "add_delays gives it some")
    return found


def learned_delays(model: nn.Module) -> list[tuple[str, DelayLayer]]:
    """The same; raises ArgumentError where some are frozen."""
    found = all_delays(model)
    frozen = [name or "the model" for name, delay in found if not delay.delays.is_floating_point()]
    if frozen:
        raise ArgumentError(
            "model", "learned delays", f"frozen ones in {', '.join(frozen)}", "freeze_delays comes last"
        )
    return found


def strengths(model: nn.Module) -> dict[str, Tensor]:
    """How strong the connection of each delay is: name of the layer to the absolute values of `weights`."""
    return {name: weight.abs() for name, weight in weights(model).items()}


def weights(model: nn.Module) -> dict[str, Tensor]:
    """What each delay's connection weighs: name of the layer to a detached tensor (*S).

    Per synapse it is the weight. Per channel it is the root of the sum of squares of the weights that the channel feeds
    (axonal) or is made from (dendritic), and one where these are not known: a delay that stands alone, or a layer with
    a forward of its own.
    """
    owners = {id(module.delay): module for module in model.modules() if isinstance(module, Delayed)}
    return {name: _weight(delay, owners.get(id(delay))).detach() for name, delay in named_delays(model)}


def _weight(delay: DelayLayer, owner: Delayed | None) -> Tensor:
    ones = torch.ones_like(delay.delays)
    if owner is None:
        return ones if delay.weight is None else delay.weight
    place = owner.delay_place
    layer: Any = getattr(owner, place.inner) if place.inner else owner
    granularity = place.granularity
    if granularity is Granularity.SYNAPTIC:
        synaptic: Tensor = layer.weight.unsqueeze(-1).to(ones)
        return synaptic.expand_as(ones)
    if not isinstance(layer, nn.Linear | Convolution):
        return ones
    weight = layer.weight.to(ones)
    transposed, groups = getattr(layer, "transposed", False), getattr(layer, "groups", 1)
    # A convolution's weight has its first dimension whole, and the second within each group.
    first = (granularity is Granularity.AXONAL) == transposed
    norms = weight.flatten(1).norm(dim=1) if first else _second(weight, groups)
    return norms if norms.shape == ones.shape else ones


def _second(weight: Tensor, groups: int) -> Tensor:
    """Norms of (g A, B, *) for each of the g B channels."""
    norms: Tensor = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(2).norm(dim=2).flatten()
    return norms


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
    """Past inputs to be kept at each point of space: for each input channel as many as its longest delay, in steps."""
    steps = round_delays(delay.delays).flatten()
    index = inputs(delay).flatten()
    longest = steps.new_zeros(int(index.max()) + 1).scatter_reduce(0, index, steps, "amax")
    return int(longest.sum())


def the_delay(layer: nn.Module) -> tuple[str, DelayLayer]:
    """The name and delays of a layer that has one `DelayLayer`, or is one."""
    found = all_delays(layer)
    if len(found) != 1:
        names = ", ".join(name for name, _ in found)
        advice = "Take one of its layers with .get_submodule(name)"
        raise ArgumentError("layer", "a layer with one set of delays", f"a model with those of {names}", advice)
    return found[0]
