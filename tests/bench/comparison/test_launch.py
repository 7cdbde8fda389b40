"""Several runs at once, on processes of their own."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from delayplug import ArgumentError, ExtraMissingError, RunError
from delayplug.bench.comparison.compare import compare, configurations
from delayplug.bench.comparison.launch import PROGRESS, launch
from delayplug.bench.comparison.records import CHECKPOINT
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.resources import Resources


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
                if (self.folder / CHECKPOINT).exists():  # which is written after the progress is told
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
    return compare(
        cells(epochs=6, hidden=(8,), max_delay=6), tmp_path_factory.mktemp("here"), resources=Resources("cpu")
    )


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_a_killed_worker_loses_nothing(launcher: Any, one_by_one: list[dict], tmp_path: Path) -> None:
    configs = cells(epochs=6, hidden=(8,), max_delay=6)
    seen: dict[str, list[int]] = {}
    said: list[str] = []

    def watch(config: RunConfig, entry: dict) -> None:
        seen.setdefault(config.delays, []).append(entry["epoch"])

    if launcher == "ray":
        import ray

        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    killer = Killer(tmp_path / configs[-1].name)
    killer.start()
    try:
        found = compare(
            configs, tmp_path, resources=Resources("cpu", threads=1), launcher=launcher, watch=watch, say=said.append
        )
    finally:
        if launcher == "ray":
            ray.shutdown()
    assert 1 <= killer.killed < 6, "the worker was not killed in the middle of its run"
    assert list(map(without_times, found)) == list(map(without_times, one_by_one))
    assert not list(tmp_path.glob(f"*/{PROGRESS}"))
    assert not list(tmp_path.glob("*/*.tmp"))
    assert {epochs[-1] for epochs in seen.values()} == {6}, "its progress was not shown"
    if launcher == "local":
        died, goes_on = said
        assert "ended with code -9, and another one takes over" in died
        assert any(
            f"{configs[-1].name} goes on from epoch {epoch} of 6" in goes_on
            for epoch in (killer.killed, killer.killed + 1)  # the checkpoint of the last epoch may not be written yet
        )


DYING = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from delayplug.bench.config import configure

def die(config, out, resources, folder):
    if config.seed == 1:
        with (out / "deaths").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    (out / str(config.seed)).write_text(str(Path.cwd()))

if __name__ == "__main__":
    from delayplug.bench.comparison import launch  # here: the processes of the runs need nothing of what it imports

    launch.run_worker, launch._TRIES = die, 2
    configs = [configure("quick", seed=seed) for seed in range(2)]
    means = SimpleNamespace(devices=1, nodes=1, threads=1)  # as Resources has them
    try:
        launch.launch("local", dict.fromkeys(configs, Path(sys.argv[1])), means, 2, None, print)
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
    assert done.stdout.count("ended with code -9, and another one takes over") == 1
    assert (tmp_path / "deaths").read_text() == "xx"
    assert (tmp_path / "0").read_text() == str(tmp_path)


@pytest.mark.slow
@pytest.mark.trains
def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    good = configure("quick", backend="spikingjelly", delays="none", epochs=1)
    bad = dataclasses.replace(good, dataset=str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=r"1 of 2 runs failed, the others are done\. nowhere.*DataError"):
        compare([bad, good], tmp_path / "out", resources=Resources("cpu"), launcher="local")
    assert (tmp_path / "out" / good.name / "record.json").exists()


def test_impossible_launchers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: Any = ({}, Resources(), 2, None, None)
    with pytest.raises(ArgumentError, match=r"launcher: expected one of here, local, ray, got 'kubernetes'"):
        launch("kubernetes", *arguments)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="workers: expected at least 1, got 0"):
        launch("local", {}, Resources(), 0, lambda *_: None, print)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraMissingError, match=r"^--launcher ray needs ray\. Run: pip install 'delayplug\[ray\]'$"):
        launch("ray", *arguments)


def test_several_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="devices: expected 1"):
        compare(
            [configure("quick", backend="norse")], tmp_path, resources=Resources("cpu", devices=2), launcher="local"
        )
    assert not list(tmp_path.iterdir())
