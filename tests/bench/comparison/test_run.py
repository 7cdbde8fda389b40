"""One run, from its configuration to its record."""

from pathlib import Path
from typing import Any

import pytest
import torch

from delayplug.bench.comparison import run
from delayplug.bench.comparison.records import read_record
from delayplug.bench.config import configure
from delayplug.bench.resources import Resources
from delayplug.bench.serialise import read_toml
from delayplug.bench.training.outcome import Epoch, Outcome

CONFIG = configure("quick", backend="norse", delays="none")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of all trainings, none of which takes place."""
    calls: list[dict[str, Any]] = []
    entry = Epoch(epoch=1, sigma=None, train_loss=1, train_accuracy=0, valid_accuracy=0, seconds=2.0, waited=0.5)

    def train(config: Any, task: Any, resources: Any, **arguments: Any) -> Outcome:
        calls.append({**arguments, "resources": resources, "threads": torch.get_num_threads()})
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


def test_only_the_first_process_writes(
    trained: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.rank_zero_only, "rank", 1)
    run.make_run(CONFIG, tmp_path, Resources("cpu"), on_epoch=lambda entry: None)
    assert trained[0]["on_epoch"] is None
    assert list(tmp_path.iterdir()) == []
