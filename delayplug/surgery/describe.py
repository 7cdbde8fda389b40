"""What delays a model has, for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .._tables import make_table, number, text, to_text
from ..layers.base import DelayLayer
from ..layers.frozen import Frozen
from ..toolkits.vocabulary import Mode, TimeAxis
from .apply import named_delays, watch_of
from .by_structure import Skipped
from .delayed import Delayed, StatefulDelayed

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Row:
    """One layer with delays.

    Attributes:
        layer, neuron: dotted names; the neuron is "" for a delay that stands alone.
        granularity: "synaptic", "axonal" or "dendritic"; for a delay that stands alone "per synapse" or "per channel".
        runs: how a call of the layer lies in time, in words.
        reset: what marks a new sequence, in words.
        least, mean, most: of the delays as they are now, in steps.
        max_delay: what they can be at most.
        sigma: mean width in steps; None for "linear".
        parameters: number of learnable delays and widths.
        note: what is worth knowing, in words.
    """

    layer: str
    neuron: str
    granularity: str
    runs: str
    reset: str
    least: float
    mean: float
    most: float
    max_delay: int
    sigma: float | None
    parameters: int
    note: str = ""


@dataclass(frozen=True)
class Description:
    """What `describe_delays` returns: print it, or give it to rich."""

    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]

    def __rich__(self) -> RenderableType:
        from rich.console import Group

        table = make_table(
            *(text(name, wrap="anywhere") for name in ("layer", "feeds", "delays")),
            *(number(name) for name in ("range", "mean", "limit", "sigma", "number")),
            text("runs"),
            number("starts", wrap=True),
            title=f"{len(self.rows)} layers with delays, {sum(row.parameters for row in self.rows):,} parameters",
            title_justify="left",
            gap=3,
        )
        signals = list(dict.fromkeys(row.reset for row in self.rows))
        for row in self.rows:
            table.add_row(
                row.layer or "(model)",
                row.neuron or "-",
                row.granularity,
                f"{row.least:.1f} - {row.most:.1f}",
                f"{row.mean:.1f}",
                str(row.max_delay),
                "-" if row.sigma is None else f"{row.sigma:.2f}",
                f"{row.parameters:,}",
                row.runs,
                f"({signals.index(row.reset) + 1})",
            )
        parts: list[RenderableType] = [table] if self.rows else ["No layer has delays."]
        parts += [f"({i}) a new sequence starts with {signal}" for i, signal in enumerate(signals, 1)]
        notes = [f"{row.layer}: {row.note}" for row in self.rows if row.note]
        if self.skipped:
            columns = text("layer", wrap="anywhere"), text("why")
            left_out = make_table(*columns, title="\nleft out", title_justify="left", gap=3)
            for skipped in self.skipped:
                left_out.add_row(skipped.layer or "(model)", skipped.reason)
            parts.append(left_out)
        if notes:
            parts.append("\n" + "\n".join(notes))
        return Group(*parts)

    def __str__(self) -> str:
        return to_text(self)


def describe_delays(model: nn.Module) -> Description:
    """Say what delays a model has: `print(describe_delays(model))`.

    One row per layer with the neuron that it feeds, what marks a new sequence, and the delays as they are now, in
    steps; then the layers that `add_delays` left out, with its reasons.

    Raises:
        ArgumentError: `model` is not a module.
    """
    rows = tuple(_row(model, name, delay) for name, delay in named_delays(model))
    delayed = {row.layer for row in rows}
    skipped = {s.layer: s for s in _left_out(model) if s.layer not in delayed}
    return Description(rows, tuple(skipped.values()))


@torch.no_grad()
def _row(model: nn.Module, name: str, delay: DelayLayer) -> Row:
    values = delay.delays.double()
    numbers: dict[str, Any] = {
        "least": values.min().item(),
        "mean": values.mean().item(),
        "most": values.max().item(),
        "max_delay": delay.max_delay,
        "sigma": None if delay.sigma is None else delay.sigma.mean().item(),
        "parameters": sum(p.numel() for p in (delay.delays, delay.sigma) if isinstance(p, nn.Parameter)),
    }
    layer = model.get_submodule(name)
    frozen = "frozen: whole steps, which do not learn" if isinstance(delay, Frozen) else ""
    if not isinstance(layer, Delayed):
        kind = "per channel" if values.dim() == 1 else "per synapse"
        starts = "whatever its caller does: the state is passed on"
        return Row(name, "", kind, "as it is called", starts, note=frozen, **numbers)
    memory, place = layer.delay_memory, layer.delay_place
    names = {id(module): path for path, module in model.named_modules()}
    runs = "step by step" if memory.mode() is Mode.STEP else "whole sequences"
    if memory.mode() is Mode.SEQUENCE and place.time is not TimeAxis.FIRST:
        runs += ", batch first" if place.time is TimeAxis.SECOND else ", time folded into the batch"
    reset = layer.RESET if isinstance(layer, StatefulDelayed) else memory.toolkit.reset_signal(memory.neuron)
    note = next((c.note for plan in _plans(model) for c in plan.connections if c.layer == name), "")
    note = "; ".join(filter(None, (frozen, note)))
    return Row(name, names.get(id(memory.neuron), "?"), place.granularity, runs, reset, note=note, **numbers)


def _plans(model: nn.Module) -> Iterator[Any]:
    """The plans by which delays were added to the whole model."""
    watch = watch_of(model)
    return iter(()) if watch is None else iter(watch.plans)


def _left_out(model: nn.Module) -> Iterator[Skipped]:
    """The layers that got no delay by those plans, the latest word last."""
    for plan in _plans(model):
        yield from plan.skipped
