"""For the training script: the annealing of sigma, and groups of parameters for the optimizer."""

import math
from collections.abc import Iterator
from typing import Any, Literal, NoReturn, TypedDict, get_args

import torch
from torch import nn

from ..errors import ArgumentError, choice_error
from ..layers.base import DelayLayer
from ..layers.checks import check_count
from ..layers.taps import SIGMA_FLOOR

Shape = Literal["exponential", "linear"]


class ScheduleState(TypedDict):
    """State of a `SigmaSchedule`; `ranges` has the floor, start and end of each layer's sigma, in steps."""

    epoch: int
    length: int
    shape: Shape
    ranges: list[tuple[float, float, float]]


class SigmaSchedule:
    """Narrows the kernels while training: from a width that covers all delays to one that covers a single step.

    With the floor f of the interpolation (0.27 steps for "gauss", 1 for "triangle"), after epoch e of
    n = epochs * until

        exponential   sigma = f + (start - f) * ((end - f) / (start - f)) ** (min(e, n) / n)
        linear        sigma = start + (end - start) * min(e, n) / n

    and constant from then on. The defaults are the paper's (Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024,
    appendix): exponential over the first quarter, from max_delay / 2 + f to f + 0.23.

    Call `step()` once per epoch. Layers with a learned sigma, or with interpolation "linear", are left alone.

    Args:
        model: any module that contains layers with delays.
        epochs: length of the whole training.
        start: width in steps at the beginning; by default the present one of each layer.
        end: width in steps at the end of the annealing; f + 0.23 by default.
        until: the fraction of the epochs over which sigma changes, 0 < until <= 1.
        shape: "exponential" or "linear".

    >>> from delayplug import LearnableDelay
    >>> layer = LearnableDelay(3, 2, max_delay=24)
    >>> schedule = SigmaSchedule(layer, epochs=150)
    >>> round(layer.sigma.item(), 2), round(schedule.after(37)[0], 2)
    (12.27, 0.5)
    """

    def __init__(
        self,
        model: nn.Module,
        epochs: int,
        *,
        start: float | None = None,
        end: float | None = None,
        until: float = 0.25,
        shape: Shape = "exponential",
    ) -> None:
        check_count("epochs", epochs, 1)
        if not 0 < until <= 1:
            raise ArgumentError("until", "a fraction between 0 (excluded) and 1", until)
        if shape not in get_args(Shape):
            raise choice_error("shape", get_args(Shape), shape)
        self._layers = [layer for layer in _delays(model) if anneals(layer)]
        if not self._layers:
            expected = "a model with delays whose sigma is a buffer"
            raise ArgumentError(
                "model", expected, type(model).__name__, "Is it delayed, not with 'linear', not frozen?"
            )
        self.shape: Shape = shape
        self.epoch = 0
        self.length = max(1, int(epochs * until))
        self._ranges: list[tuple[float, float, float]] = []
        for layer in self._layers:
            floor = SIGMA_FLOOR[layer.interpolation]
            first = _width(layer) if start is None else start
            last = floor + 0.23 if end is None else end
            if not floor <= first < math.inf:
                raise ArgumentError("start", f"a width >= {floor} steps", first)
            if not floor <= last < math.inf or (last == floor and shape == "exponential"):
                least = f">= {floor}" if shape == "linear" else f"> {floor}"
                raise ArgumentError("end", f"a width {least} steps for shape={shape!r}", last)
            self._ranges.append((floor, first, last))
        self._apply()

    def after(self, epoch: int) -> list[float]:
        """The widths after so many epochs, one per layer, in steps."""
        part = min(epoch, self.length) / self.length
        if self.shape == "linear":
            return [start + (end - start) * part for _, start, end in self._ranges]
        return [
            floor if start == floor else floor + (start - floor) * ((end - floor) / (start - floor)) ** part
            for floor, start, end in self._ranges
        ]

    def step(self, epoch: int | None = None) -> None:
        """Count one more epoch, or set their number, and set the widths after so many."""
        if epoch is not None:
            check_count("epoch", epoch, 0)
        self.epoch = self.epoch + 1 if epoch is None else int(epoch)
        self._apply()

    @property
    def optimizer(self) -> NoReturn:
        """What schedulers of learning rates have. Raises AttributeError, with what to do instead."""
        raise AttributeError(
            "SigmaSchedule is no scheduler of a learning rate. For Lightning, leave it out of configure_optimizers and "
            "use Trainer(callbacks=[delayplug.DelayCallback()]); elsewhere, call its step() once per epoch"
        )

    def _apply(self) -> None:
        for layer, width in zip(self._layers, self.after(self.epoch), strict=True):
            assert layer.sigma is not None
            layer.sigma.fill_(width)

    def state_dict(self) -> ScheduleState:
        """The schedule and its epoch, for a checkpoint."""
        return {"epoch": self.epoch, "length": self.length, "shape": self.shape, "ranges": list(self._ranges)}

    def load_state_dict(self, state: ScheduleState) -> None:
        """Continue from a `state_dict`, and set the widths.

        Raises:
            ArgumentError: it is that of another number of layers.
        """
        if len(state["ranges"]) != len(self._layers):
            raise ArgumentError(
                "state", f"the schedule of {len(self._layers)} layers", f"{len(state['ranges'])} layers"
            )
        self.epoch, self.length, self.shape = state["epoch"], state["length"], state["shape"]
        self._ranges = [(floor, start, end) for floor, start, end in state["ranges"]]
        self._apply()


def parameter_groups(
    model: nn.Module, lr: float, delay_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Groups for any torch optimizer: weights, the rest, and delays.

    Delays are in steps, weights are far below one: they need different learning rates (the paper: 1e-1 and 1e-3).
    Weight decay would pull delays to zero, so they get none; neither do parameters with fewer than two dimensions
    (biases, batch norm, neurons).

    Args:
        model: any module; every parameter that requires a gradient is in exactly one group.
        lr: learning rate of everything but the delays.
        delay_lr: learning rate of delays and learned widths, in steps; 100 * lr by default.
        weight_decay: of the weights.

    Returns:
        Non-empty groups, each with "name": "weights", "others" or "delays".
    """
    delay_lr = 100 * lr if delay_lr is None else delay_lr
    for name, value in {"lr": lr, "delay_lr": delay_lr, "weight_decay": weight_decay}.items():
        if not value >= 0:
            raise ArgumentError(name, "a number >= 0", value)
    delays = {id(p): p for layer in _delays(model) for p in (layer.delays, layer.sigma) if isinstance(p, nn.Parameter)}
    groups: dict[str, dict[str, Any]] = {
        "weights": {"params": [], "lr": lr, "weight_decay": weight_decay},
        "others": {"params": [], "lr": lr, "weight_decay": 0.0},
        "delays": {"params": [], "lr": delay_lr, "weight_decay": 0.0},
    }
    for parameter in model.parameters():
        if parameter.requires_grad:
            kind = "delays" if id(parameter) in delays else "weights" if parameter.dim() > 1 else "others"
            groups[kind]["params"].append(parameter)
    return [{"name": name, **group} for name, group in groups.items() if group["params"]]


def _delays(model: nn.Module) -> Iterator[DelayLayer]:
    return (module for module in model.modules() if isinstance(module, DelayLayer))


def anneals(layer: DelayLayer) -> bool:
    """Whether the width of a layer is one that a schedule sets: it has one, which is not learned."""
    return layer.sigma is not None and not isinstance(layer.sigma, nn.Parameter)


@torch.no_grad()
def _width(layer: DelayLayer) -> float:
    assert layer.sigma is not None
    return float(layer.sigma.mean())
