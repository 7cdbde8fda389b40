"""A comparison: a folder of independent runs."""

import contextlib
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from ...toolkits import plugins
from ..config import RunConfig, configure
from ..resources import Launcher, Resources
from ..task import Task, load_task
from ..training.accelerators import check_devices
from ..training.outcome import OnEpoch
from ..variants import Variant
from .launch import Watch, launch
from .records import Record, finished, make_folder
from .run import make_run

# The paper's: from no delays to learned ones whose sigma shrinks, each with all synapses and with ten per neuron.
ABLATION: dict[str, tuple[str | int, ...]] = {"delays": ("none", "fixed", "constant", "learned"), "fan_in": (0, 10)}
_USUAL: tuple[Variant, ...] = ("none", "fixed", "learned")


def configurations(
    preset: str,
    *,
    backends: Iterable[str] = (),
    delays: Iterable[Variant] = (),
    fan_in: Iterable[int] = (),
    seeds: Iterable[int] = (),
    **changes: Any,
) -> list[RunConfig]:
    """All runs of a comparison: every backend with every variant and seed.

    Empty means all backends that work; no, fixed and learned delays; all synapses; and seed 0.

    Raises:
        BackendError: one of the backends cannot be used; raised before anything is trained.
    """
    names = list(backends) or plugins.ready()
    for name in names:
        plugins.toolkit(name)
    runs = product(list(seeds) or [0], names, list(fan_in) or [0], list(delays) or _USUAL)
    return [
        configure(preset, backend=backend, delays=kind, fan_in=inputs, seed=seed, **changes)
        for seed, backend, inputs, kind in runs
    ]


def compare(
    configs: list[RunConfig],
    out: Path,
    *,
    watch: Watch | None = None,
    resources: Resources | None = None,
    launcher: Launcher = "here",
    workers: int = 2,
) -> list[Record]:
    """Make the runs that are not in the folder yet, and return the records of all.

    Args:
        configs: the runs.
        out: folder of the comparison; each run has a folder of its own in it.
        watch: called with a run that starts and its number of epochs; returns a context manager for a function that is
            called after each epoch. None shows nothing.
        resources: of every run; one device, Lightning's choice, by default.
        launcher: "here", one after the other; "local", some processes side by side; "ray", a Ray cluster.
        workers: how many side by side, for "local".

    Raises:
        ArgumentError: a device that does not exist here.
        RunError: a folder holds another run, raised before anything is trained; or a run failed on a worker.
        DataError: the data cannot be used.
    """
    resources = resources or Resources()
    check_devices(resources)
    make_folder(out)
    missing = [config for config in configs if finished(out / config.name, config) is None]
    if launcher == "here":
        tasks = _Tasks()
        for config in missing:
            with (watch or _unwatched)(config, config.epochs) as on_epoch:
                make_run(config, out, resources, task=tasks.of(config), on_epoch=on_epoch)
    elif missing:
        launch(launcher, missing, out, resources, workers, watch or _unwatched)
    return [record for config in configs if (record := finished(out / config.name, config)) is not None]


class _Tasks:
    """Loads each data set once, as long as the runs that use it follow each other."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._task: Task | None = None

    def of(self, config: RunConfig) -> Task:
        key = (
            config.dataset,
            config.step_ms,
            config.pool,
            config.binning,
            config.window_ms,
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
