"""Runs that were interrupted."""

import dataclasses
import json
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from delayplug import RunError
from delayplug.bench.comparison.compare import compare
from delayplug.bench.comparison.existing import left_to_do
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.resources import Resources
from delayplug.bench.sealed import save_sealed
from delayplug.bench.training import checkpoints
from delayplug.bench.training.checkpoints import CheckpointAfterEpochs, read_checkpoint
from delayplug.bench.training.training_module import TrainingModule
from tests.bench.runs import CONFIG, EPOCH, TINY, put_checkpoint, write_recordings
from tests.damage import broken_bytes, is_one_line


def same_numbers(found: dict, expected: dict) -> None:
    """All that a run measures but for time and memory, to the last bit."""
    for record in (found, expected):
        for entry in record["epochs"]:
            entry.pop("seconds", None), entry.pop("waited", None)
    for key in ("epochs", "accuracy", "best_epoch", "config", "data", "parameters", "planted_correlation"):
        assert found.get(key) == expected.get(key), key


def same_model(found: Path, expected: Path) -> None:
    ours, theirs = (torch.load(folder / "model.pt", weights_only=True) for folder in (found, expected))
    assert ours["state"].keys() == theirs["state"].keys()
    assert all(torch.equal(ours["state"][name], theirs["state"][name]) for name in ours["state"])
    for when in ("before", "after"):
        assert all(map(torch.equal, ours["delays"][when], theirs["delays"][when]))


KILLED = """
import json, os, signal, sys
import torch
from pathlib import Path
from delayplug.bench.comparison.compare import compare
from delayplug.bench.resources import Resources
from delayplug.bench.config import configure
from delayplug.bench.training.training_module import TrainingModule

torch.set_num_threads(1)
config = configure("quick", backend="snntorch", epochs=4, hidden=(8,), max_delay=6)
out = Path(sys.argv[1])
plain = TrainingModule.training_step

def run_until(epoch, step):
    def until(self, batch, index):
        if (self.current_epoch, index) == (epoch, step):
            os.kill(os.getpid(), signal.SIGKILL)
        plain(self, batch, index)

    TrainingModule.training_step = until
    compare([config], out, resources=Resources("cpu"))

# A process for each run: what they import is imported once, which takes longer than the runs.
for epoch, step in json.loads(sys.argv[2]):
    process = os.fork()
    if not process:
        try:
            run_until(epoch, step)
        finally:
            os._exit(1)
    status = os.waitpid(process, 0)[1]
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    print(json.dumps([signalled, *((out / config.name / name).exists() for name in ("checkpoint.pt", "record.json"))]))
"""


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a signal that cannot be caught is something of POSIX")
def test_killed_runs_end_with_the_same_numbers(tmp_path: Path) -> None:
    """Killed in the first epoch, at the start of one and in the middle of one; each time it goes on."""
    config = configure("quick", backend="snntorch", epochs=4, hidden=(8,), max_delay=6)
    (expected,) = compare([config], tmp_path / "whole", resources=Resources("cpu"))
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(killed), json.dumps([(0, 5), (1, 0), (2, 7)])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    ends = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    # By which signal it ended; whether there is a checkpoint then, and a record.
    assert ends == [[signal.SIGKILL, there, False] for there in (False, True, True)], done.stderr
    seen: list[tuple] = []

    (found,) = compare([config], killed, resources=Resources("cpu"), watch=lambda *call: seen.append(call))
    assert [entry and entry["epoch"] for _, entry in seen] == [None, 1, 2, 3, 4]
    same_numbers(found, expected)
    same_model(killed / config.name, tmp_path / "whole" / config.name)
    assert not (killed / config.name / "checkpoint.pt").exists()


class LateError(Exception):
    """While the run is being tested."""


