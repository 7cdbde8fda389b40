"""The data of a run."""

import dataclasses
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from delayplug import ArgumentError, DataError
from delayplug._tables import to_text
from delayplug.bench.comparison.compare import compare
from delayplug.bench.config import SYNTHETIC, configure
from delayplug.bench.report.page import write_csv, write_page
from delayplug.bench.report.record_sources import read_records
from delayplug.bench.report.tables import table
from delayplug.bench.resources import Resources
from delayplug.bench.task import (
    check_before_reading,
    data_checksums,
    data_name,
    load_task,
    number_of_folds,
    usual_preset,
)
from delayplug.data import known_data
from delayplug.data.known_data import KnownData, KnownPart, md5
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


def test_folds_of_speakers_never_read_the_test_file(tmp_path: Path) -> None:
    """Speakers 0 to 4 in turns, two recordings each; the files beside that of training are no files of recordings."""
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    write_recordings(tmp_path / "mini_train.h5", 40, speakers=5, seconds=0.2)
    for name in ("test", "valid"):
        (tmp_path / f"mini_{name}.h5").write_bytes(b"damaged")
    opened.clear()
    config = configure("shd", dataset=str(tmp_path), protocol="speakers")
    tasks = [load_task(dataclasses.replace(config, fold=fold)) for fold in range(3)]
    assert [task.held_speakers for task in tasks] == [(0, 1), (2, 3), (4,)]
    assert [(len(task.train), len(task.test)) for task in tasks] == [(24, 16), (24, 16), (32, 8)]
    for task in tasks:
        assert task.train.speakers is not None
        assert task.test.speakers is not None
        assert set(task.test.speakers.tolist()) == set(task.held_speakers)
        assert set(task.train.speakers.tolist()) == set(range(5)) - set(task.held_speakers)
        assert task.valid is task.test
        assert task.rule == "last epoch"
        assert task.checksums == data_checksums(config)
        assert task.checksums.keys() == {"train"}
    assert tasks[0].tested_on == "speakers 0 and 1 of the training file, held out of training"
    named = load_task(dataclasses.replace(config, held_speakers=(4, 1)))
    assert named.held_speakers == (1, 4)
    assert len(named.test) == 16
    assert number_of_folds(config) == 3
    with pytest.raises(ArgumentError, match=r"fold: expected 0 to 2: .* has 3 folds, got 3"):
        load_task(dataclasses.replace(config, fold=3))
    with pytest.raises(ArgumentError, match=r"held_speakers: .* speakers among \[0, 1, 2, 3, 4\], got \[7\]"):
        load_task(dataclasses.replace(config, held_speakers=(1, 7)))
    assert [path for path in opened if path.endswith(("mini_test.h5", "mini_valid.h5"))] == []
    with pytest.raises(DataError):
        load_task(dataclasses.replace(config, protocol="heldout"))


def test_validation_recordings_in_place_of_a_test_file_that_is_not_read(tmp_path: Path) -> None:
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    write_recordings(tmp_path / "mini_train.h5", 20)
    (tmp_path / "mini_test.h5").write_bytes(b"damaged")
    opened.clear()
    config = configure("shd", dataset=str(tmp_path), protocol="validation")
    with pytest.raises(DataError, match=r"expected a file \*_valid.h5 for the validation protocol, got none"):
        load_task(config)
    write_recordings(tmp_path / "mini_valid.h5", 8)
    task = load_task(config)
    assert (len(task.train), len(task.test), task.rule) == (20, 8, "last epoch")
    assert task.test is task.valid
    assert task.tested_on == "the validation recordings"
    assert task.checksums == data_checksums(config)
    assert task.checksums.keys() == {"train", "valid"}
    assert [path for path in opened if path.endswith("mini_test.h5")] == []  # nor for its name
    with pytest.raises(DataError):
        load_task(dataclasses.replace(config, protocol="official"))
    synthetic = load_task(configure("quick", protocol="validation"))
    assert synthetic.checksums.keys() == {"train", "valid"}
    assert (synthetic.test is synthetic.valid, synthetic.rule) == (True, "last epoch")


def test_folds_need_speakers(tmp_path: Path) -> None:
    config = configure("shd", dataset=str(tmp_path), protocol="speakers")
    for speakers, got in ((0, "none that are named"), (2, "2")):
        write_recordings(tmp_path / "mini_train.h5", 20 + speakers, speakers=speakers)
        write_recordings(tmp_path / "mini_test.h5", 4)
        with pytest.raises(DataError, match=f"expected three speakers or more .* got {got}. Take --protocol heldout"):
            load_task(config)


def test_every_seed_holds_out_other_speakers(tmp_path: Path) -> None:
    write_recordings(tmp_path / "mini_train.h5", 40, speakers=10)
    write_recordings(tmp_path / "mini_test.h5", 4)
    config = configure("shd", dataset=str(tmp_path))
    held = [load_task(dataclasses.replace(config, seed=seed)).held_speakers for seed in range(6)]
    assert held == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (0, 1)]


