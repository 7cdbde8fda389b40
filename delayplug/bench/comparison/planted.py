"""Checking learned delays against those that the synthetic task was made with."""

from collections.abc import Sequence

import torch
from torch import Tensor


def planted_correlation(delays: Sequence[Tensor], weights: Sequence[Tensor], planted: Tensor) -> float | None:
    """How far the delays on the way from each channel to each class follow the planted ones.

    Every path from a channel over a hidden neuron to a class has a delay, the sum of its synapses', and counts with the
    product of its positive weights. For each class this is the weighted correlation, over all paths, of that delay with
    the planted delay of its channel; the mean over classes is returned. Perfect alignment gives 1, random delays 0.

    Args:
        delays: (O, I, N) of each layer, in steps; the first tap is looked at.
        weights: (O, I, N) of each layer.
        planted: (classes, C), in steps.

    Returns:
        The correlation, or None for networks with more than one hidden layer.
    """
    d = [layer[..., 0].double() for layer in delays]
    w = [layer[..., 0].double().clamp(min=0) for layer in weights]
    if len(d) == 1:
        path_KOC, weight_KOC = d[0].unsqueeze(1), w[0].unsqueeze(1)
    elif len(d) == 2:
        path_KOC = d[1].unsqueeze(2) + d[0].unsqueeze(0)
        weight_KOC = w[1].unsqueeze(2) * w[0].unsqueeze(0)
    else:
        return None
    planted_KOC = planted.double().unsqueeze(1).expand_as(path_KOC)
    weight_KOC = weight_KOC / weight_KOC.sum((1, 2), keepdim=True)
    x, y = (v - (weight_KOC * v).sum((1, 2), keepdim=True) for v in (path_KOC, planted_KOC))
    covariance, variance_x, variance_y = ((weight_KOC * a * b).sum((1, 2)) for a, b in ((x, y), (x, x), (y, y)))
    correlation_K = covariance / (variance_x * variance_y).sqrt()
    return float(torch.nan_to_num(correlation_K).mean())
