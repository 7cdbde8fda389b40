"""The results of a sweep, as tables for the terminal."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Literal, NamedTuple

from rich.table import Table

from ..._tables import counted, make_table, number, text, width_of
from ..config import SYNTHETIC
from ..report.intervals import half_difference, half_interval
from .trials import RunResult, Sweep, Trial, accuracy_of

_TERMINAL = 80  # characters that a terminal has at least
_SHOWN = 20  # settings in the table
_NARROW = 3  # searched fields, up to which an accuracy and its interval fit on one line


def standings(record: Sweep) -> Table:
    """One row per setting, the best one first: its values, its accuracy, and its gain over the baseline.

    The number after +- is half the 95 % interval: of the mean over runs, or over the means of folds (Student); for a
    single run, of its accuracy on that number of recordings (Wilson; for a difference Newcombe).
    """
    trials = ranked(record)
    names = searched(record)
    chosen = None if record["chosen"] is None else record["chosen"]["number"]
    base = next((trial for trial in record["trials"] if trial["baseline"]), None)
    line_break = "\n+-" if len(names) > _NARROW else " +-"
    shown = [trial for n, trial in enumerate(trials) if n < _SHOWN or trial["baseline"]]
    left_out = f" {len(trials) - len(shown)} more are in sweep.json." if len(shown) < len(trials) else ""
    values = [[shown_value(trial["values"][name]) for trial in shown] for name in names]
    columns = {name.replace("_", "\n"): cells for name, cells in zip(names, values, strict=True)}
    columns["runs"] = [str(len(trial["runs"])) for trial in shown]
    columns["accu-\nracy %"] = [with_interval(trial["runs"]).replace(" +-", line_break) for trial in shown]
    if base is not None:
        columns["over the\npreset"] = [_gain(trial, base).replace(" +-", line_break) for trial in shown]
    marks = ["chosen" if trial["number"] == chosen else _status(trial) for trial in shown]
    gap: Literal[1, 2] = 1 if len(names) > _NARROW else 2
    first = ["no.", *(str(trial["number"]) for trial in shown)]
    wide = width_of([first, *([name, *cells] for name, cells in columns.items()), marks], gap) > _TERMINAL
    if wide:  # one column for all values
        columns = dict(list(columns.items())[len(names) :])
    result = make_table(
        number("no."),
        *([text("setting")] if wide else []),
        *map(number, columns),
        text("", wrap="never"),
        gap=gap,
        title=f"{Path(str(record['config'].get('dataset', SYNTHETIC))).name}: {counted(len(trials), 'setting')} tried",
        caption=f"Accuracy on {record['judged_by']}; the test set was not read.{left_out}",
    )
    for n, trial in enumerate(shown):
        setting = ", ".join(f"{name} {cells[n]}" for name, cells in zip(names, values, strict=True))
        cells = [*([setting] if wide else []), *(cells[n] for cells in columns.values())]
        result.add_row(str(trial["number"]), *cells, marks[n], style="bold" if marks[n] == "chosen" else None)
    return result


def _status(trial: Trial) -> str:
    """The fate of a setting, if it was not judged by all runs; and whether it is the preset."""
    name = "preset" if trial["baseline"] else ""
    state = trial["state"] if trial["state"] in ("stopped", "refused", "failed") else ""
    return "\n".join(filter(None, (name, state)))


def _gain(trial: Trial, base: Trial) -> str:
    """The mean difference to the baseline in percentage points, over pairs of runs, and half its interval."""
    both = list(zip(trial["runs"], base["runs"], strict=False))
    pairs = [(run["accuracy"], other["accuracy"]) for run, other in both]
    if trial["baseline"] or not pairs:
        return ""
    half = half_difference(pairs, trial["runs"][0]["recordings"], [run["fold"] for run, _ in both])
    return f"{100 * mean(first - second for first, second in pairs):+.1f} +-{100 * half:.1f}"


def with_interval(runs: Sequence[RunResult]) -> str:
    """The mean accuracy of runs in percent, and half its interval, over the means of folds if there are several."""
    if not runs:
        return ""
    values, folds = [run["accuracy"] for run in runs], [run["fold"] for run in runs]
    return f"{100 * mean(values):.1f} +-{100 * half_interval(values, runs[0]['recordings'], folds):.1f}"


def ranked(record: Sweep) -> list[Trial]:
    """All settings: those with more runs first; among those with equally many runs, the better ones first."""
    return sorted(record["trials"], key=lambda t: (-len(t["runs"]), -(accuracy_of(t) or 0.0), t["number"]))


def searched(record: Sweep) -> list[str]:
    """The names of the searched fields."""
    return list(record["config"]["search"])


def shown_value(value: object) -> str:
    """A value of a setting as text."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Group(NamedTuple):
    """The tried settings with one value of a field, or with a value in one third of its range.

    Attributes:
        name: the value or the third, as text.
        accuracies: of these settings, in 0..1.
    """

    name: str
    accuracies: list[float]


