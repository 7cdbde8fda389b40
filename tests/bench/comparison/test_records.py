"""Records of runs on disk."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from delayplug import RunError
from delayplug.bench.comparison.compare import compare
from delayplug.bench.comparison.records import finished, read_delays
from delayplug.bench.config import RunConfig
from delayplug.bench.serialise import read_toml
from tests.bench.runs import Comparison


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
        assert record["seconds_per_epoch"] > 0
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
    (tmp_path / "model.pt").touch()
    (tmp_path / "record.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"record\.json: expected the record of a run"):
        finished(tmp_path, RunConfig())


@pytest.mark.trains
def test_what_is_written_on_the_way(comparison: Comparison) -> None:
    """The share of the time that went by waiting for data, and a file to make each run again."""
    configs, out, records = comparison
    for config, record in zip(configs, records, strict=True):
        assert 0 < record["waiting"] < 1
        assert all(0 <= entry["waited"] <= entry["seconds"] for entry in record["epochs"])
        assert read_toml(out / config.name / "config.toml")["seeds"] == [config.seed]
