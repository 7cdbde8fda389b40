"""The results of a comparison as a table for the terminal, and as texts for its cells."""

import textwrap
from collections.abc import Iterable, Sequence
from statistics import mean

from rich.table import Table

from ..._tables import counted, make_table, number, text, width_of
from ..comparison.records import Record
from ..config import SYNTHETIC
from ..task import LAST, NOTHING_CHOSEN
from .intervals import student, wilson
from .methods import (
    Row,
    data_of,
    difference,
    held_runs,
    held_speakers,
    on_test_set,
    rows_of,
    setting_text,
    shared_settings,
)

_WIDTH = 18  # characters of a method's name in one line
_TERMINAL = 80  # characters that a terminal has at least
_DISPENSABLE = ("memory", "seconds", "best", "parameters")  # left out in this order; the page has them
_FRAMES = ("step_ms", "binning", "pool")


def table(records: Sequence[Record]) -> Table:
    """One row per backend and method: accuracies on held-out speakers and on the test set, after the last epoch.

    They are means over folds and seeds, with half their 95 % interval after +- (Student, over the means of folds if
    there are several folds; for a single run Wilson). The column beside each is the gain over learned delays with the
    preset's values, in percentage points, as the mean over pairs of runs.
    """
    rows = rows_of(records)
    cells = [summary(row, rows) for row in rows]
    headers = {
        "held": f"{held_header(records)} %".replace(" ", "\n", 1),
        "held_gain": "over the\nrecipe",
        "last": "last\nepoch %",
        "gain": "over the\nrecipe",
        "interval": "95 %\ninterval",
        "best": f"{chosen_by(records)} %".replace("best on ", "best on\n").replace("validation", "valid."),
        "parameters": "para-\nmeters",
        "seconds": "s per\nepoch",
        "memory": "peak\nMB",
        "correlation": "planted r\n(untrained)",
    }
    shown = [key for key in headers if any(cell[key] for cell in cells)]
    # Columns that do not fit into the table beside others; the page has them.
    left_out = {"interval", "memory"} if "held" in shown else {"interval"} if "gain" in shown else set[str]()
    shown = [key for key in shown if key not in left_out]
    lines = {key: [str(cell[key]).replace(" +-", "\n+-") for cell in cells] for key in shown}
    names = ["\n".join(textwrap.wrap(row.name, _WIDTH)) for row in rows]
    first = [["backend", *(row.backend for row in rows)], ["delays", *names]]
    for key in _DISPENSABLE:
        if width_of([*first, *([headers[key], *lines[key]] for key in shown)], gap=1) > _TERMINAL:
            shown = [each for each in shown if each != key]
    result = make_table(
        text("backend", wrap="never"),
        text("delays", wrap="never"),
        *(number(headers[key]) for key in shown),
        gap=1,
        title=title_of(records),
        caption=" ".join(notes_of(records, gains=any(cell["gain"] or cell["held_gain"] for cell in cells))),
    )
    previous = None
    for n, row in enumerate(rows):
        if previous not in (None, row.backend):
            result.add_section()
        result.add_row(row.backend if row.backend != previous else "", names[n], *(lines[key][n] for key in shown))
        previous = row.backend
    return result


def summary(row: Row, rows: Sequence[Row]) -> dict[str, str | float]:
    """The cells of one row, as text: means over its runs, and the largest peak of memory; "" where there is no value.

    As numbers in percent: `mean`, the accuracy on the test set, or on held-out recordings if the test set was not read;
    `low` and `high`, the ends of its interval for the sampling of these recordings (Wilson).
    """
    first, planted = row.records[0], planted_means(row.records)
    estimate = row.on_test or row.on_held
    assert estimate is not None  # each row has runs
    low, high = wilson(estimate.mean, first["data"]["test"])
    gain, held_gain = difference(row, rows, on_test=True), difference(row, rows, on_test=False)
    chosen = [record["accuracy"][rule] for record in row.tested if (rule := rule_of(record)) != LAST]
    layers = zip(*(record["spikes_per_neuron"] for record in row.records), strict=True)
    return {
        "backend": row.backend,
        "delays": row.name,
        "kind": row.delays,
        "runs": " + ".join(str(len(runs)) for runs in (row.held, row.tested) if runs),
        "mean": 100 * estimate.mean,
        "low": 100 * low,
        "high": 100 * high,
        "interval": f"{100 * low:.0f} - {100 * high:.0f}" if row.tested else "",
        "last": row.on_test.percent() if row.on_test else "",
        "gain": gain.percent(sign=True) if gain else "",
        "held": row.on_held.percent() if row.on_held else "",
        "held_gain": held_gain.percent(sign=True) if held_gain else "",
        "best": over_seeds(chosen) if chosen else "",
        "parameters": f"{first['parameters']:,}",
        "spikes": " / ".join(f"{mean(layer):.1f}" for layer in layers),
        "planted": "" if planted is None else f"{planted[1]:.2f}",
        "untrained": "" if planted is None else f"{planted[0]:.2f}",
        "correlation": "" if planted is None else f"{planted[1]:.2f} ({planted[0]:.2f})",
        "seconds": f"{mean(record['seconds_per_epoch'] for record in row.records):.2f}",
        "waiting": f"{100 * mean(record['waiting'] for record in row.records):.1f}",
        "memory": f"{max(record['peak_memory_mb'] for record in row.records):,.0f}",
    }


def over_seeds(values: Sequence[float]) -> str:
    """The mean in percent; if there are several values, with half its interval."""
    return f"{100 * mean(values):.1f}" + (f" +-{100 * student(values):.1f}" if len(values) > 1 else "")


