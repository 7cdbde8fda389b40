"""One run, from its configuration to its record."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from delayplug import RunError
from delayplug.bench import whole_files
from delayplug.bench.comparison import run
from delayplug.bench.comparison.records import read_record
from delayplug.bench.config import configure
from delayplug.bench.resources import Resources
from delayplug.bench.serialise import read_toml
from delayplug.bench.training.outcome import Epoch, Outcome
from tests.bench.runs import put_checkpoint, put_record, write_recordings

CONFIG = configure("quick", backend="norse", delays="none")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of all trainings, none of which takes place."""
    calls: list[dict[str, Any]] = []
    entry = Epoch(epoch=1, sigma=None, train_loss=1, train_accuracy=0, valid_accuracy=0, seconds=2.0, waited=0.5)

    def train(config: Any, task: Any, resources: Any, **arguments: Any) -> Outcome:
        calls.append({**arguments, "task": task, "resources": resources, "threads": torch.get_num_threads()})
        if "on_epoch" in arguments:
            arguments["on_epoch"](entry)
        return Outcome(epochs=[entry], accuracy={"last epoch": 0.5})

    monkeypatch.setattr(run, "train", train)
    return calls


def test_a_folder_for_each_run(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    run.make_run(CONFIG, tmp_path, Resources("cpu", threads=1))
    folder = tmp_path / CONFIG.name
    record = read_record(folder / "record.json")
    assert record["config"] == CONFIG.to_json()
    assert record["machine"]["device"] == "cpu"
    assert record["waiting"] == 0.25
    assert "planted_correlation" not in record
    assert read_toml(folder / "config.toml")["backends"] == ["norse"]
    (call,) = trained
    assert call["checkpoint"] == folder / "checkpoint.pt"
    assert (call["resources"], call["threads"]) == (Resources("cpu", threads=1), 1)


def test_a_refit_is_a_second_training(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    """The first one knows nothing of the test file; the second trains on all recordings."""
    write_recordings(tmp_path / "d_train.h5", 40, speakers=4)
    write_recordings(tmp_path / "d_test.h5", 12)
    config = configure("shd", dataset=str(tmp_path), backend="norse", refit=True, epochs=3)
    seen: list[Epoch] = []
    run.make_run(config, tmp_path / "runs", Resources("cpu"), on_epoch=seen.append)
    assert [entry["epoch"] for entry in seen] == [1, 4]
    first, second = trained
    folder = tmp_path / "runs" / config.name
    assert [call["checkpoint"] for call in trained] == [folder / "checkpoint.pt", folder / "refit.pt"]
    assert first["task"].test is first["task"].valid
    assert (len(first["task"].train), len(second["task"].train), len(second["task"].test)) == (30, 40, 12)
    record = read_record(folder / "record.json")
    assert record["held_out"] == {"accuracy": 0.5, "epochs": record["epochs"]}


def test_only_the_first_process_writes(
    trained: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.rank_zero_only, "rank", 1)
    run.make_run(CONFIG, tmp_path, Resources("cpu"), on_epoch=lambda entry: None)
    assert "on_epoch" not in trained[0]
    assert list(tmp_path.iterdir()) == []


def test_a_refused_run_changes_nothing(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    """Its folder has a checkpoint, or a record without its network, of another configuration or of other data."""
    folder = tmp_path / CONFIG.name
    for put in (put_checkpoint, put_record):
        for other in (dataclasses.replace(CONFIG, epochs=3), CONFIG):
            put(folder, other, {"train": "0" * 64})
            (folder / "config.toml").write_text("epochs = 3\n")
            (folder / "checkpoint.pt.1.tmp").touch()
            before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
            with pytest.raises(RunError, match="Choose another --out"):
                run.make_run(CONFIG, tmp_path, Resources("cpu"))
            assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert trained == []


def test_a_finished_run_is_not_made_again(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    for _ in range(2):
        run.make_run(CONFIG, tmp_path, Resources("cpu"))
    assert len(trained) == 1


def test_leftovers_of_a_killed_process_are_removed(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / CONFIG.name).mkdir()
    (tmp_path / CONFIG.name / "checkpoint.pt.1.tmp").touch()
    run.make_run(CONFIG, tmp_path, Resources("cpu"))
    assert sorted(path.name for path in (tmp_path / CONFIG.name).iterdir()) == [
        "config.toml",
        "model.pt",
        "record.json",
    ]


def test_one_process_at_a_time(trained: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_files, "_PATIENCE", 0.0)
    (tmp_path / CONFIG.name).mkdir()
    with whole_files.locked(tmp_path / CONFIG.name):
        with pytest.raises(RunError, match="another process is making this run"):
            run.make_run(CONFIG, tmp_path, Resources("cpu"))
        assert list((tmp_path / CONFIG.name).iterdir()) == []
    run.make_run(CONFIG, tmp_path, Resources("cpu"))
    assert len(trained) == 1
