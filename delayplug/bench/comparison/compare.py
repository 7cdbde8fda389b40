"""A comparison: a folder of independent runs."""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import groupby, product
from operator import attrgetter
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, BackendMissingError
from ...toolkits import plugins
from ..config import RunConfig, configure
from ..resources import Launcher, Resources
from ..task import FILES, check_before_reading, load_task, number_of_folds
from ..training.accelerators import check_devices
from ..variants import Variant
from ..whole_files import make_folder
from .existing import DataChecksums, are_finished, existing, resuming
from .launch import Failed, RunsFailedError, Say, Watch, check_launcher, launch
from .records import RECORD, Record, check_comparable, read_record
from .run import is_first, make_run

# The paper's: from no delays to learned ones whose sigma shrinks, each with all synapses and with ten per neuron.
ABLATION: dict[str, tuple[str | int, ...]] = {"delays": ("none", "fixed", "constant", "learned"), "fan_in": (0, 10)}
_USUAL: tuple[Variant, ...] = ("none", "fixed", "learned")
# The fields that decide how a run's recordings are cut and split.
_SPLIT = ("window_ms", "protocol", "validation", "validation_fraction", "fold", "held_speakers", "refit", "seed")


def configurations(
    preset: str,
    *,
    backends: Iterable[str] = (),
    delays: Iterable[Variant] = (),
    fan_in: Iterable[int] = (),
    seeds: Iterable[int] = (),
    folds: Iterable[int] = (),
    **changes: Any,
) -> list[RunConfig]:
    """All runs of a comparison: every backend with every variant, seed and fold.

    An empty argument means: all backends that work; no, fixed and learned delays; all synapses; seed 0; and with the
    protocol "speakers" all folds, for which the training file is read.

    Raises:
        ArgumentError: a value is not allowed, or a fold does not exist.
        BackendError: one of the backends cannot be used, or none works; raised before anything is trained.
        DataError: the training file is not usable, or does not name its speakers.
    """
    names = list(backends) or plugins.ready()
    if not names:
        known = ", ".join(f"{status.name} ({status.state})" for status in plugins.statuses()) or "none"
        raise BackendMissingError(
            f"backend: expected a toolkit that works, got none of {known}. `delayplug backends` says what to install"
        )
    for name in names:
        plugins.toolkit(name)
    folds = list(folds)
    if changes.get("protocol") == "speakers" and not changes.get("held_speakers"):
        number = number_of_folds(configure(preset, **changes))
        folds = folds or list(range(number))
        if max(folds) >= number:
            raise ArgumentError("folds", f"0 to {number - 1}: {changes.get('dataset')} has {number} folds", max(folds))
    runs = product(list(seeds) or [0], folds or [0], names, list(fan_in) or [0], list(delays) or _USUAL)
    configs = (
        configure(preset, backend=backend, delays=kind, fan_in=inputs, seed=seed, fold=fold, **changes)
        for seed, fold, backend, inputs, kind in runs
    )
    chosen = list(dict.fromkeys(configs))  # a value that was given twice makes one run
    for config in chosen:
        check_before_reading(config)
    return chosen


def compare(
    configs: list[RunConfig],
    out: Path,
    *,
    watch: Watch = lambda config, entry: None,
    say: Say = lambda line: None,
    resources: Resources | None = None,
    launcher: Launcher = "here",
    workers: int = 2,
) -> list[Record]:
    """Make the runs that are not in the folder yet, and return the records of all.

    Of several processes of a run the first one returns the records, the others an empty list.

    Args:
        configs: the runs.
        out: folder of the comparison; each run has a folder of its own in it.
        watch, say, resources, launcher, workers: as in `make_runs`.

    Raises:
        ArgumentError: a device does not exist on this machine.
        RunError: a folder holds a run of another configuration or of other data, raised before anything is written;
            or a run failed on a worker.
        DataError: the data cannot be used.
    """
    options: Any = {"watch": watch, "say": say, "resources": resources, "launcher": launcher, "workers": workers}
    made = make_runs(dict.fromkeys(configs, out), **options)
    records = [made[config] for config in configs if config in made]
    check_comparable(records, out)
    return records


def make_runs(
    folders: Mapping[RunConfig, Path],
    *,
    watch: Watch = lambda config, entry: None,
    say: Say = lambda line: None,
    failed: Failed | None = None,
    resources: Resources | None = None,
    launcher: Launcher = "here",
    workers: int = 2,
) -> dict[RunConfig, Record]:
    """Make the runs that are not finished yet, and return the records of all runs.

    If several processes share a run, only the first one returns records; the others return {}.

    Args:
        folders: for each run, the folder in which its own folder is made.
        watch: called with a run and None when it starts here, and with a run and its last epoch: after each epoch, or
            every now and then if it is made by a worker.
        say: called with a line about runs that are skipped or continued.
        failed: called at the end with each run that failed and its error. None: the error is raised; at once if runs
            are made in this process, and at the end if workers make them.
        resources: of every run; one device, Lightning's choice, by default.
        launcher: "here", one after the other; "local", some processes side by side; "ray", a Ray cluster.
        workers: how many side by side, for "local".

    Raises:
        ArgumentError, RunError, DataError: as `compare` does.
    """
    resources = resources or Resources()
    check_devices(resources)
    check_launcher(launcher, resources, workers)
    checksums = DataChecksums()
    found = {config: existing(folder / config.name, config, checksums) for config, folder in folders.items()}
    missing = {config: folder for config, folder in folders.items() if found[config].record is None}
    for folder in dict.fromkeys(folders.values()):
        make_folder(folder)
    if len(missing) < len(folders):
        say(f"{are_finished(len(folders) - len(missing), len(folders))} already and skipped")
    failures: dict[RunConfig, BaseException] = {}
    if launcher == "here":
        for _, group in groupby(missing, attrgetter(*FILES, *_SPLIT)):
            task = None
            for config in group:
                watch(config, None)
                if (kept := found[config].kept) is not None:
                    say(resuming(config, kept))
                try:
                    task = task or load_task(config)
                    make_run(config, missing[config], resources, task=task, on_epoch=partial(watch, config))
                except Exception as error:
                    if failed is None:
                        raise
                    failures[config] = error
    elif missing:
        try:
            launch(launcher, missing, resources, workers, watch, say)
        except RunsFailedError as error:
            if failed is None:
                raise
            failures |= error.failures
    if failed is not None:
        for config, reason in failures.items():
            failed(config, reason)
    if not is_first():
        return {}  # the first process may be writing the last of them
    made = {config: folder for config, folder in folders.items() if config not in failures}
    return {config: read_record(folder / config.name / RECORD) for config, folder in made.items()}