def interrupted(config: RunConfig, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train all epochs, and no more."""
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "on_test_epoch_start", lambda _: (_ for _ in ()).throw(LateError))
        with pytest.raises(LateError):
            compare([config], out, resources=Resources("cpu"))


@pytest.mark.trains
def test_killed_while_testing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last epoch nothing is trained again."""
    config = configure("quick", backend="norse", **TINY)
    (expected,) = compare([config], tmp_path / "whole", resources=Resources("cpu"))
    interrupted(config, tmp_path / "late", monkeypatch)
    monkeypatch.setattr(TrainingModule, "training_step", lambda *_: pytest.fail("trained again"))
    (found,) = compare([config], tmp_path / "late", resources=Resources("cpu"))
    same_numbers(found, expected)


@pytest.mark.trains
@pytest.mark.parametrize("stop", [2, 5], ids=["in the training", "in the refit"])
def test_a_refit_goes_on(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three epochs, and three on all recordings; what is trained is not trained again, and no test is read before."""
    write_recordings(tmp_path / "d_train.h5", 40, speakers=4)
    write_recordings(tmp_path / "d_test.h5", 12)
    monkeypatch.setattr(checkpoints, "_SHARE", float("inf"))  # a checkpoint after each of the short epochs
    small = {"epochs": 3, "hidden": (4,), "batch_size": 16}
    config = configure("shd", dataset=str(tmp_path), backend="spikingjelly", refit=True, **small)
    (expected,) = compare([config], tmp_path / "whole", resources=Resources("cpu"))
    plain, epochs, tests = TrainingModule.on_train_epoch_start, [], []
    test_start = TrainingModule.on_test_epoch_start

    def stopping(self: TrainingModule) -> None:
        if len(epochs) == stop:
            raise LateError
        epochs.append(self.current_epoch)
        plain(self)

    def testing(self: TrainingModule) -> None:
        tests.append(len(epochs))
        test_start(self)

    monkeypatch.setattr(TrainingModule, "on_train_epoch_start", stopping)
    monkeypatch.setattr(TrainingModule, "on_test_epoch_start", testing)
    with pytest.raises(LateError):
        compare([config], tmp_path / "stopped", resources=Resources("cpu"))
    folder = tmp_path / "stopped" / config.name
    assert sorted(path.name for path in folder.glob("*.pt")) == ["checkpoint.pt", "refit.pt"][: 1 + (stop > 3)]
    assert left_to_do([config], tmp_path / "stopped").startswith(f"run again to go on from epoch {stop + 1} of 6 (")
    said: list[str] = []
    seen: list[Any] = []
    stop = 100
    (found,) = compare(
        [config],
        tmp_path / "stopped",
        resources=Resources("cpu"),
        say=said.append,
        watch=lambda _, entry: seen.append(entry and entry["epoch"]),
    )
    assert (epochs, seen) == ([0, 1, 2, 0, 1, 2], [None, 1, 2, 3, 4, 5, 6])
    assert "epochs are trained and skipped" in said[0]
    assert tests[-1] == 6
    same_numbers(found, expected)
    assert found["held_out"]["accuracy"] == expected["held_out"]["accuracy"]
    same_model(folder, tmp_path / "whole" / config.name)
    assert sorted(path.name for path in folder.iterdir()) == ["config.toml", "model.pt", "record.json"]
    # The network is the one that is trained on all recordings in any case.
    paper = dataclasses.replace(config, refit=False, protocol="paper")
    (whole,) = compare([paper], tmp_path / "paper", resources=Resources("cpu"))
    assert whole["accuracy"]["last epoch"] == found["accuracy"]["last epoch"]
    same_model(folder, tmp_path / "paper" / paper.name)


@pytest.mark.trains
def test_every_random_generator_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a toolkit draws from: a run that was interrupted draws what one that was not would have drawn."""
    config = configure("quick", backend="spikingjelly", delays="none", **{**TINY, "epochs": 3})
    plain, drawn = TrainingModule.training_step, []

    def drawing(self: TrainingModule, batch: Any, index: int) -> None:
        drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
        plain(self, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", drawing)
    compare([config], tmp_path / "whole", resources=Resources("cpu"))
    expected, steps = drawn.copy(), len(drawn) // 3
    drawn.clear()

    def stopping(self: TrainingModule, batch: Any, index: int) -> None:
        if (self.current_epoch, index) == (1, 3):
            raise LateError
        drawing(self, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", stopping)
    with pytest.raises(LateError):
        compare([config], tmp_path / "stopped", resources=Resources("cpu"))
    monkeypatch.setattr(TrainingModule, "training_step", drawing)
    drawn.clear()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    compare([config], tmp_path / "stopped", resources=Resources("cpu"))
    assert drawn == expected[steps:]


@pytest.mark.trains
def test_a_checkpoint_of_another_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure("quick", backend="norse", **TINY)
    interrupted(config, tmp_path, monkeypatch)
    kept = read_checkpoint(tmp_path / config.name / "checkpoint.pt")
    assert kept is not None
    assert (kept.config, kept.epochs, sorted(kept.checksums or ())) == (config.to_json(), 2, ["test", "train", "valid"])
    assert kept.next_step(config) == "the test: all 2 epochs are trained"
    assert kept.next_step(dataclasses.replace(config, epochs=3)) == "epoch 3 of 3"
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    with pytest.raises(RunError, match=r"another configuration \(lr: 0.005 there, 0.1 here\). Choose another --out"):
        compare([dataclasses.replace(config, lr=0.1)], tmp_path, resources=Resources("cpu"))
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before
    checkpoint = tmp_path / config.name / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(
        RunError, match=r"expected a checkpoint of a run, got a damaged file .* Delete it to start the run again"
    ):
        compare([config], tmp_path, resources=Resources("cpu"))


def test_every_kind_of_damaged_checkpoint(tmp_path: Path) -> None:
    """A part of it, changed bytes, other files: one line that names it and says what to do."""
    put_checkpoint(tmp_path)
    path = tmp_path / "checkpoint.pt"
    good = path.read_bytes()
    torch.save({"delayplug": 3}, tmp_path / "other.pt")
    others = {"another file": (tmp_path / "other.pt").read_bytes(), "code": pickle.dumps(Path)}
    for name, content in (*broken_bytes(good), *others.items()):
        path.write_bytes(content)
        try:
            kept = read_checkpoint(path)
        except RunError as error:
            assert is_one_line(error, str(path)), name  # noqa: PT017
            assert "Delete it to start the run again" in str(error), name  # noqa: PT017
        else:  # bytes of the archive's directory that say nothing about its content
            assert name.startswith(("byte", "behind", "twice")), name
            assert kept is not None
            assert (kept.config, kept.epochs) == (CONFIG.to_json(), 1), name
    path.unlink()
    path.mkdir()
    with pytest.raises(RunError, match="directory"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": []},
        {"epochs": [{**EPOCH, "epoch": -1}]},
        {"epochs": [{**EPOCH, "train_loss": float("nan")}]},
        {"config": {**CONFIG.to_json(), "lr": 1.0}},
        {"checksums": {}},
        {"best_state": {"weight": torch.zeros(2)}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_edited_checkpoint_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    put_checkpoint(tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    torch.save({**content, "delayplug": {**content["delayplug"], **change}}, path)
    with pytest.raises(RunError, match=r"it has no checksum: it was edited, or is of an earlier version\)\. Delete it"):
        read_checkpoint(path)


def test_a_checkpoint_of_the_right_checksum_that_is_not_of_a_run(tmp_path: Path) -> None:
    negative = {"config": {}, "epochs": [{**EPOCH, "epoch": -1}]}
    for content, wrong in (
        ([], "it should be a valid dictionary"),
        ({"delayplug": {"config": {}, "epochs": [{}]}}, r"delayplug.epochs\[0\] lacks epoch"),
        ({"delayplug": negative}, r"delayplug.epochs\[0\].epoch should be greater than or equal to 1, got -1"),
    ):
        save_sealed(tmp_path / "checkpoint.pt", content)
        with pytest.raises(RunError, match=f"expected a checkpoint of a run, got another file: {wrong}"):
            read_checkpoint(tmp_path / "checkpoint.pt")


class Clock:
    """Time that passes when it is told to, and a trainer of ten epochs that takes half a second for a checkpoint."""

    def __init__(self) -> None:
        self.now, self.current_epoch, self.max_epochs = 1000.0, 0, 10
        self.written: list[int] = []
        self.strategy = self

    def monotonic(self) -> float:
        return self.now

    def broadcast(self, due: bool) -> bool:
        return due

    def save_checkpoint(self, path: Path) -> None:
        self.written.append(self.current_epoch)
        self.now += 0.5


@pytest.mark.parametrize(
    ("seconds", "expected"), [(30.0, list(range(10))), (10.0, [0, 3, 6, 9]), (0.1, [0, 9])], ids=str
)
def test_checkpoints_take_a_small_share_of_the_time(
    seconds: float, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of half a second is written every 25 seconds at most, and after the first and the last epoch."""
    clock: Any = Clock()
    monkeypatch.setattr(checkpoints, "time", clock)
    callback = CheckpointAfterEpochs(Path("checkpoint.pt"))
    for clock.current_epoch in range(10):
        clock.now += seconds
        callback.on_train_epoch_end(clock, clock)
    assert clock.written == expected
