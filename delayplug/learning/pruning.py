"""Pruning of delays: most of them become zero while training goes on, and stay so."""

from typing import Literal, NamedTuple, TypedDict, get_args

import torch
from torch import Tensor, nn

from .._tables import make_table, number, text, to_text
from ..errors import ArgumentError, choice_error
from ..layers.base import DelayLayer
from ..layers.checks import check_count
from ..surgery.find import buffer_cells, inputs, learned_delays, strengths

Unit = Literal["synaptic", "axonal"]


class Pruned(NamedTuple):
    """One layer after pruning.

    Attributes:
        layer: its name.
        units: delays, or input channels with `granularity="axonal"`.
        active: how many of them are not held at zero.
        longest: the longest delay in steps, rounded.
        cells: past inputs to be stored, over all input channels: for each as many as its longest delay, in steps.
    """

    layer: str
    units: int
    active: int
    longest: int
    cells: int


class PruningState(TypedDict):
    """State of a `DelayPruning`: its attributes, and the mask of active delays by name of the layer, None for all."""

    epoch: int
    first: int
    last: int
    fraction: float
    granularity: Unit
    active: dict[str, Tensor | None]


class DelayPruning:
    """Prunes delays to a fraction while training: a pruned delay is held at zero, its synapse and weight stay.

    With n = last - first epochs of pruning and s = 1 - fraction, after epoch e each layer has

        s * (1 - (1 - (e - first) / n) ** 3),        first <= e <= last

    of its delays pruned, rounded half up to a whole number: the cubic schedule of Zhu and Gupta ("To prune, or not to
    prune", 2017, arXiv:1710.01878, equation 1) from a sparsity of zero. Pruned are those
    with the smallest delay times strength of the connection (`surgery.find.strengths`, for a synapse its absolute
    weight), which is to first order what pruning changes in the input of the neuron. A pruned delay stays pruned.

    Bouhadjar and Neftci (2026, arXiv:2602.09746) keep 20 % of the axonal delays of keyword networks with little loss;
    their published code learns a score for each, here it is the magnitude. Delays per synapse are pruned for hardware
    by Patino-Saucedo et al. (2024, arXiv:2404.10597).

    Call `step()` once per epoch. Masks are held by the layers (`DelayLayer.prune`), through any optimizer.

    Args:
        model: any module that contains layers with delays.
        fraction: of the delays of each layer that stays active in the end, 0..1.
        epochs: length of the whole training.
        begin, end: pruning lasts from int(epochs * begin) to int(epochs * end) epochs, 0 <= begin < end <= 1. By
            default it begins when `SigmaSchedule` by default has ended, since wide kernels hardly depend on delays.
        granularity: the unit of pruning: "synaptic", each delay by itself; "axonal", in layers with delays per synapse
            all delays of an input channel together, which then needs no buffer.

    Raises:
        ArgumentError: there are no delays, or a number is out of its range.

    >>> from delayplug import LearnableDelay
    >>> layer = LearnableDelay(10, 10, max_delay=24)
    >>> pruning = DelayPruning(layer, 0.2, epochs=4, begin=0, end=1)
    >>> for _ in range(4):
    ...     pruning.step()
    >>> pruning.report()[0].active, int((layer.delays > 0).sum())
    (20, 20)
    """

    def __init__(
        self,
        model: nn.Module,
        fraction: float,
        epochs: int,
        *,
        begin: float = 0.25,
        end: float = 0.75,
        granularity: Unit = "synaptic",
    ) -> None:
        check_count("epochs", epochs, 1)
        if not 0 <= fraction <= 1:
            raise ArgumentError("fraction", "a fraction of the delays, 0..1", fraction)
        if not 0 <= begin < end <= 1:
            raise ArgumentError("begin, end", "fractions of the epochs with 0 <= begin < end <= 1", f"{begin}, {end}")
        if granularity not in get_args(Unit):
            raise choice_error("granularity", get_args(Unit), granularity)
        self._model, self._layers = model, dict(learned_delays(model))
        self.fraction, self.epoch = fraction, 0
        self.granularity: Unit = granularity
        self.first = int(epochs * begin)
        self.last = max(self.first + 1, int(epochs * end))

    def after(self, epoch: int) -> float:
        """The fraction of delays that is pruned after so many epochs."""
        part = (min(max(epoch, self.first), self.last) - self.first) / (self.last - self.first)
        return (1 - self.fraction) * (1 - (1 - part) ** 3)

    @torch.no_grad()
    def step(self) -> None:
        """Count one more epoch, and prune as many delays as the schedule asks for by then."""
        self.epoch += 1
        if not self.first < self.epoch <= self.last:
            return
        by_name = strengths(self._model)
        for name, delay in self._layers.items():
            units, active = (each.cpu() for each in _units(delay, self.granularity))
            # On the CPU: a GPU adds in any order, and processes that train one model would prune other delays.
            each = (delay.delays * by_name[name]).flatten().cpu()
            scores = each.new_zeros(len(active)).index_add_(0, units.flatten(), each)
            scores[~active] = -1  # before active ones that score zero
            wanted = int(len(active) * self.after(self.epoch) + 0.5)
            least = scores.argsort(stable=True)[: max(wanted, int((~active).sum()))]
            active[least] = False
            delay.prune(active[units])

    def report(self) -> list[Pruned]:
        """The state of each layer."""
        rows = []
        for name, delay in self._layers.items():
            _, active = _units(delay, self.granularity)
            longest = int((delay.delays.detach().max() + 0.5).floor())
            rows.append(Pruned(name, len(active), int(active.sum()), longest, buffer_cells(delay)))
        return rows

    def __str__(self) -> str:
        table = make_table(text("layer", wrap="anywhere"), *map(number, ("units", "active", "longest", "cells")), gap=3)
        for r in self.report():
            table.add_row(r.layer or "(model)", f"{r.units:,}", f"{r.active:,}", f"{r.longest}", f"{r.cells:,}")
        return to_text(table)

    def state_dict(self) -> PruningState:
        """The schedule, and which delays are active, for a checkpoint."""
        return {
            "epoch": self.epoch,
            "first": self.first,
            "last": self.last,
            "fraction": self.fraction,
            "granularity": self.granularity,
            "active": {name: None if d.active is None else d.active.clone() for name, d in self._layers.items()},
        }

    def load_state_dict(self, state: PruningState) -> None:
        """Take over the schedule of a `state_dict`, and prune the delays that were pruned then.

        Raises:
            ArgumentError: it is that of other layers.
        """
        masks = state["active"]
        if set(masks) != set(self._layers):
            raise ArgumentError("state", f"masks of {', '.join(self._layers)}", ", ".join(masks) or "none")
        for name, mask in masks.items():
            shape = self._layers[name].delays.shape
            if mask is not None and mask.shape != shape:
                raise ArgumentError("state", f"a mask {tuple(shape)} of {name or 'the model'}", tuple(mask.shape))
        self.epoch, self.first, self.last = state["epoch"], state["first"], state["last"]
        self.fraction, self.granularity = state["fraction"], state["granularity"]
        for name, mask in masks.items():
            self._layers[name].prune(mask)


def _units(delay: DelayLayer, granularity: Unit) -> tuple[Tensor, Tensor]:
    """The unit of each delay, int64 of the shape of the delays; whether each unit has active ones, bool."""
    each = torch.arange(delay.delays.numel(), device=delay.delays.device)
    units = inputs(delay) if granularity == "axonal" else each.view(delay.delays.shape)
    active = torch.zeros(int(units.max()) + 1, dtype=torch.bool, device=units.device)
    active[units if delay.active is None else units[delay.active]] = True
    return units, active
