"""A comparison: a folder of independent runs."""

from collections.abc import Iterable
from functools import partial
from itertools import groupby, product
from operator import attrgetter
from pathlib import Path
from typing import Any

from ...toolkits import plugins
from ..config import RunConfig, configure
from ..resources import Launcher, Resources
from ..task import load_task
from ..training.accelerators import check_devices
from ..variants import Variant
from .launch import Watch, launch
from .records import Record, finished, make_folder
from .run import make_run

# The paper's: from no delays to learned ones whose sigma shrinks, each with all synapses and with ten per neuron.
ABLATION: dict[str, tuple[str | int, ...]] = {"delays": ("none", "fixed", "constant", "learned"), "fan_in": (0, 10)}
_USUAL: tuple[Variant, ...] = ("none", "fixed", "learned")
# The fields that decide a run's data: its files, their frames, and how they are split.
_FILES = ("dataset", "step_ms", "pool", "binning", "window_ms")
_SPLIT = ("protocol", "validation", "validation_fraction", "seed")


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
    watch: Watch = lambda config, entry: None,
    resources: Resources | None = None,
    launcher: Launcher = "here",
    workers: int = 2,
) -> list[Record]:
    """Make the runs that are not in the folder yet, and return the records of all.

    Args:
        configs: the runs.
        out: folder of the comparison; each run has a folder of its own in it.
        watch: called with a run and None when it starts here, and with a run and its last epoch: after each epoch, or
            every now and then if it is made by a worker.
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
        for _, group in groupby(missing, attrgetter(*_FILES, *_SPLIT)):
            task = None
            for config in group:
                watch(config, None)
                task = task or load_task(config)
                make_run(config, out, resources, task=task, on_epoch=partial(watch, config))
    elif missing:
        launch(launcher, missing, out, resources, workers, watch)
    return [record for config in configs if (record := finished(out / config.name, config)) is not None]
