"""Small sweeps, and the record of one, for tests."""

from pathlib import Path
from typing import Any

from delayplug.bench.resources import Resources
from delayplug.bench.search.sweep import Execution
from delayplug.bench.search.sweep_config import SweepConfig, read_sweep
from delayplug.bench.search.trials import RunResult, Sweep, Trial

EXECUTION: dict[str, Any] = {"resources": Resources("cpu", threads=1)}
SMALL = """
backend = "spikingjelly"
delays = "learned"
hidden = [4]
epochs = 1
max_delay = 4
batch_size = 16
"""
SEARCH = """
[search]
lr = { low = 1e-3, high = 1e-1, log = true }
dropout = { values = [0.0, 0.25] }
"""


def execution(**changes: Any) -> Execution:
    """On one thread of this computer."""
    return Execution(**{**EXECUTION, **changes})


def config_of(folder: Path, text: str, name: str = "sweep.toml") -> SweepConfig:
    """A sweep, from the text of its file."""
    (folder / name).write_text(text)
    return read_sweep(folder / name)


def result(accuracy: float, fold: int | None = 0, seed: int = 0) -> RunResult:
    """A run on 400 recordings."""
    return {"fold": fold, "seed": seed, "accuracy": accuracy, "recordings": 400, "folder": "trials/000/run"}


def trial(number: int, accuracies: list[float], state: str = "judged", **values: Any) -> Trial:
    """A setting with so many runs; number 0 is the preset's."""
    runs = [result(accuracy, fold) for fold, accuracy in enumerate(accuracies)]
    values = {"lr": 0.005, "hidden": (4,), **values}
    return {"number": number, "values": values, "baseline": not number, "state": state, "reason": "", "runs": runs}


def record(**changes: Any) -> Sweep:
    """A finished sweep of five settings on two folds."""
    search = {"lr": {"low": 1e-3, "high": 1e-1, "log": True}, "hidden": {"values": [[4], [8, 8]]}}
    found: Sweep = {
        "format": 1,
        "command": "delayplug bench sweep sweep.toml",
        "config": {"dataset": "data/digits", "search": search},
        "versions": {"optuna": "4.0.0"},
        "judged_by": "speakers held out of training, folds 0, 1, seed 0",
        "rungs": [1, 2],
        "trials": [
            trial(0, [0.50, 0.54]),
            trial(1, [0.40], "stopped", lr=0.002),
            trial(2, [0.60, 0.62], lr=0.03, hidden=(8, 8)),
            trial(3, [], "refused", lr=0.09),
            trial(4, [0.55, 0.51], lr=0.05),
        ],
        "chosen": {"number": 2, "reason": "the highest mean accuracy"},
        "final": [result(0.58, None, 0), result(0.60, None, 1)],
        "finished": "2025-01-01T00:00:00+00:00",
    }
    found.update(**changes)
    return found
