"""The data of a run."""

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from delayplug import ArgumentError, DataError
from delayplug.bench.comparison.compare import compare
from delayplug.bench.config import configure
from delayplug.bench.report.tables import table
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task


def test_folder_in_the_layout_of_shd(tmp_path: Path) -> None:
    write = pytest.importorskip("h5py").File
    for split, size in (("train", 40), ("test", 12)):
        with write(tmp_path / f"mini_{split}.h5", "w") as file:
            import h5py
            import numpy as np

            rng = np.random.default_rng(len(split))
            times = [np.sort(rng.uniform(0, 0.3, 50)).astype(np.float16) for _ in range(size)]
            units = [rng.integers(0, 700, 50).astype(np.uint16) for _ in range(size)]
            for name, values, kind in (("times", times, np.float16), ("units", units, np.uint16)):
                data = file.create_dataset(f"spikes/{name}", (size,), dtype=h5py.vlen_dtype(kind))
                for n, value in enumerate(values):
                    data[n] = value
            file["labels"] = np.arange(size, dtype=np.uint16) % 2
            file["extra/speaker"] = np.arange(size, dtype=np.uint16) // 2 % 4
            file["extra/keys"] = np.array([b"zero", b"one"])
    config = configure("shd", dataset=str(tmp_path), backend="spikingjelly", hidden=(4,), epochs=1, batch_size=16)
    task = load_task(config)
    assert task.channels == 140
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
    shown = Console(width=120)
    with shown.capture() as text:
        shown.print(table([paper]))
    shown_text = " ".join(text.get().split())
    assert "test %" in shown_text
    assert "the test set chooses the epoch" in shown_text
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
