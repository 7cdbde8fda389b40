"""Runs of a comparison side by side: on processes of this computer, or on a Ray cluster.

A worker that dies loses nothing but the epoch it was in: another one resumes the run from the checkpoint in the run's
folder, which all workers must see.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace
from multiprocessing.connection import wait as wait_for_answers
from pathlib import Path
from typing import Any

from ..._extras import extra
from ..._tables import counted
from ...errors import ArgumentError, RunError, choice_error
from ..config import RunConfig
from ..resources import LAUNCHERS, Launcher, Resources
from ..stopping import handle_signals
from ..training.outcome import Epoch
from ..whole_files import write_whole
from ..workers import Worker, WorkerDiedError
from .existing import read_kept, resuming
from .run import make_run

PROGRESS = "progress.json"
_TRIES = 4  # of a run whose worker dies
_POLL = 0.3  # seconds

# Called with a run and its last epoch, perhaps several times with the same one; None when it starts. The epochs of a
# refit are numbered from the last epoch of the training before it.
Watch = Callable[[RunConfig, Epoch | None], object]
# Called with a line of text.
Say = Callable[[str], object]
# Called with a run that failed and its error.
Failed = Callable[[RunConfig, BaseException], object]
# For each run, the folder in which its own folder is made.
Folders = Mapping[RunConfig, Path]
Failures = dict[RunConfig, BaseException]


class RunsFailedError(RunError):
    """Some runs failed; the others are finished.

    Attributes:
        failures: the error of each.
    """

    def __init__(self, failures: Failures, number: int) -> None:
        what = "; ".join(f"{config.name}: {type(error).__name__}: {error}" for config, error in failures.items())
        others = ", the others are done" if len(failures) < number else ""
        super().__init__(f"{len(failures):,} of {counted(number, 'run')} failed{others}. {what}")
        self.failures = failures


def check_launcher(launcher: Launcher, resources: Resources, workers: int) -> None:
    """Raise ArgumentError for an unknown launcher or for no workers, ExtraMissingError if Ray is not installed."""
    if launcher not in LAUNCHERS:
        raise choice_error("launcher", LAUNCHERS, launcher)
    if workers < 1:
        raise ArgumentError("workers", "at least 1", workers)
    if resources.devices * resources.nodes > 1 and launcher == "local":
        advice = "Take --launcher here for runs of several devices"
        raise ArgumentError("devices", "1 for runs side by side", resources.devices * resources.nodes, advice)
    if launcher == "ray":
        with extra("ray", "--launcher ray"):
            import ray  # noqa: F401


def launch(launcher: Launcher, folders: Folders, resources: Resources, workers: int, watch: Watch, say: Say) -> None:
    """Make the runs on workers. A run that fails does not stop the others; failures are raised at the end.

    Raises:
        ArgumentError: as `check_launcher`.
        RunsFailedError: some runs failed; the message says which, and why.
    """
    check_launcher(launcher, resources, workers)
    folders = {config: folder.resolve() for config, folder in folders.items()}
    for config, folder in folders.items():
        _say_whether_it_goes_on(config, folder, say)
    if launcher == "ray":
        failures = _on_ray(folders, resources, watch)
    else:
        failures = _locally(folders, resources, workers, watch, say)
    for config, folder in folders.items():
        (folder / config.name / PROGRESS).unlink(missing_ok=True)
    if failures:
        raise RunsFailedError(failures, len(folders))


def _say_whether_it_goes_on(config: RunConfig, out: Path, say: Say) -> None:
    kept = read_kept(out / config.name)
    if kept is not None:
        say(resuming(config, kept))


def run_worker(config: RunConfig, out: Path, resources: Resources, folder: Path) -> None:
    """The work of one worker: one run, whose last epoch it writes into the run's folder for others to see.

    `folder` is the working directory of the command: the path of a data set may be relative to it.
    """
    os.chdir(folder)
    path = out / config.name / PROGRESS

    def on_epoch(entry: Epoch) -> None:
        write_whole(path, json.dumps({"pid": os.getpid(), **entry}))

    make_run(config, out, resources, on_epoch=on_epoch)


def _locally(folders: Folders, resources: Resources, workers: int, watch: Watch, say: Say) -> Failures:
    """A process for each run, so that one that dies does not end the others; none of them outlives this block."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    resources = resources if resources.threads else replace(resources, threads=threads)
    waiting, deaths = list(folders), Counter[RunConfig]()
    running: dict[Worker[None], RunConfig] = {}
    failures: Failures = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                config = waiting.pop(0)
                running[Worker(run_worker, config, folders[config], resources, Path.cwd())] = config
            answered = wait_for_answers([worker.answers for worker in running], timeout=_POLL)
            for worker in [each for each in running if each.answers in answered]:
                config = running.pop(worker)
                try:
                    worker.result()
                except WorkerDiedError as error:
                    deaths[config] += 1
                    if deaths[config] < _TRIES:
                        say(f"{config.name}: {error}, and another one takes over")
                        _say_whether_it_goes_on(config, folders[config], say)
                        waiting.insert(0, config)
                    else:
                        why = f"its process died {_TRIES} times, perhaps for want of memory. Take fewer workers"
                        failures[config] = RunError(why)
                except Exception as error:
                    failures[config] = error
            _show(folders, watch)
    finally:
        for worker in running:
            worker.tell()
        for worker in running:
            worker.end()
    return failures


def _on_ray(folders: Folders, resources: Resources, watch: Watch) -> Failures:
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False)  # RAY_ADDRESS names a cluster; else one is started here
        handle_signals()  # Ray has a handler of its own
    needs: dict[str, Any] = {"num_cpus": resources.threads or 1}
    available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if resources.accelerator in ("gpu", "cuda") or (resources.accelerator == "auto" and "GPU" in available):
        needs["num_gpus"] = resources.devices
    remote = ray.remote(max_retries=_TRIES - 1, **needs)(run_worker)
    references = {config: remote.remote(config, folder, resources, Path.cwd()) for config, folder in folders.items()}
    futures: dict[RunConfig, Future[None]] = {config: each.future() for config, each in references.items()}
    running = set(futures.values())
    try:
        while running:
            running = wait(running, timeout=_POLL).not_done
            _show(folders, watch)
    finally:
        for config, future in futures.items():
            if not future.done():
                ray.cancel(references[config], force=True)
    errors = {config: future.exception() for config, future in futures.items()}
    # Ray wraps what the worker raised.
    return {config: getattr(error, "cause", None) or error for config, error in errors.items() if error is not None}


def _show(folders: Folders, watch: Watch) -> None:
    """Tell the epochs that workers wrote into the folders of their runs."""
    for config, folder in folders.items():
        with contextlib.suppress(OSError):  # the run has no epoch yet
            watch(config, json.loads((folder / config.name / PROGRESS).read_text()))
