"""The surrogate gradient of the benchmark, which Norse does not have."""

import math
from typing import Any

import torch
from torch import Tensor


class Arctan(torch.autograd.Function):
    """Heaviside with the surrogate gradient alpha / 2 / (1 + (pi / 2 alpha x)^2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor | float) -> Tensor:
        ctx.alpha = alpha
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * (ctx.alpha / 2) / (1 + (math.pi / 2 * ctx.alpha * x) ** 2), None
