"""Records of runs on disk."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from delayplug import RunError
from delayplug.bench.comparison.collection import collect, read_collection
from delayplug.bench.comparison.compare import compare, configurations
from delayplug.bench.comparison.records import Record, check_comparable, check_record, read_record
from delayplug.bench.comparison.trained import read_delays
from delayplug.bench.hardware import device_name
from delayplug.bench.leaderboard.verification import doubts
from delayplug.bench.report.page import write_csv
from delayplug.bench.report.record_sources import read_records
from delayplug.bench.report.tables import table
from delayplug.bench.resources import Resources
from delayplug.bench.serialise import read_toml
from tests.bench.runs import CONFIG, TINY, Comparison, record_of
from tests.damage import broken_text, edited, is_one_line

RESULTS = Path(__file__).parents[3] / "results"


@pytest.mark.trains
def test_record_holds_everything(comparison: Comparison) -> None:
    configs, out, records = comparison
    for config, record in zip(configs, records, strict=True):
        assert json.loads((out / config.name / "record.json").read_text()) == record
        assert record["config"] == config.to_json()
        assert {"python", "torch", "delayplug", "spikingjelly"} <= record["versions"].keys()
        assert not {"snntorch", "norse"} & record["versions"].keys()
        assert [entry["epoch"] for entry in record["epochs"]] == [1, 2]
        assert all(entry["seconds"] > 0 for entry in record["epochs"])
        assert record["accuracy"].keys() == {"last epoch", "best on validation"}
        assert all(0 <= value <= 1 for value in record["accuracy"].values())
        assert record["peak_memory_mb"] > 50
        assert record["machine"]["graph"] == "no"  # on a CPU
        assert record["seconds_per_epoch"] > 0
        assert record["machine"]["name"] == device_name(torch.device("cpu"))
        assert record["machine"]["neurons"] == "spikingjelly: torch"
    parameters = {record["config"]["delays"]: record["parameters"] for record in records}
    synapses = 20 * 8 + 8 * 10
    assert parameters == {"none": synapses + 16, "fixed": synapses + 16, "learned": 2 * synapses + 16}


@pytest.mark.trains
def test_saved_delays(comparison: Comparison) -> None:
    configs, out, _ = comparison
    none, fixed, learned = (read_delays(out / config.name) for config in configs)
    assert none == []
    for before, after in fixed:
        assert torch.equal(before, after)
        assert torch.equal(before, before.round())
    for before, after in learned:
        assert not torch.equal(before, after)
        assert 0 <= float(after.min()) <= float(after.max()) <= 6


@pytest.mark.trains
def test_another_configuration_is_refused(comparison: Comparison) -> None:
    configs, out, _ = comparison
    other = dataclasses.replace(configs[0], epochs=3)
    with pytest.raises(RunError, match=r"epochs: 2 there, 3 here.*--out"):
        compare([other], out)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 3, "config": [1]}', "\xff"])
def test_unreadable_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "record.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"record\.json: expected the record of a run"):
        read_record(tmp_path / "record.json")


@pytest.mark.trains
def test_damaged_record(comparison: Comparison, tmp_path: Path) -> None:
    """Every part of a record may be missing, or something else."""
    _, _, records = comparison
    path = tmp_path / "record.json"
    for name in Record.__required_keys__:
        for damaged in ({k: v for k, v in records[0].items() if k != name}, {**records[0], name: None}):
            path.write_text(json.dumps(damaged))
            with pytest.raises(RunError, match=r"record\.json: expected the record of a run"):
                read_record(path)
    for name, value in {"epochs": [], "accuracy": {}, "config": {"colour": 1}, "data": {}}.items():
        path.write_text(json.dumps({**records[0], name: value}))
        with pytest.raises(RunError, match=r"record\.json: expected the (record|configuration) of a run"):
            read_record(path)


def published() -> Record:
    """A record with everything that a record can have, of data that the leaderboard knows."""
    record = read_collection(RESULTS / "synthetic.json")[0]
    return {**record, "held_out": {"accuracy": 0.5, "epochs": record["epochs"]}}


def refusal(path: Path) -> RunError | None:
    """Why a record cannot be read; None if it can, and then all can be computed with it."""
    try:
        records = read_records(path)
    except RunError as error:
        return error
    assert table(records).row_count == 1
    write_csv(records, path / "results.csv")
    assert collect([path], path / "all.json")[0] == 1
    (path / "all.json").unlink()
    assert all("\n" not in reason for reason in doubts(records[0]))
    return None


def test_every_part_of_a_record_damaged(tmp_path: Path) -> None:
    """Left out, or replaced by each kind of value: one line that names the file, or all can be computed with it."""
    path = tmp_path / "run" / "record.json"
    path.parent.mkdir()
    errors: dict[str, RunError] = {}
    for name, damaged in edited(published()):
        path.write_text(json.dumps(damaged))
        if (error := refusal(tmp_path)) is not None:
            errors[name] = error
    assert len(errors) > 600
    assert [(name, error) for name, error in errors.items() if not is_one_line(error, str(path))] == []


def test_every_kind_of_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for name, content in broken_text(json.dumps(record_of(CONFIG, 0.5))):
        path.write_bytes(content)
        for read in (read_record, read_collection):
            with pytest.raises(RunError) as caught:
                read(path)
            assert is_one_line(caught.value, str(path)), (name, str(caught.value))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"accuracy": {}}, "accuracy lacks last epoch"),
        ({"accuracy": {"last epoch": 1.5}}, "accuracy.last epoch should be less than or equal to 1, got 1.5"),
        ({"config": {}}, "config lacks backend, binning, dataset, delays, epochs"),
        ({"epochs": []}, "epochs List should have at least 1 item"),
        ({"seconds_per_epoch": float("nan")}, "seconds_per_epoch should be a finite number, got nan"),
        ({"machine": {"threads": None}}, "machine.threads"),
    ],
)
def test_the_message_on_a_damaged_record(change: dict[str, object], wrong: str) -> None:
    with pytest.raises(RunError, match=f"got a damaged one: {wrong}.*Move it away to make the run again"):
        check_record({**record_of(CONFIG, 0.5), **change}, "record.json")


def test_epochs_out_of_order() -> None:
    record = record_of(CONFIG, 0.5)
    with pytest.raises(RunError, match=r"its epochs are numbered \[2, 1\]"):
        check_record({**record, "epochs": record["epochs"][::-1]}, "record.json")


@pytest.mark.trains
def test_records_of_other_data_are_not_mixed(comparison: Comparison) -> None:
    _, out, records = comparison
    check_comparable(records, out)
    other = {**records[1], "data": {**records[1]["data"], "checksums": {"train": "0", "test": "0", "valid": "0"}}}
    with pytest.raises(
        RunError, match=r"runs of the same data, got other checksums in .*-none-seed0 and .*-fixed-seed0"
    ):
        check_comparable([records[0], other], out)


@pytest.mark.trains
def test_what_is_written_on_the_way(comparison: Comparison) -> None:
    """The share of the time that went by waiting for data, and a file to make each run again."""
    configs, out, records = comparison
    for config, record in zip(configs, records, strict=True):
        assert 0 < record["waiting"] < 1
        assert all(0 <= entry["waited"] <= entry["seconds"] for entry in record["epochs"])
        assert read_toml(out / config.name / "config.toml")["seeds"] == [config.seed]


@pytest.mark.trains
def test_delays_per_channel_have_no_planted_correlation(tmp_path: Path) -> None:
    configs = configurations("quick", backends=["spikingjelly"], delays=["axonal"], **TINY)
    (record,) = compare(configs, tmp_path, resources=Resources("cpu"))
    assert "planted_correlation" not in record
