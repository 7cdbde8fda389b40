"""Runs on several processes, and several runs on processes of their own."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from delayplug import ArgumentError, RunError
from delayplug.bench import processes as ranks
from delayplug.bench.comparison.compare import compare, configurations
from delayplug.bench.comparison.launch import PROGRESS, launch
from delayplug.bench.comparison.run import Means
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.task import load_task
from delayplug.bench.training import batches
from delayplug.bench.training.trainer import train
from tests.bench.one_step import in_two, step

SMALL: dict[str, Any] = {"epochs": 3, "hidden": (16,), "max_delay": 6, "batch_size": 64}

# Sums are taken in another order: losses of float32 differ by 1e-7 at first. Spikes at the threshold then make more of
# it; over three epochs we saw 1e-4.
TOLERANCE = 1e-3


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def same_curve(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected) == SMALL["epochs"]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=TOLERANCE)
        assert ours["train_accuracy"] == pytest.approx(theirs["train_accuracy"], abs=0.005)
        assert ours["valid_accuracy"] == pytest.approx(theirs["valid_accuracy"], abs=0.01)
        assert ours["sigma"] == theirs["sigma"]


# ------------------------------------------------------------------------------------------- one run, two processes


@pytest.mark.slow
def test_one_step_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    expected = step(slice(0, 5))
    mp.spawn(in_two, (free_port(), str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name in expected.keys() - {"hidden", "num_batches_tracked"}:
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], expected[name], rtol=1e-10, atol=1e-10)
    assert first["hidden"].shape[1] == 2  # the smaller half goes first
    torch.testing.assert_close(torch.cat((first["hidden"], second["hidden"]), 1), expected["hidden"])


TRAIN = """
import os, sys, torch
torch.set_num_threads(1)
from delayplug.bench.config import RunConfig
from delayplug.bench.processes import world
from delayplug.bench.task import load_task
from delayplug.bench.training.trainer import train
config = RunConfig(backend="spikingjelly", epochs=3, hidden=(16,), max_delay=6, batch_size=64)
nodes = int(sys.argv[2])
outcome = train(config, load_task(config), accelerator="cpu", devices=2 // nodes, nodes=nodes)
assert world() == 2
rank = torch.distributed.get_rank()
torch.save({"state": outcome.state, "epochs": outcome.epochs, "accuracy": outcome.accuracy}, f"{sys.argv[1]}/{rank}.pt")
"""


def torchrun(script: str, *args: str) -> list[subprocess.Popen]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    return [subprocess.Popen([*command, script, *args, "1"])]


def slurm(script: str, *args: str) -> list[subprocess.Popen]:
    """What srun does with `--nodes 2 --ntasks-per-node 1`."""
    port, processes = free_port(), []
    for node in range(2):
        said = {
            "SLURM_JOB_ID": "1",
            "SLURM_JOB_NAME": "delays",
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_PROCID": str(node),
            "SLURM_NODEID": str(node),
            "SLURM_LOCALID": "0",
            "SLURM_NODELIST": "127.0.0.1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        processes.append(subprocess.Popen([sys.executable, script, *args, "2"], env={**os.environ, **said}))
    return processes


@pytest.fixture(scope="module")
def alone() -> Any:
    """The run of `TRAIN` on one process."""
    config = RunConfig(backend="spikingjelly", **SMALL)
    return train(config, load_task(config), accelerator="cpu")


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("begin", [torchrun, slurm])
def test_all_processes_hold_the_same_network(begin: Callable, alone: Any, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    processes = begin(str(tmp_path / "train.py"), str(tmp_path))
    assert [process.wait(timeout=200) for process in processes] == [0] * len(processes)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    names = {name.rpartition(".")[2] for name in first["state"]}
    assert {"delays", "sigma", "weight", "running_mean", "running_var"} <= names
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name
    assert first["accuracy"] == second["accuracy"]
    same_curve(first["epochs"], alone.epochs)
    for name, value in alone.state.items():
        if name.endswith("delays"):
            # After 48 steps at a rate of 0.1 a delay may have gone 4.8 steps.
            assert float((first["state"][name] - value).abs().mean()) < 0.05


@pytest.mark.slow
@pytest.mark.trains
def test_on_two_devices_by_the_command_line(alone: Any, tmp_path: Path) -> None:
    """The command starts its second process itself, and speaks once; two runs follow each other."""
    args = ["bench", "run", "--backend", "spikingjelly", "--delays", "fixed", "learned", "--epochs", "3"]
    args += ["--hidden", "16", "--accelerator", "cpu"]
    (tmp_path / "more.toml").write_text("max_delay = 6\nbatch_size = 64\n")
    args += ["--devices", "2", "--config", str(tmp_path / "more.toml"), "--out", str(tmp_path / "runs")]
    code = "from delayplug.cli import main; main()"
    (tmp_path / "run.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), *args],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Records and models") == 1
    (path,) = tmp_path.glob("runs/*-learned-*/record.json")
    record = json.loads(path.read_text())
    same_curve(record["epochs"], alone.epochs)
    assert record["accuracy"]["last epoch"] == pytest.approx(alone.accuracy["last epoch"], abs=0.01)
    assert record["machine"]["device"] == "2 x cpu"


def test_devices_must_agree_with_who_started_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"NTASKS": "4", "NTASKS_PER_NODE": "4", "JOB_NAME": "x", "NODEID": "0", "PROCID": "0", "LOCALID": "0"}
    for name, value in said.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr("lightning.fabric.plugins.environments.slurm._is_slurm_interactive_mode", lambda: False)
    with pytest.raises(ArgumentError, match=r"accelerator: expected devices that are there.*devices=2"):
        compare([configure("quick", backend="norse")], tmp_path, means=Means("cpu", devices=2))


def test_shares_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recording is on one process, in every epoch and in every evaluation."""
    frames = load_task(configure("quick")).valid.select(range(33))
    expected = list(batches._Shuffled(frames, 10, seed=1))
    assert [batch[-1] for batch in expected] == [10, 10, 10, 3]
    parts = []
    for rank in range(3):
        monkeypatch.setattr(ranks.dist, "is_initialized", lambda: True)
        monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 3)
        monkeypatch.setattr(ranks.dist, "get_rank", lambda rank=rank: rank)
        parts.append((list(batches._Shuffled(frames, 10, seed=1)), list(batches._InOrder(33))))
        assert len(batches._InOrder(33)) == len(parts[-1][1])
    for number, whole in enumerate(expected):
        assert [index for shuffled, _ in parts for index in shuffled[number][:-1]] == whole[:-1]
        assert {shuffled[number][-1] for shuffled, _ in parts} == {whole[-1]}
    assert sorted(index for _, ordered in parts for batch in ordered for index in batch[:-1]) == list(range(33))
    # Three recordings are not enough for four processes, nor is one enough for batch norm.
    monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 4)
    assert len(batches._Shuffled(frames, 10, seed=1)) == 3
    monkeypatch.undo()
    assert len(batches._Shuffled(frames, 8, seed=1)) == 4


