"""The data of a run."""

import dataclasses
from pathlib import Path

import pytest

from delayplug import ArgumentError, DataError
from delayplug._tables import to_text
from delayplug.bench.comparison.compare import compare
from delayplug.bench.config import configure
from delayplug.bench.report.tables import table
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task
from tests.bench.runs import write_recordings


@pytest.mark.trains
def test_folder_in_the_layout_of_shd(tmp_path: Path) -> None:
    write_recordings(tmp_path / "mini_train.h5", 40, speakers=4)
    write_recordings(tmp_path / "mini_test.h5", 12, speakers=4)
    config = configure("shd", dataset=str(tmp_path), backend="spikingjelly", hidden=(4,), epochs=1, batch_size=16)
    task = load_task(config)
    assert task.train.channels == 140
    assert task.train.steps == task.test.steps == task.valid.steps
    assert len(task.train) + len(task.valid) == 40
    assert "all of speakers" in task.split
    (record,) = compare([config], tmp_path / "runs", resources=Resources("cpu"))
    assert record["data"]["test"] == 12
    stratified = load_task(dataclasses.replace(config, validation="stratified"))
    assert "drawn by class" in stratified.split
    with pytest.raises(DataError, match=r"expected a file \*_valid.h5 for the official protocol, got none"):
        load_task(dataclasses.replace(config, protocol="official"))
    (paper,) = compare([dataclasses.replace(config, protocol="paper")], tmp_path / "paper", resources=Resources("cpu"))
    assert (paper["data"]["train"], paper["data"]["valid"], paper["data"]["test"]) == (40, 12, 12)
    assert paper["accuracy"].keys() == {"last epoch", "best on test"}
    assert paper["accuracy"]["best on test"] == max(entry["valid_accuracy"] for entry in paper["epochs"])
    shown = " ".join(to_text(table([paper])).split())
    assert "test %" in shown
    assert "the test set chooses the epoch" in shown
    (tmp_path / "mini_valid.h5").write_bytes((tmp_path / "mini_test.h5").read_bytes())
    official = load_task(dataclasses.replace(config, protocol="official"))
    assert (len(official.train), len(official.valid)) == (40, 12)
    assert official.split == "the validation file of the data"


def test_a_folder_that_does_not_exist() -> None:
    with pytest.raises(DataError, match="nowhere"):
        load_task(configure("shd", dataset="nowhere"))


def test_the_synthetic_task_has_one_protocol() -> None:
    with pytest.raises(ArgumentError, match="protocol: expected 'heldout'"):
        load_task(configure("quick", protocol="paper"))
