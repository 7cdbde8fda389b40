"""Delays as explicit queues on a plain network: one history per stream, chosen by the program and not guessed."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

LONGEST = 5
History = dict[str, list[Tensor]]  # of each layer the inputs so far, (B, ...) each


@dataclass
class Queues:
    """Pre-hooks on the layers of a plain network: each gets its input of `delay` steps before, at first zeros.

    `now` is the history of the stream that runs; a call that fails leaves the one that was committed.
    """

    delay: int
    sequence: bool
    now: History = field(default_factory=dict)

    def watch(self, net: nn.Module, layers: list[str]) -> None:
        for name in layers:
            module = net.get_submodule(name)
            module._forward_pre_hooks.clear()  # those of a deep copy
            module.register_forward_pre_hook(partial(self._delayed, name))

    def start(self, history: History) -> None:
        self.now = {name: list(inputs) for name, inputs in history.items()}

    def _delayed(self, name: str, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = args
        if not self.sequence:
            return (self._step(name, x), *rest)
        return (torch.stack([self._step(name, x_t) for x_t in x]), *rest)

    def _step(self, name: str, x: Tensor) -> Tensor:
        inputs = self.now.setdefault(name, [])
        inputs.append(x.clone())  # the caller may write to it
        return inputs[-1 - self.delay] if len(inputs) > self.delay else torch.zeros_like(x)


def pending(inputs: list[Tensor]) -> bool:
    """Whether something that is not zero has yet to arrive, with delays of `LONGEST`."""
    return any(bool(x.any()) for x in inputs[-LONGEST:])


def select(history: History, index: Any) -> History:
    return {name: [x[index] for x in inputs] for name, inputs in history.items()}


def detached(history: History) -> History:
    return {name: [x.detach() for x in inputs] for name, inputs in history.items()}


def joined(one: History, other: History, batches: tuple[int, int]) -> History:
    """The batches side by side; the shorter history begins with zeros."""
    out: History = {}
    for name in {*one, *other}:
        a, b = one.get(name, []), other.get(name, [])
        length = max(len(a), len(b))
        shape = (a or b)[0].shape[1:]
        pad = lambda xs, batch: [torch.zeros(batch, *shape)] * (length - len(xs)) + xs  # noqa: E731, B023
        out[name] = [torch.cat(pair) for pair in zip(pad(a, batches[0]), pad(b, batches[1]), strict=True)]
    return out