# ------------------------------------------------------------------------------------------- several runs at once


def cells(**changes: Any) -> list[RunConfig]:
    return configurations("quick", backends=["spikingjelly"], delays=["none", "fixed", "learned"], **changes)


class Killer(threading.Thread):
    """Kills the first worker that has finished an epoch of the last of some runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.killed = folder, 0

    def run(self) -> None:
        for _ in range(15_000):  # five minutes
            with contextlib.suppress(OSError, json.JSONDecodeError):
                entry = json.loads((self.folder / PROGRESS).read_text())
                self.killed = entry["epoch"]
                os.kill(entry["pid"], signal.SIGKILL)
                return
            time.sleep(0.02)


def without_times(record: dict) -> dict:
    kept = {name: record[name] for name in ("config", "accuracy", "best_epoch", "parameters", "spikes_per_neuron")}
    times = ("seconds", "waited")
    return {**kept, "epochs": [{k: v for k, v in entry.items() if k not in times} for entry in record["epochs"]]}


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    torch.set_num_threads(1)
    return compare(cells(epochs=6, hidden=(8,), max_delay=6), tmp_path_factory.mktemp("here"), means=Means("cpu"))


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_a_killed_worker_loses_nothing(launcher: Any, one_by_one: list[dict], tmp_path: Path) -> None:
    configs = cells(epochs=6, hidden=(8,), max_delay=6)
    seen: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def watch(config: RunConfig, epochs: int) -> Iterator[Callable[[dict], None]]:
        epochs_seen = seen.setdefault(config.delays, [])
        yield lambda entry: epochs_seen.append(entry["epoch"])

    if launcher == "ray":
        import ray

        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    killer = Killer(tmp_path / configs[-1].cell)
    killer.start()
    try:
        found = compare(configs, tmp_path, means=Means("cpu", threads=1), launcher=launcher, watch=watch)
    finally:
        if launcher == "ray":
            ray.shutdown()
    assert 1 <= killer.killed < 6, "the worker was not killed in the middle of its run"
    assert list(map(without_times, found)) == list(map(without_times, one_by_one))
    assert not list(tmp_path.glob(f"*/{PROGRESS}"))
    assert not list(tmp_path.glob("*/*.tmp"))
    assert seen["learned"], "its progress was not shown"


DYING = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from delayplug.bench.config import configure

def die(config, out, means, folder):
    if config.seed == 1:
        with (out / "deaths").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    (out / str(config.seed)).write_text(str(Path.cwd()))

if __name__ == "__main__":
    from delayplug.bench.comparison import launch  # here: the processes of the runs need nothing of what it imports

    launch.work, launch._TRIES = die, 2
    configs = [configure("quick", seed=seed) for seed in range(2)]
    means = SimpleNamespace(devices=1, nodes=1, threads=1)  # as Means has them
    try:
        launch.launch("local", configs, Path(sys.argv[1]), means, 2, None)
    except Exception as error:
        print(error)
"""


@pytest.mark.slow
def test_a_run_whose_process_always_dies_takes_nobody_along(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    command = [sys.executable, str(tmp_path / "dying.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path)
    assert "1 of 2 runs failed, the others are done" in done.stdout, done.stderr
    assert "its process died 2 times" in done.stdout
    assert (tmp_path / "deaths").read_text() == "xx"
    assert (tmp_path / "0").read_text() == str(tmp_path)


@pytest.mark.slow
@pytest.mark.trains
def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    good = configure("quick", backend="spikingjelly", delays="none", epochs=1)
    bad = dataclasses.replace(good, dataset=str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=r"1 of 2 runs failed, the others are done\. nowhere.*DataError"):
        compare([bad, good], tmp_path / "out", means=Means("cpu"), launcher="local")
    assert (tmp_path / "out" / good.cell / "record.json").exists()


def test_impossible_launchers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: Any = ([], tmp_path, Means(), 2, None)
    with pytest.raises(ArgumentError, match=r"launcher: expected one of here, local, ray, got 'kubernetes'"):
        launch("kubernetes", *arguments)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="workers: expected at least 1, got 0"):
        launch("local", [], tmp_path, Means(), 0, lambda *_: None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ArgumentError, match=r"launcher: expected Ray.*pip install 'delayplug\[ray\]'"):
        launch("ray", *arguments)
