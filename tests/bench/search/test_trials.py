"""sweep.json."""

import json
from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench.search.trials import (
    SWEEP,
    accuracy_of,
    read_sweep_record,
    runs_of,
    with_runs_of_sweeps,
    write_sweep_record,
)
from tests.bench.search.sweeps import record, trial


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_sweep_record(tmp_path) is None
    write_sweep_record(tmp_path, record())
    assert read_sweep_record(tmp_path) == json.loads(json.dumps(record()))
    assert [path.name for path in tmp_path.iterdir()] == [SWEEP]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "got something unreadable"),
        ("[]", "got other content"),
        (json.dumps(record(format=2)), r"the record of a sweep \(format 1\), got other content"),
        (json.dumps(record(rungs="many")), "got a damaged one: rungs should be a valid list, got 'many'. Move it away"),
        (json.dumps(record(trials=[{"number": 1}])), "got a damaged one"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / SWEEP).write_text(text)
    with pytest.raises(RunError, match=message):
        read_sweep_record(tmp_path)


def test_a_report_is_on_what_was_chosen_and_on_the_preset(tmp_path: Path) -> None:
    found = record()
    for each in found["trials"]:
        for run in each["runs"]:
            run["folder"] = f"trials/{each['number']:03d}/run"
    for run in found["final"]:
        run["folder"] = "final/run"
    write_sweep_record(tmp_path, found)
    sources, sweeps = with_runs_of_sweeps([Path("runs"), tmp_path])
    assert sources == [Path("runs"), tmp_path / "final", tmp_path / "trials/000", tmp_path / "trials/002"]
    assert list(sweeps) == [tmp_path]


def test_accuracies() -> None:
    three = trial(1, [0.4, 0.5, 0.9])
    assert accuracy_of(three) == pytest.approx(0.6)
    assert accuracy_of(three, 2) == pytest.approx(0.45)
    assert accuracy_of(three, 4) is None
    assert accuracy_of(trial(1, [])) is None
    assert runs_of(record()) == 7 + 2
