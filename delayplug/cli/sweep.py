"""`delayplug bench sweep`: a search for settings."""

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TaskID

from .._files import picture_of
from ..bench.config import RunConfig
from ..bench.resources import Launcher, Resources
from ..bench.stopping import advise, let_all_go
from .console import note, progress_bars, say, show, working
from .options import check_folder

if TYPE_CHECKING:
    from ..bench.comparison.launch import Watch
    from ..bench.search.sweep_config import SweepConfig
    from ..bench.search.trials import Sweep
    from ..bench.training.outcome import Epoch

PICTURE = "sweep.png"


def sweep(
    config: Annotated[Path, typer.Argument(help="TOML file of the sweep.")],
    accelerator: Annotated[str, typer.Option(help="cpu, gpu or auto, as Lightning takes it.")] = "auto",
    launcher: Annotated[
        Launcher, typer.Option(help="Runs one after the other, on processes side by side, or on a Ray cluster.")
    ] = "here",
    workers: Annotated[int, typer.Option(min=1, help="Processes of --launcher local.")] = 2,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of torch for each run (default: torch's choice).")
    ] = None,
    graph: Annotated[bool, typer.Option("--graph/--no-graph", help="Steps on a GPU run as CUDA graphs.")] = True,
    out: Annotated[Path, typer.Option(help="Folder of the sweep; a sweep that was stopped continues there.")] = Path(
        "sweep"
    ),
) -> None:
    """Search for settings: judge them on held-out recordings, then test the best one.

    CONFIG contains the settings of all runs, as in a file for `bench run --config`, how settings are drawn and judged,
    and a table "search" with the ranges. The test set is read only by runs of the chosen setting.

    \b
    Examples:
        delayplug bench sweep sweep.toml
        delayplug bench sweep sweep.toml --launcher local --workers 4 --out sweeps/first
    """
    advise(lambda: "run again to go on")
    from ..bench.search.sweep import Execution, left_to_do, sweep as search
    from ..bench.search.sweep_config import read_sweep
    from ..bench.training.accelerators import check_devices

    wanted = read_sweep(config)
    resources = Resources(accelerator, threads=threads, graph=graph)
    check_devices(resources)
    check_folder(out)
    advise(lambda: left_to_do(out))
    with _progress(wanted) as (watch, plan, bars):
        execution = Execution(watch, lambda line: note(line, bars), plan, resources, launcher, workers)
        record = search(
            wanted,
            out,
            command=shlex.join(["delayplug", "bench", "sweep", f"{config}", "--out", f"{out}"]),
            execution=execution,
        )
    let_all_go()
    report_on(record, out)


def report_on(record: "Sweep", out: Path) -> None:
    """Print the results of a sweep, and draw its picture."""
    from ..bench.search.standings import conclusion, effects, standings
    from ..bench.search.trial_figures import sweep_figure
    from ..bench.whole_files import write_whole

    show(standings(record))
    show(effects(record))
    with working("drawing"):
        write_whole(out / PICTURE, picture_of(sweep_figure(record), out / PICTURE))
    for line in conclusion(record):
        say(line)
    say(f"Record: {out / 'sweep.json'}    Plot: {out / PICTURE}    The chosen setting: {out / 'chosen.toml'}")


@contextlib.contextmanager
def _progress(config: "SweepConfig") -> "Iterator[tuple[Watch, Callable[[int], None], Progress]]":
    """A progress bar for each running run, labelled with its setting, and one that counts the finished runs."""
    from ..bench.report.methods import setting_text

    with progress_bars() as progress:
        total = progress.add_task("runs", total=None, note="")
        bars: dict[RunConfig, TaskID] = {}
        done: set[RunConfig] = set()

        def plan(runs: int) -> None:
            progress.update(total, total=runs)

        def watch(run: RunConfig, entry: "Epoch | None") -> None:
            if run in done:
                return
            if run not in bars:
                values = ", ".join(setting_text(name, getattr(run, name)) for name in config.space)
                held = f", {run.held_out}" if run.held_out else ""
                bars[run] = progress.add_task(f"{values}{held}, seed {run.seed}", total=run.all_epochs, note="")
            if entry is None:
                return
            progress.update(bars[run], completed=entry["epoch"], note=f"loss {entry['train_loss']:.3f}")
            if entry["epoch"] == run.all_epochs:
                done.add(run)
                progress.remove_task(bars.pop(run))
                progress.update(total, completed=len(done))

        yield watch, plan, progress
        progress.update(total, total=len(done))  # fewer than planned if settings could not be trained
