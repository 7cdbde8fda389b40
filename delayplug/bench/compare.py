"""A comparison: a folder of independent runs, and what is made of their records."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from .. import plugins
from ..errors import ArgumentError
from .config import RunConfig, configure
from .network import VARIANTS, Variant
from .runs import CHECKPOINT, finished, make_folder, make_record, write_run
from .tasks import Task, load_task
from .training import OnEpoch, check_accelerator, train

Watch = Callable[[RunConfig, int], contextlib.AbstractContextManager[OnEpoch]]


def configurations(
    preset: str,
    *,
    backends: Iterable[str] = (),
    delays: Iterable[Variant] = (),
    seeds: Iterable[int] = (),
    **changes: Any,
) -> list[RunConfig]:
    """All runs of a comparison: every backend with every variant and seed; empty means all that work, all, and seed 0.

    Raises:
        BackendError: one of the backends cannot be used. Said before anything is trained.
    """
    names = list(backends) or plugins.ready()
    for name in names:
        plugins.toolkit(name)
    cells = product(list(seeds) or [0], names, list(delays) or VARIANTS)
    return [configure(preset, backend=backend, delays=kind, seed=seed, **changes) for seed, backend, kind in cells]


def compare(
    configs: list[RunConfig], out: Path, *, watch: Watch | None = None, accelerator: str = "auto", devices: int = 1
) -> list[dict[str, Any]]:
    """Make the runs that are not there yet, one after the other, and return the records of all.

    Args:
        configs: the runs.
        out: folder of the comparison; each run has a folder of its own in it.
        watch: called with a run that starts and its number of epochs; gives a context with a function to call after
            each epoch. None shows nothing.
        accelerator: as Lightning takes it.
        devices: how many; one, in this version.

    Raises:
        ArgumentError: more than one device, or an accelerator that is not there.
        RunError: a folder holds another run. Said before anything is trained.
        DataError: the data cannot be used.
    """
    if devices != 1:
        advice = "Run independent comparisons side by side instead, with an --out each"
        raise ArgumentError("devices", "1: a run uses one device in this version", devices, advice)
    check_accelerator(accelerator)
    make_folder(out)
    records = {config.cell: finished(out / config.cell, config) for config in configs}
    tasks = _Tasks()
    for config in configs:
        if records[config.cell] is None:
            task = tasks.of(config)
            with (watch or _unwatched)(config, config.epochs) as on_epoch:
                checkpoint = out / config.cell / CHECKPOINT
                outcome = train(config, task, accelerator=accelerator, on_epoch=on_epoch, checkpoint=checkpoint)
            made = make_record(config, task, outcome, accelerator)
            write_run(out / config.cell, made, outcome)
            records[config.cell] = made
    return [record for config in configs if (record := records[config.cell]) is not None]


class _Tasks:
    """Loads each data set once, as long as the runs that use it follow each other."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._task: Task | None = None

    def of(self, config: RunConfig) -> Task:
        key = (
            config.dataset,
            config.step_ms,
            config.pool,
            config.binning,
            config.protocol,
            config.validation,
            config.validation_fraction,
            config.seed,
        )
        if self._task is None or key != self._key:
            self._key, self._task = key, load_task(config)
        return self._task


@contextlib.contextmanager
def _unwatched(config: RunConfig, epochs: int) -> Iterator[OnEpoch]:
    """Shows nothing."""
    yield lambda entry: None
