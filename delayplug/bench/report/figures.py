"""A comparison in pictures."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from torch import Tensor

from ..._colours import BLUE, DARK, GREEN, GREY, LIGHT, ORANGE, PINK, VERMILLION
from ..._extras import extra
from ...errors import RunError
from ..comparison.records import MODEL, Record
from ..comparison.trained import read_delays
from ..variants import VARIANTS, Variant, variant_name
from .intervals import wilson
from .methods import Row, data_of, last_epoch, rows_of
from .tables import held_header

with extra("bench", "the report"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# One colour per variant, one line style per backend.
COLOURS: dict[Variant, str] = {
    "none": GREY,
    "fixed": ORANGE,
    "constant": GREEN,
    "learned": BLUE,
    "axonal": PINK,
    "dendritic": VERMILLION,
}
_STYLES = ("-", "--", ":", "-.")
_as_written = matplotlib.rc_context({"text.parse_math": False})  # names may have a dollar sign
_NAME_WIDTH = 34  # letters of a method's name in a line
_PHONE = 4.2  # inches; on a phone a text has about the size of the others there
_MARKERS = ("o", "s", "^", "D")


@_as_written
def accuracy_figure(records: Sequence[Record], *, narrow: bool = False) -> Figure:
    """Accuracy after the last epoch: a mark for each run, by method and backend; and the chance level.

    Runs on held-out speakers and runs on the test set have one panel each. The bar behind the marks of a method is the
    interval of their mean for the sampling of the recordings tested on (95 %, Wilson). `narrow` is for phones.
    """
    backends, rows = _backends(records), rows_of(records)
    names = list(dict.fromkeys(row.name for row in sorted(rows, key=_by_kind)))
    panels = {
        f"accuracy on {held_header(records)} (%)": [row for row in rows if row.held],
        "accuracy on the test set (%)": [row for row in rows if row.tested],
    }
    panels = {title: shown for title, shown in panels.items() if shown}
    texts = [_wrapped(name, _NAME_WIDTH // 2 if narrow else _NAME_WIDTH) for name in names]
    lines = sum(max(2, 1 + text.count("\n")) for text in texts)
    rows_below = len(panels) if narrow else 1
    width = _PHONE if narrow else 7.5 if len(panels) == 1 else 11
    figure = Figure(figsize=(width, rows_below * (0.21 * lines + 0.9) + 0.4), layout="constrained")
    chance = 100 / len(records[0]["data"]["classes"])
    panes = figure.subplots(rows_below, len(panels) // rows_below, sharey=True, squeeze=False).ravel()
    for axes, (title, shown) in zip(panes, panels.items(), strict=True):
        for y, name in enumerate(names):
            named = [row for row in shown if row.name == name]
            runs = {row.backend: row.tested if "test set" in title else row.held for row in named}
            if named:
                _marks(axes, y, runs, backends, COLOURS[named[0].delays])
        axes.axvline(chance, color="black", linewidth=0.8, linestyle="--", alpha=0.5)
        place = (chance, len(names) - 0.45)
        axes.annotate("chance", place, textcoords="offset points", xytext=(3, 0), fontsize=8)
        axes.set_yticks(range(len(names)), texts)
        axes.set(xlabel=title, xlim=(0, 100), ylim=(len(names) - 0.4, -0.6))
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
    marks = [Line2D([], [], linestyle="", color=DARK, marker=_MARKERS[n % 4]) for n in range(len(backends))]
    figure.legend(marks, backends, loc="outside upper center", ncols=2 if narrow else len(backends), frameon=False)
    return figure


def _wrapped(name: str, width: int = _NAME_WIDTH) -> str:
    return "\n".join(textwrap.wrap(name, width))


def _by_kind(row: Row) -> tuple[object, ...]:
    return row.fan_in, VARIANTS.index(row.delays), len(row.settings), row.name


def _marks(axes: Axes, y: int, runs: dict[str, tuple[Record, ...]], backends: Sequence[str], colour: str) -> None:
    """Draw the runs of one method, by backend, and the interval of their mean (Wilson)."""
    every = [record for own in runs.values() for record in own]
    low, high = wilson(mean(map(last_epoch, every)), every[0]["data"]["test"])
    axes.barh(y, 100 * (high - low), left=100 * low, height=0.5, color=colour, alpha=0.18)
    for n, backend in enumerate(backends):
        values = [100 * last_epoch(record) for record in runs.get(backend, ())]
        height = y + 0.22 * (n - (len(backends) - 1) / 2)
        axes.scatter(
            values,
            [height] * len(values),
            s=26,
            color=colour,
            marker=_MARKERS[n % len(_MARKERS)],
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
        )


@_as_written
def learning_curves_figure(records: Sequence[Record], *, narrow: bool = False) -> Figure | None:
    """Validation accuracy and training loss over epochs: the mean over the runs of a method, and the range of all.

    The runs are those on the test set, where a method has some. None if the records have no epochs.
    """
    rows = [row for row in rows_of(records) if all(record["epochs"] for record in _drawn(row))]
    if not rows:
        return None
    backends = _backends(records)
    entries = sum(1 + _wrapped(f"{row.name}, {row.backend}").count("\n") for row in rows)
    figure = Figure(figsize=(_PHONE, 6 + 0.22 * entries) if narrow else (10, 4), layout="constrained")
    accuracy, loss = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
    kinds = Counter[tuple[str, str, int]]()
    for row in rows:
        kinds[row.backend, row.delays, row.fan_in] += 1
        style = {
            "color": _shade(COLOURS[row.delays], kinds[row.backend, row.delays, row.fan_in] - 1),
            "linestyle": _STYLES[backends.index(row.backend) % len(_STYLES)],
            "linewidth": 0.9 if row.fan_in else 1.8,
        }
        for axes, curves in ((accuracy, _validated(_drawn(row))), (loss, _losses(_drawn(row)))):
            x = sorted(set.intersection(*map(set, curves)))  # epochs that were validated in all runs
            values = np.array([[curve[epoch] for epoch in x] for curve in curves])
            marker = "o" if len(x) == 1 else ""
            axes.plot(x, values.mean(0), marker=marker, label=_wrapped(f"{row.name}, {row.backend}"), **style)
            axes.fill_between(x, values.min(0), values.max(0), color=style["color"], alpha=0.12, linewidth=0)
    data, last = records[0]["data"], max(record["config"]["epochs"] for record in records)
    accuracy.axhline(100 / len(data["classes"]), color="black", linewidth=0.8, alpha=0.5)
    place = {"textcoords": "offset points", "xytext": (0, 3), "ha": "right", "fontsize": 8}
    accuracy.annotate("chance", (last, 100 / len(data["classes"])), **place)
    by = {"test" if record["config"].get("protocol") == "paper" else "validation" for record in records}
    accuracy.set(xlabel="epoch", ylabel=f"{' or '.join(sorted(by))} accuracy (%)", ylim=(0, 101))
    loss.set(xlabel="epoch", ylabel="training loss")
    loss.set_ylim(bottom=0)
    for axes in (accuracy, loss):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = accuracy.get_legend_handles_labels()
    if narrow:
        figure.legend(handles, labels, loc="outside lower center", frameon=False)
    else:
        figure.legend(handles, labels, loc="outside right center", frameon=False)
    presets = sorted({record["config"]["preset"] for record in records})
    figure.suptitle(f"{data_of(records[0])}, preset {' and '.join(presets)}")
    return figure


def _shade(colour: str, number: int) -> tuple[float, ...]:
    """A colour for the first method of a kind, and lighter and darker ones for the next."""
    other, share = ((1.0, 1.0, 1.0), 0.45) if number % 2 else ((0.0, 0.0, 0.0), 0.4)
    share = 0.0 if number == 0 else min(share + 0.12 * (number // 2), 0.8)
    return tuple((1 - share) * channel + share * end for channel, end in zip(to_rgb(colour), other, strict=True))


def _drawn(row: Row) -> tuple[Record, ...]:
    return row.tested or row.held


def _validated(records: Sequence[Record]) -> list[dict[int, float]]:
    """Validation accuracy of each run in percent, by epoch; for a refit, of the training before it."""
    curves = (record["held_out"]["epochs"] if "held_out" in record else record["epochs"] for record in records)
    return [{e["epoch"]: 100 * a for e in curve if (a := e["valid_accuracy"]) is not None} for curve in curves]


def _losses(records: Sequence[Record]) -> list[dict[int, float]]:
    return [{entry["epoch"]: entry["train_loss"] for entry in record["epochs"]} for record in records]


@_as_written
def delays_figure(record: Record, folder: Path, *, narrow: bool = False) -> Figure:
    """Histograms of the delays of each layer, and of each recurrent connection, before and after training."""
    layers = read_delays(folder)
    if not layers:
        raise RunError(
            f"{folder / MODEL}: expected the delays of a network that has some, got none. Move the folder away"
        )
    config = record["config"]
    most, forward = config["max_delay"], 0 if config["delays"] == "none" else len(config["hidden"]) + 1
    size = (_PHONE, 2.4 * len(layers) + 0.8) if narrow else (3.4 * len(layers), 3.2)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(*((len(layers), 1) if narrow else (1, len(layers))), squeeze=False).ravel()
    for n, (axes, (before, after)) in enumerate(zip(panels, layers, strict=True)):
        bins = [k - 0.5 for k in range(most + 2)]
        was, now = (values[~values.isnan()].numpy() for values in (before, after))  # NaN: no synapse
        axes.hist(was, bins, color=LIGHT, label="before training")
        axes.hist(now, bins, histtype="step", color=BLUE, linewidth=1.8, label="after")
        name = f"layer {n + 1}" if n < forward else f"recurrent {n - forward + 1}"
        axes.set(title=f"{name}: {len(now):,} delays", xlabel="delay (steps)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("channels" if layers[0][0].dim() == 1 else "synapses")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    variant = variant_name(config["delays"], config["fan_in"], config.get("recurrent", "none"))
    variant = variant_name(config["delays"], config["fan_in"], config.get("recurrent", "none"))
    figure.suptitle(f"{data_of(record)}, {config['backend']}, {variant}")
    return figure


def raster_figure(example: Sequence[Tensor], *, narrow: bool = False) -> Figure:
    """One recording: its input events, and the spikes of each hidden layer below it."""
    figure = Figure(figsize=(_PHONE if narrow else 8, 1.6 * len(example) + 0.4), layout="constrained")
    panels = figure.subplots(len(example), 1, sharex=True, squeeze=False)[:, 0]
    for n, (axes, events) in enumerate(zip(panels, example, strict=True)):
        time, channel = events
        axes.plot(time, channel, "|", color=DARK if n == 0 else BLUE, markersize=2.5, alpha=0.7)
        axes.set_ylabel("input channel" if n == 0 else f"neuron, layer {n}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("time (steps)")
    return figure


def _backends(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["config"]["backend"] for record in records))
