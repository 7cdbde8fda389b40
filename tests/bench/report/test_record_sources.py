"""Records from folders of runs and from files."""

import json
from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench.comparison.records import Record
from delayplug.bench.config import configure
from delayplug.bench.report.record_sources import read_records
from tests.bench.runs import folds_and_refits, put_record, record_of


def put(folder: Path, records: list[Record]) -> None:
    for n, record in enumerate(records):
        (folder / str(n)).mkdir(parents=True)
        (folder / str(n) / "record.json").write_text(json.dumps(record))


def test_folders_and_files_are_brought_together(tmp_path: Path) -> None:
    records = folds_and_refits()
    put(tmp_path / "a", records[:4])
    put(tmp_path / "b", records[3:6])  # one of them again
    (tmp_path / "list.json").write_text(json.dumps(records[6:8], indent=1))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, records[8:10])) + "\n")
    (tmp_path / "object.json").write_text(json.dumps({"collection": 1, "records": records[10:]}))
    sources = [tmp_path / name for name in ("a", "b", "list.json", "lines.jsonl", "object.json")]
    assert read_records(*sources) == records
    assert read_records(tmp_path / "a" / "2") == [records[2]]
    (tmp_path / "one.json").write_text(json.dumps(records[0]))
    assert read_records(tmp_path / "one.json") == records[:1]


def test_of_a_run_made_twice_the_last_one_counts(tmp_path: Path) -> None:
    config = configure("shd", dataset="x/d", backend="norse")
    old = record_of(config, 0.9)
    new = record_of(configure("shd", dataset="y/d", backend="norse"), 0.8, finished="2026-11-27T00:00:00+00:00")
    put(tmp_path / "a", [new])
    put(tmp_path / "b", [old])
    assert read_records(tmp_path / "a", tmp_path / "b") == read_records(tmp_path / "b", tmp_path / "a") == [new]


def test_a_record_of_an_earlier_version_is_the_same_run(tmp_path: Path) -> None:
    new = record_of(configure("shd", dataset="d", backend="norse"), 0.9)
    old = {**new, "config": {name: value for name, value in new["config"].items() if name != "readout"}}
    put(tmp_path, [new, old])
    assert len(read_records(tmp_path)) == 1


def test_what_is_no_record(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected finished runs, got none. Make some with delayplug bench run --out"):
        read_records(tmp_path)
    for text, words in {
        "[]": "expected records of runs, got none",
        "{": "expected a folder of runs or a file of records",
        '[{"format": 1}]': r"file.json, record 1: expected the record of a run \(format 3\)",
    }.items():
        (tmp_path / "file.json").write_text(text)
        with pytest.raises(RunError, match=words):
            read_records(tmp_path / "file.json")
    with pytest.raises(RunError, match="expected a folder of runs or a file of records"):
        read_records(tmp_path / "nothing.json")


def test_runs_of_other_data(tmp_path: Path) -> None:
    """Accuracies on other data are not averaged, whatever the data is called."""
    put_record(tmp_path / "a", configure("quick", seed=0))
    put_record(tmp_path / "b", configure("quick", seed=1))
    assert len(read_records(tmp_path)) == 2
    put_record(tmp_path / "b", configure("quick", seed=1), {"train": "3" * 64, "test": "4" * 64})
    with pytest.raises(RunError, match="expected runs of the same data, got other checksums in"):
        read_records(tmp_path)
    for name, seed in (("a", 0), ("b", 1)):
        put_record(tmp_path / name, configure("quick", seed=seed), None)  # of a version without checksums
    assert len(read_records(tmp_path)) == 2
    put_record(tmp_path / "b", configure("quick", dataset="data/shd"))
    with pytest.raises(
        RunError, match=r"expected runs of one data set, got synthetic, shd. Make a report for each data set"
    ):
        read_records(tmp_path)


def test_runs_of_folds_read_one_of_the_files(tmp_path: Path) -> None:
    """That is compared, also where a run that read one file stands before those that read both."""
    base = {"dataset": "d", "backend": "norse"}
    fold = record_of(configure("shd", **base, protocol="speakers"), 0.8, (0, 1))
    first, second = (record_of(configure("shd", **base, seed=seed), 0.9) for seed in (0, 1))
    put(tmp_path / "same", [fold, first, second])
    assert len(read_records(tmp_path / "same")) == 3
    for part in ("train", "test"):
        other = {**second, "data": {**second["data"], "checksums": {**second["data"]["checksums"], part: "9" * 64}}}
        put(tmp_path / part, [fold, first, other])
        with pytest.raises(RunError, match="got other checksums in"):
            read_records(tmp_path / part)
    coarse = record_of(configure("shd", **base, step_ms=20.0, seed=5), 0.9)  # other frames have other checksums
    coarse["data"]["checksums"] = {"train": "7" * 64, "test": "8" * 64}
    put(tmp_path / "frames", [fold, first, coarse])
    assert len(read_records(tmp_path / "frames")) == 3
