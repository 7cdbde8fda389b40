"""`delayplug bench`: runs, and the report on them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TaskID

from .._files import picture_of
from ..bench.config import PANELS, PRESETS, SYNTHETIC, RunConfig
from ..bench.resources import Launcher, Resources
from ..bench.stopping import advise, let_all_go
from ..bench.variants import learns_delays, variant_name
from . import sweep
from .console import be_quiet, note, progress_bars, say, show, working
from .options import check_folder, with_settings
from .usage import Command, Group

if TYPE_CHECKING:
    from ..bench.comparison.launch import Watch
    from ..bench.training.outcome import Epoch

_ABLATION = "The paper's: no, fixed and learned delays, constant and shrinking sigma; all and ten synapses per neuron."
_LAUNCHER = "Runs one after the other, on processes side by side, or on a Ray cluster."
_CONFIG = "TOML file of settings, such as epochs = 30 or seeds = [0, 1]; options go before it."
_GRAPH = "Steps on a GPU run as CUDA graphs: one launch instead of hundreds."
_HOW = "How the runs are made"
_OUT = "Folder of the runs; a run that is in it already is not made again."


def _process(help: str, *, min: int | None = None) -> Any:
    """An option of how runs are made, which does not decide their results."""
    return typer.Option(help=help, min=min, rich_help_panel=_HOW)


bench = typer.Typer(
    cls=Group,
    help="Train the paper's network under one or more toolkits, report, deploy.",
    no_args_is_help=True,
)


@bench.command(cls=Command)
@with_settings(RunConfig, in_presets={name for preset in PRESETS.values() for name in preset}, panels=PANELS)
def run(
    *,
    ablation: Annotated[bool, typer.Option("--ablation", help=_ABLATION, rich_help_panel="What is compared")] = False,
    accelerator: Annotated[str, _process("cpu, gpu or auto, as Lightning takes it.")] = "auto",
    devices: Annotated[int, _process("Of each run, on each node.", min=1)] = 1,
    nodes: Annotated[int, _process("Computers of each run.", min=1)] = 1,
    launcher: Annotated[Launcher, _process(_LAUNCHER)] = "here",
    workers: Annotated[int, _process("Processes of --launcher local.", min=1)] = 2,
    threads: Annotated[int | None, _process("Of torch, for each run (its own choice).", min=1)] = None,
    graph: Annotated[bool, typer.Option("--graph/--no-graph", help=_GRAPH, rich_help_panel=_HOW)] = True,
    config: Annotated[Path | None, typer.Option(help=_CONFIG, rich_help_panel="What is compared")] = None,
    out: Annotated[Path, _process(_OUT)] = Path("runs"),
    **settings: Any,
) -> None:
    """Train the paper's network under one or more toolkits and compare them.

    Without options: all installed toolkits, with no, fixed and learned delays, on a small task made on the fly whose
    classes differ only in the timing of their spikes. An option with dots takes several values.

    \b
    Examples:
        delayplug bench run
        delayplug bench run --backend snntorch norse --delays learned --seeds 0 1 2
        delayplug bench run --dataset data/shd --preset shd --backend spikingjelly
        delayplug bench run --config mine.toml --epochs 30
        delayplug bench run --dataset data/ssc --preset ssc --devices 4
        delayplug bench run --dataset data/shd --protocol heldout --refit --seeds 0 1 2 3 4
        delayplug bench run --dataset data/shd --protocol speakers --folds 0 1 2 3 4
        delayplug bench run --dataset data/shd --ablation --seeds 0 1 2 --launcher local --workers 4
    """
    advise(lambda: "run again to go on")
    from ..bench.comparison.compare import ABLATION, compare, configurations
    from ..bench.comparison.existing import left_to_do
    from ..bench.comparison.launch import check_launcher
    from ..bench.comparison.run import is_first
    from ..bench.report.figures import delays_figure, learning_curves_figure
    from ..bench.report.tables import table
    from ..bench.serialise import read_toml
    from ..bench.task import usual_preset
    from ..bench.training.accelerators import check_devices
    from ..bench.whole_files import write_whole

    resources = Resources(accelerator, devices, nodes, threads, graph)
    check_devices(resources)
    check_launcher(launcher, resources, workers)
    check_folder(out)
    # Options go before the file, and the file before the preset.
    values = ({} if config is None else read_toml(config)) | (ABLATION if ablation else {})
    values |= {name: value for name, value in settings.items() if value is not None}
    preset = values.pop("preset", None) or usual_preset(values.get("dataset", SYNTHETIC))
    configs = configurations(preset, **values)
    be_quiet(not is_first())
    if is_first():
        advise(lambda: left_to_do(configs, out))
    with _progress(len(configs)) as (watch, bars):
        how: Any = {"resources": resources, "launcher": launcher, "workers": workers}
        records = compare(configs, out, watch=watch, say=lambda line: note(line, bars), **how)
    let_all_go()
    if not is_first():
        return
    show(table(records))
    with working("drawing"):
        curves = learning_curves_figure(records)
        plots = {} if curves is None else {out / "learning_curves.png": curves}
        for run_config, record in zip(configs, records, strict=True):
            if learns_delays(run_config.delays, run_config.recurrent):
                folder = out / run_config.name
                plots[folder / "delays.png"] = delays_figure(record, folder)
        for path, figure in plots.items():
            write_whole(path, picture_of(figure, path))
    say(f"Records and models: {out}/*/    Plots: {', '.join(map(str, plots))}")
    say(f"Next: delayplug bench report {out}")


bench.command("sweep", cls=Command)(sweep.sweep)


@bench.command(cls=Command)
def report(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders of runs or of a sweep, as --out made them; and files.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder of the page and of results.csv (the first of them).")] = None,
) -> None:
    """Report on runs: a table here, results.csv, and a page to show.

    Runs of one data set from several folders, and files of records, are brought together. A row of the table is a
    method: what its runs have in common but the seed, the speakers held out, and the protocol.

    The page is one file, report.html: accuracies with intervals, learning curves, delays before and after training, an
    example with its hidden spikes, how it was measured, and the command that makes each number again. Of a sweep it is
    on the runs of the chosen setting and of the preset's own, and what was tried is a table here.

    \b
    Examples:
        delayplug bench report runs
        delayplug bench report runs more-runs results/records.json --out page
    """
    from ..bench.report.page import write_csv, write_page
    from ..bench.report.record_sources import read_records
    from ..bench.report.tables import table
    from ..bench.search.trials import with_runs_of_sweeps
    from ..bench.whole_files import make_folder

    folders = [source for source in sources if source.is_dir()]
    out = out or (folders[0] if folders else Path())
    make_folder(out)
    sources, sweeps = with_runs_of_sweeps(sources)
    for each, found in sweeps.items():
        sweep.report_on(found, each)
    if not sources:  # a sweep that has just begun
        return
    records = read_records(*sources)
    folders = [source for source in sources if source.is_dir()]
    show(table(records))
    with working("drawing"):
        write_csv(records, out / "results.csv")
        write_page(records, folders, out / "report.html")
    say(f"Page: {out / 'report.html'}    Numbers: {out / 'results.csv'}")


@bench.command(cls=Command)
def deploy(
    folder: Annotated[Path, typer.Argument(help="Folder of one finished run with delays.")],
    target: Annotated[str | None, typer.Option(help="A device besides, such as loihi2 or spinnaker1.")] = None,
) -> None:
    """Measure what a run loses and saves with whole delays, few bits, few different delays, short weights.

    \b
    Examples:
        delayplug bench deploy runs/shd-shd-spikingjelly-learned-seed0
        delayplug bench deploy runs/shd-shd-spikingjelly-learned-seed0 --target loihi2
    """
    from ..bench.comparison.records import read_record
    from ..bench.measure.deployment import deploy as measure, table
    from ..bench.task import TEST_SET

    with working("reading") as update:
        rows = measure(folder, update, target=target)
    data = read_record(folder / "record.json")["data"]
    show(table(folder.resolve().name, rows, data["test"], data.get("tested_on", TEST_SET)))


@contextlib.contextmanager
def _progress(runs: int) -> "Iterator[tuple[Watch, Progress]]":
    """Two bars: runs of the comparison, epochs of the current one."""
    with progress_bars() as progress:
        total = progress.add_task("runs", total=runs, note="")
        bars: dict[RunConfig, TaskID] = {}

        def watch(config: RunConfig, entry: "Epoch | None") -> None:
            if config not in bars:
                held = f"{config.held_out}, " if config.held_out else ""
                variant = variant_name(config.delays, config.fan_in, config.recurrent)
                name = f"{config.backend}, {variant}, {held}seed {config.seed}"
                bars[config] = progress.add_task(name, total=config.all_epochs, note="")
            if entry is not None:
                note = f"loss {entry['train_loss']:.3f}"
                if entry["valid_accuracy"] is not None:
                    note += f", valid. {100 * entry['valid_accuracy']:.1f} %"
                elif entry["epoch"] > config.epochs:
                    note += ", refit on all"
                progress.update(bars[config], completed=entry["epoch"], note=note)
            progress.update(total, completed=sum(progress.tasks[bar].finished for bar in bars.values()))

        yield watch, progress
        progress.update(total, completed=runs)
