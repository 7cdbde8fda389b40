"""The record of a sweep, sweep.json: all settings that were tried, and their results.

When a sweep continues, it takes the settings from this file and reads their accuracies again from the records of the
runs, so that the two cannot differ.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, Literal, cast

from pydantic import Field
from typing_extensions import TypedDict

from ...errors import ArgumentError, RunError, shortened
from ..config import RunConfig
from ..schema import Count, Positive, Share, UnreadableError, mismatch, read_json
from ..settings import settings
from ..whole_files import write_whole
from .space import read_space

FORMAT = 1
SWEEP = "sweep.json"
_MOVE = "Move it away: the sweep then draws its settings again, and uses the finished runs in the folder"


class RunResult(TypedDict):
    """The result of one run.

    Keys:
        fold: None for data without folds.
        accuracy: after the last epoch, in 0..1.
        recordings: number of recordings that it is the accuracy on.
        folder: of the run, within the folder of the sweep.
    """

    fold: Count | None
    seed: Count
    accuracy: Share
    recordings: Positive
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

    number: Count
    values: dict[str, Any]
    baseline: bool
    state: Literal["open", "stopped", "judged", "refused", "failed"]
    reason: str
    runs: list[RunResult]


class Chosen(TypedDict):
    """The number of the chosen trial, and the reason in words."""

    number: Count
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
    rungs: Annotated[list[Positive], Field(min_length=1)]
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
        record = read_json(path)
    except (FileNotFoundError, UnreadableError) as error:
        raise RunError(f"{path}: expected the record of a sweep, got something unreadable: {error}. {_MOVE}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(f"{path}: expected the record of a sweep (format {FORMAT}), got other content. {_MOVE}")
    sweep = cast(Sweep, record)
    if wrong := mismatch(record, Sweep) or _contradiction(sweep):
        raise RunError(f"{path}: expected the record of a sweep, got a damaged one: {wrong}. {_MOVE}")
    return sweep


def _contradiction(record: Sweep) -> str:
    """The first place where parts of a record do not belong together, in words; "" if there is none."""
    search, trials, chosen = record["config"].get("search"), record["trials"], record["chosen"]
    if not isinstance(search, dict):
        return "config lacks search"
    try:
        read_space(search)
    except ArgumentError as error:
        return f"config.{error}"
    known = settings(RunConfig)
    for n, trial in enumerate(trials):
        if trial["number"] != n or trial["values"].keys() != search.keys():
            return f"trials[{n}] has the number {trial['number']} and values of {shortened(list(trial['values']))}"
        if wrong := [name for name, value in trial["values"].items() if not known[name].allows(value)]:
            return f"trials[{n}].values.{wrong[0]} is {shortened(trial['values'][wrong[0]])}"
    if chosen is not None and chosen["number"] >= len(trials):
        return f"chosen.number is {chosen['number']}, of {len(trials)} trials"
    return ""


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
