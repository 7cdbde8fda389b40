"""A comparison in pictures."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ..._colours import BLUE, DARK, GREEN, GREY, LIGHT, ORANGE, PINK, VERMILLION
from ..comparison.records import Record, read_delays
from ..variants import VARIANTS, Variant, variant_name
from .tables import grouped, variant_of, wilson

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
_MARKERS = ("o", "s", "^", "D")


def accuracy_figure(records: Sequence[Record]) -> Figure:
    """Test accuracy after the last epoch of every run: a mark for each, by variant and backend; and the chance level.

    The bar behind the marks of a variant is the sampling error of the test set (95 %, Wilson) at their mean.
    """
    backends = _backends(records)
    kinds = {(r["config"]["fan_in"], VARIANTS.index(r["config"]["delays"])) for r in records}
    rows = [(variant_name(VARIANTS[kind], fan_in), VARIANTS[kind]) for fan_in, kind in sorted(kinds)]
    figure = Figure(figsize=(7.5, 0.42 * len(rows) + 1.3), layout="constrained")
    axes = figure.subplots()
    for y, (name, delays) in enumerate(rows):
        runs = [r for r in records if variant_of(r) == name]
        low, high = wilson(mean(r["accuracy"]["last epoch"] for r in runs), runs[0]["data"]["test"])
        axes.barh(y, 100 * (high - low), left=100 * low, height=0.5, color=COLOURS[delays], alpha=0.18)
        for n, backend in enumerate(backends):
            values = [100 * r["accuracy"]["last epoch"] for r in runs if r["config"]["backend"] == backend]
            height = y + 0.22 * (n - (len(backends) - 1) / 2)
            axes.scatter(
                values,
                [height] * len(values),
                s=26,
                color=COLOURS[delays],
                marker=_MARKERS[n % len(_MARKERS)],
                edgecolors="white",
                linewidths=0.6,
                zorder=3,
            )
    chance = 100 / len(records[0]["data"]["classes"])
    axes.axvline(chance, color="black", linewidth=0.8, linestyle="--", alpha=0.5)
    axes.annotate("chance", (chance, len(rows) - 0.45), textcoords="offset points", xytext=(3, 0), fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(xlabel="test accuracy after the last epoch (%)", xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    marks = [Line2D([], [], linestyle="", color=DARK, marker=_MARKERS[n % 4]) for n in range(len(backends))]
    figure.legend(marks, backends, loc="outside upper center", ncols=len(backends), frameon=False)
    return figure


def learning_curves_figure(records: Sequence[Record]) -> Figure:
    """Validation accuracy and training loss over epochs: the mean over the seeds, and the range of all of them."""
    backends = _backends(records)
    figure = Figure(figsize=(10, 4), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    for (backend, name), group in grouped(records).items():
        config = group[0]["config"]
        style = {
            "color": COLOURS[config["delays"]],
            "linestyle": _STYLES[backends.index(backend) % len(_STYLES)],
            "linewidth": 0.9 if config["fan_in"] else 1.8,
        }
        for axes, curves in ((accuracy, _validated(group)), (loss, _losses(group))):
            values = np.array([[value for _, value in curve] for curve in curves])
            x = [epoch for epoch, _ in curves[0]]
            axes.plot(x, values.mean(0), label=f"{name}, {backend}", **style)
            axes.fill_between(x, values.min(0), values.max(0), color=style["color"], alpha=0.12, linewidth=0)
    data, config = records[0]["data"], records[0]["config"]
    accuracy.axhline(100 / len(data["classes"]), color="black", linewidth=0.8, alpha=0.5)
    place = {"textcoords": "offset points", "xytext": (0, 3), "ha": "right", "fontsize": 8}
    accuracy.annotate("chance", (config["epochs"], 100 / len(data["classes"])), **place)
    on = {"paper": "test", "speakers": "held-out"}.get(config.get("protocol", ""), "validation")
    accuracy.set(xlabel="epoch", ylabel=f"{on} accuracy (%)", ylim=(0, 101))
    loss.set(xlabel="epoch", ylabel="training loss")
    loss.set_ylim(bottom=0)
    for axes in (accuracy, loss):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.suptitle(f"{Path(config['dataset']).name}, preset {config['preset']}")
    return figure


def _validated(records: Sequence[Record]) -> list[list[tuple[int, float]]]:
    """(epoch, validation accuracy in percent) of each run; of the training before a refit, which has no validation."""
    curves = (record["held_out"]["epochs"] if "held_out" in record else record["epochs"] for record in records)
    return [[(e["epoch"], 100 * a) for e in curve if (a := e["valid_accuracy"]) is not None] for curve in curves]


def _losses(records: Sequence[Record]) -> list[list[tuple[int, float]]]:
    return [[(entry["epoch"], entry["train_loss"]) for entry in record["epochs"]] for record in records]


def delays_figure(record: Record, folder: Path) -> Figure:
    """Histograms of the delays of each layer, before and after training."""
    layers = read_delays(folder)
    config = record["config"]
    most = config["max_delay"]
    figure = Figure(figsize=(3.4 * len(layers), 3.2), layout="constrained")
    panels = figure.subplots(1, len(layers), squeeze=False)[0]
    for n, (axes, (before, after)) in enumerate(zip(panels, layers, strict=True)):
        bins = [k - 0.5 for k in range(most + 2)]
        was, now = (values[~values.isnan()].numpy() for values in (before, after))  # NaN: no synapse
        axes.hist(was, bins, color=LIGHT, label="before training")
        axes.hist(now, bins, histtype="step", color=BLUE, linewidth=1.8, label="after")
        axes.set(title=f"layer {n + 1}: {len(now):,} delays", xlabel="delay (steps)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("channels" if config["delays"] in ("axonal", "dendritic") else "synapses")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"{Path(config['dataset']).name}, {config['backend']}, {variant_of(record)}")
    return figure


def raster_figure(example: Sequence[Tensor]) -> Figure:
    """One recording: its input events, and the spikes of each hidden layer below it."""
    figure = Figure(figsize=(8, 1.6 * len(example) + 0.4), layout="constrained")
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
