"""Layers to try, and the ways to run them over a sequence: at once, in chunks, step by step."""

import torch
from torch import nn

from delayplug import DelayState, LearnableDelay

F64 = torch.float64


def make(*sizes, interpolation="gauss", sigma=None, dtype=F64, **options):
    """A layer with its delays off the whole steps and a sigma for each of them, if it has any."""
    layer = LearnableDelay(*sizes, interpolation=interpolation, dtype=dtype, **{"max_delay": 6, **options})
    if layer.sigma is not None and sigma is None:
        with torch.no_grad():
            if isinstance(layer.sigma, nn.Parameter):
                layer.sigma.copy_(1.1 + 2 * torch.rand_like(layer.sigma))
            else:
                layer.sigma.fill_(1.1 + 2 * torch.rand(()).item())
    return layer


def run_steps(layer, x, **options):
    state = layer.initial_state(*x.shape[1:2], trailing=tuple(x.shape[3:])) if x.dim() > 2 else layer.initial_state()
    if layer.out_features is not None:
        state = layer.initial_state(*x.shape[1:-1])
    rows = []
    for x_t in x.unbind(0):
        y_t, state = layer.step(x_t, state, **options)
        rows.append(y_t)
    return torch.stack(rows), state


def run_chunks(layer, x, sizes, state=None):
    parts = []
    for part in x.split(sizes):
        y, state = layer.chunk(part, state)
        parts.append(y)
    return torch.cat(parts), state


def equal(a, b, tolerance=1e-10):
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)


def from_history(layer, x, state, **options):
    """The step with nothing but the history: whatever else a state holds must make no difference."""
    return layer.step(x, DelayState(state.history.clone()), **options)[0]
