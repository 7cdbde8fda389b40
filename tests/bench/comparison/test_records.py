"""Records of runs on disk."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from delayplug import RunError
from delayplug.bench.comparison.compare import compare, configurations
from delayplug.bench.comparison.records import Record, check_comparable, read_record
from delayplug.bench.comparison.trained import read_delays, read_example
from delayplug.bench.hardware import device_name
from delayplug.bench.resources import Resources
from delayplug.bench.serialise import read_toml
from tests.bench.runs import TINY, Comparison


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


def test_damaged_model(tmp_path: Path) -> None:
    for damage in ("missing", "empty", "other"):
        if damage == "empty":
            (tmp_path / "model.pt").touch()
        if damage == "other":
            torch.save({"weights": []}, tmp_path / "model.pt")
        for read in (read_delays, read_example):
            with pytest.raises(RunError, match=r"model\.pt: expected a trained network"):
                read(tmp_path)


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
