"""Runs of a comparison side by side: on processes of this computer, or on a Ray cluster.

A worker that dies loses nothing but the epoch it was in: another one resumes the run from the checkpoint in the run's
folder, which all workers must see.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, RunError
from ..config import RunConfig
from ..resources import LAUNCHERS, Launcher, Resources
from ..training.outcome import Epoch, OnEpoch
from .records import finished, replace_file
from .run import make_run

PROGRESS = "progress.json"
_TRIES = 4  # of a run whose worker dies
_POLL = 0.3  # seconds

Watch = Callable[[RunConfig, int], AbstractContextManager[OnEpoch]]
Failures = dict[str, BaseException]


def launch(
    launcher: Launcher, configs: list[RunConfig], out: Path, resources: Resources, workers: int, watch: Watch
) -> None:
    """Make the runs on workers. A run that fails does not stop the others; failures are raised at the end.

    Raises:
        ArgumentError: unknown launcher, no workers, or Ray is not installed.
        RunError: runs failed; says which, and why.
    """
    if launcher not in LAUNCHERS:
        raise ArgumentError("launcher", f"one of {', '.join(LAUNCHERS)}", repr(launcher))
    if workers < 1:
        raise ArgumentError("workers", "at least 1", workers)
    if resources.devices * resources.nodes > 1 and launcher == "local":
        advice = "Take --launcher here for runs of several devices"
        raise ArgumentError("devices", "1 for runs side by side", resources.devices * resources.nodes, advice)
    out = out.resolve()
    failures = (_on_ray if launcher == "ray" else _locally)(configs, out, resources, workers, watch)
    if failures:
        what = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failures.items())
        raise RunError(f"{len(failures)} of {len(configs)} runs failed, the others are done. {what}")


def run_worker(config: RunConfig, out: Path, resources: Resources, folder: Path) -> None:
    """The work of one worker: one run, whose last epoch it writes into the run's folder for others to see.

    `folder` is the working directory of the command: the path of a data set may be relative to it.
    """
    os.chdir(folder)
    path = out / config.name / PROGRESS
    path.parent.mkdir(parents=True, exist_ok=True)
    if finished(out / config.name, config) is not None:
        return  # by a worker that died before it could report so

    def on_epoch(entry: Epoch) -> None:
        progress = {"pid": os.getpid(), **entry}
        replace_file(path, lambda temporary: temporary.write_text(json.dumps(progress)))

    make_run(config, out, resources, on_epoch=on_epoch)
    path.unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------- processes


def _locally(configs: list[RunConfig], out: Path, resources: Resources, workers: int, watch: Watch) -> Failures:
    threads = max(1, (os.cpu_count() or 1) // workers)
    resources = resources if resources.threads else replace(resources, threads=threads)
    with ThreadPoolExecutor(workers) as pool:
        futures = {config: pool.submit(_in_its_own_process, config, out, resources) for config in configs}
        _follow(futures, out, watch)
    ends = {config.name: future.exception() for config, future in futures.items()}
    return {name: error for name, error in ends.items() if error is not None}


def _in_its_own_process(config: RunConfig, out: Path, resources: Resources) -> None:
    """A process for each run, so that one that dies does not end the others."""
    for _ in range(_TRIES):
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                return process.submit(run_worker, config, out, resources, Path.cwd()).result()
        except BrokenProcessPool:
            continue
    raise RunError(f"its process died {_TRIES} times, perhaps for want of memory. Take fewer workers")


def _follow(futures: dict[RunConfig, "Future[None]"], out: Path, watch: Watch) -> None:
    with _WorkerProgress(out, watch) as progress:
        while not all(future.done() for future in futures.values()):
            progress.update([config for config, future in futures.items() if not future.done()])
            time.sleep(_POLL)


# ----------------------------------------------------------------------------------------------------- Ray


def _on_ray(configs: list[RunConfig], out: Path, resources: Resources, workers: int, watch: Watch) -> Failures:
    try:
        import ray
    except ImportError as error:
        raise ArgumentError("launcher", "Ray", "it is not installed", "pip install 'delayplug[ray]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False)  # RAY_ADDRESS names a cluster; else one is started here
    needs: dict[str, Any] = {"num_cpus": resources.threads or 1}
    available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if resources.accelerator in ("gpu", "cuda") or (resources.accelerator == "auto" and "GPU" in available):
        needs["num_gpus"] = resources.devices
    remote = ray.remote(max_retries=_TRIES - 1, **needs)(run_worker)
    tasks = {remote.remote(config, out, resources, Path.cwd()): config for config in configs}
    failures: Failures = {}
    running = list(tasks)
    with _WorkerProgress(out, watch) as progress:
        while running:
            done, running = ray.wait(running, timeout=_POLL)
            for reference in done:
                try:
                    ray.get(reference)
                except Exception as error:
                    failures[tasks[reference].name] = getattr(error, "cause", None) or error
            progress.update([tasks[reference] for reference in running])
    return failures


class _WorkerProgress(AbstractContextManager["_WorkerProgress"]):
    """Shows the epochs that workers write into the folders of their runs, each run from its first epoch to its end."""

    def __init__(self, out: Path, watch: Watch) -> None:
        self.out, self.watch = out, watch
        self.open: dict[RunConfig, tuple[ExitStack, OnEpoch, int]] = {}

    def update(self, running: list[RunConfig]) -> None:
        """Show the epochs that are new, and close the display of runs that are no longer running."""
        for config in [config for config in self.open if config not in running]:
            self.open.pop(config)[0].close()
        for config in running:
            entry = self._entry(config)
            if entry is None:
                continue
            if config not in self.open:
                stack = ExitStack()
                self.open[config] = stack, stack.enter_context(self.watch(config, config.epochs)), 0
            stack, on_epoch, seen = self.open[config]
            for _ in range(seen, entry["epoch"]):
                on_epoch(entry)
            self.open[config] = stack, on_epoch, max(seen, entry["epoch"])

    def _entry(self, config: RunConfig) -> Epoch | None:
        try:
            entry: Epoch = json.loads((self.out / config.name / PROGRESS).read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return entry

    def __exit__(self, *_: object) -> None:
        for stack, *_rest in self.open.values():
            stack.close()
