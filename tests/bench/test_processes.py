"""One run on several processes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from delayplug.bench.config import RunConfig
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task
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


@pytest.mark.slow
def test_one_step_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    expected = step(slice(0, 5))
    mp.spawn(in_two, (free_port(), str(tmp_path)), nprocs=2)
    for rank in range(2):
        words = "expected the same recordings on all processes, got others on [1] than on 0"
        assert (tmp_path / f"{rank}.txt").read_text() == words
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
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task
from delayplug.bench.training.trainer import train
config = RunConfig(backend="spikingjelly", epochs=3, hidden=(16,), max_delay=6, batch_size=64)
nodes = int(sys.argv[2])
outcome = train(config, load_task(config), Resources("cpu", 2 // nodes, nodes))
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
    return train(config, load_task(config), Resources("cpu"))


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
