"""What a folder already has of a run, and whether that is this very run: of the same configuration and data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from ..._tables import counted
from ...errors import RunError
from ..config import SYNTHETIC, RunConfig
from ..task import FILES, data_checksums
from ..training.checkpoints import Kept, read_checkpoint
from .records import CHECKPOINT, MODEL, RECORD, REFIT_CHECKPOINT, Record, read_record

_SHOWN = 4  # runs in one message

Checksums = Callable[[RunConfig], Mapping[str, str]]


@dataclass(frozen=True)
class Existing:
    """What there is of a run.

    Attributes:
        record: of the finished run, or None.
        kept: what the checkpoint of the unfinished run holds, or None.
    """

    record: Record | None = None
    kept: Kept | None = None


def existing(folder: Path, config: RunConfig, checksums: Checksums) -> Existing:
    """What there is of a run in its folder. Nothing is written.

    Args:
        folder: of the run.
        config: of the run.
        checksums: gives those of its data; called only where there is something to compare them with.

    Raises:
        RunError: the folder has a run of another configuration or of other data, or a damaged file.
    """
    if (folder / RECORD).exists():
        record = read_record(folder / RECORD)
        config.check_same(record["config"], str(folder))
        check_same_data(config, record["data"].get("checksums"), checksums(config), str(folder))
        if (folder / MODEL).exists():
            return Existing(record=record)
    for name in (CHECKPOINT, REFIT_CHECKPOINT):
        if (kept := read_checkpoint(folder / name)) is not None:
            where = str(folder / name)
            config.check_same(kept.config, where)
            check_same_data(config, kept.checksums, checksums(config), where)
    return Existing(kept=read_kept(folder))


def read_kept(folder: Path) -> Kept | None:
    """The state of an unfinished run, from the checkpoints of its training and of the refit after it; None without any.

    Raises:
        RunError: one of them cannot be read.
    """
    first, refit = (read_checkpoint(folder / name) for name in (CHECKPOINT, REFIT_CHECKPOINT))
    if first is None or refit is None:
        return first
    return replace(refit, epochs=first.epochs + refit.epochs)


def check_same_data(config: RunConfig, there: Mapping[str, str] | None, here: Mapping[str, str], where: str) -> None:
    """Raise RunError, which names the differences, unless a run was made with the data that is read now.

    Args:
        config: of the run.
        there: checksums of the data that it was made with; None if it has none.
        here: those of the data that its configuration names now.
        where: the run, for the message.
    """
    advice = "Choose another --out, or move it away"
    if there is None:
        report = "`delayplug bench report` shows it still"
        raise RunError(f"{where} is of a version that noted no checksum of its data: {report}. {advice}")
    unlike = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    if unlike:
        shown = "; ".join(f"{name}: {_short(there.get(name))} there, {_short(here.get(name))} here" for name in unlike)
        data = "the synthetic task" if config.dataset == SYNTHETIC else str(Path(config.dataset).resolve())
        raise RunError(f"{where} is of other data than {data} has now (checksums of {shown}). {advice}")


def _short(checksum: str | None) -> str:
    return "none" if checksum is None else checksum[:12]


class DataChecksums:
    """`data_checksums`, computed once for all runs that read the same files in the same way."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Mapping[str, str]] = {}

    def __call__(self, config: RunConfig) -> Mapping[str, str]:
        """Those of a run."""
        files = (*attrgetter(*FILES)(config), config.protocol)
        if files not in self._known:
            self._known[files] = data_checksums(config)
        return self._known[files]


def resuming(config: RunConfig, kept: Kept) -> str:
    """A line on a run that goes on."""
    written = f"{kept.written:%Y-%m-%d %H:%M:%S}"
    skipped = f"{kept.epochs} of {config.all_epochs} epochs are trained and skipped"
    return f"{config.name} goes on from {kept.next_step(config)}: {skipped} (checkpoint of {written})"


def are_finished(done: int, runs: int) -> str:
    """How many runs are finished, in words.

    >>> are_finished(1, 3)
    '1 of 3 runs is finished'
    """
    return f"{done:,} of {counted(runs, 'run')} {'is' if done == 1 else 'are'} finished"


def left_to_do(configs: Sequence[RunConfig], out: Path) -> str:
    """How to go on with a comparison that was stopped, in words."""
    missing = [c for c in configs if not ((out / c.name / RECORD).exists() and (out / c.name / MODEL).exists())]
    finished = are_finished(len(configs) - len(missing), len(configs))
    if not missing:
        return f"run again to see the results; {finished}"
    kept = {config: read_kept(out / config.name) for config in missing}
    steps = [f"{each.next_step(config)} ({out / config.name})" for config, each in kept.items() if each is not None]
    if not steps:
        first = missing[0]
        return f"run again to go on from epoch 1 of {first.all_epochs} ({out / first.name}); {finished}"
    more = f" and {len(steps) - _SHOWN} more" if len(steps) > _SHOWN else ""
    return f"run again to go on from {', '.join(steps[:_SHOWN])}{more}; {finished}"
