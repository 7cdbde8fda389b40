"""A warning for delays that no optimizer trains, because it was made before they were there.

What is global, and since when: the first call of `expect_training` registers one hook with all torch optimizers of the
process. It looks at an optimizer at its first two steps after that call, and at later ones only looks it up. Models and
optimizers are held by weak references.
"""

import functools
import gc
import warnings
import weakref

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from .find import named_delays

_models: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
# Of each optimizer: its steps since the last model came, up to two, and the versions of the delays after the first one.
_seen: "weakref.WeakKeyDictionary[Optimizer, tuple[int, dict[int, int]]]" = weakref.WeakKeyDictionary()


def expect_training(model: nn.Module) -> None:
    """Warn at the second step of an optimizer that trains a part of this model, if nothing trains its delays."""
    _models.add(model)
    _seen.clear()
    _watch_optimizers()


@functools.cache
def _watch_optimizers() -> None:
    register_optimizer_step_post_hook(_stepped)


def _stepped(optimizer: Optimizer, *_: object) -> None:
    if torch.compiler.is_compiling():
        return
    steps, versions = _seen.get(optimizer, (0, {}))
    if steps == 2:
        return
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    left = dict[int, int]()
    for model in list(_models):
        names = _left_out(model, trained, versions, left) if steps else _left_out(model, trained, None, left)
        if steps and names:
            _warn(model, optimizer, names)
    _seen[optimizer] = steps + 1, left


def _left_out(model: nn.Module, trained: set[int], before: dict[int, int] | None, now: dict[int, int]) -> list[str]:
    """The layers whose delays got a gradient and are not trained by an optimizer that trains a part of the model.

    Args:
        model: with delays.
        trained: the ids of what the optimizer trains.
        before: the version of each such delay at the step before, by its id; those that have changed are trained by
            hand. None at the first step.
        now: gets these versions.
    """
    if not any(id(parameter) in trained for parameter in model.parameters()):
        return []
    names = []
    for name, layer in named_delays(model):
        delays = layer.delays
        if not delays.requires_grad or delays.grad is None or id(delays) in trained:
            continue
        now[id(delays)] = delays._version
        if before is None or before.get(id(delays)) == delays._version:
            names.append(name)
    return names


def _warn(model: nn.Module, optimizer: Optimizer, names: list[str]) -> None:
    # Another optimizer may train them, now and then or later. Looked for only here, as it takes a while.
    others = {
        id(parameter)
        for other in gc.get_objects()
        if issubclass(type(other), Optimizer)
        for group in other.param_groups
        for parameter in group["params"]
    }
    delays = dict(named_delays(model))
    names = [name for name in names if id(delays[name].delays) not in others]
    if names:
        kind = type(optimizer).__name__
        warnings.warn(
            f"no optimizer trains the delays of {', '.join(names)}: this {kind} was made before add_delays, or without "
            "them. Make it after add_delays, from delayplug.parameter_groups(model, lr=...), or add the delays to it: "
            "optimizer.add_param_group({'params': [delay.delays for _, delay in delayplug.named_delays(model)], "
            "'lr': 0.1}). If they are not to learn: delay.requires_grad_(False)",
            stacklevel=4,
        )
