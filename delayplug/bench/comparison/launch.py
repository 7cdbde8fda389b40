"""Runs of a comparison side by side: on processes of this computer, or on a Ray cluster.

A worker that dies loses nothing but the epoch it was in: another one resumes the run from the checkpoint in the run's
folder, which all workers must see.
"""

import contextlib
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, RunError
from ..config import RunConfig
from ..resources import LAUNCHERS, Launcher, Resources
from ..training.outcome import Epoch
from .records import finished, replace_file
from .run import make_run

PROGRESS = "progress.json"
_TRIES = 4  # of a run whose worker dies
_POLL = 0.3  # seconds

# Called with a run and its last epoch, perhaps several times with the same one; None when it starts.
Watch = Callable[[RunConfig, Epoch | None], object]
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
    for config in configs:
        (out / config.name / PROGRESS).unlink(missing_ok=True)
    if failures:
        what = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failures.items())
        raise RunError(f"{len(failures)} of {len(configs)} runs failed, the others are done. {what}")


def run_worker(config: RunConfig, out: Path, resources: Resources, folder: Path) -> None:
    """The work of one worker: one run, whose last epoch it writes into the run's folder for others to see.

    `folder` is the working directory of the command: the path of a data set may be relative to it.
    """
    os.chdir(folder)
    path = out / config.name / PROGRESS
    if finished(out / config.name, config) is not None:
        return  # by a worker that died before it could report so

    def on_epoch(entry: Epoch) -> None:
        progress = {"pid": os.getpid(), **entry}
        replace_file(path, lambda temporary: temporary.write_text(json.dumps(progress)))

    make_run(config, out, resources, on_epoch=on_epoch)


def _locally(configs: list[RunConfig], out: Path, resources: Resources, workers: int, watch: Watch) -> Failures:
    threads = max(1, (os.cpu_count() or 1) // workers)
    resources = resources if resources.threads else replace(resources, threads=threads)
    with ThreadPoolExecutor(workers) as pool:
        futures = {config: pool.submit(_in_its_own_process, config, out, resources) for config in configs}
        return _follow(futures, out, watch)


def _in_its_own_process(config: RunConfig, out: Path, resources: Resources) -> None:
    """A process for each run, so that one that dies does not end the others."""
    for _ in range(_TRIES):
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                return process.submit(run_worker, config, out, resources, Path.cwd()).result()
        except BrokenProcessPool:
            continue
    raise RunError(f"its process died {_TRIES} times, perhaps for want of memory. Take fewer workers")


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
    futures = {config: remote.remote(config, out, resources, Path.cwd()).future() for config in configs}
    return _follow(futures, out, watch)


def _follow(futures: dict[RunConfig, "Future[None]"], out: Path, watch: Watch) -> Failures:
    """Show the epochs that workers write into the folders of their runs, until all are done."""
    running = set(futures.values())
    while running:
        running = wait(running, timeout=_POLL).not_done
        for config in futures:
            with contextlib.suppress(OSError):  # the run has no epoch yet
                watch(config, json.loads((out / config.name / PROGRESS).read_text()))
    errors = {config.name: future.exception() for config, future in futures.items()}
    # Ray wraps what the worker raised.
    return {name: getattr(error, "cause", None) or error for name, error in errors.items() if error is not None}