def title_of(records: Sequence[Record]) -> str:
    """The title of a table: the data set, and the settings that all runs share."""
    first, seeds = records[0], len({record["config"]["seed"] for record in records})
    presets = sorted({record["config"]["preset"] for record in records})
    epochs = sorted({record["config"]["epochs"] for record in records})
    shared = ", ".join(setting_text(*each) for each in shared_settings(records) if each[0] != "epochs")
    return (
        f"{data_of(first)}: {counted(len(first['data']['classes']), 'class')}, preset {' and '.join(presets)}"
        f"{f' with {shared}' if shared else ''}, {' or '.join(map(str, epochs))} epoch{'' if epochs == [1] else 's'}, "
        f"{counted(seeds, 'seed')}"
    )


def notes_of(records: Sequence[Record], *, gains: bool) -> list[str]:
    """Explanations of the numbers in a table, in sentences; `gains`: whether it has columns "over the recipe"."""
    tested = [record for record in records if on_test_set(record)]
    held = held_runs(records)
    notes = []
    if tested:
        refit = any(record["config"].get("refit") for record in tested)
        retrained = "; then trained on all training recordings, and tested" if refit else ""
        split = f"{split_of(tested)}{retrained}"
        notes.append(f"Test accuracy on {counted(tested[0]['data']['test'], 'recording')}; validation: {split}.")
    if held:
        which = f"{held_header(records).capitalize()}: {held_of(held)}"
        notes.append(f"{which}; no epoch was chosen.")
    if gains:
        notes.append(f"Over the recipe: gain in points over {recipe_of(records)}, by pairs of runs.")
    over = "folds, or over seeds on a single fold" if held else "all runs"
    notes.append(f"After +-: half the 95 % interval of the mean over {over} (Student), or of a single run (Wilson).")
    if frames := frames_of(records):
        notes.append(f"Frames: {frames}.")
    waiting = mean(record["waiting"] for record in records)
    notes.append(f"Training waited for its data {100 * waiting:.1f} % of the time.")
    return [*notes, f"{computed_by(records)}."]


def recipe_of(records: Sequence[Record]) -> str:
    """The recipe that other methods are compared with, in words."""
    shared = ", ".join(setting_text(*each) for each in shared_settings(records))
    paper = " (the paper's recipe)" if {r["config"]["preset"] for r in records} <= {"shd", "ssc"} and not shared else ""
    return f"learned delays with the preset's values{f' but {shared}, as all runs have' if shared else ''}{paper}"


def held_header(records: Sequence[Record]) -> str:
    """What is tested on in place of the test set: "held-out speakers" or "held-out recordings"."""
    speakers = all(record["config"]["protocol"] == "speakers" for record in held_runs(records))
    return "held-out speakers" if speakers else "held-out recordings"


def held_of(records: Sequence[Record]) -> str:
    """Which recordings are tested on in place of the test set, in words."""
    if groups := sorted({held_speakers(record) for record in records} - {()}):
        each = ", ".join("(" + ", ".join(map(str, group)) + ")" for group in groups)
        return f"{counted(len(groups), 'group')} of training speakers, {each}"
    # the protocol "validation" says of its split that nothing is held out beside what is tested on
    return "; or ".join(sorted({record["data"]["split"].removeprefix(NOTHING_CHOSEN) for record in records}))


def split_of(records: Iterable[Record]) -> str:
    """How the data was split, in words, for all runs: each seed may hold out other recordings."""
    records = list(records)
    groups = sorted({held_speakers(record) for record in records})
    if len(groups) > 1 and () not in groups:
        return f"training recordings held out, all of the speakers {' or '.join(str(list(group)) for group in groups)}"
    return "; or ".join(sorted({record["data"]["split"] for record in records}))


def rule_of(record: Record) -> str:
    """The rule that chose the best epoch, such as "best on validation"; "last epoch" if no epoch was chosen."""
    return next((rule for rule in record["accuracy"] if rule != LAST), LAST)


def chosen_by(records: Sequence[Record]) -> str:
    """The rules by which runs chose an epoch, such as "best on validation"; "" if no epoch was chosen."""
    rules = sorted({rule_of(record) for record in records} - {LAST})
    return " or ".join([*rules[:1], *(rule.removeprefix("best ") for rule in rules[1:])])


def frames_of(records: Sequence[Record]) -> str:
    """How recordings were binned into frames, in words; "" if runs differ in it, and for the synthetic task."""
    config = records[0]["config"]
    if config["dataset"] == SYNTHETIC or len({str([r["config"][name] for name in _FRAMES]) for r in records}) > 1:
        return ""
    return f"{config['step_ms']:g} ms per step, binning {config['binning']}, {config['pool']} channels summed"


def computed_by(records: Sequence[Record]) -> str:
    """The devices of the runs, their float32 precision, and the implementations of their neurons, in words."""
    machines = [record["machine"] for record in records]
    devices = dict.fromkeys(str(machine.get("name") or machine.get("device", "a device")) for machine in machines)
    neurons = dict.fromkeys(
        neurons if ":" in neurons else f"{record['config']['backend']}: {neurons}"
        for record, machine in zip(records, machines, strict=True)
        if (neurons := str(machine.get("neurons", "")))
    )
    precision = records[0]["config"].get("precision", "highest")
    by = f"; neurons by {', '.join(neurons)}" if neurons else ""
    return f"Computed on {' and '.join(devices)}, float32 precision {precision}{by}"


def planted_means(group: Iterable[Record]) -> tuple[float, float] | None:
    """Mean correlation with the planted delays (before, after) training; None where it is not defined."""
    pairs = []
    for record in group:
        values = record.get("planted_correlation", {})
        before, after = values.get("before training"), values.get("after training")
        if before is not None and after is not None:
            pairs.append((before, after))
    return (mean(before for before, _ in pairs), mean(after for _, after in pairs)) if pairs else None
