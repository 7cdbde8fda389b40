"""Records of many runs in one file."""

import json
from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench.comparison.collection import (
    collect,
    compact,
    read_collection,
    records_in,
    write_collection,
)
from delayplug.bench.comparison.records import Record, read_record
from delayplug.bench.config import configure
from tests.bench.runs import CHECKSUMS, put_record


def record(folder: Path, epochs: int = 150, **settings: object) -> Record:
    """A record with so many epochs."""
    put_record(folder, configure("shd", **{"dataset": "/home/me/digits", "epochs": epochs, **settings}))
    made = read_record(folder / "record.json")
    made["epochs"] = [{**made["epochs"][0], "epoch": n} for n in range(1, epochs + 1)]
    (folder / "record.json").write_text(json.dumps(made))
    return made


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    one, two = record(tmp_path / "a"), record(tmp_path / "b", seed=1)
    write_collection(tmp_path / "results" / "digits.json", [two, one])
    found = read_collection(tmp_path / "results" / "digits.json")
    assert found == [compact(one), compact(two)]
    assert found == records_in(tmp_path / "results" / "digits.json")
    text = (tmp_path / "results" / "digits.json").read_text()
    assert text.count("\n") == 4  # a line each
    assert len(text) < 10_000
    assert "/home" not in text


def test_a_compact_record_has_the_same_epochs_for_all_runs(tmp_path: Path) -> None:
    made = compact(record(tmp_path))
    assert [entry["epoch"] for entry in made["epochs"]] == [1, *range(15, 151, 15)]
    assert compact(made) == made
    few = compact(record(tmp_path, epochs=3))
    assert [entry["epoch"] for entry in few["epochs"]] == [1, 2, 3]
    assert made["config"]["dataset"] == "data/digits"
    assert made["data"]["checksums"] == CHECKSUMS


def test_the_training_before_a_refit_is_compact_too(tmp_path: Path) -> None:
    made = record(tmp_path, protocol="heldout", refit=True)
    made["held_out"] = {"accuracy": 0.5, "epochs": made["epochs"]}
    assert compact(made)["held_out"] == {"accuracy": 0.5, "epochs": compact(made)["epochs"]}


def test_records_are_added_and_replaced(tmp_path: Path) -> None:
    first = record(tmp_path / "runs" / "a")
    out = tmp_path / "all.json"
    assert collect([tmp_path / "runs"], out) == (1, 1)
    record(tmp_path / "runs" / "b", seed=1)
    assert collect([tmp_path / "runs" / "b"], out) == (1, 2)  # a run by itself
    first["parameters"] = 7
    (tmp_path / "runs" / "a" / "record.json").write_text(json.dumps(first))
    assert collect([tmp_path / "runs", out], out) == (4, 2)  # what was in it stands before what is new
    assert {each["parameters"] for each in read_collection(out)} == {1}
    assert collect([tmp_path / "runs"], out) == (2, 2)
    assert sorted(each["parameters"] for each in read_collection(out)) == [1, 7]


def test_other_files_that_hold_records(tmp_path: Path) -> None:
    one, two = record(tmp_path / "a"), record(tmp_path / "b", seed=1)
    path = tmp_path / "results.json"
    for text in (json.dumps([one, two]), f"{json.dumps(one)}\n\n{json.dumps(two)}\n"):
        path.write_text(text)
        assert records_in(path) == [one, two]
    assert records_in(tmp_path / "a" / "record.json") == [one]


def test_what_is_no_file_of_records(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected finished runs, got none"):
        records_in(tmp_path)
    path = tmp_path / "results.json"
    words = {
        "no JSON": "expected a folder of runs or a file of records",
        "[]": "expected records of runs, got none",
        "[1]": "record 1: expected the record of a run",
        '{"collection": 1}': "record 1: expected the record of a run",
    }
    for content, said in words.items():
        path.write_text(content)
        with pytest.raises(RunError, match=said):
            records_in(path)
    with pytest.raises(RunError, match=r"or a file of records, got nothing of that name\. Check the path"):
        records_in(tmp_path / "nothing.json")
    made = record(tmp_path / "a")
    del made["accuracy"]
    path.write_text(json.dumps({"collection": 1, "records": [made]}))
    with pytest.raises(RunError, match=r"record 1: .* it lacks accuracy"):
        records_in(path)
    with pytest.raises(RunError, match="lacks accuracy"):
        collect([tmp_path / "a"], path)
