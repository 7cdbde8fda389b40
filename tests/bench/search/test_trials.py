"""sweep.json."""

import json
from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench.search.standings import conclusion, effects, standings
from delayplug.bench.search.trials import (
    SWEEP,
    accuracy_of,
    read_sweep_record,
    runs_of,
    with_runs_of_sweeps,
    write_sweep_record,
)
from tests.bench.search.sweeps import record, trial
from tests.damage import broken_text, edited, is_one_line


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


def refusal(out: Path) -> RunError | None:
    """Why a record cannot be read; None if it can, and then it can be shown."""
    try:
        found = read_sweep_record(out)
    except RunError as error:
        return error
    assert found is not None
    assert standings(found).row_count == len(found["trials"])
    assert effects(found).columns
    assert conclusion(found)
    return None


def test_every_part_of_a_record_damaged(tmp_path: Path) -> None:
    """Left out, or replaced by each kind of value: one line that names the file, or it can be shown."""
    path, errors = tmp_path / SWEEP, dict[str, RunError]()
    for name, damaged in edited(record()):
        path.write_text(json.dumps(damaged))
        if (error := refusal(tmp_path)) is not None:
            errors[name] = error
    assert len(errors) > 300
    assert [(name, error) for name, error in errors.items() if not is_one_line(error, str(path))] == []


def test_every_kind_of_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / SWEEP
    for name, content in broken_text(json.dumps(record())):
        path.write_bytes(content)
        with pytest.raises(RunError) as caught:
            read_sweep_record(tmp_path)
        assert is_one_line(caught.value, str(path)), (name, str(caught.value))
