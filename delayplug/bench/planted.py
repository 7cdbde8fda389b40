"""Checking learned delays against those that the synthetic task was made with."""

import torch
from torch import Tensor


def planted_correlation(delays: Tensor, weights: Tensor, planted: Tensor) -> float:
    """How well some hidden neuron aligns each class, on average over classes.

    For each class the hidden neuron is taken whose delays correlate best with the planted ones over the channels, each
    channel counting with its positive weight: an alignment is a correlation of 1, whatever constant is added to the
    delays. Taking the best of many neurons makes random delays score above 0: compare with the same number before
    training.

    Args:
        delays: (O, C, N) of the first layer, in steps; the first tap is looked at.
        weights: (O, C, N), or (O, C).
        planted: (classes, C), in steps.
    """
    d_OC = delays[..., 0].double()
    w_OC = weights.double().view(*d_OC.shape, -1)[..., 0].clamp(min=0)
    w_OC = w_OC / w_OC.sum(1, keepdim=True).clamp(min=1e-12)
    p_KC = planted.double()
    d_OC = d_OC - (w_OC * d_OC).sum(1, keepdim=True)
    mean_OK = w_OC @ p_KC.T
    covariance_OK = (w_OC * d_OC) @ p_KC.T  # d is centred, so p need not be
    variance_d_O = (w_OC * d_OC.square()).sum(1, keepdim=True)
    variance_p_OK = w_OC @ p_KC.square().T - mean_OK.square()
    correlation_OK = covariance_OK / (variance_d_O * variance_p_OK).clamp(min=1e-12).sqrt()
    return float(torch.nan_to_num(correlation_OK).max(0).values.mean())
