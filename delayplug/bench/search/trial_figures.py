"""The picture of a sweep."""

import math
from pathlib import Path

import numpy as np

from ..._colours import BLUE, DARK, GREY, LIGHT, VERMILLION
from ..._extras import extra
from ..config import SYNTHETIC
from .standings import first_accuracy, searched, shown_value
from .trials import Sweep, Trial

with extra("bench", "the report on a sweep"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_COLUMNS = 4


@matplotlib.rc_context({"text.parse_math": False})  # names may have a dollar sign
def sweep_figure(record: Sweep) -> Figure:
    """Accuracy after the first rung against the number of the setting, and against the value of each searched field.

    The line shows the best accuracy so far. Settings are numbered in the order in which they were drawn.
    """
    names = searched(record)
    columns = min(_COLUMNS, len(names) + 1)
    rows = math.ceil((len(names) + 1) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    points = [(trial, 100 * a) for trial in record["trials"] if (a := first_accuracy(record, trial)) is not None]
    best = np.maximum.accumulate([accuracy for _, accuracy in points])
    panels[0].step([trial["number"] for trial, _ in points], best, where="post", color=LIGHT)
    panels[0].set_xlabel("setting")
    for trial, accuracy in points:
        _mark(panels[0], trial["number"], accuracy, trial, record)
    for axes, name in zip(panels[1:], names, strict=False):
        _draw_field(axes, name, points, record)
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_visible(bool(axes.get_xlabel()))
    for axes in panels[::columns]:
        axes.set_ylabel("accuracy (%)")
    kinds = {
        "stopped": (GREY, "o"),
        "went through all rungs": (BLUE, "o"),
        "chosen": (VERMILLION, "o"),
        "preset": (DARK, "s"),
    }
    marks = [Line2D([], [], linestyle="", color=colour, marker=marker) for colour, marker in kinds.values()]
    figure.legend(marks, list(kinds), loc="outside lower center", ncols=len(kinds), frameon=False, fontsize=8)
    data = Path(str(record["config"].get("dataset", SYNTHETIC))).name
    figure.suptitle(f"{data}: {len(record['trials'])} settings on {record['judged_by']}", fontsize=10)
    return figure


def _draw_field(axes: Axes, name: str, points: list[tuple[Trial, float]], record: Sweep) -> None:
    table = record["config"]["search"][name]
    listed = [shown_value(value) for value in table.get("values", ())]
    for trial, accuracy in points:
        value = trial["values"][name]
        if listed and shown_value(value) not in listed:
            continue  # the preset's value may lie outside of the list
        _mark(axes, listed.index(shown_value(value)) if listed else value, accuracy, trial, record)
    if listed:
        axes.set_xticks(range(len(listed)), listed)
        axes.set_xlim(-0.5, len(listed) - 0.5)
    elif table.get("log"):
        axes.set_xscale("log")
        ticks = [table["low"], math.sqrt(table["low"] * table["high"]), table["high"]]
        axes.set_xticks(ticks, [shown_value(tick) for tick in ticks])
        axes.set_xticks([], minor=True)  # their labels would overlap
    axes.set_xlabel(name)


def _mark(axes: Axes, x: float, y: float, trial: Trial, record: Sweep) -> None:
    chosen = record["chosen"] is not None and record["chosen"]["number"] == trial["number"]
    colour = VERMILLION if chosen else BLUE if trial["state"] == "judged" else GREY
    axes.scatter(
        [x],
        [y],
        s=42 if chosen else 20,
        color=colour,
        marker="s" if trial["baseline"] else "o",
        edgecolors=DARK if chosen else "white",
        linewidths=0.6,
        zorder=4 if chosen else 3,
    )
