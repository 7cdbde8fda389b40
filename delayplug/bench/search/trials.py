"""The record of a sweep, sweep.json: what was tried, also what gave nothing.

It holds what was drawn. Accuracies are read from the records of the runs whenever the sweep goes on, so that the two
cannot differ.
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


class PartResult(TypedDict):
    """One run: of a fold (None where there are none) with a seed, its accuracy on how many recordings, its folder."""

    fold: int | None
    seed: int
    accuracy: float
    recordings: int
    folder: str


class Trial(TypedDict):
    """A setting that was tried.

    Keys:
        values: of what is searched; those of the preset, if it is the baseline.
        state: "open": it does not have all runs of its rung yet; "stopped": others of its rung were better; "judged":
            it has all runs; "refused": its values do not go together; "failed": one of its runs did.
        reason: why it has no more runs.
        runs: that judged it.
    """

    number: int
    values: dict[str, Any]
    baseline: bool
    state: str
    reason: str
    runs: list[PartResult]


class Chosen(TypedDict):
    """The setting that was chosen, and why."""

    number: int
    reason: str


class Sweep(TypedDict):
    """The record of a sweep.

    Keys:
        config: the content of CONFIG.toml.
        judged_by: in words; rungs: how many runs a setting has after each rung.
        final: the runs of the chosen setting on the test set.
        finished: when, or "".
    """

    format: int
    command: str
    config: dict[str, Any]
    versions: dict[str, str]
    judged_by: str
    rungs: list[int]
    trials: list[Trial]
    chosen: Chosen | None
    final: list[PartResult]
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
        advice = "Move it away: the runs in the folder are kept, and settings drawn again"
        raise RunError(f"{path}: expected the record of a sweep, got a damaged one: {wrong}. {advice}")
    return record


def write_sweep_record(out: Path, record: Sweep) -> None:
    """Write the record as a whole.

    Raises:
        RunError: it cannot be written.
    """
    write_whole(out / SWEEP, json.dumps(record, indent=1) + "\n")


def runs_of(record: Sweep) -> int:
    """How many runs a record has, those on the test set included."""
    return sum(len(trial["runs"]) for trial in record["trials"]) + len(record["final"])


def with_runs_of_sweeps(sources: Sequence[Path]) -> tuple[list[Path], dict[Path, Sweep]]:
    """Sources of a report: for a sweep the folders of the runs of the chosen setting and of the preset's.

    Returns:
        The sources, and the records of the sweeps by their folders.

    Raises:
        RunError: a record is damaged.
    """
    found, sweeps = list[Path](), dict[Path, Sweep]()
    for source in sources:
        record = read_sweep_record(source)
        if record is None:
            found.append(source)
            continue
        sweeps[source] = record
        chosen = -1 if record["chosen"] is None else record["chosen"]["number"]
        trials = (t for t in record["trials"] if (t["baseline"] or t["number"] == chosen) and t["runs"])
        runs = [*record["final"], *(run for trial in trials for run in trial["runs"])]
        found += dict.fromkeys((source / run["folder"]).parent for run in runs)
    return found, sweeps


def accuracy_of(trial: Trial, runs: int | None = None) -> float | None:
    """The mean accuracy of a setting over its first so many runs, or all that it has; None if it has fewer."""
    values = [run["accuracy"] for run in trial["runs"]][:runs]
    return mean(values) if values and len(values) >= (runs or 1) else None
