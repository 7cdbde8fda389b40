"""One run on several processes: each has a part of every batch, and together they compute the same as one.

Gradients are summed by Lightning's DDP. Here is everything else that depends on the whole batch: batch norm, the share
of a process (for dropout, too), and the sums that become accuracies. On one process nothing of this has an effect.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from ..errors import RunError


def world() -> int:
    """Number of processes that train this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def check_same_everywhere(value: object, what: str) -> None:
    """Raise RunError unless all processes have the same value: each may have read files of its own computer."""
    if world() > 1:
        values: list[object] = [None] * world()
        dist.all_gather_object(values, value)
        unlike = [rank for rank, other in enumerate(values) if other != values[0]]
        if unlike:
            raise RunError(f"expected the same {what} on all processes, got others on {unlike} than on 0")


def share(total: int) -> slice:
    """The part of a batch of `total` recordings that is this process's."""
    rank = dist.get_rank() if world() > 1 else 0
    return slice(total * rank // world(), total * (rank + 1) // world())


def summed(value: Tensor) -> Tensor:
    """The sum over all processes, with its gradient."""
    result: Tensor = value if world() == 1 else _Sum.apply(value)
    return result


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor) -> Tensor:
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        # The summand of one process enters the loss of every other.
        return _Sum.forward(ctx, grad)


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch norm over the batches of all processes: torch's `SyncBatchNorm` runs on GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N, C)."""
        if world() == 1 or not self.training:
            return super().forward(x)
        number = summed(x.new_tensor(float(len(x))))
        mean = summed(x.sum(0)) / number
        centred = x - mean
        variance = summed(centred.square().sum(0)) / number
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * number / (number - 1), self.momentum)
        return centred * (self.weight / (variance + self.eps).sqrt()) + self.bias
