"""Penalties to be added to the loss, for short delays or for few different ones."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, choice_error
from ..layers.base import DelayLayer
from ..layers.linear import LearnableDelay
from ..layers.taps import taps
from ..surgery.find import learned_delays, strengths

Kind = Literal["short", "entropy"]
Per = Literal["layer", "neuron"]


def delay_penalty(
    model: nn.Module, kind: Kind = "short", *, weighted: bool = False, per: Per = "layer", reach: float = 2.0
) -> Tensor:
    """A term of the loss for short delays, or for few different ones: `loss + 0.1 * delay_penalty(model)`.

    short: the mean of delay / max_delay, an L1 penalty as it is commonly used for parameters of any kind. Short delays
        need little memory: a neuron's buffer is as long as its longest delay.
    entropy: that of the histogram of delays over whole steps, as a fraction of log(max_delay + 1). It falls as delays
        gather at few different values, which can then be shared. Each delay counts for the steps within `reach` of it,
        by a triangle, so that the histogram has a gradient. An entropy of quantised weights is minimised in this way by
        Tartaglione et al. ("HEMP", Neurocomputing 461, 2021); here it is that of delays.

    Args:
        model: any module with delays that are Parameters; the penalty is the mean over its layers.
        kind: "short" or "entropy".
        weighted: weight each delay by the strength of its connection, see `delayplug.surgery.find.strengths`. The
            penalty acts on delays only: weights get no gradient from it.
        per: for "entropy", one histogram for each "layer" or for each "neuron" (of layers with delays per synapse: the
            first dimension of their delays). Layers with delays per channel always have one.
        reach: for "entropy", half the width of a delay's triangle in steps, at least 1. A delay is drawn to others that
            are up to 2 * reach away; with 1, whole delays count for their own step alone, and have no gradient.

    Returns:
        A scalar in 0..1 ("entropy" may be slightly above), differentiable in the delays; those that pruning holds at
        zero get no gradient.

    Raises:
        ArgumentError: the model has no learned delays, or `kind`, `per` or `reach` has another value.

    >>> layer = LearnableDelay(8, 4, max_delay=10, init=5)
    >>> delay_penalty(layer).item(), delay_penalty(layer, "entropy", reach=1).item()
    (0.5, 0.0)
    """
    for name, value, allowed in (("kind", kind, get_args(Kind)), ("per", per, get_args(Per))):
        if value not in allowed:
            raise choice_error(name, allowed, value)
    if not 1 <= reach < math.inf:
        raise ArgumentError("reach", "a number of steps >= 1", reach)
    by_name = strengths(model) if weighted else {}
    terms = []
    for name, delay in learned_delays(model):
        delay.clamp_parameters()
        strength = by_name.get(name)
        shares = torch.ones_like(delay.delays) if strength is None else strength.to(delay.delays)
        terms.append(_short(delay, shares) if kind == "short" else _entropy(delay, shares, per, reach))
    return torch.stack([term.to(terms[0]) for term in terms]).mean()


def _short(delay: DelayLayer, shares: Tensor) -> Tensor:
    most = max(delay.max_delay, 1)
    return (_free(delay) * shares).sum() / (most * shares.sum().clamp(min=_tiny(shares)))


def _entropy(delay: DelayLayer, shares: Tensor, per: Per, reach: float) -> Tensor:
    if delay.max_delay == 0:
        return 0.0 * _free(delay).sum()
    per_channel = isinstance(delay, LearnableDelay) and delay.out_features is None
    rows = delay.delays.shape[0] if per == "neuron" and not per_channel else 1
    # Steps beyond the range keep a triangle whole: cut at the border it would be narrower, and draw delays there.
    margin = math.ceil(reach)
    counts = taps(
        (_free(delay) + margin).reshape(rows, -1),
        shares.reshape(rows, -1),
        delay.delays.new_tensor(reach),
        max_delay=delay.max_delay + 2 * margin,
        interpolation="triangle",
    )  # (steps, rows)
    p = counts / counts.sum(0).clamp(min=_tiny(counts))
    entropy: Tensor = -torch.special.xlogy(p, p.clamp(min=_tiny(p))).sum(0)
    return entropy.mean() / math.log(delay.max_delay + 1)


def _free(delay: DelayLayer) -> Tensor:
    """The delays, of which those that pruning holds at zero pass no gradient."""
    return delay.delays if delay.active is None else delay.delays.masked_fill(~delay.active, 0)


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
