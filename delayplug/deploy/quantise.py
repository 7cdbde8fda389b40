"""Fewer delays, and shorter weights: what hardware asks of a trained network, as pure functions.

Shapes: G neurons, M values of each.
"""

import torch
from torch import Tensor, nn

from ..layers.conv import ConvDelay, Convolution
from ..layers.engines.spatial import Geometry

_ELEMENTS = 1 << 19  # of the table of costs of some neurons at once


def rows_of(shape: tuple[int, ...], transposed_groups: int | None = None) -> Tensor:
    """Where the values of each output lie in a weight of that shape: (G, M), positions in the flat weight.

    Args:
        shape: (O, ...), or of a transposed convolution (I, O / groups, ...).
        transposed_groups: its groups; None for anything else.
    """
    places = torch.arange(torch.Size(shape).numel(), device="cpu").view(shape)
    if transposed_groups is None:
        return places.flatten(1)
    by_group: Tensor = places.unflatten(0, (transposed_groups, -1))
    return by_group.movedim(2, 1).flatten(0, 1).flatten(1)


def transposed_groups(layer: nn.Module) -> int | None:
    """The groups of a transposed convolution, for `rows_of`; None for any other layer."""
    convolution = layer.geometry if isinstance(layer, ConvDelay) else layer
    return convolution.groups if isinstance(convolution, Convolution | Geometry) and convolution.transposed else None


def few_delays(values_GM: Tensor, count: int, max_delay: int) -> Tensor:
    """Move each neuron's delays to at most `count` whole steps, such that the sum of squared moves is least.

    This is one-dimensional k-means with whole steps for centres, solved exactly by dynamic programming (H. Wang and
    M. Song, "Ckmeans.1d.dp", The R Journal 3/2, 2011): between neighbouring centres p < q what lies below (p + q) / 2
    goes to p and the rest to q, so that a table of the costs of all pairs is all there is to know. Rounding the centres
    of plain k-means can merge two of them, and need not be the best choice; this one is.

    Args:
        values_GM: delays in steps, between 0 and max_delay.
        count: k, of distinct delays.
        max_delay: D, in steps.

    Returns:
        (G, M) int64. With count > D, the delays rounded, halves up.
    """
    part = max(1, _ELEMENTS // (max_delay + 1) ** 2)
    # On the CPU: the order of the sums in the table decides between choices that are equally good, and is fixed there.
    rows = values_GM.cpu().split(part)
    return torch.cat([_few(values, min(count, max_delay + 1), max_delay) for values in rows]).to(values_GM.device)


def _few(values_GM: Tensor, count: int, max_delay: int) -> Tensor:
    values = values_GM.double()
    between_GPP, before_GP, behind_GP = _costs(values, max_delay)
    best, came_from = before_GP, []
    for _ in range(count - 1):  # the best so many centres, of which the last is q
        best, p = (best.unsqueeze(2) + between_GPP).min(1)
        came_from.append(p)
    place = (best + behind_GP).argmin(1)
    centres = [place]
    for p in reversed(came_from):
        place = p.gather(1, place.unsqueeze(1)).squeeze(1)
        centres.append(place)
    centres_GK = torch.stack(centres[::-1], 1)
    middles = (centres_GK[:, 1:] + centres_GK[:, :-1]).double() / 2
    return centres_GK.gather(1, torch.searchsorted(middles, values.contiguous(), right=True))


def _costs(values_GM: Tensor, max_delay: int) -> tuple[Tensor, Tensor, Tensor]:
    """Squared moves of what lies between neighbouring centres p < q (G, P, P), below the first, above the last (G, P).

    From the number, sum and sum of squares of the values below every half step.
    """
    halves = 2 * max_delay + 1
    bins = (2 * values_GM).floor().long().clamp(0, halves - 1)
    powers = torch.stack((torch.ones_like(values_GM), values_GM, values_GM**2))
    sums = powers.new_zeros((3, values_GM.shape[0], halves + 1))
    sums[..., 1:].scatter_add_(2, bins.expand_as(powers), powers)
    below = sums.cumsum(2)  # of values < h / 2, at h
    steps = torch.arange(max_delay + 1, device=values_GM.device)
    p, q = steps.view(-1, 1), steps.view(1, -1)

    def moves(low: Tensor, high: Tensor, to: Tensor) -> Tensor:
        number, total, squares = (below[:, :, high] - below[:, :, low]).unbind(0)
        return squares - 2 * to * total + to**2 * number

    between = moves(2 * p.expand(-1, len(steps)), p + q, p) + moves(p + q, 2 * q.expand(len(steps), -1), q)
    between.masked_fill_(p >= q, float("inf"))
    everything = torch.full_like(steps, halves)
    return between, moves(torch.zeros_like(steps), 2 * steps, steps), moves(2 * steps, everything, steps)


def quantised(weight: Tensor, rows_GM: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Weights as whole multiples of a scale per neuron, symmetric around zero, in the shape and dtype they had.

    The scale is a neuron's largest absolute weight / (2 ** (bits - 1) - 1). Each result w' is the multiple q scale that
    is nearest to its weight w, computed in float64 and then rounded to the weights' dtype, eps =
    torch.finfo(dtype).eps:

        |w' - q scale| <= eps / 2 |w'|,        |w' - w| <= scale / 2 + eps / 2 |w'|.

    The largest weight of each neuron stays as it is (in float64, up to eps). In float32 the rounding is below 0.002 of
    a scale for up to 16 bits. In half precision it can exceed half a scale with more than 8 bits (bfloat16) or 11
    (float16): weights of that dtype cannot hold all multiples, and several q share one w'. Subnormal results are
    rounded to a multiple of the smallest.

    Args:
        weight: of any shape.
        rows_GM: see `rows_of`.
        bits: of an integer with its sign; the largest is 2 ** (bits - 1) - 1.

    Returns:
        The weights, and the scale of each neuron (G,) float64: weight / scale are whole numbers, up to the rounding
        above.
    """
    most = 2 ** (bits - 1) - 1
    flat, rows = weight.detach().flatten(), rows_GM.to(weight.device)
    values = flat[rows].double()
    scale = values.abs().amax(1, keepdim=True) / most
    whole = (values / scale.where(scale > 0, 1)).round().clamp(-most, most)
    result = torch.empty_like(flat)
    result[rows] = (whole * scale).to(result.dtype)
    return result.view_as(weight), scale.squeeze(1)
