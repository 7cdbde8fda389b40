"""Slow and obvious references, and what several test files share."""

import math

import torch
from DCLS.construct.modules import ConstructKernel1d
from torch import Tensor

VERSIONS = {"gauss": "gauss", "triangle": "max", "linear": "v1"}
FLOORS = {"gauss": 0.27, "triangle": 1.0}


def bump(z: float, sigma: float | None, interpolation: str) -> float:
    if interpolation == "gauss":
        return math.exp(-(z**2) / (2 * sigma**2))
    return max(0.0, (1.0 if interpolation == "linear" else sigma) - abs(z))


def tap(k: int, delay: float, weight: float, sigma: float | None, max_delay: int, interpolation: str) -> float:
    """The formula at the head of `delayplug.layers.taps`, in plain floats."""
    total = sum(bump(j - delay, sigma, interpolation) for j in range(max_delay + 1))
    return weight * bump(k - delay, sigma, interpolation) / (total + 1e-7)


def dcls_taps(delays: Tensor, weights: Tensor, sigma: Tensor | None, *, max_delay: int, interpolation: str) -> Tensor:
    """DCLS's own kernel for delays (O, I, N): positions counted from K // 2 against time, then turned around."""
    size = max_delay + 1
    positions = (size - 1 - delays) - size // 2
    construct = ConstructKernel1d(*delays.shape[:2], 1, delays.shape[2], (size,), VERSIONS[interpolation])
    width = None if sigma is None else (sigma - FLOORS[interpolation]).expand_as(delays)[None]
    return construct(weights, positions[None], width).flip(-1).permute(2, 0, 1)


def convolve(x: Tensor, taps: Tensor, steps: int) -> Tensor:
    """y[t] = sum_k taps[k] x[t - k] for x (T, B, I) and taps (K, O, I)."""
    rows = []
    for t in range(steps):
        row = x.new_zeros(x.shape[1], taps.shape[1])
        for k in range(taps.shape[0]):
            if 0 <= t - k < x.shape[0]:
                row = row + x[t - k] @ taps[k].T
        rows.append(row)
    return torch.stack(rows)


def convolve_channels(x: Tensor, taps: Tensor, steps: int) -> Tensor:
    """The same for x (T, B, C, ...) or (T, C) and taps (K, C)."""
    shape = (-1,) if x.dim() == 2 else (1, -1, *(1,) * (x.dim() - 3))
    rows = []
    for t in range(steps):
        row = torch.zeros_like(x[0])
        for k in range(taps.shape[0]):
            if 0 <= t - k < x.shape[0]:
                row = row + x[t - k] * taps[k].view(shape)
        rows.append(row)
    return torch.stack(rows)


def shift(x: Tensor, delay: int) -> Tensor:
    """x, `delay` steps later, same length."""
    return torch.cat((torch.zeros_like(x[:delay]), x))[: x.shape[0]]
