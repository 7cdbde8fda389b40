"""Functions in processes of their own."""

import os
import signal
import time

import pytest

from delayplug import ArgumentError, RunError
from delayplug.bench.workers import Worker, WorkerDiedError, run_in_worker


def doubled(value: int) -> int:
    return 2 * value


def refuse() -> None:
    raise ArgumentError("epochs", "an integer", "x")  # which pickle cannot make again


def fail() -> None:
    raise KeyError("a")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait() -> None:
    time.sleep(600)


def test_results_and_errors_arrive() -> None:
    assert run_in_worker(doubled, 4) == 8
    with pytest.raises(KeyError, match="a"):
        run_in_worker(fail)
    with pytest.raises(RunError, match="ArgumentError: epochs: expected an integer, got x"):
        run_in_worker(refuse)


def test_a_worker_that_is_killed() -> None:
    with pytest.raises(WorkerDiedError, match="ended with code -9"):
        run_in_worker(die)


def test_a_worker_ends_when_it_is_told() -> None:
    worker = Worker(wait)
    begin = time.monotonic()
    worker.tell()
    worker.end()
    assert time.monotonic() - begin < 10
    with pytest.raises(WorkerDiedError):
        worker.result()