def test_the_two_trainings_of_a_refit(tmp_path: Path) -> None:
    write_recordings(tmp_path / "mini_train.h5", 40, speakers=4)
    write_recordings(tmp_path / "mini_test.h5", 12)
    config = configure("shd", dataset=str(tmp_path), refit=True)
    task = load_task(config)
    first, second = task.first_part(), task.refit()
    assert task.valid is not None
    assert (len(first.train), len(task.valid), len(second.train), len(second.test)) == (30, 10, 40, 12)
    assert first.test is first.valid
    assert second.valid is None
    assert (first.rule, second.rule, second.tested_on) == ("last epoch", "last epoch", "the test set")
    whole = load_task(dataclasses.replace(config, protocol="paper", refit=False)).train
    assert torch.equal(second.train.labels, whole.labels)
    write_recordings(tmp_path / "mini_valid.h5", 8)
    with pytest.raises(ArgumentError, match="refit: expected no refit for data with a validation file"):
        load_task(config)
    with pytest.raises(ArgumentError, match="refit: expected no refit for the synthetic task"):
        load_task(configure("quick", refit=True))


@pytest.mark.trains
def test_known_data_sets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the record, the table, the page and the numbers; and they have a preset of their own."""
    monkeypatch.setenv("DELAYPLUG_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    folder.mkdir()
    for part, number in (("train", 40), ("test", 12)):
        write_recordings(folder / f"some_{part}.h5", number, speakers=4)
    assert data_name(str(folder)) == data_name(SYNTHETIC) == ""
    assert (usual_preset(str(folder)), usual_preset(SYNTHETIC)) == ("shd", "quick")
    config = configure("ssc", dataset=str(folder), backend="spikingjelly", hidden=(4,), epochs=1, batch_size=16)
    (record,) = compare([config], tmp_path / "unknown", resources=Resources("cpu"))
    assert "name" not in record["data"]
    assert to_text(table([record])).split()[0] == "folder:"
    parts = {part: KnownPart(1, {".h5": md5(folder / f"some_{part}.h5")}) for part in ("train", "test")}
    monkeypatch.setattr(known_data, "KNOWN_DATA", (KnownData("SC10", "", "", "", "", "sc10", parts),))
    assert data_name(str(folder)) == load_task(config).name == "SC10"
    assert usual_preset(str(folder)) == "sc10"
    (record,) = compare([config], tmp_path / "known", resources=Resources("cpu"))
    assert record["data"]["name"] == "SC10"
    assert read_records(tmp_path / "known") == [record]
    assert to_text(table([record])).split()[0] == "SC10:"
    write_page([record], [tmp_path / "known"], tmp_path / "page.html")
    write_csv([record], tmp_path / "numbers.csv")
    assert "<h1>Do delays help on SC10?</h1>" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "numbers.csv").read_text().splitlines()[1].startswith("SC10,ssc,")


def test_a_folder_that_does_not_exist() -> None:
    with pytest.raises(DataError, match="nowhere"):
        load_task(configure("shd", dataset="nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        usual_preset("nowhere")


def test_the_synthetic_task_has_two_protocols() -> None:
    with pytest.raises(ArgumentError, match="protocol: expected 'heldout' or 'validation' for the synthetic task"):
        load_task(configure("quick", protocol="paper"))


def test_files_that_nothing_can_be_learned_from(tmp_path: Path) -> None:
    """No spikes in one of them, or one class: refused before anything is trained."""
    config = configure("shd", dataset=str(tmp_path), backend="spikingjelly")
    for name in ("train", "test"):
        write_recordings(tmp_path / f"mini_{name}.h5", 40, speakers=4)
    with h5py.File(tmp_path / "mini_test.h5", "a") as file:
        for group in ("spikes/times", "spikes/units"):
            for n in range(40):
                file[group][n] = np.zeros(0, h5py.check_vlen_dtype(file[group].dtype))
    with pytest.raises(DataError, match="expected spikes in each file, got none in the recordings of test"):
        load_task(config)
    for name in ("train", "test"):
        with h5py.File(tmp_path / f"mini_{name}.h5", "a") as file:
            del file["labels"], file["extra/keys"]
            file["labels"] = np.zeros(40, np.uint16)
    with pytest.raises(DataError, match=r"expected two classes or more, got \('0',\)"):
        load_task(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_delay": 50}, "max_delay: expected less than the 50 steps"),
        ({"fan_in": 65}, "fan_in: expected at most 64"),
        ({"dataset": "some folder", "fan_in": 141}, "fan_in: expected at most 140"),
    ],
)
def test_delays_and_synapses_that_cannot_be_are_refused_before_anything_is_read(changes, words) -> None:
    with pytest.raises(ArgumentError, match=words):
        check_before_reading(configure("quick", **changes))
    check_before_reading(configure("quick", delays="none", max_delay=50))
