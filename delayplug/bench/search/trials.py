"""The record of a sweep, sweep.json: all settings that were tried, and their results.

When a sweep continues, it takes the settings from this file and reads their accuracies again from the records of the
runs, so that the two cannot differ.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, TypedDict

from ...errors import RunError
from ..typed_json import mismatch
from ..whole_files import write_whole

FORMAT = 1
SWEEP = "sweep.json"


class RunResult(TypedDict):
    """The result of one run.

    Keys:
        fold: None for data without folds.
        accuracy: after the last epoch, in 0..1.
        recordings: number of recordings that it is the accuracy on.
        folder: of the run, within the folder of the sweep.
    """

    fold: int | None
    seed: int
    accuracy: float
    recordings: int
    folder: str


class Trial(TypedDict):
    """A setting that was tried.

    Keys:
        number: its position among the trials, from 0 on.
        values: of the searched fields.
        baseline: whether it has the preset's values.
        state: "open": it can still get runs; "stopped": others of its rung were better; "judged": it has all runs;
            "refused": its values contradict each other; "failed": one of its runs failed.
        reason: why it gets no more runs, for "stopped", "refused" and "failed".
        runs: the runs that judged it.
    """

    number: int
    values: dict[str, Any]
    baseline: bool
    state: str
    reason: str
    runs: list[RunResult]


class Chosen(TypedDict):
    """The number of the chosen trial, and the reason in words."""

    number: int
    reason: str


class Sweep(TypedDict):
    """The record of a sweep.

    Keys:
        config: the content of CONFIG.toml.
        judged_by: what settings are judged by, in words.
        rungs: number of runs that a setting has after each rung.
        final: the runs of the chosen setting on the test set.
        finished: the time in ISO format; "" while the sweep is not finished.
    """

    format: int
    command: str
    config: dict[str, Any]
    versions: dict[str, str]
    judged_by: str
    rungs: list[int]
    trials: list[Trial]
    chosen: Chosen | None
    final: list[RunResult]
    finished: str


def read_sweep_record(out: Path) -> Sweep | None:
    """The record in the folder of a sweep; None if there is none.

    Raises:
        RunError: the file is damaged.
    """
    path = out / SWEEP
    if not path.exists():
        return None
    try:
        record: Sweep = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: expected the record of a sweep, got something unreadable: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(f"{path}: expected the record of a sweep (format {FORMAT}), got other content")
    if wrong := mismatch(record, Sweep):
        advice = "Move it away: the sweep then draws its settings again, and uses the finished runs in the folder"
        raise RunError(f"{path}: expected the record of a sweep, got a damaged one: {wrong}. {advice}")
    return record


def write_sweep_record(out: Path, record: Sweep) -> None:
    """Write the record as a whole.

    Raises:
        RunError: it cannot be written.
    """
    write_whole(out / SWEEP, json.dumps(record, indent=1) + "\n")


def runs_of(record: Sweep) -> int:
    """The number of runs in a record, including those on the test set."""
    return sum(len(trial["runs"]) for trial in record["trials"]) + len(record["final"])


def with_runs_of_sweeps(sources: Sequence[Path]) -> tuple[list[Path], dict[Path, Sweep]]:
    """Replace folders of sweeps among the sources of a report by the folders of their runs.

    Only the runs of the chosen setting and of the baseline are included.

    Returns:
        The sources, and the records of the sweeps by their folders.

    Raises:
        RunError: a record is damaged.
    """
    folders, sweeps = list[Path](), dict[Path, Sweep]()
    for source in sources:
        record = read_sweep_record(source)
        if record is None:
            folders.append(source)
            continue
        sweeps[source] = record
        chosen = -1 if record["chosen"] is None else record["chosen"]["number"]
        trials = (t for t in record["trials"] if (t["baseline"] or t["number"] == chosen) and t["runs"])
        runs = [*record["final"], *(run for trial in trials for run in trial["runs"])]
        folders += dict.fromkeys((source / run["folder"]).parent for run in runs)
    return folders, sweeps


def accuracy_of(trial: Trial, runs: int | None = None) -> float | None:
    """The mean accuracy of a setting over its first `runs` runs (None: all); None if it has fewer runs, or none."""
    values = [run["accuracy"] for run in trial["runs"]][:runs]
    return mean(values) if values and len(values) >= (runs or 1) else None