def groups(record: Sweep, name: str) -> list[Group]:
    """Group the tried settings by their value of one field: by the values of a list, or by thirds of a range.

    Accuracies are those after the first rung, which all trained settings have.
    """
    points = [
        (trial["values"][name], a) for trial in record["trials"] if (a := first_accuracy(record, trial)) is not None
    ]
    table = record["config"]["search"][name]
    if "values" in table:
        values = [tuple(each) if isinstance(each, list) else each for each in table["values"]]
        return [Group(shown_value(v), [a for value, a in points if _plain(value) == v]) for v in values]
    low, high = table["low"], table["high"]
    ends = [_between(low, high, n / 3, log=table.get("log", False)) for n in range(4)]
    thirds = itertools.pairwise(ends)
    return [
        Group(f"{shown_value(a)} to {shown_value(b)}", _within(points, a, b, last=b == ends[-1])) for a, b in thirds
    ]


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _between(low: float, high: float, share: float, *, log: bool) -> float:
    return float(low * (high / low) ** share if log else low + share * (high - low))


def _within(points: Sequence[tuple[float, float]], low: float, high: float, *, last: bool) -> list[float]:
    return [accuracy for value, accuracy in points if low <= value < high or (last and value == high)]


def first_accuracy(record: Sweep, trial: Trial) -> float | None:
    """The mean accuracy of a setting after the first rung; None if it was not trained."""
    return accuracy_of(trial, record["rungs"][0])


def effects(record: Sweep) -> Table:
    """For each value of each field, the mean and best accuracy of the settings with it, after the first rung."""
    result = make_table(
        text("setting"),
        text("value"),
        number("tried"),
        number("mean %"),
        number("best %"),
        caption=f"After {_runs(record['rungs'][0])}. Settings with the same value differ in other fields, and a "
        "sampler that learns tries good ones more often: take this as a hint, not as a measurement.",
    )
    for name in searched(record):
        for n, group in enumerate(groups(record, name)):
            values = group.accuracies
            numbers = (f"{100 * mean(values):.1f}", f"{100 * max(values):.1f}") if values else ("", "")
            result.add_row("" if n else name, group.name, str(len(values)), *numbers)
        result.add_section()
    return result


def _runs(number: int) -> str:
    return f"{number} run{'s' if number > 1 else ''}"


def conclusion(record: Sweep) -> list[str]:
    """The chosen setting and its accuracies, in sentences."""
    if record["chosen"] is None:
        return ["Nothing is chosen yet."]
    trial = record["trials"][record["chosen"]["number"]]
    values = ", ".join(f"{name} {shown_value(value)}" for name, value in trial["values"].items())
    lines = [f"Chosen: setting {trial['number']} ({values}): {record['chosen']['reason']}."]
    if len(record["trials"]) > 1:
        tested = " That on the test set is not." if record["final"] else ""
        lines.append(f"The best of many is partly luck, so that its accuracy is too high.{tested}")
    if record["final"]:
        recordings, seeds = record["final"][0]["recordings"], len(record["final"])
        of = f"{recordings} recordings, {seeds} seed{'s' if seeds > 1 else ''}, read for this setting alone"
        lines.append(f"Test set: {with_interval(record['final'])} % ({of}).")
    else:
        lines.append("The test set was not read.")
    return lines
