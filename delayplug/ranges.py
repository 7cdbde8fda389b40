"""Parameters that live in an interval, and are brought back into it after every optimizer step.

Importing this module registers one hook with all torch optimizers. It looks at the parameters of the optimizer that
has just stepped and clamps those that carry a range; everything else it leaves alone.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

_ATTRIBUTE = "delayplug_range"


def limit(parameter: Tensor, low: float, high: float | Tensor) -> None:
    """Give a parameter its range, whose upper end may differ by entry.

    Copying a parameter loses it: the owner must set it again.
    """
    setattr(parameter, _ATTRIBUTE, (low, high))


def project(parameter: Tensor) -> None:
    """Clamp a parameter to its range, if it has one.

    Through `.data`: repeating it between a forward and its backward pass changes no value, so autograd need not know.
    """
    limits = getattr(parameter, _ATTRIBUTE, None)
    if limits is not None:
        low, high = limits
        if isinstance(high, Tensor):
            parameter.data.clamp_(min=low).clamp_(max=high)
        else:
            parameter.data.clamp_(low, high)


def _project_all(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            project(parameter)


register_optimizer_step_post_hook(_project_all)
