"""Runs of a comparison side by side: on processes of this computer, or on a Ray cluster.

A worker that dies loses nothing but the epoch it was in: its run goes on, on another one, from the checkpoint in its
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
from typing import Any, Literal, get_args

from ...errors import ArgumentError, RunError
from ..config import RunConfig
from ..training.trainer import OnEpoch
from .records import finished, replace_file
from .run import Means, run_cell

Launcher = Literal["here", "local", "ray"]
LAUNCHERS: tuple[Launcher, ...] = get_args(Launcher)

PROGRESS = "progress.json"
_TRIES = 4  # of a run whose worker dies
_POLL = 0.3  # seconds

Watch = Callable[[RunConfig, int], AbstractContextManager[OnEpoch]]
Failures = dict[str, BaseException]


def launch(launcher: Launcher, configs: list[RunConfig], out: Path, means: Means, workers: int, watch: Watch) -> None:
    """Make the runs on workers. All that can be made are made before a failure is reported.

    Raises:
        ArgumentError: unknown launcher, no workers, or Ray is not installed.
        RunError: runs failed; says which, and why.
    """
    if launcher not in LAUNCHERS:
        raise ArgumentError("launcher", f"one of {', '.join(LAUNCHERS)}", repr(launcher))
    if workers < 1:
        raise ArgumentError("workers", "at least 1", workers)
    if means.devices * means.nodes > 1 and launcher == "local":
        advice = "Take --launcher here for runs of several devices"
        raise ArgumentError("devices", "1 for runs side by side", means.devices * means.nodes, advice)
    out = out.resolve()
    failures = (_on_ray if launcher == "ray" else _locally)(configs, out, means, workers, watch)
    if failures:
        what = "; ".join(f"{cell}: {type(error).__name__}: {error}" for cell, error in failures.items())
        raise RunError(f"{len(failures)} of {len(configs)} runs failed, the others are done. {what}")


def work(config: RunConfig, out: Path, means: Means, folder: Path) -> None:
    """What a worker does: one run, whose progress it leaves in the run's folder.

    `folder` is where the command was given: a data set may be named from there.
    """
    os.chdir(folder)
    path = out / config.cell / PROGRESS
    path.parent.mkdir(parents=True, exist_ok=True)
    if finished(out / config.cell, config) is not None:
        return  # by a worker that died before it could say so

    def on_epoch(entry: dict[str, Any]) -> None:
        shown = {"pid": os.getpid(), **entry}
        replace_file(path, lambda temporary: temporary.write_text(json.dumps(shown)))

    run_cell(config, out, means, on_epoch=on_epoch)
    path.unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------- processes


def _locally(configs: list[RunConfig], out: Path, means: Means, workers: int, watch: Watch) -> Failures:
    threads = max(1, (os.cpu_count() or 1) // workers)
    means = means if means.threads else replace(means, threads=threads)
    with ThreadPoolExecutor(workers) as pool:
        futures = {config: pool.submit(_in_its_own_process, config, out, means) for config in configs}
        _follow(futures, out, watch)
    ends = {config.cell: future.exception() for config, future in futures.items()}
    return {cell: error for cell, error in ends.items() if error is not None}


def _in_its_own_process(config: RunConfig, out: Path, means: Means) -> None:
    """A process for each run: one that dies takes nobody along."""
    for _ in range(_TRIES):
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                return process.submit(work, config, out, means, Path.cwd()).result()
        except BrokenProcessPool:
            continue
    raise RunError(f"its process died {_TRIES} times, perhaps for want of memory. Take fewer workers")


def _follow(futures: dict[RunConfig, "Future[None]"], out: Path, watch: Watch) -> None:
    shown = _Shown(out, watch)
    with shown:
        while not all(future.done() for future in futures.values()):
            shown.look([config for config, future in futures.items() if not future.done()])
            time.sleep(_POLL)


# ----------------------------------------------------------------------------------------------------- Ray


def _on_ray(configs: list[RunConfig], out: Path, means: Means, workers: int, watch: Watch) -> Failures:
    try:
        import ray
    except ImportError as error:
        raise ArgumentError("launcher", "Ray", "it is not installed", "pip install 'delayplug[ray]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False)  # RAY_ADDRESS names a cluster; else one is begun here
    needs: dict[str, Any] = {"num_cpus": means.threads or 1}
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if means.accelerator in ("gpu", "cuda") or (means.accelerator == "auto" and "GPU" in there):
        needs["num_gpus"] = means.devices
    remote = ray.remote(max_retries=_TRIES - 1, **needs)(work)
    tasks = {remote.remote(config, out, means, Path.cwd()): config for config in configs}
    failures: Failures = {}
    left, shown = list(tasks), _Shown(out, watch)
    with shown:
        while left:
            done, left = ray.wait(left, timeout=_POLL)
            for reference in done:
                try:
                    ray.get(reference)
                except Exception as error:
                    failures[tasks[reference].cell] = getattr(error, "cause", None) or error
            shown.look([tasks[reference] for reference in left])
    return failures


class _Shown(AbstractContextManager["_Shown"]):
    """Shows the progress that workers leave in their folders, each run from its first epoch to its end."""

    def __init__(self, out: Path, watch: Watch) -> None:
        self.out, self.watch = out, watch
        self.open: dict[RunConfig, tuple[ExitStack, OnEpoch, int]] = {}

    def look(self, running: list[RunConfig]) -> None:
        """Show what is new."""
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

    def _entry(self, config: RunConfig) -> dict[str, Any] | None:
        try:
            entry: dict[str, Any] = json.loads((self.out / config.cell / PROGRESS).read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return entry

    def __exit__(self, *_: object) -> None:
        for stack, *_rest in self.open.values():
            stack.close()
