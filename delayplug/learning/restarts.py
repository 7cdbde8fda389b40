"""Delays at a border of their range are drawn again at random."""

from typing import TypedDict

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..layers.base import DelayLayer
from ..layers.checks import check_count
from ..surgery.find import learned_delays

# Running averages that torch's optimizers keep for each entry of a parameter; step sizes and the like are left alone.
_AVERAGES = (
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",
    "prev",
)


def restart_delays(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, generator: torch.Generator | None = None
) -> dict[str, int]:
    """Redraw the delays that are at 0 or max_delay, uniformly between: a gradient may hold them there forever.

    Similar to rewiring, which replaces useless connections by random ones (DEEP R: Bellec, Kappel, Maass, Legenstein,
    ICLR 2018; with delays: Meszaros, Knight, Nowotny, Frontiers in Computational Neuroscience 18, 2024); no source is
    claimed for the borders. Delays that do not require a gradient, and those that pruning holds at zero, are left
    alone. `DelayRestarts` waits until a delay has been at a border for some epochs.

    Args:
        model: any module with delays.
        optimizer: that of the delays; its momentum and other averages of the redrawn entries are set to zero.
        generator: a random generator on the CPU; processes that train one model together need equal ones.

    Returns:
        How many were redrawn, by name of the layer.

    >>> from delayplug import LearnableDelay
    >>> layer = LearnableDelay(3, 2, max_delay=9, init=9)
    >>> restart_delays(layer), bool((layer.delays < 9).all())
    ({'': 6}, True)
    """
    return {name: _draw(delay, _at_border(delay), optimizer, generator) for name, delay in learned_delays(model)}


class RestartsState(TypedDict):
    """State of a `DelayRestarts`; `waits` has by name of the layer the epochs at a border, int32 (shape of delays)."""

    epoch: int
    waits: dict[str, Tensor]


class DelayRestarts:
    """`restart_delays` for those delays that have been at the same border for `patience` epochs in a row.

    Call `step(optimizer)` once per epoch.

    Args:
        model: any module with delays.
        patience: number of epochs, at least 1.
        until: the last epoch with restarts, so that redrawn delays have time to learn; None for no end.
        generator: as for `restart_delays`.

    Raises:
        ArgumentError: there are no delays, or a number is out of its range.
    """

    def __init__(
        self,
        model: nn.Module,
        patience: int = 5,
        *,
        until: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_count("patience", patience, 1)
        if until is not None:
            check_count("until", until, 0)
        self._layers = dict(learned_delays(model))
        self.patience, self.until, self.epoch = patience, until, 0
        self._generator = generator
        # Epochs at a border: > 0 at max_delay, < 0 at zero.
        self._waits = {name: torch.zeros_like(d.delays, dtype=torch.int32) for name, d in self._layers.items()}

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer | None = None) -> dict[str, int]:
        """Count one more epoch; returns how many delays were redrawn, by name of the layer."""
        self.epoch += 1
        drawn = {}
        for name, delay in self._layers.items():
            waits = self._waits[name].to(delay.delays.device)
            side = _at_border(delay) * torch.where(delay.delays > 0, 1, -1)
            waits = torch.where(side * waits >= 0, waits + side, side) * side.abs()
            due = waits.abs() >= self.patience
            if self.until is not None and self.epoch > self.until:
                due = torch.zeros_like(due)
            drawn[name] = _draw(delay, due, optimizer, self._generator)
            self._waits[name] = waits.masked_fill(due, 0)
        return drawn

    def state_dict(self) -> RestartsState:
        """The epochs that each delay has been at a border, for a checkpoint."""
        return {"epoch": self.epoch, "waits": {name: waits.clone() for name, waits in self._waits.items()}}

    def load_state_dict(self, state: RestartsState) -> None:
        """Continue from a `state_dict`.

        Raises:
            ArgumentError: it is that of other layers.
        """
        shapes = {name: tuple(waits.shape) for name, waits in state["waits"].items()}
        expected = {name: tuple(waits.shape) for name, waits in self._waits.items()}
        if shapes != expected:
            raise ArgumentError("state", f"that of layers {expected}", shapes)
        self.epoch = state["epoch"]
        self._waits = {name: waits.clone() for name, waits in state["waits"].items()}


def _at_border(delay: DelayLayer) -> Tensor:
    """bool, shape of the delays: those at a border that may be moved."""
    values = delay.delays.detach()
    if not delay.delays.requires_grad or delay.max_delay == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    there = (values <= 0) | (values >= delay.max_delay)
    return there if delay.active is None else there & delay.active


@torch.no_grad()
def _draw(
    delay: DelayLayer, where: Tensor, optimizer: torch.optim.Optimizer | None, generator: torch.Generator | None
) -> int:
    number = int(where.sum())
    if number:
        # Between the borders, or a draw might be at one again.
        device = "cpu" if generator is None else generator.device
        share = torch.rand(number, generator=generator, device=device).clamp(1e-3, 1 - 1e-3)
        delay.delays[where] = (share * delay.max_delay).to(delay.delays)
        state = {} if optimizer is None else optimizer.state.get(delay.delays, {})
        for name in _AVERAGES:
            average = state.get(name)
            if isinstance(average, Tensor) and average.shape == where.shape:
                average[where] = 0
    return number
